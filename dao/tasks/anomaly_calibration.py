"""What thresholds of an anomaly model are found from: scores of pictures that did not teach it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor

from dao.answers.base import TILES_A_BATCH
from dao.calibrators.base import CalibrationScores, Calibrator, warn_of_few
from dao.errors import DataError, RunError
from dao.evaluators.score_histogram import ScoreHistogram
from dao.preprocess.module import Preprocess
from dao.preprocess.tiling import batches as groups
from dao.preprocess.tiling import windows
from dao.processes import dist
from dao.structures import Batch
from dao.words.counted import counted, of_number

if TYPE_CHECKING:
    from dao.tasks.anomaly import AnomalyTask

HELD_OUT = "good pictures held out of the training set"
VIEWS = "augmented views of the few good pictures it learnt from: other good parts may differ by more"
IN_SAMPLE_ALONE = "the training pictures themselves, for want of others: good parts will score higher than these did"
CALIBRATION_SET = "the calibration set"
READ_FOR_SIZE = 20  # unreadable pictures before their size is given up


def thresholds(rule: Calibrator, scores: CalibrationScores, by_map: bool = False) -> dict[str, Any]:
    """The facts that a card holds of them. by_map: whether a picture's score is the highest of its map."""
    picture, pixel = rule.picture(scores), rule.pixel(scores)
    warn_of_few(rule, scores)
    region = picture if by_map or not len(scores.good_peaks) else rule.picture(scores.of_peaks())
    pixel_middle = scores.good_pixels.quantile(0.5)
    if pixel.value <= pixel_middle:
        pixel_middle = 0.99 * pixel.value
    thrown_away = float((scores.good >= picture.value).mean())
    if thrown_away > 0.5:
        logger.warning(
            "the threshold for pictures, {:.4g}, throws {:.0%} of the good calibration pictures away ({}): good and bad parts "
            "lie too close together for what was asked of it",
            picture.value, thrown_away, picture.how,
        )  # fmt: skip
    return {
        "picture_threshold": picture.value,
        "picture_typical": typical_below(picture.value, scores.good),
        "pixel_threshold": pixel.value,
        "pixel_typical": pixel_middle,
        "region_threshold": region.value,
        "calibration": f"pictures: {picture.how}; pixels: {pixel.how}; from {scores.source}",
    }


def typical_below(threshold: float, good: NDArray[np.float64]) -> float:
    """The middle good score, which becomes 0.1 where the threshold becomes 0.5.

    Where the threshold does not lie above it, there is no usual good part below: then a score lower by what good scores
    differ in (from a tenth of them to nine tenths) becomes 0.1, so that scores are still told apart.
    """
    middle = float(np.median(good))
    if middle < threshold:
        return middle
    low, high = np.quantile(good, (0.1, 0.9))
    return threshold - max(float(high - low), 1e-3 * max(abs(threshold), 1e-6))


def finite(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """The same scores. Raises RunError where one is no number: counted, it would be some score all the same."""
    if not np.isfinite(values).all():
        raise RunError(
            "the model's scores of calibration pictures are not finite; the model is damaged or has diverged"
        )
    return values


def score_kept(task: AnomalyTask, batches: Iterable[Batch], source: str) -> CalibrationScores:
    """Scores of good pictures, as an evaluation would score them. Pixels count at the model's size, borders left out."""
    if task.preprocess.settings.tiled:
        return score_set(task, batches, source)
    good, peaks, pixels = [], [], ScoreHistogram()
    for batch in batches:
        if not len(batch):
            continue
        outputs = task.infer(task.preprocess.normalise(batch.images.to(task.preprocess.mean.device)))
        good += finite(outputs["raw_score"].cpu().numpy()).tolist()
        for raw_map, hw in zip(outputs["raw_map"][:, 0].cpu().numpy(), batch.original_hw, strict=True):
            pixels.add(seen := finite(raw_map)[_seen(task, hw)])
            peaks.append(float(seen.max(initial=0)))
    return _gathered(
        CalibrationScores(np.array(good, np.float64), good_pixels=pixels, source=source, good_peaks=np.array(peaks))
    )


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
    peaks: tuple[list[float], list[float]] = ([], [])
    pixels = ScoreHistogram(), ScoreHistogram()
    for batch in batches:
        batch.images = batch.images.to(task.preprocess.mean.device)
        for prediction, truth in zip(task.predict(batch), batch.targets, strict=True):
            finite(np.array(prediction.raw_score))
            finite(prediction.raw_map)
            (bad if truth.bad else good).append(prediction.raw_score)
            peaks[truth.bad].append(float(prediction.raw_map.max()))
            for defective, histogram in enumerate(pixels) if truth.mask is not None else ():
                histogram.add(prediction.raw_map[(truth.mask == bool(defective)) & prediction.looked_at])
    highest = {"good_peaks": np.array(peaks[0]), "bad_peaks": np.array(peaks[1])}
    return _gathered(CalibrationScores(np.array(good), np.array(bad), *pixels, source=source, **highest))


def inputs_of_good(task: AnomalyTask, batches: Iterable[Batch]) -> Iterator[Tensor]:
    """Normalised inputs of the good pictures among them, (B, C, h, w); in tiles every window of each."""
    preprocess = task.preprocess
    for batch in batches:
        good = [i for i, truth in enumerate(batch.targets) if not truth.bad]
        if good and not preprocess.settings.tiled:
            yield task.blanked(preprocess.normalise(batch.images[good].to(preprocess.mean.device)))
            continue
        for i in good:
            yield from inputs_of_windows(task, (batch.samples or [])[i].image)


def inputs_of_windows(task: AnomalyTask, image: NDArray[np.uint8]) -> Iterator[Tensor]:
    """Normalised inputs of all windows of a (H, W, C) picture, a few at a time, (B, C, h, w)."""
    preprocess = task.preprocess
    cut = windows((image.shape[0], image.shape[1]), preprocess.size, preprocess.settings.overlap)
    for group in groups(cut, TILES_A_BATCH):
        pixels = torch.from_numpy(np.stack([window.of(image) for window in group])).permute(0, 3, 1, 2)
        yield task.blanked(preprocess(pixels.to(preprocess.mean.device)))


def windows_of_a_picture(dataset: Any, preprocess: Preprocess) -> int:
    """How many windows a picture of the set is cut into, by the first that can be read."""
    for index in range(min(len(dataset), READ_FOR_SIZE)):
        try:
            image = dataset.read(index, preprocess.in_channels, preprocess.bit_depth).image
        except DataError:
            continue
        hw = (image.shape[0], image.shape[1])
        count = len(windows(hw, preprocess.size, preprocess.settings.overlap))
        logger.info("{} of each picture {} learnt from (as {} x {} pixels have)",
                    counted(count, "window"), of_number(count, "is", "are"), *hw)  # fmt: skip
        return count
    return 1


def _gathered(own: CalibrationScores) -> CalibrationScores:
    """The scores of all processes, the same on each. Raises DataError where none is good."""
    parts = dist.all_gather_object(own)
    total = CalibrationScores(
        np.sort(np.concatenate([p.good for p in parts])), np.sort(np.concatenate([p.bad for p in parts])),
        source=own.source,
        good_peaks=np.sort(np.concatenate([p.good_peaks for p in parts])),
        bad_peaks=np.sort(np.concatenate([p.bad_peaks for p in parts])),
    )  # fmt: skip
    for part in parts:
        total.good_pixels.merge(part.good_pixels)
        total.bad_pixels.merge(part.bad_pixels)
    if not len(total.good):
        raise DataError("no good picture could be scored, so there is no threshold")
    return total
