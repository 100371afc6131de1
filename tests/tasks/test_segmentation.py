"""The segmentation task: targets, restored masks, windows, export, what a demo says."""

import numpy as np
import pytest
import torch
from torch import nn

from dao.dataloaders.reader import SegReader
from dao.errors import ConfigError
from dao.exporters.onnx import OnnxExporter
from dao.exporters.torch_export import TorchExporter
from dao.losses import cross_entropy, region  # noqa: F401 (registered)
from dao.losses.weighted_sum import build_loss
from dao.models.segmentation.smp_models import build
from dao.predictor import Predictor, TorchBackend
from dao.preprocess import Preprocess
from dao.structures import Batch, Sample
from dao.tasks.segmentation import SegmentationTask

CPU = torch.device("cpu")
CLASSES = ["background", "scratch", "dent"]


class ByBrightness(nn.Module):
    """A network whose answer is known: class 1 where a pixel is bright, class 2 where it is very bright."""

    def forward(self, x):
        grey = x.mean(1, keepdim=True) * 255
        return torch.cat([(100 - grey).clamp_min(0), (50 - (grey - 150).abs()).clamp_min(0), grey - 200], 1)


def make(model=None, loss=None, size=(64, 64), **preprocess):
    torch.manual_seed(0)
    pre = Preprocess(size=list(size), mean=[0.0] * 3, std=[1.0] * 3, **preprocess)
    return SegmentationTask(model or ByBrightness(), pre, CLASSES, loss)


