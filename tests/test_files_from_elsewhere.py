"""Checkpoints, exported files, configs and names of anybody's are data: no code, no network, no hang, words of ours."""

import io
import json
import socket

import numpy as np
import onnx
import pytest
import torch
from loguru import logger
from safetensors.torch import save_file

import dao.register
from dao.answers.card import ModelCard
from dao.checkpoints import checkpoint
from dao.config import reading as config
from dao.config import secret_values
from dao.errors import AICoreError, CheckpointError, ConfigError
from dao.evaluators.confusion import matrix_csv
from dao.evaluators.files import write_csv
from dao.files.run_folder import write_json
from dao.launch import placement
from dao.loggers import logger as log
from dao.models import offline
from dao.predictor import Predictor
from dao.preprocess import Preprocess
from dao.tasks import build
from dao.words.printable import one_line, printable

NET = {"type": "TimmClassifier", "kwargs": {"model_name": "test_resnet"}}


@pytest.fixture(scope="module", autouse=True)
def components():
    dao.register.import_all_modules_for_register()


@pytest.fixture(scope="module")
def content():
    """What a checkpoint of ours holds, as far as answering needs it."""
    torch.manual_seed(0)
    model = build.build_model({"type": "cls", "model": NET}, ["a", "b"], 3).eval()
    task = build.task_class("cls")(model, Preprocess(size=[32, 32]), ["a", "b"])
    return {"model": model.state_dict(), "ema": None, "config": json.dumps({"name": "x", "type": "cls", "model": NET}),
            "card": task.card().to_json(), "epoch": 1, "metrics": {}, "best": {}}  # fmt: skip


def answered(path):
    return Predictor(path, "cpu")(np.zeros((40, 40, 3), np.uint8))


# -- no network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["hf-hub:evil/test_resnet", "hf_hub:evil/test_resnet", "HF-HUB:evil/test_resnet", " hf-hub:test_resnet",
     "local-dir:/etc/test_resnet", "timm:test_resnet"],
)  # fmt: skip
def test_a_checkpoint_that_names_a_hub_is_built_offline(content, tmp_path, monkeypatch, name):
    def no(*_, **__):
        raise AssertionError("asked the network")

    for call in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, call, no)
    monkeypatch.setattr(socket.socket, "connect", no)
    section = {"type": "TimmClassifier", "kwargs": {"model_name": name, "pretrained": True}}
    checkpoint.save({**content, "config": json.dumps({"type": "cls", "model": section})}, tmp_path / "a.ckpt")
    assert answered(tmp_path / "a.ckpt").scores.sum() == pytest.approx(1)


NESTED = {
    "det": ("YOLOXWithBackbone", lambda name: {"size": "nano", "backbone": {"type": "TimmFeatures", "kwargs": {"model_name": name}}}),
    "seg": ("Unet", lambda name: {"encoder_name": f"tu-{name}", "encoder_depth": 3, "decoder_channels": [8, 8, 8]}),
    "anomaly": ("STFPM", lambda name: {"backbone": name, "layers": ["layer1", "layer2"]}),
}  # fmt: skip
PLAIN = {"det": "mobilenetv3_small_050", "seg": "test_resnet", "anomaly": "test_resnet"}


