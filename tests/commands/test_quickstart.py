"""The quickstart's own steps; what it trains is main.py's."""

import importlib

import pytest

from dao.commands import quickstart


@pytest.fixture
def calls(monkeypatch):
    seen = []
    codes = iter([0, 3])
    monkeypatch.setattr(importlib.import_module("main"), "main", lambda argv: seen.append(argv) or next(codes))
    return seen


def test_every_stage_goes_through_main_pys_own_entry_in_this_process_as_it_is_shown(calls, capsys):
    quickstart.step(quickstart.CONFIGS / "cls-eval.json", ["trainer.kwargs.ckpt=runs/my run"])
    assert calls == [["-c", "configs/quickstart/cls-eval.json", "-o", "trainer.kwargs.ckpt=runs/my run"]]
    shown = "$ python main.py -c configs/quickstart/cls-eval.json -o 'trainer.kwargs.ckpt=runs/my run'"
    assert capsys.readouterr().out.strip() == shown
    with pytest.raises(SystemExit) as left:
        quickstart.step(quickstart.CONFIGS / "cls-trainval.json", [])
    assert left.value.code == 3


def test_a_metric_is_found_wherever_a_report_nests_it_with_or_without_an_interval():
    report = {"pictures": 3, "foreground": {"iou_any_kind": 0.7}, "top1": {"value": 0.9, "low": 0.8, "high": 1.0}}
    assert quickstart.find_metric(report, "iou_any_kind") == 0.7 and quickstart.find_metric(report, "top1") == 0.9
    assert quickstart.find_metric(report, "ap50") != quickstart.find_metric(report, "ap50")  # NaN reaches no bar


def test_segmenter_and_detector_start_from_the_classifiers_weights(monkeypatch):
    starts = {}

    def fake(column, start):
        starts[column.task] = start
        return {"checkpoint": f"runs/{column.task}/best.ckpt", "value": column.wanted, "wanted": column.wanted}

    monkeypatch.setattr(quickstart, "run_column", fake)
    monkeypatch.setattr(quickstart, "table", lambda rows: None)
    assert quickstart.main() == 0
    assert starts["cls"] == starts["anomaly-padim"] == []
    assert starts["seg"] == ["model.kwargs.checkpoint_path=runs/cls/best.ckpt"]
    assert starts["det"] == ["model.kwargs.backbone.kwargs.checkpoint_path=runs/cls/best.ckpt"]
