"""What an ONNX file of anybody's may be: one input of pixels, weights inside it, and none of them NaN."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dao.errors import CheckpointError

LAYOUTS = {"nhwc": 3, "nchw": 1}  # and the axis of the channels


def refuse_nan(path: Path) -> None:
    """Raise CheckpointError for a weight that is NaN, or that lies in another file.

    ONNX Runtime's maxima drop a NaN among numbers, so that not every answer would show it. Infinities may stand in masks.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        for tensor in _tensors(model.graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise CheckpointError(
                    f"{path} keeps weights in another file; Export writes one file that holds all of them"
                )
            floats = tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
            if floats and np.isnan(onnx.numpy_helper.to_array(tensor)).any():
                raise CheckpointError(f"{path}: its weights {tensor.name!r} are not finite (NaN): the file is damaged")
    except CheckpointError:
        raise
    except Exception as error:  # protobuf's and numpy's own, of a file that was made to stumble over
        raise CheckpointError(f"{path} is not a usable ONNX file ({type(error).__name__})") from None


def _tensors(graph: Any) -> Iterator[Any]:
    """Every weight and constant, those in branches and loops as well."""
    graphs = [graph]
    while graphs:
        one = graphs.pop()
        yield from one.initializer
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                graphs += [attribute.g] if attribute.HasField("g") else []
                graphs += attribute.graphs


def input_of(session: Any, layout: str, channels: int, path: Path) -> Any:
    """The one input, which takes uint8 pictures as the card says. Raises CheckpointError for anything else."""
    inputs = session.get_inputs()
    right = len(inputs) == 1 and layout in LAYOUTS and inputs[0].type == "tensor(uint8)" and len(inputs[0].shape) == 4
    if not right or (
        isinstance(inputs[0].shape[LAYOUTS[layout]], int) and inputs[0].shape[LAYOUTS[layout]] != channels
    ):
        found = ", ".join(f"{one.type} {one.shape}" for one in inputs) or "none"
        raise CheckpointError(
            f"{path} does not take the pictures that its card speaks of ({channels} channels of uint8, {layout}): {found}"
        )
    return inputs[0]