@pytest.mark.parametrize("hub", ["hf-hub:evil/", "HF_hub:evil/x/", "local-dir:/etc/", "hf-hub:"])
@pytest.mark.parametrize("kind", NESTED)
def test_a_hub_that_is_named_inside_a_models_settings_is_not_asked_either(kind, hub, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    (name, settings), classes = NESTED[kind], ["good", "bad"]

    def section(model_name, **more):
        return {"type": name, "kwargs": {**settings(model_name), **more}}

    model = build.build_model({"type": kind, "model": section(PLAIN[kind])}, classes, 3)
    task = build.task_class(kind)(model.eval(), Preprocess(size=(64, 64)), classes)
    named = section(hub + PLAIN[kind], **({"encoder_weights": "imagenet"} if kind == "seg" else {}))
    if kind == "det":
        named["kwargs"]["backbone"]["kwargs"] |= {"pretrained": True, "checkpoint_path": "/dev/zero"}
    content = {"model": model.state_dict(), "ema": None, "card": task.card().to_json(),
               "config": json.dumps({"type": kind, "model": named})}  # fmt: skip
    built = build.task_from_checkpoint(content, "a.ckpt")
    assert built.section == section(PLAIN[kind])


def test_whatever_asks_the_network_while_a_checkpoint_is_built_is_refused():
    with offline.no_network("a.ckpt"):
        for ask in (lambda: socket.getaddrinfo("localhost", 80), lambda: socket.create_connection(("127.0.0.1", 9))):
            with pytest.raises(CheckpointError, match=r"a\.ckpt.*offline"):
                ask()
    socket.getaddrinfo("localhost", 80)  # and no more


def test_sources_of_weights_are_left_out_at_any_depth_and_numbers_are_not():
    section = {
        "type": "X",
        "kwargs": {
            "pretrained_backbone": True, "encoder_weights": "imagenet", "weights": "DEFAULT", "class_weights": [1, 2],
            "backbone": {"kwargs": {"backbone_pretrained": "yes", "model_name": "tu-hf-hub:a/b/resnet18.x"}},
        },
    }  # fmt: skip
    kept = build.without_pretrained(section)["kwargs"]
    assert kept == {"class_weights": [1, 2], "backbone": {"kwargs": {"model_name": "tu-resnet18.x"}}}


@pytest.mark.parametrize(
    ("kind", "section"),
    [
        ("cls", {"type": "TimmClassifier", "kwargs": {"model_name": "hf-hub:evil/test_resnet"}}),
        ("seg", {"type": "Unet", "kwargs": {"encoder_name": "tu-hf-hub:evil/test_resnet"}}),
        ("anomaly", {"type": "PaDiM", "kwargs": {"backbone": "hf_hub:evil/test_resnet"}}),
    ],
)
def test_a_config_of_ones_own_goes_online_by_pretrained_alone(kind, section):
    with offline.no_network("x"), pytest.raises(ConfigError, match="asks a hub.*name the model alone"):
        build.build_model({"type": kind, "model": section}, ["good", "bad"], 3)


# -- readers ---------------------------------------------------------------------------------------------------------

CARDS = [
    None, 3, "", "[", "[]", "null", "[" * 100_000, '{"a":' * 60 + "1" + "}" * 60, '{"task": ' + "9" * 9000 + "}", "{}",
    {"task": "none"}, {"task": ["cls"]}, {"classes": []}, {"classes": "ab"}, {"classes": ["a", "a"]}, {"classes": [1, 2]},
    {"classes": ["a", "b", "c"]}, {"preprocess": []}, {"preprocess": {"size": [32]}}, {"preprocess": {"size": [0, 32]}},
    {"preprocess": {"size": [10**9, 10**9]}}, {"preprocess": {"size": [30000, 30000]}},
    {"preprocess": {"resize": "tile"}}, {"preprocess": {"std": [0, 0, 0]}},
    {"preprocess": {"in_channels": 2}}, {"preprocess": {"colour": 1}}, {"facts": [1]}, {"facts": {"threshold": "x"}},
    {"facts": {"threshold": 7}}, {"facts": {"class_thresholds": {"z": 0.5}}}, {"facts": {"bad_classes": ["z"]}},
    {"facts": {"multi_label": 1}}, {"facts": {"set_by": 3}},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CARDS)))
