"""A model that gives NaN gives no answer: never "no defect", whatever ran it, in every task, whole or in tiles."""

import json

import numpy as np
import pytest
import torch

import dao.register
import main
from dao.answers import checked
from dao.errors import AnswerError, CheckpointError
from dao.models.detection.answers import AnswerSettings, choose, not_finite
from dao.predictor import Predictor
from dao.preprocess import Preprocess
from dao.structures import AnomalyTruth, Batch
from dao.tasks import build
from dao.utils import checkpoint

BACKBONE = {"type": "TimmFeatures", "kwargs": {"model_name": "mobilenetv3_small_050"}}
SECTIONS = {
    "cls": {"type": "TimmClassifier", "kwargs": {"model_name": "test_resnet"}},
    "seg": {
        "type": "Unet",
        "kwargs": {"encoder_name": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": [8, 8, 8]},
    },
    "det": {"type": "YOLOXWithBackbone", "kwargs": {"size": "nano", "backbone": BACKBONE}},
    "two-stage": {"type": "TorchvisionDetector", "kwargs": {"model_name": "fasterrcnn_mobilenet_v3_large_320_fpn"}},
    "one-stage": {"type": "TorchvisionDetector", "kwargs": {"model_name": "ssdlite320_mobilenet_v3_large"}},
    "anomaly": {"type": "STFPM", "kwargs": {"backbone": "test_resnet", "layers": ["layer1", "layer2"]}},
}
KINDS = {"two-stage": "det", "one-stage": "det"}
BAD = [float("nan"), float("inf"), float("-inf")]


def make(name, resize="stretch", size=(64, 64)):
    dao.register.import_all_modules_for_register()
    torch.manual_seed(0)
    kind = KINDS.get(name, name)
    classes = ["good", "bad"]
    model = build.build_model({"type": kind, "model": SECTIONS[name]}, classes, 3).eval()
    return build.task_class(kind)(model, Preprocess(size=list(size), resize=resize), classes)


def spoil(task, value=float("nan"), of=lambda name: True):
    with torch.no_grad():
        for name, parameter in task.model.named_parameters():
            if of(name):
                parameter.fill_(value)


def picture(hw=(70, 90)):
    return np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "resize"),
    [(name, "stretch") for name in SECTIONS] + [(name, "tile") for name in ("seg", "det", "anomaly")],
)
def test_weights_of_nan_answer_nothing(name, resize):
    task = make(name, resize)
    task.answer(task.run, picture(), task.card())  # sound weights do
    spoil(task)
    with pytest.raises(AnswerError, match="not finite"):
        task.answer(task.run, picture(), task.card())


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("det", "head.cls_preds.2"),
        ("det", "head.obj_preds.0"),
        ("det", "head.reg_preds.1"),
        ("two-stage", "net.roi_heads.box_predictor.cls_score"),
        ("two-stage", "net.rpn.head.cls_logits"),
        ("one-stage", "net.head.classification_head"),
        ("one-stage", "net.head.regression_head"),
    ],
)
def test_a_nan_that_a_threshold_or_a_suppression_would_drop_is_seen(name, part):
    task = make(name)
    spoil(task, of=lambda n: n.startswith(part))
    with pytest.raises(AnswerError):
        task.answer(task.run, picture(), task.card())


def test_one_nan_class_at_one_place_is_seen_in_an_exported_graph_too(tmp_path):
    """ONNX Runtime's maxima and its topk drop a NaN among numbers, which torch's hand on: the graph has its own witness."""
    import onnxruntime

    class Graph(torch.nn.Module):
        def forward(self, boxes, classes):
            scores, labels = classes.max(dim=-1)
            lost = not_finite(classes)
            return choose(boxes, scores, labels, 2, (64, 64), AnswerSettings(0.5, 0.5, 4), lost)._asdict()

    low = torch.arange(20.0).view(1, 10, 2) * 3
    given = torch.cat([low, low + 9], -1), torch.linspace(0.1, 0.9, 20).view(1, 10, 2)
    torch.onnx.export(Graph(), given, dynamo=True, verbose=False).save(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])

    def scores(classes):
        names = [one.name for one in session.get_inputs()]
        return session.run(None, dict(zip(names, [given[0].numpy(), classes.numpy()])))[1]

    assert np.isfinite(scores(given[1])).all() and (scores(given[1]) > 0.5).any()
    spoilt = given[1].clone()
    for value in (torch.nan, torch.inf):
        spoilt[0, 3, 0] = value
        assert np.isnan(scores(spoilt)).all()


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("what", ["boxes", "scores"])
def test_a_box_that_is_not_finite_is_seen_though_the_pictures_border_would_cut_it(value, what):
    """The second picture of two, a box that no threshold lets through."""
    low = torch.arange(20.0).view(1, 10, 2).repeat(2, 1, 1)
    given = {"boxes": torch.cat([low, low + 9], -1), "scores": torch.linspace(0.1, 0.9, 10).repeat(2, 1)}
    given[what][1, 0, ...] = value
    answer = choose(**given, labels=torch.zeros(2, 10, dtype=torch.int64), num_classes=2, input_hw=(64, 64),
                    settings=AnswerSettings(0.5, 0.5, 4))  # fmt: skip
    assert torch.isfinite(answer.scores[0]).all() and torch.isnan(answer.scores[1]).all()


