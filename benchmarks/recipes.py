"""Which rate, optimizer and batch learn from a few hundred pictures: the shipped configs beside alternatives.

    python benchmarks/recipes.py cls_neu cls_tile seg_tile det_pcb --data ../shared/data --out runs/recipes.jsonl
    python benchmarks/recipes.py --table runs/recipes.jsonl

Every run is main.py's own on a shipped config, with the data, the input size, the local weights and the recipe set by
overrides. Small inputs and few epochs, so that a row takes minutes on two cores. One line a run is added to --out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

Overrides = dict[str, Any]
SGD = "sgd_warmup_bias_bn_weight"


def optimizer(kind: str, lr: float, weight_decay: float) -> dict:
    """An optimizer's section."""
    momentum = {"momentum": 0.9} if kind.startswith("sgd") else {}
    return {"type": kind, "kwargs": {"lr": lr, "weight_decay": weight_decay, **momentum}}


def recipe(section: dict, warmup: float = 0.05, tail: float = 0.1, **more: Any) -> Callable[[int], Overrides]:
    """A recipe for a number of epochs: the optimizer, warm-up and tail as shares of the run, and what else is set."""
    named = {key.replace("__", "."): value for key, value in more.items()}
    return lambda epochs: {
        "optimizer": section,
        "lr_scheduler.kwargs.warmup_epochs": round(warmup * epochs, 2),
        "trainer.kwargs.no_aug_epochs": round(tail * epochs),
        **named,
    }


def as_it_is(epochs: int) -> Overrides:
    """The shipped config, untouched."""
    return {}


CLS = {
    "shipped": as_it_is,
    "sgd 0.01, 2 epochs of warm-up, 3 of tail (before)": lambda epochs: {
        "optimizer": optimizer(SGD, 0.01, 1e-4), "lr_scheduler.kwargs.warmup_epochs": 2, "trainer.kwargs.no_aug_epochs": 3,
    },
    "sgd 0.003": recipe(optimizer(SGD, 0.003, 1e-4)),
    "adamw 3e-4": recipe(optimizer("adamw", 3e-4, 0.05)),
    "adamw 1e-3": recipe(optimizer("adamw", 1e-3, 0.05)),
    "adamw 3e-4, batch 16": recipe(optimizer("adamw", 3e-4, 0.05), dataloader__kwargs__batch_size=16),
}  # fmt: skip
SEG = {
    "shipped": as_it_is,
    "adamw 5e-4, 2 epochs of warm-up, 5 of tail (before)": lambda epochs: {
        "optimizer": optimizer("adamw", 5e-4, 0.01), "lr_scheduler.kwargs.warmup_epochs": 2, "trainer.kwargs.no_aug_epochs": 5,
    },
    "adamw 3e-4": recipe(optimizer("adamw", 3e-4, 0.01)),
    "adamw 1e-3": recipe(optimizer("adamw", 1e-3, 0.01)),
    "adamw 2e-3": recipe(optimizer("adamw", 2e-3, 0.01)),
    "sgd 0.01": recipe(optimizer(SGD, 0.01, 1e-4)),
}  # fmt: skip
FLIPS = [{"type": "HorizontalFlip", "kwargs": {"p": 0.5}}, {"type": "VerticalFlip", "kwargs": {"p": 0.5}}]
AFFINE = {
    "type": "RandomAffine",
    "kwargs": {"degrees": 0.0, "translate": 0.1, "scale": [0.8, 1.25], "shear": 0.0, "p": 0.5},
}
DET = {
    "shipped": as_it_is,
    "sgd 0.0025, 5 epochs of warm-up, 10 of tail, batch 16 (before)": lambda epochs: {
        "optimizer": optimizer(SGD, 0.0025, 5e-4), "lr_scheduler.kwargs.warmup_epochs": 5, "trainer.kwargs.no_aug_epochs": 10,
        "dataloader.kwargs.batch_size": 16,
    },
    "sgd 0.0025": recipe(optimizer(SGD, 0.0025, 5e-4), dataloader__kwargs__batch_size=16),
    "adamw 3e-4": recipe(optimizer("adamw", 3e-4, 0.01), dataloader__kwargs__batch_size=8),
    "adamw 1e-3": recipe(optimizer("adamw", 1e-3, 0.01), dataloader__kwargs__batch_size=8),
    "adamw 1e-3, no mosaic": recipe(
        optimizer("adamw", 1e-3, 0.01), dataloader__kwargs__batch_size=8, dataloader__dataset__transforms=[AFFINE, *FLIPS]
    ),
}  # fmt: skip


def cls_neu(data: Path, pictures: int, scratch: Path) -> Overrides:
    """NEU-DET's six classes of steel defects, 64 px."""
    part = subset(data / "neu_det" / "cls_train.csv", pictures, scratch, "label")
    return {**of_csv(part, {}), **of_csv(data / "neu_det" / "cls_val.csv", {}, "evaluator."), **resnet18(data, 64)}


