"""What thresholds of an anomaly model are found from: scores of pictures that did not teach it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dao.calibrators.base import CalibrationScores, Calibrator
from dao.errors import DataError
from dao.evaluators.score_histogram import ScoreHistogram
from dao.structures import Batch
from dao.tasks.base import TILES_A_BATCH
from dao.tiling import batches as groups
from dao.tiling import windows
from dao.utils import dist

if TYPE_CHECKING:
    from dao.tasks.anomaly import AnomalyTask

HELD_OUT = "good pictures held out of the training set"
VIEWS = "augmented views of the few good pictures it learnt from: other good parts may differ by more"
IN_SAMPLE_ALONE = "the training pictures themselves, for want of others: good parts will score higher than these did"
CALIBRATION_SET = "the calibration set"


def thresholds(rule: Calibrator, scores: CalibrationScores) -> dict[str, Any]:
    """The facts that a card holds of them."""
    picture, pixel = rule.picture(scores), rule.pixel(scores)
    middle, pixel_middle = float(np.median(scores.good)), scores.good_pixels.quantile(0.5)
    if pixel.value <= pixel_middle:
        pixel_middle = 0.99 * pixel.value
    return {
        "picture_threshold": picture.value,
        "picture_typical": min(middle, picture.value - 1e-6 * max(1.0, abs(picture.value))),
        "pixel_threshold": pixel.value,
        "pixel_typical": pixel_middle,
        "calibration": f"pictures: {picture.how}; pixels: {pixel.how}; from {scores.source}",
    }


def score_kept(task: AnomalyTask, batches: Iterable[Batch], source: str) -> CalibrationScores:
    """Scores of good pictures, as an evaluation would score them. Pixels count at the model's size, borders left out."""
    if task.preprocess.settings.tiled:
        return score_set(task, batches, source)
    good, pixels = [], ScoreHistogram()
    for batch in batches:
        if not len(batch):
            continue
        outputs = task.infer(task.preprocess.normalise(batch.images.to(task.preprocess.mean.device)))
        good += outputs["raw_score"].tolist()
        for raw_map, hw in zip(outputs["raw_map"][:, 0].cpu().numpy(), batch.original_hw, strict=True):
            pixels.add(raw_map[_seen(task, hw)])
    return _gathered(CalibrationScores(np.array(good, np.float64), good_pixels=pixels, source=source))


def _seen(task: AnomalyTask, original_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(h, w): which pixels of the input are the picture's, and within the region of interest."""
    place = task.preprocess.settings.place(original_hw)
    seen = np.zeros(task.preprocess.size, bool)
    seen[place.top : place.top + place.height, place.left : place.left + place.width] = True
    region = task.model.region
    return seen if region is None else seen & (region[0, 0] > 0).cpu().numpy()


def score_set(task: AnomalyTask, batches: Iterable[Batch], source: str = CALIBRATION_SET) -> CalibrationScores:
    """Scores of good and bad pictures, and of their pixels by what the masks say, in the pictures' own pixels."""
    good: list[float] = []
    bad: list[float] = []
    pixels = ScoreHistogram(), ScoreHistogram()
    for batch in batches:
        batch.images = batch.images.to(task.preprocess.mean.device)
        for prediction, truth in zip(task.predict(batch), batch.targets, strict=True):
            (bad if truth.bad else good).append(prediction.raw_score)
            for defective, histogram in enumerate(pixels) if truth.mask is not None else ():
                histogram.add(prediction.raw_map[(truth.mask == bool(defective)) & prediction.looked_at])
    return _gathered(CalibrationScores(np.array(good), np.array(bad), *pixels, source=source))


def inputs_of_good(task: AnomalyTask, batches: Iterable[Batch]) -> Iterator[Tensor]:
    """Normalised inputs of the good pictures among them, (B, C, h, w); in tiles every window of each."""
    preprocess = task.preprocess
    for batch in batches:
        good = [i for i, truth in enumerate(batch.targets) if not truth.bad]
        if good and not preprocess.settings.tiled:
            yield task.blanked(preprocess.normalise(batch.images[good].to(preprocess.mean.device)))
            continue
        for i in good:
            image = (batch.samples or [])[i].image
            cut = windows((image.shape[0], image.shape[1]), preprocess.size, preprocess.settings.overlap)
            for group in groups(cut, TILES_A_BATCH):
                pixels = torch.from_numpy(np.stack([window.of(image) for window in group])).permute(0, 3, 1, 2)
                yield task.blanked(preprocess(pixels.to(preprocess.mean.device)))


def _gathered(own: CalibrationScores) -> CalibrationScores:
    """The scores of all processes, the same on each. Raises DataError where none is good."""
    parts = dist.all_gather_object(own)
    total = CalibrationScores(
        np.sort(np.concatenate([p.good for p in parts])), np.sort(np.concatenate([p.bad for p in parts])),
        source=own.source,
    )  # fmt: skip
    for part in parts:
        total.good_pixels.merge(part.good_pixels)
        total.bad_pixels.merge(part.bad_pixels)
    if not len(total.good):
        raise DataError("no good picture could be scored, so there is no threshold")
    return total
