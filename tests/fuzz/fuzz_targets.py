"""The whole files that damage starts from, one of every kind that is read from elsewhere, and what reads them."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """A kind of file: the whole file that damage starts from, where it lies, and what reads it."""

    name: str
    file: Path
    read: Callable[[], object]


def make_targets(folder: Path) -> list[Target]:
    """Every kind of file that is read from elsewhere, as a small whole one."""
    import cv2
    import numpy as np

    from dao.register import import_all_modules_for_register

    import_all_modules_for_register()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.png"), image)
    mask = np.zeros((40, 48), np.uint8)
    mask[5:20, 5:20] = 255
    cv2.imwrite(str(folder / "mask.png"), mask)
    return [*picture_targets(folder, image), *label_targets(folder), *config_targets(folder), *model_targets(folder)]


def picture_targets(folder: Path, image: Any) -> list[Target]:
    import cv2
    import numpy as np

    from dao.dataloaders.datasets.masks import read_raw_mask
    from dao.images.image_io import read_image

    found = []
    for suffix in (".png", ".jpg", ".bmp", ".tiff", ".webp"):
        file = folder / "pictures" / f"x{suffix}"
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), image)
        found.append(Target(f"picture{suffix}", file, lambda file=file: read_image(str(file))))
    deep = folder / "pictures" / "deep.tiff"
    cv2.imwrite(str(deep), image.astype(np.uint16) * 200)
    found.append(Target("picture16.tiff", deep, lambda: read_image(str(deep), 1)))
    own = folder / "pictures" / "mask.png"
    shutil.copy(folder / "mask.png", own)
    return [*found, Target("mask.png", own, lambda: read_raw_mask(str(own)))]


def label_targets(folder: Path) -> list[Target]:
    """Label files of every format, each beside pictures that exist."""
    from dao.images.image_io import read_image
    from dao.register import Registers

    def dataset(kind: str, **kwargs: Any) -> Callable[[], object]:
        return lambda: Registers.datasets.build({"type": kind, "kwargs": kwargs}, "dataset")

    def put(name: str, text: str) -> Path:
        file = folder / name
        file.parent.mkdir(exist_ok=True, parents=True)
        for picture in ("a.png", "b.png"):
            shutil.copy(folder / picture, file.parent / picture) if not (file.parent / picture).exists() else None
        file.write_text(text)
        return file

    ring = [[20, 20, 50, 20, 50, 40, 20, 40]]
    marks = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 20, 10], "segmentation": ring, "iscrowd": 0, "area": 200},
             {"id": 2, "image_id": 2, "category_id": 2, "bbox": [5, 5, 9, 9], "segmentation": {"size": [40, 48], "counts": [100, 20, 1800]}, "iscrowd": 1}]  # fmt: skip
    images = [{"id": i, "file_name": f"{name}.png", "height": 40, "width": 48} for i, name in enumerate("ab", start=1)]
    coco = {
        "images": images,
        "annotations": marks,
        "categories": [{"id": 1, "name": "dent"}, {"id": 2, "name": "hole"}],
    }
    shapes = [{"label": "dent", "points": [[2, 2], [20, 4], [9, 30]], "shape_type": "polygon", "group_id": None, "flags": {}},
              {"label": "hole", "points": [[5, 5], [9, 9]], "shape_type": "rectangle", "group_id": 1, "flags": {"difficult": True}}]  # fmt: skip
    labelme = {
        "version": "5",
        "flags": {},
        "shapes": shapes,
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": 40,
        "imageWidth": 48,
    }
    voc = """<?xml version="1.0" encoding="utf-8"?>
