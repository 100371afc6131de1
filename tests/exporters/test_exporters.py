"""Exported files answer as the model does, whatever the picture's size and the input's layout."""

import json

import numpy as np
import onnx
import pytest
import torch

from dao.config import schema
from dao.errors import CheckpointError, ConfigError, DataError
from dao.exporters.onnx import OnnxExporter
from dao.exporters.torch_export import TorchExporter
from dao.files import manifest
from dao.models.classification.timm_classifier import timm_classifier
from dao.predictor import OnnxBackend, Predictor, TorchBackend
from dao.preprocess import Preprocess
from dao.tasks.classification import ClassificationTask

CPU = torch.device("cpu")


def make_task(multi_label=False, **preprocess):
    torch.manual_seed(0)
    model = timm_classifier("test_resnet", num_classes=4, in_chans=preprocess.get("in_channels", 3)).eval()
    pre = Preprocess(size=[48, 64], **preprocess)
    return ClassificationTask(model, pre, ["good", "ä ü", "c", "d"], facts={"multi_label": multi_label})


def pictures(channels=3):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (1, h, w, channels), dtype=np.uint8) for h, w in ((48, 64), (31, 200), (150, 90))]


@pytest.mark.parametrize(
    ("exporter", "preprocess"),
    [
        (OnnxExporter(), {"resize": "letterbox"}),
        (OnnxExporter(layout="nchw", simplify=False), {"resize": "crop", "antialias": False}),
        (OnnxExporter(), {"resize": "stretch", "in_channels": 1}),
        (OnnxExporter(), {"resize": "letterbox", "position": "top_left", "channel_order": "bgr", "std": [1 / 255]}),
        (TorchExporter(), {"resize": "letterbox"}),
    ],
)
def test_any_size_and_batch(exporter, preprocess, tmp_path):
    task = make_task(**preprocess)
    path = tmp_path / f"m{exporter.suffix}"
    exporter.export(task, path)
    own, theirs = TorchBackend.of(task, CPU), exporter.opened(path, CPU)
    for image in pictures(preprocess.get("in_channels", 3)):
        np.testing.assert_allclose(theirs.run(image)["scores"], own.run(image)["scores"], atol=1e-4)
        assert theirs.run(image.repeat(3, 0))["scores"].shape == (3, 4)
    assert theirs.card == task.card()


def test_fixed_size_refuses_others_with_its_shape(tmp_path):
    task = make_task()
    OnnxExporter(dynamic=False, image_size=(40, 50)).export(task, tmp_path / "m.onnx")
    backend = OnnxBackend(tmp_path / "m.onnx", CPU)
    assert backend.run(np.zeros((1, 40, 50, 3), np.uint8))["scores"].shape == (1, 4)
    with pytest.raises(DataError, match=r"\[1, 40, 50, 3\].*dynamic: true"):
        backend.run(np.zeros((1, 41, 50, 3), np.uint8))


@pytest.mark.parametrize(
    ("kwargs", "place"),
    [
        ({"batch_size": 0}, "export.kwargs.batch_size"),
        ({"image_size": [-1, 64]}, "export.kwargs.image_size.0"),
        ({"image_size": [64, 10**9], "dynamic": False}, "export.kwargs.image_size.1"),
        ({"image_size": None, "batch_size": 1}, None),
    ],
)
@pytest.mark.parametrize("name", ["OnnxExporter", "TorchExporter"])
def test_numbers_out_of_range_are_refused_beforehand(name, kwargs, place):
    found = schema.validate({"export": {"type": name, "kwargs": kwargs}})
    assert [p.where for p in found if p.where.startswith("export")] == ([place] if place else [])


def test_an_export_of_nothing_is_refused():
    assert [p.what[:17] for p in schema.validate({"export": []}) if p.where == "export"] == ["the list is empty"]


def test_metadata_and_checker(tmp_path):
    task = make_task(multi_label=True)
    OnnxExporter(opset=20).export(task, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    card = json.loads(metadata["aicore"])
    assert card["classes"] == task.classes and card["version"]
    assert card["facts"].items() >= {"multi_label": True, "threshold": 0.5}.items()
    assert model.opset_import[0].version == 20
    prediction = Predictor(tmp_path / "m.onnx")(pictures()[0][0])
    assert prediction.labels == [i for i, s in enumerate(prediction.scores) if s >= 0.5]


def test_foreign_and_torn_files_are_refused(tmp_path):
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "g", value[:1], value[1:])
    foreign = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(foreign, tmp_path / "foreign.onnx")
    (tmp_path / "torn.onnx").write_bytes(b"no")
    (tmp_path / "torn.pt2").write_bytes(b"no")
    manifest.write(tmp_path / "torn.pt2")
    for name, message in (
        ("foreign.onnx", "not exported by AICore"),
        ("torn.onnx", "not a usable"),
        ("torn.pt2", "not a usable"),
    ):
        with pytest.raises(CheckpointError, match=message):
            Predictor(tmp_path / name, trust=True)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "uint8 array, got float32"),
        (np.zeros((4, 4, 2), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((4,), np.uint8), "of shape"),
    ],
)
def test_predictor_refuses_what_is_no_picture(pixels, message, tmp_path):
    from dao.predictor import fit_channels

    with pytest.raises(DataError, match=message):
        fit_channels(pixels, 3)


