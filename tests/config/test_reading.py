"""Reading configs: inheritance, overrides, environment, duplicates, formats, read-only access."""

import json

import pytest

from dao.config import reading as config
from dao.errors import ConfigError


def write(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_json_yaml_and_python_read_the_same(tmp_path):
    wanted = {"name": "x", "trainer": {"type": "T", "kwargs": {"lr": 0.1, "sizes": [1, 2]}}}
    files = [
        write(tmp_path, "a.json", wanted),
        write(tmp_path, "a.yaml", "name: x\ntrainer:\n  type: T\n  kwargs: {lr: 0.1, sizes: [1, 2]}\n"),
        write(tmp_path, "a.py", f"config = {wanted!r}"),
    ]
    assert [config.load(f) for f in files] == [wanted] * 3


def test_bases_merge_in_order_and_relative_to_their_file(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path, "one.json", {"a": 1, "deep": {"x": 1, "y": [1]}})
    write(tmp_path / "sub", "two.json", {"_base_": "../one.json", "deep": {"x": 2}})
    write(tmp_path, "three.json", {"b": 3, "deep": {"z": 3}})
    path = write(tmp_path, "mine.json", {"_base_": ["sub/two.json", "three.json"], "deep": {"y": [9]}})
    assert config.load(path) == {"a": 1, "b": 3, "deep": {"x": 2, "y": [9], "z": 3}}


def test_delete_replaces_instead_of_merging(tmp_path):
    write(tmp_path, "base.json", {"o": {"kwargs": {"lr": 1, "nesterov": True}}})
    path = write(tmp_path, "m.json", {"_base_": "base.json", "o": {"kwargs": {"_delete_": True, "lr": 2}}})
    assert config.load(path) == {"o": {"kwargs": {"lr": 2}}}


def test_another_type_does_not_inherit_kwargs(tmp_path):
    write(tmp_path, "base.json", {"o": {"type": "SGD", "kwargs": {"momentum": 0.9}, "dataset": {"k": 1}}})
    path = write(tmp_path, "m.json", {"_base_": "base.json", "o": {"type": "Adam", "kwargs": {"lr": 1}}})
    assert config.load(path) == {"o": {"type": "Adam", "kwargs": {"lr": 1}, "dataset": {"k": 1}}}


def test_cycle_is_named(tmp_path):
    write(tmp_path, "a.json", {"_base_": "b.json"})
    write(tmp_path, "b.json", {"_base_": "a.json"})
    with pytest.raises(ConfigError, match=r"a\.json -> b\.json -> a\.json"):
        config.load(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("a.b=3", ("a", "b"), 3),
        ("a.new.deep=[1,2]", ("a", "new", "deep"), [1, 2]),
        ("l.1.k=text with = sign", ("l", 1, "k"), "text with = sign"),
        ("l.-1.k=null", ("l", 1, "k"), None),
        ("a.b=true", ("a", "b"), True),
        ("a.b=NaN", ("a", "b"), "NaN"),
    ],
)
def test_overrides(tmp_path, override, place, value):
    path = write(tmp_path, "c.json", {"a": {"b": 1}, "l": [{"k": 0}, {"k": 1}]})
    node = config.load(path, [override])
    for key in place:
        node = node[key]
    assert node == value and type(node) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a.b", "expected a.b.c=value"),
        ("l.5.k=1", "'5' is not a place in this list; places: 0 to 1"),
        ("a.b.c=1", "a.b is 1".replace(" ", r"\s+")),
        ("=1", "expected a.b.c=value"),
    ],
)
def test_bad_overrides(tmp_path, override, message):
    path = write(tmp_path, "c.json", {"a": {"b": 1}, "l": [{}, {}]})
    with pytest.raises(ConfigError, match=message):
        config.load(path, [override])


def test_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AICORE_TEST_LR", "0.5")
    content = {"lr": "${AICORE_TEST_LR}", "dir": "${AICORE_TEST_NO:/data}/x", "n": "${AICORE_TEST_NO:3}"}
    assert config.load(write(tmp_path, "c.json", content)) == {"lr": 0.5, "dir": "/data/x", "n": 3}


