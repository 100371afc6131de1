"""What an ONNX file of anybody's may be: one input of pixels, weights inside it, and none of them NaN.

The file is read as its bytes lie there (`dao.runtime.wire`): a PC at the line has ONNX Runtime, and not the onnx package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.errors import CheckpointError
from dao.runtime.wire import fields, varints

LAYOUTS = {"nhwc": 3, "nchw": 1}  # and the axis of the channels
FLOAT, FLOAT16, DOUBLE = 1, 10, 11  # numbers of onnx.proto's TensorProto.DataType
KINDS = {FLOAT: np.dtype("<f4"), FLOAT16: np.dtype("<f2"), DOUBLE: np.dtype("<f8")}


@dataclass(slots=True)
class Tensor:
    """A TensorProto: its name and floats, and whether it keeps them in another file. Of other kinds there are no values."""

    name: str
    values: NDArray[np.floating]
    elsewhere: bool


@dataclass(slots=True)
class Node:
    """A NodeProto: what it does, of which names it makes which, and the tensors and graphs among its attributes."""

    kind: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)


@dataclass(slots=True)
class Graph:
    """A GraphProto: its nodes and weights."""

    nodes: list[Node] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)


def refuse_nan(path: Path) -> None:
    """Raise CheckpointError for a weight that is NaN, or that lies in another file.

    ONNX Runtime's maxima drop a NaN among numbers, so that not every answer would show it. Infinities may stand in masks,
    and one NaN alone is what a Where puts in the place of an answer that is none (`dao.models.detection.answers.choose`).
    """
    try:
        graphs = list(_graphs(_model(memoryview(path.read_bytes()))))
    except (OSError, ValueError, IndexError, TypeError, RecursionError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a usable ONNX file ({type(error).__name__})") from None
    chosen = _chosen(graphs)
    for name, tensor in _tensors(graphs):
        if tensor.elsewhere:
            raise CheckpointError(
                f"{path} keeps weights in another file; Export writes one file that holds all of them"
            )
        if np.isnan(tensor.values).any() and not (tensor.values.size == 1 and name in chosen):
            raise CheckpointError(f"{path}: its weights {name!r} are not finite (NaN): the file is damaged")


# -- of the file, by the field numbers of onnx.proto -----------------------------------------------------------------


def _model(message: memoryview) -> Graph:
    graph = Graph()
    for number, value in fields(message):
        if number == 7:
            graph = _graph(value)
    return graph


def _graph(message: Any) -> Graph:
    graph = Graph()
    for number, value in fields(message):
        if number == 1:
            graph.nodes.append(_node(value))
        elif number == 5:
            graph.weights.append(_tensor(value))
    return graph


def _node(message: Any) -> Node:
    node = Node()
    for number, value in fields(message):
        if number in (1, 2):
            (node.inputs if number == 1 else node.outputs).append(_text(value))
        elif number == 4:
            node.kind = _text(value)
        elif number == 5:
            for inner, content in fields(value):
                if inner in (5, 10):
                    node.tensors.append(_tensor(content))
                elif inner in (6, 11):
                    node.graphs.append(_graph(content))
    return node


def _tensor(message: Any) -> Tensor:
    kind, name, raw, typed, elsewhere = 0, "", b"", [], False
    for number, value in fields(message):
        if number == 2:
            kind = int(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = value
        elif number in (4, 5, 10):  # floats, the bits of halves, doubles
            typed.append((number, value))
        elif number == 13 or (number == 14 and value == 1):
            elsewhere = True
    dtype = KINDS.get(kind)
    if dtype is None or elsewhere:
        return Tensor(name, np.zeros(0), elsewhere)
    parts = [np.frombuffer(raw, dtype), *(_typed(dtype, number, value) for number, value in typed)]
    return Tensor(name, np.concatenate(parts) if len(typed) else parts[0], False)


def _typed(dtype: np.dtype[Any], number: int, value: Any) -> NDArray[np.floating]:
    if number == 5:
        return (
            np.array(list(varints(value)), np.uint64).astype("<u2").view(dtype) if dtype.itemsize == 2 else np.zeros(0)
        )
    return np.frombuffer(value, np.dtype("<f4") if number == 4 else np.dtype("<f8")).astype(dtype)


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8")


# -- of its graphs ---------------------------------------------------------------------------------------------------


def _graphs(graph: Graph) -> Iterator[Graph]:
    """The graph and those inside it."""
    waiting = [graph]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += [inner for node in one.nodes for inner in node.graphs]


def _tensors(graphs: list[Graph]) -> Iterator[tuple[str, Tensor]]:
    """Every weight and constant with the name that nodes know it by, those in branches and loops as well."""
    for graph in graphs:
        yield from ((tensor.name, tensor) for tensor in graph.weights)
        for node in graph.nodes:
            name = node.outputs[0] if node.kind == "Constant" and node.outputs else ""
            yield from ((name or tensor.name, tensor) for tensor in node.tensors)


def _chosen(graphs: list[Graph]) -> set[str]:
    """Names of what Where nodes choose between, and nothing else takes."""
    nodes = [node for graph in graphs for node in graph.nodes]
    chosen = {name for node in nodes if node.kind == "Where" for name in node.inputs[1:]}
    return chosen - {name for node in nodes if node.kind != "Where" for name in node.inputs}


# -- of what runs it -------------------------------------------------------------------------------------------------


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