def test_a_card_that_cannot_be_is_refused_with_the_files_name(content, tmp_path, number):
    change, own = CARDS[number], json.loads(content["card"])
    if isinstance(change, dict) and isinstance(change.get("preprocess"), dict):
        change = {"preprocess": {**own["preprocess"], **change["preprocess"]}}  # that one value alone is wrong
    card = json.dumps({**own, **change}) if isinstance(change, dict) else change
    checkpoint.save({**content, "card": card}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        answered(tmp_path / "a.ckpt")


@pytest.mark.parametrize("suffix", [".ckpt", ".onnx"])
@pytest.mark.parametrize("name", ["size", "resize", "mean", "std", "in_channels"])
def test_a_card_that_does_not_say_how_pictures_are_given_is_refused_and_not_completed_by_guesses(
    content, tmp_path, suffix, name
):
    def without(text):
        card = json.loads(text)
        del card["preprocess"][name]
        return json.dumps(card)

    if suffix == ".ckpt":
        checkpoint.save({**content, "card": without(content["card"])}, tmp_path / "a.ckpt")
    else:
        onnx_file(tmp_path / "a.onnx", lambda model, meta: meta.update(aicore=without(meta["aicore"])))
    with pytest.raises(CheckpointError, match=rf"a\{suffix}.*preprocess\.{name} is missing"):
        answered(tmp_path / f"a{suffix}")


def test_a_card_of_before_a_setting_was_there_says_what_was_done_then(content):
    card = json.loads(content["card"])
    for name in ("position", "channel_order", "mask_resize", "overlap", "bit_depth"):
        del card["preprocess"][name]
    assert ModelCard.from_json(json.dumps(card)).preprocess == json.loads(content["card"])["preprocess"]


@pytest.mark.parametrize(
    ("task", "facts", "fewest"),
    [("anomaly", {}, 2), ("cls", {"multi_label": False}, 2), ("cls", {"multi_label": True}, 1), ("det", {}, 1)],
)
def test_a_card_with_fewer_classes_than_its_model_can_answer_with_is_refused_in_words(task, facts, fewest):
    given = Preprocess(size=[8, 8]).to_dict()
    text = json.dumps({"task": task, "classes": ["good"], "preprocess": given, "facts": facts})
    if fewest == 1:
        assert ModelCard.from_json(text).classes == ["good"]
        return
    with pytest.raises(CheckpointError, match="it names 1 class, and a model of this kind has at least 2"):
        ModelCard.from_json(text, "a.onnx")


def test_a_threshold_of_nan_would_call_every_part_good(tmp_path):
    facts = '{"picture_threshold": NaN, "picture_typical": 0, "pixel_threshold": 1, "pixel_typical": 0}'
    given = json.dumps(Preprocess(size=[8, 8]).to_dict())
    text = f'{{"task": "anomaly", "classes": ["good", "bad"], "preprocess": {given}, "facts": {facts}}}'
    with pytest.raises(CheckpointError, match="NaN"):
        ModelCard.from_json(text)
    wrong = json.loads(text.replace("NaN", "1e999").replace("1e999", "0"))  # not above the typical one
    with pytest.raises(CheckpointError, match="picture_threshold"):
        ModelCard.from_json(json.dumps(wrong))


@pytest.mark.parametrize(
    "change",
    [
        {"config": None}, {"config": "{"}, {"config": "[]"}, {"config": "{}"}, {"config": "[" * 50_000},
        {"config": '{"model": {"type": 3}}'}, {"config": '{"model": {"type": "No"}}'},
        {"config": '{"model": {"type": "TimmClassifier", "kwargs": []}}'},
        {"config": '{"model": {"type": "TimmClassifier", "kwargs": {"model_name": "no_such_net"}}}'},
        {"config": '{"model": {"type": "TimmClassifier", "kwargs": {"model_name": "test_vit"}}}'},
        {"model": None}, {"model": {}}, {"model": {"a": 1}}, {"model": [torch.zeros(1)]}, {"format": "1"}, {"format": -1},
        {"format": 10**400}, {"format": None},
    ],
)  # fmt: skip
def test_a_checkpoint_that_cannot_be_is_refused_in_words(content, tmp_path, change):
    stream = io.BytesIO()
    torch.save({"format": 1, **content, **change}, stream)  # without a checksum, as anybody could
    (tmp_path / "a.ckpt").write_bytes(stream.getvalue())
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        answered(tmp_path / "a.ckpt")


@pytest.mark.parametrize("suffix", [".ckpt", ".onnx", ".safetensors", ".pth", ".pt2"])
def test_torn_and_random_bytes_are_refused_in_words(content, tmp_path, suffix):
    rng = np.random.default_rng(0)
    whole = tmp_path / "whole.ckpt"
    checkpoint.save(content, whole)
    if suffix == ".safetensors":
        save_file({"w": torch.zeros(50)}, whole, metadata={"aicore": "{}"})
    data = whole.read_bytes()
    inputs = [
        b"",
        b"\0",
        rng.bytes(3000),
        data[: len(data) // 2],
        data[:-30],
        b"{" * 2000,
        data[:100] + rng.bytes(2000),
    ]
    for number, given in enumerate(inputs):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(given)
        with pytest.raises(AICoreError) as refused:
            Predictor(path, "cpu", trust=True)
        assert path.name in str(refused.value) and "weights_only" not in str(refused.value)


def onnx_file(path, change):
    """x (uint8, NHWC) -> scores: the mean of the picture's channels over a weight."""
    helper = onnx.helper
    weight = helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["m"], keepdims=0),
        helper.make_node("Unsqueeze", ["m", "one"], ["u"]),
        helper.make_node("Mul", ["u", "w"], ["scores"]),
    ]
    axes = helper.make_tensor("axes", onnx.TensorProto.INT64, [3], [1, 2, 3])
    one = helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1])
    x = helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, ["b", "h", "w", 3])
    scores = helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["b", 2])
    card = ModelCard("cls", ["a", "b"], Preprocess(size=[8, 8]).to_dict(), {"multi_label": False})
    graph = helper.make_graph(nodes, "g", [x], [scores], [weight, axes, one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    meta = {"aicore": card.to_json(), "layout": "nhwc"}
    change(model, meta)
    helper.set_model_props(model, meta)
    onnx.save(model, str(path))
    return path


def test_the_small_onnx_file_of_these_tests_answers(tmp_path):
    assert answered(onnx_file(tmp_path / "a.onnx", lambda model, meta: None)).label == 0


def rename(model, meta):
    model.graph.output[0].name = model.graph.node[3].output[0] = "logits"


def nan(model, meta):
    model.graph.initializer[0].CopyFrom(onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, float("nan")]))


