"""Small sets of pictures for every task, and configs of small whole runs over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TASKS = ("cls", "seg", "det", "anomaly")


def write_data(folder: Path) -> Path:
    """Grey pictures with a bright square: by class folders, with masks in a CSV, with boxes in COCO files, MVTec's way."""
    import cv2
    import numpy as np

    for split, count in (("train", 8), ("val", 4)):
        rows, images, boxes = ["image,mask,split"], [], []
        for i in range(count):
            rng = np.random.default_rng((i, count))
            image, mask = rng.integers(90, 130, (40, 48, 3), dtype=np.uint8), np.zeros((40, 48), np.uint8)
            bad = i % 2 == 1
            if bad:
                y, x = (int(v) for v in rng.integers(4, 24, 2))
                image[y : y + 12, x : x + 12], mask[y : y + 12, x : x + 12] = 250, 1
                boxes.append({"id": i + 1, "image_id": i, "category_id": 1, "bbox": [x, y, 12, 12], "iscrowd": 0, "area": 144})  # fmt: skip
            for place in (
                f"cls/{split}/{'bad' if bad else 'good'}/{i}.png", f"flat/{split}{i}.png",
                f"parts/{'train/good' if split == 'train' else 'test/' + ('bad' if bad else 'good')}/{split}{i}.png",
            ):  # fmt: skip
                if "parts/train" in place and bad:
                    continue
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / place), image)
            if split == "val" and bad:
                truth = folder / "parts" / "ground_truth" / "bad" / f"{split}{i}_mask.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(truth), mask * 255)
            cv2.imwrite(str(folder / "flat" / f"{split}{i}_mask.png"), mask)
            rows.append(f"{split}{i}.png,{split}{i}_mask.png,{split}")
            images.append({"id": i, "file_name": f"{split}{i}.png", "height": 40, "width": 48})
        (folder / "flat" / f"{split}.csv").write_text("\n".join(rows) + "\n")
        coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dent"}]}
        (folder / "flat" / f"{split}.json").write_text(json.dumps(coco))
    return folder


def config(task: str, data: Path, runs: Path) -> dict[str, Any]:
    """A small whole run of a task: two epochs, reports and all."""
    trainer = {"log_dir": str(runs), "max_epochs": 2, "save_iters": 2}
    base: dict[str, Any] = {"name": task, "type": task, "trainer": {"type": "TrainVal", "kwargs": trainer},
            "preprocess": {"size": [32, 32]}, "optimizer": {"type": "adamw", "kwargs": {"lr": 0.003}}}  # fmt: skip

    def loader(kind: str, dataset: str, **kwargs: Any) -> dict[str, Any]:
        return {
            "type": kind,
            "kwargs": {"batch_size": 2, "num_workers": 0},
            "dataset": {"type": dataset, "kwargs": kwargs},
        }

    if task == "cls":
        base |= {
            "model": {"type": "TimmClassifier", "kwargs": {"model_name": "test_resnet"}},
            "loss": {"type": "CrossEntropyLoss"},
        }
        sets = [
            loader("ClsDataloader", "FolderDataset", data_dir=str(data / "cls"), split=split)
            for split in ("train", "val")
        ]
        evaluator = "ClsEvaluator"
    elif task == "seg":
        model = {"encoder_name": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
        base |= {"model": {"type": "Unet", "kwargs": model}, "loss": {"type": "CrossEntropyLoss"}}
        sets = [loader("SegDataloader", "SegCsvDataset", csv_file=str(data / "flat" / f"{split}.csv"), classes=["background", "dent"]) for split in ("train", "val")]  # fmt: skip
        evaluator = "SegEvaluator"
    elif task == "det":
        base |= {"model": {"type": "YOLOX", "kwargs": {"size": "nano"}}, "loss": {"type": "YOLOXLoss"}}
        sets = [
            loader("DetDataloader", "CocoDetection", json_file=str(data / "flat" / f"{split}.json"))
            for split in ("train", "val")
        ]
        evaluator = "DetEvaluator"
    else:
        del base["optimizer"], trainer["max_epochs"], trainer["save_iters"]
        base |= {"model": {"type": "PaDiM", "kwargs": {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "dimensions": 8, "sigma": 1.0}}}  # fmt: skip
        sets = [
            loader("AnomalyDataloader", "MVTecDataset", data_dir=str(data / "parts"), split=split)
            for split in ("train", "test")
        ]
        evaluator = "AnomalyEvaluator"
    return {**base, "dataloader": sets[0], "evaluator": {"type": evaluator, "dataloader": sets[1]}}


def export_config(run: Path) -> dict[str, Any]:
    return {
        "trainer": {"type": "Export", "kwargs": {"ckpt": str(run), "parity_images": 2}},
        "export": {"type": "OnnxExporter"},
    }
