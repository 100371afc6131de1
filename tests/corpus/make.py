"""Writes the corpus: a checkpoint of each task as this version saves it, and what it says of one picture.

    python -m tests.corpus.make tests/corpus/format-1
    python -m tests.corpus.make tests/corpus/format-1 onnx    # exported files of the same models, beside them

Run once a format (`dao.checkpoints.checkpoint.FORMAT`), never again for one that exists: later versions must read what an
earlier one wrote. Weights follow a short pattern, so that a packed file has a few kilobytes.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

BACKBONE = {"type": "TimmFeatures", "kwargs": {"model_name": "mobilenetv3_small_050"}}
UNET = {"encoder_name": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": [8, 8, 8]}
SECTIONS = {
    "cls": {"type": "TimmClassifier", "kwargs": {"model_name": "test_resnet"}},
    "seg": {"type": "Unet", "kwargs": UNET},
    "det": {"type": "YOLOXWithBackbone", "kwargs": {"size": "nano", "backbone": BACKBONE, "max_detections": 20}},
    "anomaly": {"type": "PatchCore", "kwargs": {"backbone": "test_resnet", "layers": ["layer1", "layer2"]}},
}
CLASSES = {"anomaly": ["good", "anomaly"]}
FACTS = {"picture_threshold": 2.0, "picture_typical": 1.0, "pixel_threshold": 2.0, "pixel_typical": 1.0}


def picture() -> np.ndarray:
    """(70, 90, 3) uint8: bands of colour with a bright square."""
    rows, columns = np.mgrid[:70, :90]
    image = np.stack([rows * 3 % 256, columns * 2 % 256, (rows + columns) % 256], axis=-1).astype(np.uint8)
    image[20:40, 30:60] = 250
    return image


def make(kind: str) -> Any:
    """The task, in eval mode, with its pattern of weights."""
    from dao.preprocess import Preprocess
    from dao.tasks import build

    classes = CLASSES.get(kind, ["none", "scratch", "dent"])
    model = build.build_model({"type": kind, "model": SECTIONS[kind]}, classes, 3).eval()
    if kind == "anomaly":
        model.bank = torch.zeros(12, model.bank.shape[1])
    with torch.no_grad():
        for number, (name, value) in enumerate(model.state_dict().items()):
            if value.is_floating_point() and "running_var" not in name:
                pattern = (torch.arange(value.numel()) * 5 + number) % 11 - 4.0
                pattern *= 0.004 if "preds" in name or name.startswith("fc.") else 1  # answers that are not saturated
                value.copy_(
                    (pattern / (8 * max(1, value[0].numel() if value.ndim > 1 else 8)) ** 0.5).view(value.shape)
                )
    facts = FACTS if kind == "anomaly" else {}
    return build.task_class(kind)(model, Preprocess(size=[64, 64]), classes, facts=facts)


def said(prediction: Any) -> dict[str, Any]:
    """What must stay the same of an answer."""
    parts = ("label", "scores", "box_labels", "box_scores", "boxes_xyxy", "raw_score")
    found = {name: getattr(prediction, name) for name in parts if getattr(prediction, name) is not None}
    if prediction.mask is not None:
        found["pixels"] = np.bincount(prediction.mask.flatten(), minlength=3)
    return {name: np.asarray(value, np.float64).round(6).tolist() for name, value in found.items()}


def write(folder: Path) -> None:
    """All of it, into a folder that does not exist yet."""
    import dao.register
    from dao.checkpoints import checkpoint

    dao.register.import_all_modules_for_register()
    folder.mkdir(parents=True)
    answers = {}
    for kind in SECTIONS:
        task = make(kind)
        config = json.dumps({"name": f"corpus-{kind}", "type": kind, "model": SECTIONS[kind]})
        content = {"model": task.model.state_dict(), "ema": None, "config": config, "card": task.card().to_json()}
        path = folder / f"{kind}.ckpt"
        checkpoint.save({**content, "epoch": 3, "iter": 0, "metrics": {"x": 0.5}, "best": {}, "versions": {}}, path)
        answers[kind] = said(task.answer(task.run, picture(), task.card()))
        (folder / f"{kind}.ckpt.xz").write_bytes(lzma.compress(path.read_bytes(), preset=9))
        path.unlink()
    (folder / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")


def write_onnx(folder: Path) -> None:
    """Exported files of the same models, and of the detector one without suppression."""
    import dao.register
    from dao.exporters.onnx import OnnxExporter

    dao.register.import_all_modules_for_register()
    for name, facts in [*((kind, {}) for kind in SECTIONS), ("det-raw", {"raw": True})]:
        task = make(name.split("-")[0])
        path = folder / f"{name}.onnx"
        OnnxExporter(simplify=False).export(task.with_facts(facts) if facts else task, path)
        (folder / f"{name}.onnx.xz").write_bytes(lzma.compress(path.read_bytes(), preset=9))
        path.unlink()


if __name__ == "__main__":
    (write_onnx if sys.argv[2:] == ["onnx"] else write)(Path(sys.argv[1]))