def elsewhere(model, meta):
    weight = model.graph.initializer[0]
    weight.ClearField("float_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")


def three(model, meta):
    meta["aicore"] = meta["aicore"].replace('["a", "b"]', '["a", "b", "c"]')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, "answers with logits; its card promises scores"),
        (nan, "not finite"),
        (elsewhere, r"a\.onnx"),
        (three, r"\[1, 2\].*promises \[1, 3\]"),
        (lambda model, meta: meta.update(layout="nchw"), r"\(axis 3\)"),
        (lambda model, meta: meta.update(layout="?"), "does not take the pictures"),
        (lambda model, meta: meta.update(aicore="{" * 9000), "model card is damaged"),
        (lambda model, meta: meta.pop("aicore"), "was not exported by AICore"),
    ],
)
def test_an_onnx_file_whose_card_is_not_its_own_is_refused(tmp_path, change, message):
    with pytest.raises(AICoreError, match=message):
        answered(onnx_file(tmp_path / "a.onnx", change))


# -- configs ---------------------------------------------------------------------------------------------------------

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
MERGES = "m0: &m0 {k: 1, l: 2}\n" + "".join(
    f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", BOMB, "more than 200,000 values"),
        ("c.yaml", MERGES, "more than 200,000 values"),
        ("c.yaml", "a: &a [*a]", "which has no end"),
        ("c.yaml", "a: " + "[" * 5000 + "]" * 5000, "not valid YAML"),
        ("c.yaml", "a: " + "[" * 150 + "]" * 150, "more than 100 levels"),
        ("c.yaml", "a: 2001-99-99", "not valid YAML"),
        ("c.yaml", "a: " + "9" * 9000, "not valid YAML"),
        ("c.yaml", "? [a]\n: 1\na: !!python/object:os.system x", "not valid YAML"),
        ("c.json", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "not valid JSON|levels deep"),
        ("c.json", '{"a": ' + "[" * 150 + "]" * 150 + "}", "more than 100 levels"),
        ("c.json", '{"a": ' + "9" * 9000 + "}", "not valid JSON"),
    ],
)
def test_configs_that_are_more_than_they_look_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        config.load(tmp_path / name)


def test_aliases_that_stay_small_are_taken(tmp_path):
    (tmp_path / "c.yaml").write_text("a: &a {k: [1, 2]}\nb: *a\nc: {<<: *a, l: 3}\n")
    assert config.load(tmp_path / "c.yaml") == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}, "c": {"k": [1, 2], "l": 3}}


@pytest.mark.parametrize("base", ["evil.py", "evil.PY", ["good.json", "evil.py"]])
@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
def test_a_config_that_is_data_cannot_name_one_that_runs(tmp_path, base, name):
    (tmp_path / "good.json").write_text("{}")
    for file in ("evil.py", "evil.PY"):
        (tmp_path / file).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nconfig = {{}}\n")
    (tmp_path / name).write_text(json.dumps({"_base_": base}))
    with pytest.raises(ConfigError, match="-c alone may name"):
        config.load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


