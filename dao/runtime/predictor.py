"""Picture in, prediction out, from a checkpoint or from an exported file, with the same answer.

>>> predictor = Predictor("steel.onnx")                      # doctest: +SKIP
>>> predictor("part_0412.png").to_dict()["verdict"]          # doctest: +SKIP
'bad'
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from dao.answers.kinds import answer_class
from dao.errors import AnswerError, CheckpointError, DataError
from dao.images.image_io import decode_image, image_of_pillow, read_image
from dao.images.listing import nothing_at, pictures_at
from dao.runtime.backends import Backend, Image, open_file
from dao.structures import Prediction

AT_ONCE, PIXELS_AT_ONCE = 8, 2**24  # pictures of one size that a model is shown in one go, and their pixels


class Predictor:
    """Answers for pictures, in their own pixels.

    path: a checkpoint, a run folder (its best checkpoint, else the latest), or an exported file (.onnx, .pt2, or of an
    exporter of your own that names its backend). An .onnx file needs neither torch nor the rest of AICore.
    device: "auto", "cpu", "cuda", "cuda:1", ...
    facts: another operating point than the file's, e.g. {"threshold": 0.37} (notes/OperatingPoints).
    trust: read a file that can run code of whoever made it (.pt2) as well. All others are data.
    custom_modules: a folder of your own modules to import first, whose models, tasks or exporters the file needs; what
    lies in the working directory's custom_modules/ is main.py's and is not imported here.
    Raises CheckpointError when the file cannot be used, ConfigError for facts that it does not have.
    """

    def __init__(
        self,
        path: str | Path,
        device: str = "auto",
        facts: Mapping[str, Any] | None = None,
        trust: bool = False,
        custom_modules: str | Path | None = None,
    ) -> None:
        if custom_modules is not None:
            from dao.register import import_all_modules_for_register

            with_torch = importlib.util.find_spec("torch") is not None
            import_all_modules_for_register(custom_modules, ours=with_torch)
        self.path = Path(path)
        self.backend: Backend = open_file(self.path, device, trust)
        self.card = self.backend.card
        self.task_class = answer_class(self.card.task)
        if facts:
            self.card = self.task_class.at(self.card, facts)

    @property
    def classes(self) -> list[str]:
        """Class names in score order."""
        return self.card.classes

    @overload
    def __call__(self, picture: Sequence[Any]) -> list[Prediction]: ...
    @overload
    def __call__(self, picture: Any) -> Prediction: ...
    def __call__(self, picture: Any) -> Prediction | list[Prediction]:
        """Prediction for a picture: a file's path or its bytes, (H, W, C) or (H, W) uint8 pixels (RGB or grey), or
        Pillow's; for a list of them a list, where those of one size go through the model together.

        Raises DataError when one cannot be read or is of another kind, AnswerError (a CheckpointError) when what the model
        says is not finite.
        """
        if isinstance(picture, list | tuple):
            return self._answer_all(picture)
        return self._answer(self.read(picture), name_of(picture))

    def folder(self, path: str | Path, recursive: bool = False, threads: int = 2) -> Iterator[Prediction]:
        """Predictions of all pictures that a path means (a folder, a glob, a file), in the order of their names.

        A few are read ahead, by ``threads`` of them, so that memory is that of a few pictures. One that cannot be read or
        answered is no end: its Prediction has the reason in ``error``, and "review" for its verdict.
        Raises DataError where there is no picture.
        """
        return (prediction for prediction, _ in self.folder_with_pixels(path, recursive, threads))

    def folder_with_pixels(
        self, path: str | Path, recursive: bool = False, threads: int = 2
    ) -> Iterator[tuple[Prediction, Image | None]]:
        """As `folder`, each with the picture as the model took it; None for one that cannot be read."""
        from dao.runtime.ahead import read_ahead

        names = pictures_at(str(path), recursive)
        if not names:
            raise DataError(nothing_at(str(path), recursive, "recursive=True (command line: --recursive)"))
        return (
            (self._answer_or_error(name, image), image if isinstance(image, np.ndarray) else None)
            for name, image in read_ahead(names, self.read, threads)
        )

    def read(self, picture: Any) -> Image:
        """The picture's pixels as the model takes them: (H, W, C) uint8 with the model's number of channels."""
        image = self._pixels(picture)
        if not image.size:
            raise DataError(f"the picture given has no pixel: its shape is {image.shape}")
        return image

    def _pixels(self, picture: Any) -> Image:
        channels, depth = self.card.preprocess["in_channels"], self.card.preprocess["bit_depth"]
        if isinstance(picture, np.ndarray):
            return fit_channels(picture, channels)
        if isinstance(picture, bytes | bytearray | memoryview):
            return decode_image(bytes(picture), "the bytes given", channels, depth)
        if isinstance(picture, str | Path):
            return read_image(picture, channels, depth)
        if hasattr(picture, "getexif"):
            return image_of_pillow(picture, channels, depth)
        raise DataError(f"a picture is a path, bytes, a uint8 array or Pillow's Image; got {type(picture).__name__}")

    def heatmap(self, image: Image, prediction: Prediction) -> NDArray[np.float32] | None:
        """(h, w) of 0..1 over the model's input: where it looked; None where the file or the task has none."""
        look = getattr(self.backend, "heatmap", None)
        return look(image, prediction) if look is not None else None

    def draw(self, image: Image, prediction: Prediction, **extras: Any) -> Image:
        """The picture with what the model says of it."""
        return self.task_class.draw(image, prediction, self.card, **extras)

    def thumbnail(self, image: Image, prediction: Prediction) -> Image:
        """The small picture of a contact sheet."""
        return self.task_class.thumbnail(image, prediction, self.card)

    def legend(self, prediction: Prediction) -> dict[str, tuple[int, int, int]]:
        """The colours on `thumbnail` that have a meaning, by class: RGB."""
        return self.task_class.legend(prediction, self.card)

    def caption(self, prediction: Prediction) -> str:
        """The prediction in a few words."""
        return self.task_class.caption(prediction, self.card)

    def files(self, prediction: Prediction) -> dict[str, Image]:
        """What else of the prediction is a picture: a class map, say."""
        return self.task_class.files(prediction, self.card)

    def describe(self, prediction: Prediction) -> dict[str, Any]:
        """The prediction as plain JSON values with class names, as results.json has it."""
        return self.task_class.describe(prediction, self.card)

    def _answer(self, image: Image, path: str) -> Prediction:
        try:
            prediction = self.task_class.answer(self.backend.run, image, self.card)
        except AnswerError as error:
            raise AnswerError(f"{path}: {error}" if path else str(error)) from None
        prediction.path = path
        return prediction

    def _answer_or_error(self, path: str, image: Image | DataError) -> Prediction:
        try:
            if isinstance(image, DataError):
                raise image
            return self._answer(image, path)
        except (
            DataError,
            CheckpointError,
        ) as error:  # of this picture: a runtime may refuse a size that it has no memory for
            reason = str(error).removeprefix(f"{path}: ")
            return self.task_class.finished(Prediction(path=path, error=reason), self.card, (0, 0))

    def _answer_all(self, pictures: Sequence[Any]) -> list[Prediction]:
        found: list[Prediction] = []
        for group in self._groups(pictures):
            if len(group) == 1:
                found.append(self._answer(group[0][1], group[0][0]))
                continue
            found += self._answer_group(group)
        return found

    def _answer_group(self, group: list[tuple[str, Image]]) -> list[Prediction]:
        try:
            answers = self.task_class.answer_batch(self.backend.run, np.stack([image for _, image in group]), self.card)
        except AnswerError:  # of one of them, which is named when it is asked for alone
            return [self._answer(image, path) for path, image in group]
        for (path, _), prediction in zip(group, answers, strict=True):
            prediction.path = path
        return answers

    def _groups(self, pictures: Sequence[Any]) -> Iterator[list[tuple[str, Image]]]:
        """Neighbours of one size, as many as may go through the model together, with their names."""
        together = getattr(self.backend, "any_batch", False) and self.card.preprocess["resize"] != "tile"
        group: list[tuple[str, Image]] = []
        for picture in pictures:
            image = self.read(picture)
            most = min(AT_ONCE, PIXELS_AT_ONCE // (image.shape[0] * image.shape[1])) if together else 1
            if group and (len(group) >= most or group[0][1].shape != image.shape):
                yield group
                group = []
            group.append((name_of(picture), image))
        if group:
            yield group


def name_of(picture: Any) -> str:
    """The path of a picture; "" of one that is in memory."""
    return str(picture) if isinstance(picture, str | Path) else ""


def fit_channels(pixels: NDArray[Any], channels: int) -> Image:
    """Pixels given by a caller, as (H, W, channels) uint8. Raises DataError for anything but uint8 pictures."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise DataError(f"expected a (H, W, C) or (H, W) uint8 array, got {pixels.dtype} of shape {pixels.shape}")
    image = pixels[..., None] if pixels.ndim == 2 else pixels
    have = image.shape[2]
    if have == 4:
        image, have = image[..., :3], 3
    if have == channels:
        return np.ascontiguousarray(image)
    if have == 1:
        return np.repeat(image, 3, axis=2)
    if have == 3:
        import cv2

        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]
    raise DataError(f"expected 1, 3 or 4 channels in the last axis, got shape {pixels.shape}")
