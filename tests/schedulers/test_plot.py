import cv2

from dao.register import Registers
from dao.schedulers.plot import EPOCHS, EXAMPLES, ITERS_PER_EPOCH, draw, rates


def test_every_schedule_is_drawn():
    assert {name for name, *_ in EXAMPLES} == set(Registers.schedulers)


def test_rates_cover_the_run():
    section = {"type": "plateau_lr", "kwargs": {"patience": 5}}
    seen = rates(Registers.schedulers.build(section, "", total_iters=1200, iters_per_epoch=20))
    assert len(seen) == EPOCHS * ITERS_PER_EPOCH and len(set(seen)) > 2


def test_the_picture_is_written(tmp_path):
    draw(tmp_path / "new" / "rates.png")
    image = cv2.imread(str(tmp_path / "new" / "rates.png"))
    assert image.shape[0] > 500 and image.std() > 10