def test_all_unset_variables_are_reported_at_once(tmp_path):
    path = write(tmp_path, "c.json", {"a": {"b": "${AICORE_TEST_NO}"}, "l": ["${AICORE_TEST_NOT}"]})
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert [p.where for p in caught.value.problems] == ["a.b", "l.0"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", '{"a": 1, "b": {"k": 1, "k": 2}}', r"k\s+the key is given twice, with 1 and 2"),
        ("c.yaml", "a: 1\na: 2\n", r"a\s+the key is given twice"),
        ("c.json", '{"a": 1,}', "not valid JSON at line 1"),
        ("c.json", '{"a": NaN}', "NaN is not a JSON value"),
        ("c.json", "[1]", "expected an object at the top, got list"),
        ("c.toml", "a = 1", r"expected \.json"),
        ("c.py", "x = 1", "there is none"),
        ("c.py", "1/0", "ZeroDivisionError"),
        ("c.yaml", "a: [1", "not valid YAML"),
        ("c.yaml", "a: {b: [1, .nan]}", r"a\.b\.1 +is nan, and numbers must be finite"),
        ("c.json", '{"a": 1e999}', r"a +is inf, and numbers must be finite"),
        ("c.py", "config = {'a': float('-inf')}", r"a +is -inf, and numbers must be finite"),
        ("c.json", '{"_base_": "no.json"}', "no.json does not exist beside c.json"),
        ("c.json", '{"_base_": 3}', "expected a path or a list of paths, got 3"),
    ],
)
def test_unreadable_files(tmp_path, name, text, message):
    with pytest.raises(ConfigError, match=message):
        config.load(write(tmp_path, name, text))


def test_missing_file_names_the_working_directory(tmp_path):
    with pytest.raises(ConfigError, match="does not exist.*working directory"):
        config.load(tmp_path / "none.json")


def test_frozen_config_reads_like_a_dotmap_and_refuses_writing():
    frozen = config.freeze({"a": {"b": [{"c": 1}]}})
    assert frozen.a.b[0].c == 1 and frozen.get("zz", 5) == 5
    with pytest.raises(AttributeError):
        _ = frozen.a.zz
    with pytest.raises(TypeError, match="read-only"):
        frozen.a.b = 3
    with pytest.raises(TypeError, match="read-only"):
        frozen["a"] = 3
    assert frozen.toDict() == {"a": {"b": [{"c": 1}]}}


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update({"b": 1}), lambda c: c.update(b=1), lambda c: c.update([("b", 1)]), lambda c: c.pop("b"),
        lambda c: c.pop("none", None), lambda c: c.popitem(), lambda c: c.setdefault("new", 1), lambda c: c.clear(),
        lambda c: c.__ior__({"b": 1}), lambda c: c.__delitem__("b"), lambda c: c.__delattr__("b"),
        lambda c: c.move_to_end("b"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", [lambda c: c, lambda c: c.a, lambda c: c.copy(), lambda c: c.a.l[0]])
def test_every_way_of_changing_a_loaded_config_is_refused(change, place):
    raw = {"a": {"b": 2, "l": [{"b": 3}]}, "b": 1}
    frozen = config.freeze(raw)
    with pytest.raises(TypeError, match=r"config is read-only once loaded \("):
        change(place(frozen))
    assert frozen.toDict() == raw


def test_yaml_names_of_classes_are_text_as_written(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "data: {classes: [NO, OK, 010, 1e3, yes], mask_values: {0: NO, 010: on}, none_label: no, shuffle: no}\nx: {NO: 1}\n"
    )
    found = config.load(path)
    assert found["data"]["classes"] == ["NO", "OK", "010", "1e3", "yes"]
    assert found["data"]["mask_values"] == {"0": "NO", "010": "on"}
    assert found["data"]["none_label"] == "no" and found["data"]["shuffle"] is False
    assert found["x"] == {"NO": 1}