@pytest.mark.parametrize(("shape", "channels"), [((5, 6), 3), ((5, 6, 1), 3), ((5, 6, 4), 3), ((5, 6, 3), 1)])
def test_channels_are_fitted(shape, channels):
    from dao.predictor import fit_channels

    assert fit_channels(np.full(shape, 7, np.uint8), channels).shape == (5, 6, channels)
    assert (fit_channels(np.full(shape, 7, np.uint8), channels) == 7).all()


@pytest.mark.parametrize(
    ("exporter", "facts"), [(OnnxExporter, {}), (OnnxExporter, {"raw": True}), (TorchExporter, {})]
)
def test_a_detector_answers_alike_with_suppression_inside(exporter, facts, tmp_path):
    import dao.register
    from dao.register import Registers
    from dao.tasks.detection import DetectionTask

    dao.register.import_all_modules_for_register()
    torch.manual_seed(0)
    backbone = {"type": "TimmFeatures", "kwargs": {"model_name": "mobilenetv3_small_050"}}
    kwargs = {
        "size": "nano",
        "backbone": backbone,
        "score_threshold": 0.2,
        "max_detections": 30,
        "nms_threshold": 0.4,
    }
    model = Registers.det_models.build(
        {"type": "YOLOXWithBackbone", "kwargs": kwargs}, num_classes=3, in_chans=3
    ).eval()
    with torch.no_grad():
        for layer in (*model.head.cls_preds, *model.head.obj_preds):
            layer.weight.normal_(0, 2)
            layer.bias.zero_()
    made = exporter(facts=facts)
    task = DetectionTask(model, Preprocess(size=[64, 96], channel_order="bgr"), list("abc")).with_facts(made.facts)
    path = tmp_path / f"m{made.suffix}"
    made.export(task, path)
    own, theirs = TorchBackend.of(task, CPU), made.opened(path, CPU)
    for image in pictures():
        several = np.concatenate([image, image[:, ::-1], image[:, :, ::-1]])
        found = DetectionTask.compare(own.run(several), theirs.run(several), own.card, image.shape[1:3])
        assert found["agree"] and found["max_abs"] < 1e-4
        assert len(DetectionTask.decode(theirs.run(image), theirs.card, [image.shape[1:3]])[0].box_scores) > 3
    assert theirs.card.facts == task.facts


@pytest.mark.parametrize("exporter", [OnnxExporter, TorchExporter])
@pytest.mark.parametrize("found", [0, 1])
def test_suppression_of_no_box_and_of_one(exporter, found, tmp_path):
    """The counts that tracing takes for constants where nothing is done about it."""
    from dao.models.detection.answers import AnswerSettings, choose

    class Chooser(torch.nn.Module):
        def forward(self, boxes, scores, labels):
            return choose(boxes, scores, labels, 3, (64, 64), AnswerSettings(0.5, 0.5, 4))._asdict()

    low = torch.arange(20.0).view(1, 10, 2) * 3
    given = torch.cat([low, low + 9], -1), torch.linspace(0.1, 0.95, 10)[None], torch.arange(10)[None] % 3
    program = torch.export.export(Chooser(), given)
    scores = torch.full((1, 10), 0.2)
    scores[0, :found] = 0.9
    if exporter is TorchExporter:
        answer = program.module()(given[0], scores, given[2])
        assert int((answer["labels"] >= 0).sum()) == found
        return
    import onnxruntime

    torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    answer = session.run(None, dict(zip(names, [given[0].numpy(), scores.numpy(), given[2].numpy()])))
    assert int((answer[1] > 0).sum()) == found


def test_a_model_that_cannot_be_traced_says_so(tmp_path):
    task = make_task()
    task.model.not_exportable = "it decides in Python"
    with pytest.raises(ConfigError, match="it decides in Python"):
        OnnxExporter().export(task, tmp_path / "m.onnx")