def cls_tile(data: Path, pictures: int, scratch: Path) -> Overrides:
    """Magnetic tiles, good or bad, whatever the defect, 64 px."""
    rows = list(csv.DictReader((data / "magnetic_tile" / "seg_split.csv").open()))
    for split in ("train", "val"):
        named = [{"image": data / "magnetic_tile" / row["image"], "label": "good" if row["class"] == "good" else "bad"}
                 for row in rows if row["split"] == split]  # fmt: skip
        write_rows(scratch / f"tile_{split}.csv", named)
    part = subset(scratch / "tile_train.csv", pictures, scratch, "label")
    return {**of_csv(part, {}), **of_csv(scratch / "tile_val.csv", {}, "evaluator."), **resnet18(data, 64)}


def seg_tile(data: Path, pictures: int, scratch: Path) -> Overrides:
    """Five kinds of defect on magnetic tiles, 96 px."""
    more = {"class_column": "class", "mask_format": "binary", "split_column": "split"}
    part = subset(data / "magnetic_tile" / "seg_split.csv", pictures, scratch, "class")
    weights = str(data / "weights" / "resnet18_layer1-3.pth")
    return {
        **of_csv(part, {**more, "split": "train"}, kind="SegCsvDataset"),
        **of_csv(data / "magnetic_tile" / "seg_split.csv", {**more, "split": "val"}, "evaluator.", "SegCsvDataset"),
        "model.kwargs": {"encoder_name": "resnet18", "encoder_weights": None, "checkpoint_path": weights},
        "preprocess.size": [96, 96],
    }  # fmt: skip


def det_pcb(data: Path, pictures: int, scratch: Path) -> Overrides:
    """Six kinds of defect on printed boards, 256 px."""
    content = json.loads((data / "deeppcb" / "annotations" / "instances_train.json").read_text())
    content["images"] = random.Random(0).sample(content["images"], min(pictures, len(content["images"])))
    known = {image["id"] for image in content["images"]}
    content["annotations"] = [box for box in content["annotations"] if box["image_id"] in known]
    (scratch / f"pcb_{pictures}.json").write_text(json.dumps(content))
    files = {
        "": (scratch / f"pcb_{pictures}.json", "train"),
        "evaluator.": (data / "deeppcb" / "annotations" / "instances_val.json", "val"),
    }
    sets = {
        f"{place}dataloader.dataset.kwargs": {"json_file": str(file), "data_dir": str(data / "deeppcb" / "images" / split)}
        for place, (file, split) in files.items()
    }  # fmt: skip
    return {
        **sets,
        "model.kwargs": {"size": "nano", "checkpoint_path": str(data / "weights" / "yolox_nano.pth")},
        "preprocess.size": [256, 256],
    }


def resnet18(data: Path, size: int) -> Overrides:
    """The classifier with the local weights."""
    weights = str(data / "weights" / "resnet18_layer1-3.pth")
    kwargs = {"model_name": "resnet18", "pretrained": False, "checkpoint_path": weights}
    return {"model.kwargs": kwargs, "preprocess.size": [size, size], "preprocess.resize": "stretch"}


def of_csv(path: Path, kwargs: dict, place: str = "", kind: str = "CsvDataset") -> Overrides:
    """A dataset's section, its transforms left alone."""
    at = f"{place}dataloader.dataset"
    return {f"{at}.type": kind, f"{at}.kwargs": {"csv_file": str(path), **kwargs}}


def subset(path: Path, pictures: int, scratch: Path, label: str) -> Path:
    """A CSV of so many training rows, spread over the labels as they are in the whole, with absolute paths."""
    rows = [row for row in csv.DictReader(path.open()) if row.get("split", "train") == "train"]
    dice = random.Random(0)
    by_label = defaultdict(list)
    for row in rows:
        by_label[row[label]].append(row)
    for some in by_label.values():
        dice.shuffle(some)
    ranked = [(i / len(some), row) for some in by_label.values() for i, row in enumerate(some)]
    chosen = [row for _, row in sorted(ranked, key=lambda pair: pair[0])[:pictures]]
    for row in chosen:
        row.update({key: str(path.parent / row[key]) for key in ("image", "mask") if row.get(key)})
    return write_rows(scratch / f"{path.stem}_{pictures}.csv", chosen)