# -- modules ---------------------------------------------------------------------------------------------------------


def test_a_predictor_imports_a_folder_of_modules_on_request_alone(content, tmp_path, monkeypatch):
    checkpoint.save(content, tmp_path / "a.ckpt")
    (tmp_path / "custom_modules").mkdir()
    (tmp_path / "custom_modules" / "marks_itself.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    Predictor("a.ckpt", "cpu")
    assert not (tmp_path / "ran").exists()
    Predictor("a.ckpt", "cpu", custom_modules="custom_modules")
    assert (tmp_path / "ran").exists()
    with pytest.raises(ConfigError, match="is no folder"):
        Predictor("a.ckpt", "cpu", custom_modules="elsewhere")


def test_a_module_that_ends_the_program_is_named(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(ConfigError, match=r"leaves\.py.*ends the program.*sys\.exit\(0\)"):
        dao.register.import_all_modules_for_register(tmp_path / "mine")


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_no_control_character_of_a_class_reaches_a_table_or_a_json_file(tmp_path):
    name = "ni\x1b[31mck\x9b\u202e\x7f"
    shown = r"ni\x1b[31mck\x9b\u202e\x7f"
    write_csv(tmp_path / "a.csv", ["class", f"score_{name}"], [[name, 0.5]], [[1]])
    matrix_csv(tmp_path / "b.csv", [name, "ok"], [[1, 2], [3, 4]])
    for file in ("a.csv", "b.csv"):
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert text.count(shown) == 2 and printable(text.replace("\r\n", "\n")) == text.replace("\r\n", "\n")
    write_json(tmp_path / "a.json", {name: ["ä", name]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {name: ["ä", name]} and printable(text) == text and "ä" in text


def test_no_control_character_reaches_log_or_terminal(tmp_path, capsys):
    name = "part\x1b[2J\x07\x9b31m\u202egnp.\x7f\r\udcff"
    log.to_terminal()
    log.to_file(tmp_path / "log.txt")
    try:
        logger.warning("skipped: {}", name)
    finally:
        log.close_file()
        logger.remove()
    shown = r"part\x1b[2J\x07\x9b31m\u202egnp.\x7f\r\udcff"
    assert shown in (tmp_path / "log.txt").read_text() and shown in capsys.readouterr().err
    assert printable("ä\tb\nc") == "ä\tb\nc" and one_line("a\nb\t") == r"a\nb\t"


@pytest.mark.parametrize(
    ("name", "secret"),
    [("HF_TOKEN", True), ("DB_PASSWORD", True), ("AWS_SECRET_ACCESS_KEY", True), ("API_KEY", True), ("mysecret", True),
     ("DATA_DIR", False), ("PWD", False), ("KEYPOINTS", False), ("MONKEY", False), ("EPOCHS", False)],
)  # fmt: skip
def test_names_that_look_like_secrets(name, secret):
    assert secret_values.looks_secret(name) is secret


def test_a_secret_is_used_and_written_down_as_its_reference(tmp_path, monkeypatch, capsys):
    from dao.trainers.base import kept

    monkeypatch.setenv(secret_values.REMEMBERED, "")
    monkeypatch.setenv("STORE_PASSWORD", "12345678")
    monkeypatch.setenv("DATA_DIR", "/data/of/ours")
    written = {"a": "${STORE_PASSWORD}", "b": ["http://me:${STORE_PASSWORD}@host"], "c": "${DATA_DIR}"}
    (tmp_path / "c.json").write_text(json.dumps(written))
    used = config.load(tmp_path / "c.json")
    assert used == {"a": "12345678", "b": ["http://me:12345678@host"], "c": "/data/of/ours"}
    assert kept(used) == {**written, "c": "/data/of/ours"}
    log.to_terminal()
    logger.info("connecting to {}", used["b"][0])
    logger.remove()
    assert "12345678" not in capsys.readouterr().err


def test_an_unknown_host_is_told_before_torch_looks_for_it(monkeypatch):
    def unknown(*_):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigError, match="no machine is known by the name 'nowhere'"):
        placement.refuse_unknown_host("tcp://nowhere:29500")
