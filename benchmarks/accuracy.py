"""Accuracy on real factory pictures, through main.py as a user would run it.

    python benchmarks/accuracy.py neu_cls --data ../shared/data

Each benchmark trains its variants, then writes curves and a table into notes/. Pictures themselves are never copied.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CONFIGS = Path("benchmarks/configs")

# variants of a benchmark: overrides on its config
NEU_CLS = {
    "local weights": [],
    "from scratch": ["model.kwargs.checkpoint_path=null", "trainer.kwargs.max_epochs=30", "optimizer.kwargs.lr=0.001"],
}

FLIPS = [
    {"type": "HorizontalFlip", "kwargs": {"p": 0.5}},
    {"type": "VerticalFlip", "kwargs": {"p": 0.5}},
    {"type": "RandomBrightnessContrast", "kwargs": {"brightness_limit": 0.15, "contrast_limit": 0.15, "p": 0.5}},
]
LOOK_FOR_DEFECTS = [
    {"type": "CopyPaste", "kwargs": {"p": 0.4}},
    {"type": "DefectCrop", "kwargs": {"on_defect": 0.75, "scale": [0.6, 1.2], "p": 0.7}},
]
MAGNETIC_TILE = {
    "ce dice": [],
    "crops": [f"dataloader.dataset.transforms={json.dumps([*LOOK_FOR_DEFECTS, *FLIPS])}"],
    "lr 0.002": ["optimizer.kwargs.lr=0.002"],
    "flips alone": [f"dataloader.dataset.transforms={json.dumps(FLIPS)}", "optimizer.kwargs.lr=0.0003"],
}
DETECTION = {"yolox nano": []}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the real pictures"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="run one variant")
    args = parser.parse_args()
    if not args.data.is_dir():
        print(f"{args.data} does not exist; --data names the folder of the real pictures", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    BENCHMARKS[args.benchmark](args)
    return 0


def neu_cls(args: argparse.Namespace) -> None:
    """Six classes of steel surface defects, 600 training and 300 validation pictures of 200 x 200."""
    runs = run_variants("neu_cls", NEU_CLS, args)
    draw_curves(
        runs, "val/top1", Path("notes/ImageClassification/neu_cls_curves.png"), "NEU-DET, 300 validation pictures"
    )
    print(json.dumps({name: classification_row(run) for name, run in runs.items()}, indent=2))


def magnetic_tile_seg(args: argparse.Namespace) -> None:
    """Five kinds of defect on magnetic tiles, 500 training and 172 validation pictures of many sizes."""
    runs = run_variants("magnetic_tile_seg", MAGNETIC_TILE, args)
    notes = Path("notes/SemanticSegmentation")
    title = "magnetic tile, 172 validation pictures"
    draw_curves(runs, "val/foreground/miou", notes / "magnetic_tile_curves.png", title)
    print(json.dumps({name: segmentation_row(run) for name, run in runs.items()}, indent=2))


def deeppcb(args: argparse.Namespace) -> None:
    """Six kinds of defect on printed boards, 300 training and 100 validation pictures of 640 x 640."""
    detection("deeppcb", "DeepPCB, 100 validation pictures", args)


def neu_det(args: argparse.Namespace) -> None:
    """Six kinds of defect on steel, 600 training and 300 validation pictures of 200 x 200; boxes are loose."""
    detection("neu_det", "NEU-DET, 300 validation pictures", args)


def detection(config: str, title: str, args: argparse.Namespace) -> None:
    """YOLOX-nano fine-tuned from COCO's weights."""
    runs = run_variants(config, DETECTION, args)
    draw_curves(runs, "val/ap50", Path(f"notes/ObjectDetection/{config}_curves.png"), title)
    print(json.dumps({name: detection_row(run) for name, run in runs.items()}, indent=2))


def run_variants(config: str, variants: dict[str, list[str]], args: argparse.Namespace) -> dict[str, Path]:
    """Train the variants asked for; the newest run of each that there is."""
    if args.only not in (None, *variants):
        sys.exit(f"--only {args.only}: expected one of {', '.join(variants)}")
    for name, overrides in variants.items():
        if args.only in (None, name):
            train(config, name, overrides, args)
    return {name: run for name in variants if (run := latest(config, name))}


def run_name(config: str, variant: str) -> str:
    return f"{config}-{variant.replace(' ', '-')}"


