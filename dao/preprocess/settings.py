"""What a config, a checkpoint and an exported file say of the way from raw pixels to a model's input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dao.errors import ConfigError, Problem
from dao.preprocess.geometry import Placement, Position, ResizeKind, placement

ChannelOrder = Literal["rgb", "bgr"]
MaskResize = Literal["nearest", "max"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MOST_OVERLAP = 0.9  # each pixel is then in a hundred windows


@dataclass(frozen=True, slots=True)
class PreprocessSettings:
    """The config section ``preprocess``; saved in checkpoints and exported files.

    size: model input [height, width] in pixels.
    resize: "letterbox" keeps the aspect ratio and pads; "stretch" does not keep it; "crop" keeps it, fills the
        input and cuts the longer side's ends; "tile" does not scale: a picture larger than the input is answered
        window by window (see dao/preprocess/tiling.py), a smaller one is padded below and to the right.
    overlap: with "tile", the least share that neighbouring windows have in common.
    antialias: filter before shrinking, so that a thin scratch fades instead of vanishing between two pixels.
    mean, std: per channel in the order red, green, blue, in units of 0..1 (mean 0 and std 1/255 give the model 0..255).
    position: where "letterbox" puts the picture, and which part "crop" keeps.
    channel_order: in which the model takes its channels; pictures are RGB everywhere else.
    mask_resize: of training masks: "nearest", or "max", by which a defect of any part of a pixel is kept when a mask is
        shrunk: a scratch of one pixel stays whole, as `antialias` lets it stay in the picture.
    pad_value: grey level of the letterbox border. in_channels: 3 (RGB) or 1 (grey).
    bit_depth: significant bits of 16-bit files (a 12-bit camera writes 12); 8-bit files are not affected.
    """

    size: tuple[int, int] = (224, 224)
    resize: ResizeKind = "letterbox"
    antialias: bool = True
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    pad_value: int = 114
    in_channels: Literal[1, 3] = 3
    bit_depth: int = 16
    overlap: float = 0.25
    position: Position = "center"
    channel_order: ChannelOrder = "rgb"
    mask_resize: MaskResize = "nearest"

    def problems(self) -> list[Problem]:
        """What is wrong with the values taken together; their types are checked elsewhere."""
        found = []
        if min(self.size) < 1:
            found.append(Problem("preprocess.size", f"both sides must be at least 1 pixel, got {list(self.size)}"))
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, self.in_channels) and not self._is_default(name):
                found.append(
                    Problem(
                        f"preprocess.{name}", f"needs 1 or {self.in_channels} values, one a channel, got {len(values)}"
                    )
                )
        if any(value <= 0 for value in self.std):
            found.append(Problem("preprocess.std", f"must be above 0, got {list(self.std)}"))
        if not 0 <= self.pad_value <= 255:
            found.append(Problem("preprocess.pad_value", f"must lie in 0..255, got {self.pad_value}"))
        if self.channel_order == "bgr" and self.in_channels == 1:
            found.append(Problem("preprocess.channel_order", "a grey input has one channel and no order; leave it out"))
        if not 8 <= self.bit_depth <= 16:
            found.append(Problem("preprocess.bit_depth", f"must lie in 8..16, got {self.bit_depth}"))
        if not 0 <= self.overlap <= MOST_OVERLAP:
            message = f"must lie in 0..{MOST_OVERLAP}, got {self.overlap}: beyond, a picture has windows without number"
            found.append(Problem("preprocess.overlap", message))
        return found

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PreprocessSettings:
        """From plain JSON values, as `to_dict` gives them. Raises ConfigError for values that do not go together."""
        settings = cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
        if problems := settings.problems():
            raise ConfigError(problems)
        return settings

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Names out of a file that are no settings, or whose values are of another kind, and what is wrong with each."""
        kinds = get_type_hints(cls)
        for name, value in values.items():
            if name not in kinds:
                yield name, "is no such setting"
            elif not _fits(kinds[name], value):
                yield name, f"cannot be {str(value)[:60]}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @property
    def tiled(self) -> bool:
        """Whether pictures are answered window by window."""
        return self.resize == "tile"

    def place(self, original_hw: tuple[int, int]) -> Placement:
        """Where a picture of ``original_hw`` comes to lie in the input."""
        return placement(original_hw, self.size, self.resize, self.position)

    def _is_default(self, name: str) -> bool:
        return tuple(getattr(self, name)) == (IMAGENET_MEAN if name == "mean" else IMAGENET_STD)

    def per_channel(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """One value per input channel: repeated when a single one is given, averaged when RGB statistics meet grey."""
        if len(values) == self.in_channels:
            return values
        return (sum(values) / len(values),) * self.in_channels


def _fits(kind: Any, value: Any) -> bool:
    """Whether a JSON value is of an annotation's kind: a list may fill a tuple and 1 a float, true is no number."""
    if get_origin(kind) is Literal:
        return any(type(value) is type(one) and value == one for one in get_args(kind))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, list | tuple):
            return False
        kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        return len(kinds) == len(value) and all(map(_fits, kinds, value))
    return type(value) is kind or (kind is float and type(value) is int)