def test_halves_are_told_from_infinities():
    assert not_finite(torch.tensor([[65504.0], [float("inf")], [float("nan")]], dtype=torch.float16)).tolist() == [
        False, True, True,
    ]  # fmt: skip


def test_a_yolox_tells_of_a_nan_class_before_the_maximum_is_taken(monkeypatch):
    from dao.models.detection import yolox

    task, told = make("det"), []
    monkeypatch.setattr(yolox, "choose", lambda *given: told.append(given[6]) or choose(*given))
    with torch.no_grad():
        task.model.head.cls_preds[2].bias[1] = torch.nan
    with pytest.raises(AnswerError):
        task.answer(task.run, picture(), task.card())
    assert told[0].tolist() == [True]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_number_in_a_million_is_found(value, dtype):
    values = np.ones((10, 100_000), dtype)
    assert checked.is_finite(values)
    values[7, 4321] = value
    assert not checked.is_finite(values)


def test_large_numbers_whose_sum_overflows_are_finite():
    assert checked.is_finite(np.full(10, 3e38, np.float32)) and checked.is_finite(np.full(9000, 60000, np.float16))
    assert checked.is_finite(np.zeros((0, 4), np.float32))


@pytest.mark.parametrize("name", ["cls", "seg", "det", "anomaly"])
@pytest.mark.parametrize("value", BAD)
def test_a_backend_of_any_making_is_checked(name, value):
    """Each array of floats in turn, one number of it."""
    task = make(name)
    card, sound = task.card(), task.run(picture()[None])
    for key, array in sound.items():
        if array.dtype.kind != "f" or not array.size:
            continue
        spoilt = array.copy()
        spoilt.flat[array.size // 2] = value
        with pytest.raises(AnswerError, match=f"1 of {array.size} numbers of the model's '{key}'"):
            type(task).answer(lambda images, s={**sound, key: spoilt}: s, picture(), card)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cls", lambda o: {"logits": o["scores"]}, "promises 'scores'"),
        ("cls", lambda o: {"scores": o["scores"][:, :1]}, r"shape \[1, 1\].*promises \[1, 2\]"),
        ("seg", lambda o: {"class_map": o["class_map"]}, "promises 'probabilities'"),
        ("seg", lambda o: {**o, "class_map": o["class_map"] + np.uint8(9)}, "numbers of its 2 classes"),
        ("seg", lambda o: {**o, "class_map": o["class_map"][:, :5]}, "shape"),
        ("det", lambda o: {**o, "labels": o["labels"] + 7}, "numbers of its 2 classes"),
        ("det", lambda o: {**o, "boxes": o["boxes"][..., :3]}, "shape"),
        ("anomaly", lambda o: {k: v for k, v in o.items() if k != "raw_map"}, "promises 'raw_map'"),
        ("anomaly", lambda o: {**o, "is_bad": o["is_bad"][:, None]}, "shape"),
    ],
)
def test_an_answer_that_the_card_does_not_promise_is_refused(name, change, message):
    task = make(name)
    changed = change(task.run(picture()[None]))
    with pytest.raises(CheckpointError, match=message):
        type(task).answer(lambda images: changed, picture(), task.card())


@pytest.mark.parametrize("name", ["cls", "seg", "det", "anomaly"])
def test_in_a_batch_the_picture_without_an_answer_alone_is_left_out_and_named(name):
    task = make(name)
    targets = [AnomalyTruth("good", False) for _ in range(3)]
    images = torch.rand(3, 3, 64, 64) * 255
    batch = Batch(images, targets, ["a", "b", "c"], [4, 5, 6], [(64, 64)] * 3)
    real = task.infer

    def infer(given):
        outputs = real(given)
        key = "raw_score" if name == "anomaly" else next(iter(outputs))
        outputs[key] = outputs[key].clone()
        outputs[key][1] = torch.nan
        return outputs

    task.infer = infer
    with pytest.raises(AnswerError):
        task.predict(Batch(images, targets, ["a", "b", "c"], [4, 5, 6], [(64, 64)] * 3))
    found = task.predict_and_leave_out(batch)
    assert [one.path for one in found] == batch.paths == ["a", "c"]
    assert batch.indices == [4, 6] and len(batch.targets) == len(batch.images) == 2
    (bad,) = batch.bad
    assert (bad.path, bad.index) == ("b", 5) and "not finite" in bad.reason


# -- through the stages ----------------------------------------------------------------------------------------------