def latest(config: str, variant: str) -> Path | None:
    """The newest run of a variant, of this call or an earlier one."""
    from dao.files.run_folder import newest_run

    return newest_run(Path("runs/benchmarks"), run_name(config, variant))


def train(config: str, variant: str, overrides: list[str], args: argparse.Namespace) -> None:
    """One run of main.py; the seconds it took from the command to its end are noted in its folder."""
    command = [sys.executable, "main.py", "-c", str(CONFIGS / f"{config}.json"), "--seed", str(args.seed)]
    command += ["-o", f"name={run_name(config, variant)}", *overrides]
    started = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "DATA": str(args.data.resolve())})
    run = latest(config, variant)
    if run is None:
        sys.exit(f"{variant} left no run folder")
    (run / "seconds.txt").write_text(f"{time.perf_counter() - started:.1f}\n")


def scalars(run: Path, name: str) -> list[tuple[int, float]]:
    """(epoch, value) of one curve in a run's metrics.jsonl."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["epoch"], line[name]) for line in lines if line.get(name) is not None]


def classification_row(run: Path) -> dict:
    """What the notes' table shows of a run."""
    report = json.loads((run / "eval" / "final" / "metrics.json").read_text())
    curve = scalars(run, "val/top1")
    return {
        "top1": report["top1"]["value"],
        "interval": [round(report["top1"]["low"], 4), round(report["top1"]["high"], 4)],
        "macro_f1": report["macro"]["f1"],
        "epochs": curve[-1][0],
        "seconds": float(seconds.read_text()) if (seconds := run / "seconds.txt").is_file() else None,
        "last_top1": curve[-1][1],
        "per_class_recall": {name: row["recall"] for name, row in report["per_class"].items()},
    }


def segmentation_row(run: Path) -> dict:
    """What the notes' table shows of a run."""
    report = json.loads((run / "eval" / "final" / "metrics.json").read_text())
    found = report["defects"]
    return {
        "miou": report["miou"],
        "foreground_miou": report["foreground"]["miou"],
        "per_class_iou": {name: row["iou"] for name, row in report["per_class"].items()},
        "recall": found["recall"]["value"],
        "false_alarms_per_picture": found["false_alarms_per_picture"],
        "recall_at_one_false_alarm_in_ten_pictures": found["recall_at_false_alarms_per_picture"]["0.1"],
        "auroc": report["factory"]["auroc"],
        **duration(run, "val/miou"),
    }


def detection_row(run: Path) -> dict:
    """What the notes' table shows of a run."""
    report = json.loads((run / "eval" / "final" / "metrics.json").read_text())
    names = [name for name in ("ap", "ap50", "ap75", "ap33") if name in report]
    return {
        **{name: report[name] for name in names},
        "recall": report["at_score"]["recall"],
        "false_alarms_per_picture": report["at_score"]["false_alarms_per_picture"],
        "per_class_ap50": {name: row["ap50"] for name, row in report["per_class"].items()},
        **duration(run, "val/ap50"),
    }


def duration(run: Path, metric: str) -> dict:
    """Epochs and seconds that a run took."""
    seconds = run / "seconds.txt"
    return {
        "epochs": scalars(run, metric)[-1][0],
        "seconds": float(seconds.read_text()) if seconds.is_file() else None,
    }


def draw_curves(runs: dict[str, Path], metric: str, path: Path, title: str) -> None:
    """Training loss and a validation metric over the epochs, one line a run."""
    from dao.evaluators.report import new_figure, save_figure

    path.parent.mkdir(parents=True, exist_ok=True)
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for name, run in runs.items():
        for axes, curve in ((left, "train/loss"), (right, metric)):
            points: dict[int, list[float]] = {}
            for epoch, value in scalars(run, curve):
                points.setdefault(epoch, []).append(value)
            axes.plot(list(points), [sum(v) / len(v) for v in points.values()], marker=".", label=name)
    left.set_ylabel("training loss (mean of an epoch)")
    right.set_ylabel(metric.removeprefix("val/"))
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    save_figure(figure, path)


BENCHMARKS = {"neu_cls": neu_cls, "magnetic_tile_seg": magnetic_tile_seg, "deeppcb": deeppcb, "neu_det": neu_det}

if __name__ == "__main__":
    sys.exit(main())
