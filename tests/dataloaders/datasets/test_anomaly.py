"""MVTec's layout: what is learnt from, what is held out, what judges."""

import cv2
import numpy as np
import pytest

from dao.dataloaders.anomaly_reader import AnomalyDataloader
from dao.dataloaders.datasets.anomaly import MVTecDataset, kept_for_threshold
from dao.dataloaders.samplers import TrainSampler
from dao.dataloaders.transforms import build_transforms
from dao.errors import ConfigError, DataError
from dao.preprocess import Preprocess


@pytest.fixture
def root(tmp_path):
    def write(name, value, size=(10, 12)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full(size, value, np.uint8))

    for i in range(20):
        write(f"train/good/{i:02}.png", 10 * i)
    for i in range(3):
        write(f"test/good/{i}.png", i)
        write(f"test/dent/{i}.png", 100 + i)
        write(f"test/hole/{i}.png", 200 + i)
    write("ground_truth/dent/0_mask.png", 255)
    write("ground_truth/dent/1.png", 255)
    return tmp_path


def test_held_out_pictures_are_a_function_of_names_and_seed(root):
    first, again, other = (MVTecDataset(str(root), seed=seed) for seed in (0, 0, 1))
    held = [[r.path for r in d.records if r.held_out] for d in (first, again, other)]
    assert len(held[0]) == 4 and held[0] == held[1] != held[2]
    assert sorted(r.path for r in MVTecDataset(str(root), split="val").records) == sorted(held[0])
    assert not any(r.held_out for r in MVTecDataset(str(root), held_out=0.0).records)


def test_the_test_split_has_kinds_and_masks_where_there_are_some(root):
    data = MVTecDataset(str(root), split="test")
    assert data.kinds == ["dent", "hole"] and data.classes == ["good", "bad"] and data.class_counts() == [3, 6]
    by_path = {r.path.split("test/")[1]: i for i, r in enumerate(data.records)}
    assert data.read(by_path["dent/0.png"]).mask.all() and data.read(by_path["dent/1.png"]).mask.all()
    assert data.read(by_path["dent/2.png"]).mask is None
    good = data.read(by_path["good/0.png"])
    assert good.label == 0 and not good.mask.any()


def test_few_shots_repeated(root):
    data = MVTecDataset(str(root), shots=4, repeat=3, held_out=0.0)
    assert len(data) == 12 and len({r.path for r in data.records}) == 4
    with pytest.raises(ConfigError, match="there are 20"):
        MVTecDataset(str(root), shots=21)


def test_a_mask_of_another_size_is_refused(root):
    cv2.imwrite(str(root / "ground_truth" / "dent" / "2.png"), np.zeros((5, 5), np.uint8))
    data = MVTecDataset(str(root), split="test")
    index = next(i for i, r in enumerate(data.records) if r.path.endswith("dent/2.png"))
    with pytest.raises(DataError, match="5x5 pixels"):
        data.read(index)


def test_what_is_missing_is_named(root):
    with pytest.raises(DataError, match="not a folder"):
        MVTecDataset(str(root / "nowhere"))
    with pytest.raises(DataError, match="no folder 'train'"):
        MVTecDataset(str(root / "test"))
    with pytest.raises(ConfigError, match="train, val, test"):
        MVTecDataset(str(root), split="exam")


def test_held_out_pictures_are_no_training_pictures_and_are_never_augmented(root):
    data = MVTecDataset(str(root))
    transforms = build_transforms([{"type": "InvertImg", "kwargs": {"p": 1.0}}], "transforms")
    options = {
        "transforms": transforms,
        "preprocess": Preprocess(size=(10, 12)),
        "seed": 0,
        "batch_size": 7,
        "num_workers": 0,
    }
    seen = []
    for part, training in ((data, True), (kept_for_threshold(data), False)):
        loader = AnomalyDataloader(dataset=part, training=training, **options)
        for batch in loader:
            for image, path, index in zip(batch.images, batch.paths, batch.indices, strict=True):
                value = 10 * int(path[-6:-4])
                assert image.float().mean() == (255 - value if training else value)
                assert loader.dataset.records[index].held_out != training and loader.dataset.records[index].path == path
                seen.append(path)
    assert sorted(seen) == sorted(record.path for record in data.records)


def test_without_held_out_pictures_the_first_that_teach_are_taken_once_and_as_they_are(root):
    data = MVTecDataset(str(root), held_out=0.0, shots=6, repeat=3)
    part = kept_for_threshold(data, few=4)
    assert [r.path for r in part.records] == [r.path for r in data.records[:4]] and all(
        r.held_out for r in part.records
    )
    assert not any(r.held_out for r in data.records) and len(data) == 18


def test_nothing_left_to_learn_from_is_one_message(root):
    data = MVTecDataset(str(root))
    for record in data.records:
        record.held_out = True
    with pytest.raises(ConfigError, match="none is left to learn from"):
        AnomalyDataloader(dataset=data, transforms=None, preprocess=Preprocess(size=(10, 12)), training=True, seed=0)


@pytest.mark.parametrize("count", [7, 16, 20, 21])
def test_every_picture_exactly_once_on_any_number_of_processes(count):
    for world in (1, 2, 3, 5):
        samplers = [TrainSampler(count, 4, 0, rank, world, complete=True) for rank in range(world)]
        keys = [list(sampler) for sampler in samplers]
        assert len({len(own) for own in keys}) == 1  # all have equally many batches, be some of them empty
        assert sorted(i for own in keys for key in own for i in key.indices) == list(range(count))


def test_an_empty_batch_can_be_made(root):
    from dao.dataloaders.samplers import BatchKey

    loader = AnomalyDataloader(
        dataset=MVTecDataset(str(root)), transforms=None, preprocess=Preprocess(size=(10, 12)), training=True, seed=0,
        num_workers=0,
    )  # fmt: skip
    batch = loader.reader.read_batch(BatchKey(0, []))
    assert batch.images.shape == (0, 3, 10, 12) and batch.targets is None


@pytest.mark.parametrize(("complete", "places"), [(True, 15), (False, 16)])
def test_an_unreadable_picture_is_left_out_where_pictures_are_counted(root, complete, places):
    (root / "train" / "good" / "07.png").write_bytes(b"no picture")
    loader = AnomalyDataloader(
        dataset=MVTecDataset(str(root)), transforms=None, preprocess=Preprocess(size=(10, 12)), training=True, seed=0,
        batch_size=6, num_workers=0, complete=complete,
    )  # fmt: skip
    batches = list(loader)
    seen = [i for batch in batches for i in batch.indices]
    assert len(seen) == sum(len(batch.images) for batch in batches) == places
    assert len(set(seen)) == 15 and [bad.path[-6:] for batch in batches for bad in batch.bad] == ["07.png"]