def write_rows(path: Path, rows: list[dict]) -> Path:
    """Rows as a CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


# the set, the shipped config, the recipes, epochs for each number of training pictures, and what is compared
CLS_CONFIG = "ImageClassification/cls-resnet18-*-trainval-*"
SEG_CONFIG = "SemanticSegmentation/seg-unetResnet50-*-trainval-*"
DET_CONFIG = "ObjectDetection/det-yoloxNano-*-trainval-*"
SETS = {
    "cls_neu": (cls_neu, CLS_CONFIG, CLS, {100: 16, 300: 8, 600: 6}, ("top1", "loss")),
    "cls_tile": (cls_tile, CLS_CONFIG, CLS, {100: 16, 300: 8, 500: 6}, ("top1", "macro/auroc")),
    "seg_tile": (seg_tile, SEG_CONFIG, SEG, {100: 16, 300: 8, 500: 6}, ("foreground/miou",)),
    "det_pcb": (det_pcb, DET_CONFIG, DET, {100: 16, 300: 8}, ("ap50", "ap")),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)}")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes.jsonl"))
    parser.add_argument("--pictures", type=int, nargs="*", help="only these numbers of training pictures")
    parser.add_argument("--only", nargs="*", help="only recipes whose names hold one of these")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--table", type=Path, help="print the table of an --out file, run nothing")
    args = parser.parse_args()
    if args.table:
        print(table(args.table))
        return 0
    args.out.parent.mkdir(parents=True, exist_ok=True)
    data, out = args.data.resolve(), args.out.resolve()
    os.chdir(ROOT)
    for name in args.sets:
        for seed in args.seeds:
            for pictures in args.pictures or SETS[name][3]:
                for title in SETS[name][2]:
                    if args.only is None or any(word in title for word in args.only):
                        one_run(name, title, pictures, seed, data, out)
    return 0


def one_run(name: str, title: str, pictures: int, seed: int, data: Path, out: Path) -> None:
    """One training through main.py; its numbers as a line of the file."""
    import main as entry
    from dao.files.run_folder import newest_run

    place, pattern, recipes, lengths, compared = SETS[name]
    scratch = out.parent / "recipes_data"
    scratch.mkdir(exist_ok=True)
    epochs, run = lengths[pictures], f"{name}-{pictures}-{seed}"
    overrides = {
        "name": run, "trainer.kwargs.log_dir": str(out.parent / "recipes_runs"), "trainer.kwargs.max_epochs": epochs,
        "trainer.kwargs.eval_interval": max(1, epochs // 4), "trainer.kwargs.log_interval": 1000,
        "trainer.kwargs.test_after_train": False, "dataloader.kwargs.num_workers": 0, "dataloader.kwargs.cache": True,
        "evaluator.dataloader.kwargs.num_workers": 0, "evaluator.dataloader.kwargs.cache": True,
        **place(data, pictures, scratch), **recipes[title](epochs),
    }  # fmt: skip
    config = next((ROOT / "configs").glob(pattern))
    started = time.perf_counter()
    command = ["-c", str(config), "--seed", str(seed), "--device", "cpu", "-o"]
    code = entry.main([*command, *(f"{key}={json.dumps(value)}" for key, value in overrides.items())])
    if code >= 128:  # a person has stopped it: the next recipe is not wanted either
        sys.exit(code)
    row: dict[str, Any] = {
        "set": name,
        "recipe": title,
        "pictures": pictures,
        "epochs": epochs,
        "seed": seed,
        "code": code,
    }
    if code == 0:
        lines = [json.loads(line) for line in (newest_run(out.parent / "recipes_runs", run) / "metrics.jsonl").open()]
        for metric in compared:
            curve = [line[f"val/{metric}"] for line in lines if line.get(f"val/{metric}") is not None]
            row |= {metric: curve[-1], f"best {metric}": max(curve)} if curve else {}
    row["seconds"] = round(time.perf_counter() - started)
    with out.open("a") as file:
        file.write(json.dumps(row) + "\n")


def table(path: Path) -> str:
    """Mean over the seeds of each recipe at the last epoch, one column a number of pictures."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    parts = []
    for name in dict.fromkeys(row["set"] for row in rows):
        mine = [row for row in rows if row["set"] == name and row["code"] == 0]
        sizes = sorted({row["pictures"] for row in mine})
        metrics = [metric for metric in SETS[name][4] if any(metric in row for row in mine)]
        epochs = {row["pictures"]: row["epochs"] for row in mine}
        head = [f"{metric}, {size} pictures x {epochs[size]}" for size in sizes for metric in metrics]
        parts += ["", f"{name}", "", f"| recipe | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
        for title in dict.fromkeys(row["recipe"] for row in mine):
            cells = [mean_of([row[metric] for row in mine
                              if row["recipe"] == title and row["pictures"] == size and metric in row])
                     for size in sizes for metric in metrics]  # fmt: skip
            parts.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(parts)


def mean_of(values: list[float]) -> str:
    """Mean of the seeds, and each where there are several."""
    if not values:
        return ""
    mean = f"{sum(values) / len(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({', '.join(f'{value:.3f}' for value in values)})"


if __name__ == "__main__":
    sys.exit(main())
