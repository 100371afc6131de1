"""What lies over what: files, -o pairs in any order, a checkpoint's config, by one rule."""

import itertools
import json
import re
from pathlib import Path

import pytest

from dao.config import reading as config
from dao.config.merge import drop_delete_marks, merge, override
from dao.errors import ConfigError

BASE = {
    "optimizer": {"type": "sgd", "kwargs": {"lr": 0.01, "momentum": 0.9}},
    "evaluator": {
        "type": "E",
        "dataloader": {"dataset": {"type": "Folder", "kwargs": {"data_dir": "d", "split": "val"}}},
    },
    "hooks": [{"type": "A", "kwargs": {"x": 1}}, {"type": "B", "kwargs": {"y": 2, "z": 3}}],
    "preprocess": {"size": [224, 224]},
    "nothing": None,
    "empty": [],
    "none": {},
    "weights": {"0": 1},
}


def over(*pairs):
    return drop_delete_marks(override(BASE, pairs))


@pytest.mark.parametrize(
    ("pairs", "place", "value"),
    [
        (("optimizer.type=adamw", "optimizer.kwargs.lr=3e-4"), "optimizer",
         {"type": "adamw", "kwargs": {"lr": 3e-4}}),
        (("optimizer.type=sgd", "optimizer.kwargs.lr=1"), "optimizer",
         {"type": "sgd", "kwargs": {"lr": 1, "momentum": 0.9}}),
        (('optimizer={"type":"adamw"}', "optimizer.kwargs.lr=1", "optimizer.kwargs.eps=2"), "optimizer",
         {"type": "adamw", "kwargs": {"lr": 1, "eps": 2}}),
        (('optimizer.kwargs={"lr":2}',), "optimizer", {"type": "sgd", "kwargs": {"lr": 2, "momentum": 0.9}}),
        (('optimizer.kwargs={"_delete_":true,"lr":2}', "optimizer.kwargs.eps=1"), "optimizer",
         {"type": "sgd", "kwargs": {"lr": 2, "eps": 1}}),
        (("optimizer.kwargs._delete_=true", "optimizer.kwargs.lr=2"), "optimizer", {"type": "sgd", "kwargs": {"lr": 2}}),
        (('optimizer={"_delete_":true,"type":"sgd"}', "optimizer.kwargs.lr=2"), "optimizer",
         {"type": "sgd", "kwargs": {"lr": 2}}),
        (("hooks.1.type=C", "hooks.1.kwargs.w=9"), "hooks",
         [{"type": "A", "kwargs": {"x": 1}}, {"type": "C", "kwargs": {"w": 9}}]),
        (("hooks.-1.kwargs.y=5", "hooks.0.kwargs._delete_=true"), "hooks",
         [{"type": "A", "kwargs": {}}, {"type": "B", "kwargs": {"y": 5, "z": 3}}]),
        (('hooks=[{"type":"D"}]', "hooks.0.kwargs.v=1"), "hooks", [{"type": "D", "kwargs": {"v": 1}}]),
        (("preprocess.size.0=64", "preprocess.size.1=32"), "preprocess", {"size": [64, 32]}),
        (("new.good.0=ok", "new.good.1=fine"), "new", {"good": ["ok", "fine"]}),
        (("new.0.type=A", "new.0.kwargs.x.0=1", "new.1.type=B"), "new",
         [{"type": "A", "kwargs": {"x": [1]}}, {"type": "B"}]),
        (("nothing.0=1", "empty.0=2"), "nothing", [1]),
        (("nothing.0.0=1", "nothing.0.1=2", "nothing.1.0=3"), "nothing", [[1, 2], [3]]),
        (("nothing=null", "empty.0=2"), "empty", [2]),
        (("weights.1=5",), "weights", {"0": 1, "1": 5}),
        (("none.0=5",), "none", {"0": 5}),
        (("nothing.1=5",), "nothing", {"1": 5}),
        (("new.class_thresholds.0=0.3", "new.class_thresholds.1=0.4"), "new", {"class_thresholds": {"0": 0.3, "1": 0.4}}),
    ],
)  # fmt: skip
def test_overrides_in_every_order_drop_what_belongs_to_another_type_or_is_marked(pairs, place, value):
    for order in itertools.permutations(pairs):
        assert over(*order)[place] == value, order


def test_readmes_division_is_built_without_a_quote_or_a_brace(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"dataloader": {"dataset": {"kwargs": {"split_ratio": None, "data_dir": "d"}}}}))
    at = "dataloader.dataset.kwargs.split_ratio"
    raw = config.load(path, [f"{at}.train=0.8", f"{at}.val=0.2"])
    assert raw["dataloader"]["dataset"]["kwargs"] == {"split_ratio": {"train": 0.8, "val": 0.2}, "data_dir": "d"}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("x.split_ratio={train:0.8,val:0.2}", r"x\.split_ratio .* is not JSON; .* took its double quotes"),
        (
            "evaluator.kwargs.good=[ok, fine]",
            r"is not JSON; .*evaluator\.kwargs\.good\.0=ok evaluator\.kwargs\.good\.1=fine",
        ),
        ("hooks.5.type=A", "'5' is not a place in this list; places: 0 to 1"),
        ("empty.x=A", "'x' is not a place in this list; places: none"),
        ("'preprocess.size=[64,64]'", "the quotes have come with it"),
        ('a={"b":1,"b":2}', r"a\.b .* given twice, with 1 and 2"),
        ("hooks.type=A", "'type' is not a place in this list; places: 0 to 1"),
        ("optimizer.kwargs._delete_=1", r"_delete_ .* expected true or false, got 1"),
    ],
)
def test_what_a_shell_makes_of_a_pair_is_said(pair, message):
    with pytest.raises(ConfigError, match=re.compile(message, re.DOTALL)):
        over(pair)


