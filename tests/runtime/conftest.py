"""A classifier by hand: its scores are the shares of red, green and blue in a picture."""

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from dao.answers.card import ModelCard
from dao.preprocess.settings import PreprocessSettings


@pytest.fixture
def by_colour(tmp_path):
    """Writes the file; its card's facts and its input's shape can be others."""

    def write(shape=("batch", "height", "width", 3), **facts):
        nodes = [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2], keepdims=0),
            helper.make_node("ReduceSum", ["means", "axis"], ["sum"], keepdims=1),
            helper.make_node("Div", ["means", "sum"], ["scores"]),
        ]
        graph = helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, list(shape))],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [shape[0], 3])],
            [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        known = {"multi_label": False, "bad_classes": ["red"], "threshold": 0.5, **facts}
        card = ModelCard("cls", ["red", "green", "blue"], PreprocessSettings(size=(8, 8)).to_dict(), known)
        helper.set_model_props(model, {"aicore": card.to_json(), "layout": "nhwc"})
        save(model, str(tmp_path / "colour.onnx"))
        return tmp_path / "colour.onnx"

    return write


@pytest.fixture
def colours(tmp_path):
    """A folder of pictures: more red than green, the other way round, a damaged file, and a larger red one."""
    import cv2

    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, rgb, side in (("a", (200, 50, 0), 8), ("b", (50, 200, 0), 8), ("d", (180, 60, 10), 20)):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((side, side, 3), rgb[::-1], np.uint8))
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:40])
    return folder
