"""A NaN in an ONNX file is refused wherever it would be calculated with, and let be where it marks an answer that is none."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from dao.errors import CheckpointError
from dao.runtime.onnx_guard import refuse_nan


def write(path, node, values, as_constant):
    """y = node of x, a condition c, and the values called w: a weight, or the output of a Constant node."""
    tensor = numpy_helper.from_array(np.float32(values), "w")
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(np.float32(values), "t"))
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, [2]),
    ]
    output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])]
    nodes = [constant, node] if as_constant else [node]
    graph = helper.make_graph(nodes, "g", inputs, output, [] if as_constant else [tensor])
    save(helper.make_model(graph), str(path))
    return path


@pytest.mark.parametrize("as_constant", [False, True])
def test_one_nan_that_a_where_chooses_is_no_damaged_weight(as_constant, tmp_path):
    where, add = helper.make_node("Where", ["c", "w", "x"], ["y"]), helper.make_node("Add", ["x", "w"], ["y"])
    path = tmp_path / "m.onnx"
    refuse_nan(write(path, where, np.nan, as_constant))
    for node, values in ((where, [1, np.nan]), (add, np.nan), (add, [0, np.nan])):
        with pytest.raises(CheckpointError, match="its weights 'w' are not finite"):
            refuse_nan(write(path, node, values, as_constant))
    refuse_nan(write(path, add, [0, np.inf], as_constant))


def test_a_nan_among_halves_that_are_written_as_whole_numbers_is_found_too(tmp_path):
    for values, sound in (([1.0, 2.0], True), ([1.0, np.nan], False)):
        weight = helper.make_tensor("w", TensorProto.FLOAT16, [2], values)
        assert not weight.raw_data and len(weight.int32_data) == 2
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT16, [2]) for name in "xy")
        graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
        save(helper.make_model(graph), str(tmp_path / "m.onnx"))
        if sound:
            refuse_nan(tmp_path / "m.onnx")
            continue
        with pytest.raises(CheckpointError, match="its weights 'w' are not finite"):
            refuse_nan(tmp_path / "m.onnx")
