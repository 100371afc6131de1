"""``make quickstart``: the real main.py on the sample pictures, all stages, and a table of what came out.

Every stage goes through main.py's own entry with the arguments that a user would type. All of them share this process:
importing torch takes seconds, and fourteen processes would pay it fourteen times.
"""

from __future__ import annotations

import importlib
import json
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from dao.files import run_folder
from dao.files.pipes import until_closed

CONFIGS = Path("configs/quickstart")
STAGES = ("trainval", "eval", "export", "demo")
UNREPORTED = "trainer.kwargs.test_after_train=false"  # the stage after it writes the same report


@dataclass(frozen=True, slots=True)
class Column:
    """One task of the quickstart: its config prefix, the metric that it is judged by, what that must reach, which stages
    are run, and the setting by which its network starts from the classifier's weights ("" from random ones)."""

    task: str
    title: str
    metric: str
    wanted: float
    stages: tuple[str, ...] = STAGES
    starts_by: str = ""


# what tells a scratch from a dent also tells where it is: the later networks start from what the classifier has learnt
COLUMNS = (
    Column("cls", "classification", "top1", 0.95),
    Column("seg", "segmentation", "iou_any_kind", 0.65, starts_by="model.kwargs.checkpoint_path"),
    Column("det", "detection", "ap50", 0.85, starts_by="model.kwargs.backbone.kwargs.checkpoint_path"),
    Column("anomaly-padim", "anomaly detection by PaDiM", "auroc", 0.95),
    Column("anomaly-patchcore", "anomaly detection by PatchCore", "auroc", 0.95, stages=("trainval", "eval")),
)


def main() -> int:
    """Run every column; exit code 0 when each reached what it must."""
    rows: list[dict] = []
    for column in COLUMNS:
        start = [f"{column.starts_by}={rows[0]['checkpoint']}"] if column.starts_by else []
        rows.append(run_column(column, start))
    table(rows)
    return 0 if all(row["value"] >= row["wanted"] for row in rows) else 1


def run_column(column: Column, start: list[str]) -> dict:
    """All four stages of a task in a run folder of its own, the training with the overrides ``start``; what the table
    shows."""
    started = time.perf_counter()
    run: Path | None = None
    for stage in column.stages:
        overrides = [f"trainer.kwargs.ckpt={run}"] if run else [*start, UNREPORTED]
        step(CONFIGS / f"{column.task}-{stage}.json", overrides)
        run = run or newest(f"quickstart-{column.task}")
    report = next(folder for folder in sorted((run / "eval").iterdir()) if folder.name != "final")
    metrics = json.loads((report / "metrics.json").read_text())
    return {
        "title": column.title,
        "metric": column.metric,
        "value": find_metric(metrics, column.metric),
        "wanted": column.wanted,
        "seconds": time.perf_counter() - started,
        "checkpoint": run / "checkpoints" / "best.ckpt",
        "report": report,
        "onnx": next(run.glob("export/*/*.onnx"), None),
        "pictures": next(run.glob("demo/*/contact_sheet.png"), None) or next(report.glob("worst.png"), None),
    }


def newest(name: str) -> Path:
    """The run folder that the training just made."""
    run = run_folder.newest_run(Path("runs"), name)
    if run is None:
        sys.exit(f"training left no checkpoint in runs/{name}")
    return run


def step(config: Path, overrides: list[str]) -> None:
    """One call of main.py, as a user would type it; leaves with its exit code when it fails."""
    arguments = ["-c", str(config), *(["-o", *overrides] if overrides else [])]
    say(f"\n$ python main.py {shlex.join(arguments)}")
    code = importlib.import_module("main").main(arguments)
    if code:
        sys.exit(code)


def find_metric(metrics: dict, name: str) -> float:
    """A metric's value in a report, wherever it is nested; a value with an interval is an object."""
    for key, value in metrics.items():
        if key == name:
            return float(value["value"] if isinstance(value, dict) else value)
    for value in metrics.values():
        if isinstance(value, dict):
            found = find_metric(value, name)
            if found == found:
                return found
    return float("nan")


def table(rows: list[dict]) -> None:
    """What came out, where it lies, and what to do next."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(100, Console().width))
    for row in rows:
        grid = Table(title=f"{row['title']} on the sample pictures", show_header=False, min_width=80)
        reached = "reached" if row["value"] >= row["wanted"] else "[red]NOT reached[/red]"
        grid.add_row(row["metric"], f"{row['value']:.4f} on held-out pictures ({row['wanted']} wanted: {reached})")
        for key in ("checkpoint", "report", "onnx", "pictures"):
            if row[key] is not None:
                grid.add_row(key, str(row[key]))
        grid.add_row("time", f"{row['seconds']:.0f} s")
        console.print(grid)
    say(
        "\nNext, your own pictures, one folder per class: your_data/train/<class>/ and your_data/val/<class>/\n\n"
        "  source .venv/bin/activate\n"
        "  export DATA_DIR=your_data\n"
        "  python main.py -c configs/quickstart/cls-trainval.json -o name=mine --check    # what is wrong with them\n"
        "  python main.py -c configs/quickstart/cls-trainval.json -o name=mine\n"
        "\nMasks of your own: see 'Your own pictures' in README.md. configs/ has larger models for both.\n"
    )


def say(text: str) -> None:
    """A line to stdout at once: the stages write there as well."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(until_closed(main))
