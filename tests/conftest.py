"""Shared fixtures: a tiny data set and a tiny config, and torch kept to one thread so that tests are alike everywhere."""

import copy
import json
import os
import sys
import tempfile

import cv2
import numpy as np
import pytest

os.environ["AICORE_CACHE"] = tempfile.mkdtemp(prefix="aicore-cache-")  # what runs remember is not the user's


@pytest.fixture(scope="module", autouse=True)
def registers_as_they_were():
    """What a module's tests register, and their users' files, is gone with it; ``dao`` and libraries register late."""
    from dao.register import Registers

    before = {kind: set(register) for kind, register in Registers.all().items()}
    yield
    for kind, register in Registers.all().items():
        for name in set(register) - before[kind]:
            module = register.get(name).__module__
            file = getattr(sys.modules.get(module), "__file__", None) or ""
            if not module.startswith("dao.") and "site-packages" not in file:
                del register._components[name]


LONG = ("tests/e2e/", "tests/chaos", "tests/faults", "tests/test_configs.py", "tests/exporters/test_exporters.py")


def pytest_collection_modifyitems(items):
    """The longest files first: begun last, one of them alone would hold up the end (make test: --no-loadscope-reorder)."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


CLASSES = ("blue", "green", "red")


def draw(label: int, index: int, size: int = 40) -> np.ndarray:
    """A noisy picture whose dominant colour is its class; BGR, as cv2 writes."""
    rng = np.random.default_rng((label, index))
    image = rng.integers(40, 90, (size, size + 8, 3), dtype=np.uint8)
    image[8:-8, 8:-8, label] = 220
    return image


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """<root>/{train,val}/{blue,green,red}/*.png: 8 and 4 pictures a class."""
    root = tmp_path_factory.mktemp("tiny")
    for split, count, offset in (("train", 8, 0), ("val", 4, 100)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(str(folder / f"{i}.png"), draw(label, i + offset))
    return root


@pytest.fixture(scope="session")
def tiny_masks(tmp_path_factory):
    """samples.csv (image, mask, split) over 16 training and 8 validation pictures: a bright or a dark square on grey,
    class 1 or 2 of the mask, and every fourth picture without any."""
    root = tmp_path_factory.mktemp("masks")
    rows = ["image,mask,split"]
    for index in range(24):
        rng = np.random.default_rng(index)
        image, mask = rng.integers(90, 130, (48, 56, 3), dtype=np.uint8), np.zeros((48, 56), np.uint8)
        kind = index % 4 and 1 + index % 2
        if kind:
            y, x = rng.integers(4, 30, 2)
            image[y : y + 12, x : x + 14] = (0, 255, 20)[kind]
            mask[y : y + 12, x : x + 14] = kind
        cv2.imwrite(str(root / f"{index}.png"), image)
        cv2.imwrite(str(root / f"{index}_mask.png"), mask)
        rows.append(f"{index}.png,{index}_mask.png,{'train' if index < 16 else 'val'}")
    (root / "samples.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def tiny_boxes(tiny_masks):
    """The pictures of `tiny_masks` with COCO files annotations/instances_{train,val}.json: one box a defect."""
    names = ["bright", "dark"]
    for split in ("train", "val"):
        images, annotations = [], []
        for index in range(24):
            if (index < 16) != (split == "train"):
                continue
            images.append({"id": index, "file_name": f"{index}.png", "height": 48, "width": 56})
            mask = cv2.imread(str(tiny_masks / f"{index}_mask.png"), cv2.IMREAD_UNCHANGED)
            if mask.any():
                x, y, width, height = cv2.boundingRect(mask)
                found = {"id": index, "image_id": index, "category_id": int(mask.max()), "iscrowd": 0}
                annotations.append({**found, "bbox": [x, y, width, height], "area": width * height})
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
        folder = tiny_masks / "annotations"
        folder.mkdir(exist_ok=True)
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"instances_{split}.json").write_text(json.dumps(content))
    return tiny_masks


@pytest.fixture
def tiny_det_config(tiny_boxes, tmp_path):
    """A whole trainval config of detection over `tiny_boxes`."""

    def loader(split):
        kwargs = {
            "json_file": f"{tiny_boxes}/annotations/instances_{{split}}.json",
            "data_dir": str(tiny_boxes),
            "split": split,
        }
        dataset = {"type": "CocoDetection", "kwargs": kwargs}
        return {"type": "DetDataloader", "kwargs": {"batch_size": 4, "num_workers": 0}, "dataset": dataset}

    return {
        "name": "tinydet",
        "type": "det",
        "trainer": {
            "type": "TrainVal",
            "kwargs": {"log_dir": str(tmp_path / "runs"), "max_epochs": 2, "no_aug_epochs": 1},
        },
        "preprocess": {"size": [64, 64]},
        "model": {"type": "YOLOX", "kwargs": {"size": "nano"}},
        "loss": {"type": "YOLOXLoss"},
        "optimizer": {"type": "adamw", "kwargs": {"lr": 0.003}},
        "dataloader": {
            **loader("train"),
            "dataset": {
                **loader("train")["dataset"],
                "transforms": [{"type": "Mosaic"}, {"type": "Mixup", "kwargs": {"p": 0.5}}, {"type": "HorizontalFlip"}],
            },
        },
        "evaluator": {"type": "DetEvaluator", "dataloader": loader("val")},
    }


@pytest.fixture
def tiny_seg_config(tiny_masks, tmp_path):
    """A whole trainval config of segmentation over `tiny_masks`."""

    def loader(split):
        kwargs = {
            "csv_file": str(tiny_masks / "samples.csv"), "split_column": "split", "split": split,
            "classes": ["background", "bright", "dark"],
        }  # fmt: skip
        dataset = {"type": "SegCsvDataset", "kwargs": kwargs}
        return {"type": "SegDataloader", "kwargs": {"batch_size": 4, "num_workers": 0}, "dataset": dataset}

    network = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    return {
        "name": "tinyseg",
        "type": "seg",
        "trainer": {"type": "TrainVal", "kwargs": {"log_dir": str(tmp_path / "runs"), "max_epochs": 2}},
        "preprocess": {"size": [48, 48]},
        "model": {"type": "Unet", "kwargs": network},
        "loss": [{"type": "CrossEntropyLoss"}, {"type": "DiceLoss"}],
        "optimizer": {"type": "adamw", "kwargs": {"lr": 0.003}},
        "dataloader": {
            **loader("train"),
            "dataset": {
                **loader("train")["dataset"],
                "transforms": [{"type": "DefectCrop"}, {"type": "CopyPaste"}, {"type": "HorizontalFlip"}],
            },
        },
        "evaluator": {"type": "SegEvaluator", "dataloader": loader("val")},
    }


@pytest.fixture
def tiny_config(tiny_data, tmp_path):
    """A whole trainval config over `tiny_data`, with runs in the test's own folder."""

    def loader(split):
        dataset = {"type": "FolderDataset", "kwargs": {"data_dir": str(tiny_data), "split": split}}
        return {"type": "ClsDataloader", "kwargs": {"batch_size": 8, "num_workers": 0}, "dataset": dataset}

    return {
        "name": "tiny",
        "type": "cls",
        "trainer": {"type": "TrainVal", "kwargs": {"log_dir": str(tmp_path / "runs"), "max_epochs": 2}},
        "preprocess": {"size": [32, 32]},
        "model": {"type": "TimmClassifier", "kwargs": {"model_name": "test_resnet"}},
        "loss": {"type": "CrossEntropyLoss"},
        "optimizer": {"type": "adamw", "kwargs": {"lr": 0.003}},
        "lr_scheduler": {"type": "warm_cos_lr", "kwargs": {"warmup_epochs": 0}},
        "dataloader": {
            **loader("train"),
            "dataset": {
                **loader("train")["dataset"],
                "transforms": [{"type": "HorizontalFlip", "kwargs": {"p": 0.5}}],
            },
        },
        "evaluator": {"type": "ClsEvaluator", "dataloader": loader("val")},
    }


@pytest.fixture
def write_config(tmp_path):
    """Write a config, with places changed: ``write_config(config, {"loss.type": "Focl"})``; None removes a key."""

    def write(config, changes=None, name="config.json"):
        content = copy.deepcopy(config)
        for place, value in (changes or {}).items():
            *parents, last = place.split(".")
            node = content
            for key in parents:
                node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
            if value is None:
                node.pop(last)
            else:
                node[last] = value
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write