<annotation><filename>a.png</filename><size><width>48</width><height>40</height><depth>3</depth></size>
<object><name>dent</name><difficult>0</difficult><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>12</ymax></bndbox></object>
</annotation>"""
    files = {
        "coco": put("coco/x.json", json.dumps(coco)), "labelme": put("labelme/a.json", json.dumps(labelme)),
        "voc": put("voc/a.xml", voc), "yolo": put("yolo/labels/a.txt", "0 0.5 0.5 0.2 0.3\n1 0.1 0.1 0.2 0.1 0.2 0.2\n"),
        "csv": put("csv/x.csv", "image,label\na.png,good\nb.png,bad\n"), "list": put("list/x.txt", "a.png 0\nb.png 1\n"),
    }  # fmt: skip
    data = put("yolo/data.yaml", "path: .\ntrain: images\nval: images\nnames: {0: dent, 1: hole}\n")
    put("yolo/images/none.txt", "").unlink()
    packed = base64.b64encode((folder / "a.png").read_bytes()).decode()
    embedded = put("embedded/a.json", json.dumps({**labelme, "imageData": packed, "imagePath": "nowhere.png"}))
    (folder / "embedded" / "a.png").unlink()
    parts = put("parts/x.csv", "image,label,split,mask\na.png,good,train,\nb.png,dent,test,mask.png\n")
    shutil.copy(folder / "mask.png", parts.parent / "mask.png")
    masks = put("masks/x.csv", "image,mask\na.png,mask.png\nb.png,\n")
    shutil.copy(folder / "mask.png", masks.parent / "mask.png")
    return [
        Target("coco", files["coco"], dataset("CocoDetection", json_file=str(files["coco"]))),
        Target("coco-masks", files["coco"], dataset("CocoSegmentation", json_file=str(files["coco"]))),
        Target("labelme", files["labelme"], dataset("LabelMeDetection", annotations_dir=str(folder / "labelme"))),
        Target("labelme-masks", files["labelme"], dataset("LabelMeSegmentation", data_dir=str(folder / "labelme"))),
        Target("embedded", embedded, dataset("LabelMeDetection", annotations_dir=str(folder / "embedded"))),
        Target("embedded-picture", embedded, lambda: read_image(str(embedded))),
        Target("voc", files["voc"], dataset("VocDetection", annotations_dir=str(folder / "voc"))),
        Target("yolo", files["yolo"], dataset("YoloDetection", data_yaml=str(data))),
        Target("yolo-yaml", data, dataset("YoloDetection", data_yaml=str(data))),
        Target("csv", files["csv"], dataset("CsvDataset", csv_file=str(files["csv"]))),
        Target("parts", parts, dataset("AnomalyCsvDataset", csv_file=str(parts), split="test", split_column="split", mask_column="mask")),
        Target("list", files["list"], dataset("ListDataset", list_file=str(files["list"]), classes=["good", "bad"])),
        Target("seg-csv", masks, dataset("SegCsvDataset", csv_file=str(masks), mask_format="binary", classes=["background", "dent"])),
    ]  # fmt: skip


def config_targets(folder: Path) -> list[Target]:
    """A config as JSON and as YAML, read and validated."""
    import yaml

    from dao.config import reading as config
    from dao.config.schema import validate

    content = {
        "name": "x", "type": "cls", "trainer": {"type": "TrainVal", "kwargs": {"max_epochs": 2, "log_dir": "runs"}},
        "preprocess": {"size": [32, 32], "mean": [0.5, 0.5, 0.5]}, "hooks": [{"type": "EarlyStop", "kwargs": {"patience": 3}}],
        "model": {"type": "TimmClassifier", "kwargs": {"model_name": "test_resnet"}}, "loss": {"type": "FocalLoss", "kwargs": {"gamma": 2.0}},
        "optimizer": {"type": "adamw", "kwargs": {"lr": 0.01}}, "lr_scheduler": {"type": "warm_cos_lr", "kwargs": {"warmup_epochs": 1}},
        "dataloader": {"type": "ClsDataloader", "kwargs": {"batch_size": 4}, "dataset": {"type": "FolderDataset", "kwargs": {"data_dir": "x"},
                       "transforms": [{"type": "HorizontalFlip", "kwargs": {"p": 0.5}}]}},
    }  # fmt: skip
    as_json, as_yaml = folder / "config.json", folder / "config.yaml"
    as_json.write_text(json.dumps(content))
    as_yaml.write_text(yaml.safe_dump(content))

    def read(path: Path) -> Callable[[], object]:
        return lambda: validate(config.load(str(path), []))

    return [Target("config.json", as_json, read(as_json)), Target("config.yaml", as_yaml, read(as_yaml))]


def model_targets(folder: Path) -> list[Target]:
    """A checkpoint, an ONNX file and safetensors of a very small classifier, answering for a picture."""
    import numpy as np
    import torch

    from dao.checkpoints import checkpoint
    from dao.exporters.onnx import OnnxExporter
    from dao.exporters.safetensors import SafetensorsExporter
    from dao.predictor import Predictor
    from dao.preprocess import Preprocess
    from dao.tasks import build

    torch.manual_seed(0)
    raw = {"type": "cls", "name": "x", "model": {"type": "TimmClassifier", "kwargs": {"model_name": "test_resnet"}}}
    model = build.build_model(raw, ["good", "bad"], 3)
    task = build.task_class("cls")(
        model.eval(), Preprocess(size=(32, 32)), ["good", "bad"], facts={"multi_label": False}
    )
    task.section = raw["model"]
    content = {
        "model": model.state_dict(),
        "ema": None,
        "config": json.dumps(raw),
        "card": task.card().to_json(),
        "epoch": 1,
        "metrics": {},
        "best": {},
    }
    folder = folder / "models"
    folder.mkdir()
    files = [folder / "x.ckpt", folder / "x.onnx", folder / "x.safetensors"]
    checkpoint.save(content, files[0])
    OnnxExporter().export(task, files[1])
    SafetensorsExporter().export(task, files[2])
    torch.save({"state_dict": model.state_dict()}, folder / "x.pth")
    picture = np.zeros((32, 32, 3), np.uint8)
    targets = [Target(file.suffix[1:], file, lambda file=file: Predictor(file, "cpu")(picture)) for file in files]
    targets.append(Target("pth", folder / "x.pth", lambda: checkpoint.load_weights(folder / "x.pth")))
    return targets + inside_targets(folder, content, lambda path: Predictor(path, "cpu")(picture))


def inside_targets(folder: Path, content: dict[str, Any], answer: Callable[[Path], object]) -> list[Target]:
    """What lies inside a model's file, damaged before the file is made whole round it: damage to the file itself rarely
    comes as far as that."""
    import onnx
    from safetensors import safe_open
    from safetensors.torch import save_file

    from dao.checkpoints import checkpoint

    inside, card = folder / "content.json", folder / "card.json"
    plain = {key: value for key, value in content.items() if key != "model"}
    inside.write_text(
        json.dumps({**plain, "card": json.loads(content["card"]), "config": json.loads(content["config"])})
    )
    card.write_text(content["card"])
    graph = onnx.load(folder / "x.onnx")
    with safe_open(folder / "x.safetensors", "pt") as file:
        weights, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118

    def text_of(file: Path) -> str:
        return file.read_bytes().decode("utf-8", "replace")

    def in_checkpoint() -> object:
        text = text_of(inside)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = {**plain, "card": text}
        if not isinstance(found, dict):
            found = {**plain, "config": text}
        found = {key: _dumped(value) if key in ("card", "config") else value for key, value in found.items()}
        checkpoint.save({**found, "model": content["model"]}, folder / "inside.ckpt")
        return answer(folder / "inside.ckpt")

    def in_onnx() -> object:
        onnx.helper.set_model_props(graph, {"aicore": text_of(card), "layout": "nhwc"})
        (folder / "inside.onnx").write_bytes(graph.SerializeToString())
        return answer(folder / "inside.onnx")

    def in_safetensors() -> object:
        save_file(weights, folder / "inside.safetensors", metadata={**metadata, "aicore": text_of(card)})
        return answer(folder / "inside.safetensors")

    return [
        Target("inside.ckpt", inside, in_checkpoint),
        Target("inside.onnx", card, in_onnx),
        Target("inside.safetensors", card, in_safetensors),
    ]


def _dumped(value: Any) -> Any:
    """As text, where that can be: nested deeper than Python writes, it is left as it is."""
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        return value