def small_network(**kwargs):
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    options = {"encoder_name": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": [16, 8, 8], **kwargs}
    return build(smp.Unet, 3, **options)


def picture(hw):
    """Dark, with a bright square and a very bright one; its mask."""
    image, mask = np.full((*hw, 3), 20, np.uint8), np.zeros(hw, np.uint8)
    image[: hw[0] // 3, : hw[1] // 3], mask[: hw[0] // 3, : hw[1] // 3] = 150, 1
    image[-hw[0] // 3 :, -hw[1] // 3 :], mask[-hw[0] // 3 :, -hw[1] // 3 :] = 250, 2
    return image, mask


class OnePicture:
    records = [None]
    multi_label = False

    def __init__(self, image, mask):
        self.image, self.mask = image, mask

    def __len__(self):
        return 1

    def read(self, index, *_):
        return Sample(self.image, "p.png", index, self.image.shape[:2], mask=self.mask)


def batch_of(image, mask, preprocess):
    from dao.dataloaders.samplers import BatchKey

    reader = SegReader(OnePicture(image, mask), preprocess, None, False, 0, True, False)
    return reader.read_batch(BatchKey(0, (0,), False))


@pytest.mark.parametrize(
    ("hw", "resize"),
    [
        ((64, 64), "letterbox"),
        ((60, 200), "letterbox"),
        ((200, 60), "stretch"),
        ((200, 150), "tile"),
        ((20, 90), "tile"),
    ],
)
def test_masks_come_back_in_the_original_pixels(hw, resize):
    image, mask = picture(hw)
    task = make(resize=resize, antialias=False)
    given = batch_of(image, mask, task.preprocess)
    (prediction,) = task.predict(given)
    assert prediction.mask.shape == hw == prediction.original_hw and prediction.mask.dtype == np.uint8
    assert np.array_equal(given.targets[0], mask)
    wrong = (prediction.mask != mask).mean()
    assert wrong == 0 if resize == "tile" else wrong < 0.05
    np.testing.assert_allclose(prediction.defect_map > 0.5, prediction.mask > 0)
    assert prediction.scores.shape == (3,) and prediction.scores[1] > 0.99
    again = SegmentationTask.answer(task.run, image, task.card())
    np.testing.assert_allclose(again.defect_map, prediction.defect_map, atol=1e-4)


def test_cropping_is_refused():
    with pytest.raises(ConfigError, match="it takes letterbox, stretch, tile"):
        make(resize="crop")


def test_unlabelled_pixels_teach_nothing():
    loss = build_loss([{"type": "CrossEntropyLoss"}, {"type": "DiceLoss"}], num_classes=3)
    task = make(small_network(), loss, size=(32, 32))
    masks = torch.randint(0, 3, (2, 32, 32), dtype=torch.uint8)
    masks[0] = 255
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    task.model.eval()  # so that batch norm does not let the first picture speak through the second
    both = task.training_step(Batch(images, masks, ["a", "b"], [0, 1], [(32, 32)] * 2))
    one = task.training_step(Batch(images[1:], masks[1:], ["b"], [1], [(32, 32)]))
    torch.testing.assert_close(both["loss"], one["loss"])
    both["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in task.model.parameters() if p.grad is not None)


def test_deep_supervision_adds_its_share_in_training_alone():
    loss = build_loss({"type": "CrossEntropyLoss"}, num_classes=3)
    network = small_network(deep_supervision=0.4)
    task = make(network, loss, size=(32, 32))
    images, masks = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), torch.zeros(2, 32, 32, dtype=torch.uint8)
    losses = task.training_step(Batch(images, masks, ["a", "b"], [0, 1], [(32, 32)] * 2))
    torch.testing.assert_close(losses["loss"].detach(), losses["main"] + 0.4 * losses["inner"])
    losses["loss"].backward()
    assert network.heads[0][0].weight.grad.abs().sum() > 0
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_multi_scale_resizes_masks_by_nearest():
    task = make()
    masks = torch.tensor([0, 2, 255], dtype=torch.uint8)[torch.randint(0, 3, (2, 64, 64))]
    batch = Batch(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), masks, ["a", "b"], [0, 1], [(64, 64)] * 2)
    task.resize_batch(batch, (96, 32))
    assert batch.images.shape == (2, 3, 96, 32) and batch.targets.shape == (2, 96, 32)
    assert batch.targets.dtype == torch.uint8 and set(batch.targets.unique().tolist()) <= {0, 2, 255}


@pytest.mark.parametrize(
    ("exporter", "resize"),
    [
        (OnnxExporter(), "letterbox"),
        (OnnxExporter(layout="nchw"), "stretch"),
        (OnnxExporter(), "tile"),
        (TorchExporter(), "letterbox"),
    ],
)
def test_exported_files_answer_in_the_pictures_own_size(exporter, resize, tmp_path):
    task = make(small_network().eval(), resize=resize)
    path = tmp_path / f"m{exporter.suffix}"
    exporter.export(task, path)
    own, theirs = TorchBackend.of(task, CPU), exporter.opened(path, CPU)
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (31, 60), (60, 33)] if resize == "tile" else [(64, 64), (31, 200), (150, 90)]
    for hw in sizes:
        image = rng.integers(0, 256, (1, *hw, 3), dtype=np.uint8)
        a, b = own.run(image), theirs.run(image)
        assert b["class_map"].shape == (1, *hw) and b["class_map"].dtype == np.uint8
        np.testing.assert_allclose(b["probabilities"], a["probabilities"], atol=1e-3)
        assert (a["class_map"] == b["class_map"]).mean() > 0.999
        assert theirs.run(image.repeat(2, 0))["class_map"].shape == (2, *hw)


def test_a_predictor_cuts_large_pictures_also_for_an_exported_file(tmp_path):
    task = make(resize="tile")
    OnnxExporter().export(task, tmp_path / "m.onnx")
    image, mask = picture((150, 170))
    assert np.array_equal(Predictor(tmp_path / "m.onnx")(image).mask, mask)


def test_what_a_demo_says_and_draws():
    image, mask = picture((180, 240))
    task = make(resize="tile")
    prediction, card = SegmentationTask.answer(task.run, image, task.card()), task.card()
    said = SegmentationTask.describe(prediction, card)
    assert said["label"] == "dent" or said["label"] == "scratch"
    assert said["pixels"] == {"scratch": int((mask == 1).sum()), "dent": int((mask == 2).sum())}
    scratch = next(found for found in said["regions"] if found["label"] == "scratch")
    assert scratch["box"] == [0, 0, 80, 60] and scratch["pixels"] == 4800 and scratch["score"] > 0.99
    assert SegmentationTask.caption(prediction, card).startswith(("scratch 11", "dent 11"))
    drawn = SegmentationTask.draw(image, prediction, card)
    assert drawn.shape[1] > 240 and np.array_equal(drawn[90, 120], image[90, 120])  # in its own size
    assert not np.array_equal(drawn[5, 5], image[5, 5])
    assert np.array_equal(SegmentationTask.files(prediction, card)["mask"], mask)
    empty = SegmentationTask.answer(task.run, np.zeros((180, 240, 3), np.uint8), card)
    assert SegmentationTask.caption(empty, card) == "no defect found"
    assert SegmentationTask.describe(empty, card)["regions"] == []
    SegmentationTask.draw(image, empty, card)