def test_a_value_nested_beyond_what_can_be_read_is_refused_and_not_crashed_on():
    with pytest.raises(ConfigError, match="is not JSON"):
        override({}, ["a=" + "[" * 5000 + "]" * 5000])


def test_text_that_is_meant_to_have_braces_can_still_be_said():
    assert over(r'name="{x}"')["name"] == "{x}" and over("name=a[0]b")["name"] == "a[0]b"


def test_a_later_base_replaces_what_an_earlier_one_said(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps({"o": {"kwargs": {"a": 1}}}))
    (tmp_path / "two.json").write_text(json.dumps({"o": {"kwargs": {"_delete_": True, "b": 2}}}))
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"_base_": ["one.json", "two.json"], "o": {"kwargs": {"c": 3}}}))
    assert config.load(path) == {"o": {"kwargs": {"b": 2, "c": 3}}}


def test_marks_hold_until_the_checkpoints_config_is_known(tmp_path):
    path = tmp_path / "eval.json"
    replaced = {"evaluator": {"dataloader": {"dataset": {"kwargs": {"_delete_": True, "csv_file": "week.csv"}}}}}
    path.write_text(json.dumps(replaced))
    dataset = drop_delete_marks(merge(BASE, config.load_marked(path)))["evaluator"]["dataloader"]["dataset"]
    assert dataset == {"type": "Folder", "kwargs": {"csv_file": "week.csv"}}
    marked = config.load_marked(path, ["evaluator.dataloader.dataset.kwargs.sep=tab"])
    dataset = drop_delete_marks(merge(BASE, marked))["evaluator"]["dataloader"]["dataset"]
    assert dataset == {"type": "Folder", "kwargs": {"csv_file": "week.csv", "sep": "tab"}}


@pytest.mark.parametrize(
    ("trained", "judged_by"),
    [({"good": ["a", "b"]}, ["x", "b"]), ({"good": ["a"]}, ["x"]), ({}, ["x"]), ({"good": None}, ["x"])],
)
def test_a_place_is_set_in_the_checkpoints_list_where_it_has_one_and_makes_a_list_where_it_has_none(
    trained, judged_by, tmp_path
):
    path = tmp_path / "eval.json"
    path.write_text("{}")
    marked = config.load_marked(path, ["evaluator.kwargs.good.0=${NAMED_SO:x}"])
    assert (
        drop_delete_marks(merge({"evaluator": {"kwargs": trained}}, marked))["evaluator"]["kwargs"]["good"] == judged_by
    )
    assert config.load(path, ["good.1=y", "good.0=x"]) == {"good": ["x", "y"]}


@pytest.mark.parametrize(
    "trained",
    [{"type": "CsvDataset", "kwargs": {"csv_file": "parts.csv", "split_column": "split", "split": "val"}},
     {"type": "FolderDataset", "kwargs": {"data_dir": "mine", "split": "val"}}],
)  # fmt: skip
def test_readmes_line_for_this_weeks_pictures_takes_them_all_whatever_the_model_was_trained_from(trained, tmp_path):
    (line,) = [
        line for line in Path("README.md").read_text(encoding="utf-8").splitlines() if "data_dir=this_week" in line
    ]
    path = tmp_path / "eval.json"
    path.write_text(json.dumps({"trainer": {"type": "Eval", "kwargs": {"ckpt": "x"}}}))
    marked = config.load_marked(path, line.partition(" -o ")[2].split())
    merged = drop_delete_marks(merge({"evaluator": {"type": "E", "dataloader": {"dataset": trained}}}, marked))
    assert merged["evaluator"]["dataloader"]["dataset"] == {
        "type": "FolderDataset", "kwargs": {"data_dir": "this_week", "split": "all"},
    }  # fmt: skip


def test_a_place_of_an_inherited_list_can_be_changed_and_weights_by_class_name_stay_a_dict():
    changed = merge(BASE, {"hooks": {"1": {"kwargs": {"y": 7}}}})
    assert changed["hooks"] == [BASE["hooks"][0], {"type": "B", "kwargs": {"y": 7, "z": 3}}]
    assert merge({"class_weights": [1, 2]}, {"class_weights": {"0": 1, "1": 5}}) == {"class_weights": {"0": 1, "1": 5}}


def test_merging_changes_neither_side():
    before = json.dumps(BASE)
    merge(BASE, {"optimizer": {"type": "x"}, "hooks": {"0": {"type": "Z"}}})
    assert json.dumps(BASE) == before
