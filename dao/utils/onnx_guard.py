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

    ONNX Runtime's maxima drop a NaN among numbers, so that not every answer would show it. Infinities may stand in masks,
    and one NaN alone is what a Where puts in the place of an answer that is none (`dao.models.detection.answers.choose`).
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        chosen = _chosen(model.graph)
        for name, tensor in _tensors(model.graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise CheckpointError(
                    f"{path} keeps weights in another file; Export writes one file that holds all of them"
                )
            floats = tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
            values = onnx.numpy_helper.to_array(tensor) if floats else np.zeros(0)
            if np.isnan(values).any() and not (values.size == 1 and name in chosen):
                raise CheckpointError(f"{path}: its weights {name!r} are not finite (NaN): the file is damaged")
    except CheckpointError:
        raise
    except Exception as error:  # protobuf's and numpy's own, of a file that was made to stumble over
        raise CheckpointError(f"{path} is not a usable ONNX file ({type(error).__name__})") from None


def _tensors(graph: Any) -> Iterator[tuple[str, Any]]:
    """Every weight and constant with the name that nodes know it by, those in branches and loops as well."""
    for one in _graphs(graph):
        yield from ((tensor.name, tensor) for tensor in one.initializer)
        for node in one.node:
            name = node.output[0] if node.op_type == "Constant" and node.output else ""
            for attribute in node.attribute:
                tensors = ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors)
                yield from ((name or tensor.name, tensor) for tensor in tensors)


def _chosen(graph: Any) -> set[str]:
    """Names of what Where nodes choose between, and nothing else takes."""
    nodes = [node for one in _graphs(graph) for node in one.node]
    chosen = {name for node in nodes if node.op_type == "Where" for name in node.input[1:]}
    return chosen - {name for node in nodes if node.op_type != "Where" for name in node.input}


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and those inside it."""
    graphs = [graph]
    while graphs:
        one = graphs.pop()
        yield one
        for node in one.node:
            for attribute in node.attribute:
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
