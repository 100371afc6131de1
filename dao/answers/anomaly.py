"""An answer of anomaly detection: how far a picture, and every pixel of it, is from good parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.answers.anomaly_scale import far_threshold, keep_scale, normalised
from dao.answers.base import Answer
from dao.answers.card import ModelCard, require
from dao.answers.checked import Outputs, Shape
from dao.answers.operating import SET_BY, is_number
from dao.answers.regions import describe_regions
from dao.answers.roi import raster
from dao.answers.verdicts import least_float32, strange_regions, verdict
from dao.errors import Problem
from dao.preprocess.tiling import Window, blend
from dao.structures import Prediction
from dao.words.warning import warn

SAID_FROM = 0.001  # of a picture, above the pixel threshold in one called good: said beside the verdict
SAME_SCORE = 1e-3  # normalised scores of one picture differ by less, whatever runs the model


class AnomalyAnswer(Answer):
    """Raw maps and scores in; the same normalised so that 0.5 is the threshold, and the verdict, out.

    Facts in the card: ``picture_threshold``, ``pixel_threshold`` in the method's units; ``picture_typical``,
    ``pixel_typical``: the middle scores of good ones, which become 0.1; ``region_threshold``: what a region above the
    pixel threshold must reach somewhere to be outlined, as high as makes a picture bad (None: every region is);
    ``min_area``: its least size in pixels; ``calibration``: how they were found, in words;
    ``region``: where the model looks (dao/answers/roi.py), empty for everywhere. Outside it the raw map is 0.
    """

    operating = ("picture_threshold", "pixel_threshold", "region_threshold", "min_area")
    aliases = MappingProxyType({"threshold": "picture_threshold"})
    resizes = ("letterbox", "stretch", "tile")

    @classmethod
    def check_facts(cls, facts: Mapping[str, Any]) -> None:
        """A threshold of NaN would call every part good."""
        for level in ("picture", "pixel"):
            for name in (f"{level}_threshold", f"{level}_typical"):
                require(facts, name, is_number(facts[name]))
            require(facts, f"{level}_threshold", facts[f"{level}_threshold"] > facts[f"{level}_typical"])
        require(facts, "region_threshold", facts["region_threshold"] is None or is_number(facts["region_threshold"]))
        require(facts, "calibration", isinstance(facts["calibration"], str))
        if facts["region"]:
            raster(facts["region"], (8, 8))

    @classmethod
    def fewest_classes(cls, facts: Mapping[str, Any]) -> int:
        """A good part and a bad one."""
        return 2

    @classmethod
    def completed(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        unset = {
            "picture_threshold": 1.0, "picture_typical": 0.0, "pixel_threshold": 1.0, "pixel_typical": 0.0,
            "region_threshold": None, "min_area": 1, "calibration": "none yet", "region": [], SET_BY: {},
        }  # fmt: skip
        return {**unset, **facts}

    @classmethod
    def fact_problems(
        cls, given: Mapping[str, Any], known: Mapping[str, Any], classes: Sequence[str], places: Mapping[str, str]
    ) -> list[Problem]:
        if "region" in given:
            return [Problem(places["region"], "was learnt with: train anew to look somewhere else")]
        numbers = {name: value for name, value in given.items() if name.endswith(("_threshold", "_typical"))}
        if numbers.get("region_threshold", 0.0) is None:
            del numbers["region_threshold"]
        wrong = [name for name, value in numbers.items() if not is_number(value)]
        if wrong:
            return [Problem(places[name], f"must be a number, got {given[name]!r}") for name in wrong]
        return super().fact_problems(given, known, classes, places)

    @classmethod
    def facts_with(cls, card: ModelCard, facts: Mapping[str, Any], where: str = "facts") -> dict[str, Any]:
        """As every task's; what was calibrated is said to be no more so, and normalised scores keep their scale."""
        before, after = cls.completed(card.facts), super().facts_with(card, facts, where)
        for level in ("picture", "pixel"):
            keep_scale(level, before, after)
        moved = [name for name in ("picture_threshold", "pixel_threshold") if after[name] != before[name]]
        if "picture_threshold" in moved and after["region_threshold"] == before["region_threshold"] is not None:
            beyond = before["region_threshold"] - before["picture_threshold"]
            after["region_threshold"] = after["picture_threshold"] + beyond  # as far from it as it was
        if moved and "calibration" not in facts:
            said = "; ".join(f"{name} {after[name]:g}, {after[SET_BY][name]}, not calibrated" for name in moved)
            after["calibration"] = f"{said}. Before: {before['calibration']}"
        return after

    @classmethod
    def warn_of_points(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """A threshold far from the model's own, as one is that was read off the scale shown."""
        before, unset = cls.completed(before), cls.completed({})
        for level in ("picture", "pixel"):
            name = f"{level}_threshold"
            found = any(before[known] != unset[known] for known in (name, f"{level}_typical", "calibration"))
            if after[name] == before[name] or not found:  # where none was found there is nothing to be far from
                continue
            place = after[SET_BY][name].removeprefix("set by ")
            if far := far_threshold(level, after[name], before, place):
                warn(far)

    @classmethod
    def expected(cls, card: ModelCard, hw: tuple[int, int]) -> dict[str, Shape]:
        return {"anomaly_map": hw, "raw_map": hw, "anomaly_score": (), "raw_score": (), "is_bad": ()}

    @classmethod
    def decode(cls, outputs: Outputs, card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> list[Prediction]:
        """label: 1 when the picture is bad; scores: of good and bad. By the card's thresholds, whatever the file holds."""
        facts = cls.completed(card.facts)
        found = []
        for raw_map, raw_score, hw in zip(outputs["raw_map"], outputs["raw_score"], original_hw, strict=True):
            bad = float(raw_score) >= facts["picture_threshold"]
            score = float(normalised(np.float64(raw_score), facts, "picture"))
            prediction = Prediction(
                original_hw=tuple(hw),
                scores=np.array([1 - score, score], np.float32),
                label=int(bad),
                bad=bad,
                mask=strange_regions(
                    raw_map, bad, facts["pixel_threshold"], facts["region_threshold"], facts["min_area"] or 1
                ),
                anomaly_map=normalised(raw_map, facts, "pixel"),
                anomaly_score=score,
                raw_map=raw_map,
                raw_score=float(raw_score),
                region=raster(facts["region"], tuple(hw)) if facts["region"] else None,
            )
            found.append(prediction)
        return found

    @classmethod
    def merge_tiles(
        cls, answers: Iterable[tuple[Window, Outputs]], card: ModelCard, original_hw: tuple[int, int]
    ) -> Prediction:
        """The maps blended; a picture is as strange as its strangest window."""
        raw = np.zeros(original_hw, np.float32)
        worst: list[float] = []

        def maps() -> Iterable[tuple[Window, NDArray[np.float32]]]:
            for window, outputs in answers:
                worst.append(float(outputs["raw_score"][0]))
                yield window, outputs["raw_map"][:1]

        for band in blend(maps(), original_hw[1]):
            raw[band.top : band.top + band.values.shape[1]] = band.values[0]
        outputs = {"raw_map": raw[None], "raw_score": np.array([max(worst)], np.float32)}
        return cls.decode(outputs, card, [original_hw])[0]

    @classmethod
    def badness(cls, prediction: Prediction, card: ModelCard) -> float:
        """0.5 is the threshold."""
        return float(prediction.anomaly_score)

    @classmethod
    def describe(cls, prediction: Prediction, card: ModelCard) -> dict[str, Any]:
        """The verdict, the scores, and the regions above the pixel threshold."""
        height, width = prediction.original_hw
        return {
            "path": prediction.path,
            "label": card.classes[prediction.label],
            "verdict": verdict(bool(prediction.bad)),
            "score": round(prediction.anomaly_score, 6),
            "badness": round(prediction.anomaly_score, 6),
            "raw_score": round(prediction.raw_score, 6),
            "height": height,
            "width": width,
            "anomalous_share": round(float(prediction.mask.mean()), 6),
            "suspect_share": round(cls._suspect(prediction, card), 6),
            "verdict_and_region": differing(prediction),
            "regions": describe_regions(prediction.mask, prediction.anomaly_map, ["good", "anomaly"]),
        }

    @classmethod
    def caption(cls, prediction: Prediction, card: ModelCard) -> str:
        said = f"{card.classes[prediction.label]}: score {prediction.anomaly_score:.2f}"
        suspect = cls._suspect(prediction, card)
        if difference := differing(prediction):
            return f"{said}, {difference}"
        if prediction.bad or suspect < SAID_FROM:
            return said
        return f"{said}, {suspect * 100:.1f} % of the picture above the pixel threshold"

    @classmethod
    def _suspect(cls, prediction: Prediction, card: ModelCard) -> float:
        """Share of the picture above the pixel threshold, in regions that are not outlined."""
        above = prediction.raw_map >= least_float32(cls.completed(card.facts)["pixel_threshold"])
        return float((above & (prediction.mask == 0)).mean())

    @classmethod
    def draw(
        cls,
        image: NDArray[np.uint8],
        prediction: Prediction,
        card: ModelCard,
        truth: str | None = None,
        heatmap: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        from dao.drawing.anomaly import annotate_anomaly

        return annotate_anomaly(image, prediction)

    @classmethod
    def thumbnail(cls, image: NDArray[np.uint8], prediction: Prediction, card: ModelCard) -> NDArray[np.uint8]:
        from dao.drawing.anomaly import small_anomaly

        return small_anomaly(image, prediction)

    @classmethod
    def files(cls, prediction: Prediction, card: ModelCard) -> dict[str, NDArray[np.uint8]]:
        """The map as grey levels, 128 the threshold, and the mask of what lies above it."""
        return {
            "map": np.round(prediction.anomaly_map * 255).astype(np.uint8),
            "mask": prediction.mask * np.uint8(255),
        }

    @classmethod
    def compare(cls, mine: Outputs, theirs: Outputs, card: ModelCard, original_hw: tuple[int, int]) -> dict[str, Any]:
        found = super().compare(in_shares(mine, card), in_shares(theirs, card), card, original_hw)
        hw = [original_hw] * len(mine["raw_score"])
        pairs = zip(cls.decode(mine, card, hw), cls.decode(theirs, card, hw), strict=True)
        agree = all(cls.agreement(first, second) for first, second in pairs)
        apart = (
            np.abs(mine["anomaly_score"] - 0.5) >= SAME_SCORE
        )  # from the threshold, on which a file may call it either
        return {**found, "agree": agree and bool((mine["is_bad"] == theirs["is_bad"])[apart].all())}

    @classmethod
    def extent(cls, mine: Outputs, card: ModelCard, original_hw: tuple[int, int]) -> NDArray[np.float64]:
        return super().extent(in_shares(mine, card), card, original_hw)

    @classmethod
    def agreement(cls, first: Prediction, second: Prediction) -> bool:
        """The same verdict; either one where the score lies on the threshold itself."""
        on_it = abs(first.anomaly_score - 0.5) < SAME_SCORE
        return first.label == second.label or on_it


def differing(prediction: Prediction) -> str:
    """What is to be said where the verdict and what is outlined tell different things; "" where they agree."""
    if prediction.bad and not prediction.mask.any():
        return "bad with nothing outlined"
    if not prediction.bad and prediction.mask.any():
        return f"good with {prediction.mask.mean():.1%} outlined"
    return ""


def in_shares(outputs: Outputs, card: ModelCard) -> Outputs:
    """Raw outputs as shares of their threshold, so that a method's units do not decide what is close."""
    units = {"raw_map": card.facts["pixel_threshold"], "raw_score": card.facts["picture_threshold"]}
    return {name: value / units[name] if name in units else value for name, value in outputs.items()}