@pytest.fixture
def ckpt(tiny_config, tmp_path):
    """A checkpoint as training writes it, of a model that was not trained."""
    from dao.trainers.base import plain

    config = {**plain(tiny_config), "model": SECTIONS["cls"]}
    classes = ["blue", "green", "red"]
    dao.register.import_all_modules_for_register()
    torch.manual_seed(0)
    model = build.build_model({"type": "cls", "model": SECTIONS["cls"]}, classes, 3).eval()
    task = build.task_class("cls")(model, Preprocess(size=[32, 32]), classes)

    def write(value=None, name="fc.bias"):
        weights = {k: v.clone() for k, v in model.state_dict().items()}
        if value is not None:
            weights[name][0] = value
        content = {"model": weights, "ema": None, "config": json.dumps(config), "card": task.card().to_json()}
        path = tmp_path / "runs" / "x" / "checkpoints" / "best.ckpt"
        checkpoint.save({**content, "epoch": 1, "metrics": {}, "best": {}}, path)
        return path

    return write


@pytest.mark.parametrize("value", BAD)
def test_a_checkpoint_with_one_such_weight_is_refused_by_the_tensors_name(ckpt, value):
    with pytest.raises(CheckpointError, match=r"fc\.bias.*not finite"):
        Predictor(ckpt(value), "cpu")


@pytest.mark.parametrize("stage", ["Demo", "Eval"])
@pytest.mark.parametrize("bad_fraction", [0.5, 0.0])
def test_stages_name_and_count_what_has_no_answer(
    stage, bad_fraction, ckpt, tiny_data, tiny_config, write_config, tmp_path, capsys, monkeypatch
):
    """Of twelve pictures one in two; an evaluation ends where that is more than it may be."""
    from dao.answers.classification import ClassificationAnswer

    path, real, calls = ckpt(), ClassificationAnswer.checked.__func__, []

    def sometimes(cls, outputs, card, pictures, hw):
        calls.append(1)
        if len(calls) % 2:
            outputs = {"scores": np.full_like(outputs["scores"], np.nan)}
        return real(cls, outputs, card, pictures, hw)

    monkeypatch.setattr(ClassificationAnswer, "checked", classmethod(sometimes))
    if stage == "Demo":
        config = {"trainer": {"type": "Demo", "kwargs": {"ckpt": str(path), "heatmap": False, "sheet": 2}},
                  "images": {"type": "ImageFiles", "kwargs": {"path": f"{tiny_data}/val", "recursive": True}}}  # fmt: skip
    else:
        config = {"trainer": {"type": "Eval", "kwargs": {"ckpt": str(path), "max_bad_fraction": bad_fraction}}}
    code = main.main(["-c", str(write_config(config)), "--device", "cpu"])
    said = capsys.readouterr().err
    if stage == "Eval" and not bad_fraction:
        assert code == 2 and "cannot be read or answered, more than max_bad_fraction = 0" in said
        return
    assert code == 0 and "6 pictures cannot be read or answered, of 12" in said and said.count("not finite") >= 6
    (out,) = (tmp_path / "runs" / "x" / stage.lower()).iterdir()
    if stage == "Demo":
        results = json.loads((out / "results.json").read_text())
        assert len(results["results"]) == len(results["unreadable"]) == 6
    else:
        assert json.loads((out / "metrics.json").read_text())["pictures"] == 6


def test_what_the_other_processes_left_out_counts_against_the_share_too(
    ckpt, tiny_config, write_config, capsys, monkeypatch
):
    """Two of twelve, one in each of two processes: neither alone is more than a tenth."""
    from dao.answers.classification import ClassificationAnswer
    from dao.utils import dist

    path, real, calls = ckpt(), ClassificationAnswer.checked.__func__, []

    def once(cls, outputs, card, pictures, hw):
        calls.append(1)
        return real(
            cls, {"scores": np.full_like(outputs["scores"], np.nan)} if len(calls) == 5 else outputs, card, pictures, hw
        )

    monkeypatch.setattr(ClassificationAnswer, "checked", classmethod(once))
    config = {"trainer": {"type": "Eval", "kwargs": {"ckpt": str(path), "max_bad_fraction": 0.1}}}
    assert main.main(["-c", str(write_config(config)), "--device", "cpu"]) == 0
    assert "1 picture cannot be read or answered, of 12" in capsys.readouterr().err
    calls.clear()
    together = dist.all_gather_object

    def with_another(value):
        of_reasons = isinstance(value, dict) and value and all(isinstance(reason, str) for reason in value.values())
        return [value, {"other.png": "no answer"}] if of_reasons else together(value)

    monkeypatch.setattr(dist, "all_gather_object", with_another)
    assert main.main(["-c", str(write_config(config)), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "2 pictures cannot be read or answered, more than max_bad_fraction = 0.1" in said and "other.png" in said


@pytest.mark.parametrize("spoilt", range(4))
def test_one_window_without_an_answer_spoils_the_whole_picture_of_a_detector(spoilt):
    """Of four windows each in turn: what the other three found is no answer for the picture."""
    task, seen = make("det", "tile"), []

    def run(images):
        outputs = task.run(images)
        for row in range(len(images)):
            if len(seen) == spoilt:
                outputs["scores"][row, -1] = np.nan
            seen.append(row)
        return outputs

    with pytest.raises(AnswerError, match="'scores' are not finite"):
        task.answer(run, picture((100, 100)), task.card())
    assert spoilt < len(seen) <= 4
