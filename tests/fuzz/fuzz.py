"""Damage every kind of file that comes from elsewhere, and see that it is read, or refused in our own words.

    python tests/fuzz/fuzz.py --seconds 60 --seed 0

Seeds are small whole files, drawn here. Each try damages one: bytes flipped, cut, doubled, written over; in JSON also
values replaced by odd ones of any type and depth, keys dropped and given twice. The reader must answer, or raise an
AICoreError: no other exception, no death of the process, no more than 20 seconds, no more than 2 GB. What fails is kept
in --keep with its traceback. Tries run in forked processes, so that one that kills its process is a finding as well.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
HANG = 20  # seconds
MEMORY = 2 * 2**30  # bytes more than before
A_PROCESS = 50  # tries
DEEP = "@deep@"  # stands for lists in lists, which Python itself cannot write that deep
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**40, 1e308, -1e308, float("nan"), float("inf"), 0.5, "", " ", "x",
    "-1", "1e999", "None", "\u0000", "\ud800", "../../x", "/dev/zero", "/proc/self/mem", "x" * 5000, [], {}, [[]], [None], {"": None},
    [[[[[]]]]], "\U0001f600", "\u202e", "=cmd()", [1] * 1000,
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A kind of file: the whole file that damage starts from, where it lies, and what reads it."""

    name: str
    file: Path
    read: Callable[[], object]


class Hung(BaseException):
    """A try took too long."""


def main() -> int:
    """Tries until time is up; 0 when none failed."""
    args = arguments()
    sys.path.insert(0, str(ROOT))
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        targets = [target for target in make_targets(folder) if not args.targets or target.name in args.targets]
        return loop(targets, args)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="*", help="kinds of files; default all")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for what failed")
    return parser.parse_args()


def loop(targets: list[Target], args: argparse.Namespace) -> int:
    """Each kind of file in turn, a forked process for some tries at a time."""
    for target in targets:
        target.read()  # the whole file is read: a target that always fails would find nothing
    until, tries, findings, round_ = time.monotonic() + args.seconds, Counter[str](), 0, 0
    while time.monotonic() < until:
        for target in targets:
            seed = f"{args.seed}/{round_}/{target.name}"
            findings += in_process(target, seed, args.keep, until)
            tries[target.name] += A_PROCESS
            print(f"{target.name}: {tries[target.name]} tries, {findings} findings so far", flush=True)
            if time.monotonic() > until:
                break
        round_ += 1
    told = ", ".join(f"{name} {count}" for name, count in tries.items())
    print(
        f"about {sum(tries.values())} damaged files ({told}); {findings} findings"
        + (f" in {args.keep}" if findings else "")
    )
    return 1 if findings else 0


def in_process(target: Target, seed: str, keep: Path, until: float) -> int:
    """Tries in a process of their own; how many of them failed."""
    whole = target.file.read_bytes()
    child = os.fork()
    if child == 0:
        os._exit(min(tries(target, whole, random.Random(seed), keep, until), 100))
    status = os.waitpid(child, 0)[1]
    damaged = target.file.read_bytes()
    target.file.write_bytes(whole)
    if os.WIFSIGNALED(status):
        save(keep, target, damaged, f"killed its process: {signal.Signals(os.WTERMSIG(status)).name}")
        return 1
    return os.WEXITSTATUS(status)


def tries(target: Target, whole: bytes, rng: random.Random, keep: Path, until: float) -> int:
    """Damage and read; every failure is saved."""
    from loguru import logger

    from dao.errors import AICoreError

    logger.remove()
    bound_memory()
    signal.signal(signal.SIGALRM, _hung)
    failed = 0
    for _ in range(A_PROCESS):
        damaged = damage(whole, rng, target.file.suffix)
        target.file.write_bytes(damaged)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        signal.alarm(HANG)
        try:
            target.read()
        except AICoreError as error:
            if not str(error).strip():
                failed += save(keep, target, damaged, "an error without a word")
        except BaseException:
            failed += save(keep, target, damaged, traceback.format_exc())
        finally:
            signal.alarm(0)
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before > MEMORY:
            failed += save(keep, target, damaged, "took more than 2 GB")
        if time.monotonic() > until:
            break
    return failed


def bound_memory() -> None:
    """Whoever asks for more than `MEMORY` beyond what is there now gets none: the machine is not taken down with it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limit = pages * resource.getpagesize() + 2 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _hung(number: int, frame: FrameType | None) -> None:
    raise Hung(f"took more than {HANG} seconds")


def save(keep: Path, target: Target, damaged: bytes, why: str) -> int:
    """Keep what failed; one file a kind of failure, as many tries fail the same way."""
    keep.mkdir(parents=True, exist_ok=True)
    last = why.strip().splitlines()[-1][:160]
    places = [line.strip() for line in why.splitlines() if line.strip().startswith("File ") and "/dao/" in line]
    name = f"{target.name}-{abs(hash((places[-1] if places else '', last.split(':')[0]))) % 10**8:08}"
    (keep / f"{name}{target.file.suffix}").write_bytes(damaged)
    (keep / f"{name}.txt").write_text(f"{last}\n\n{why}", errors="replace")
    print(f"FOUND {target.name}: {last} {places[-1] if places else ''}", flush=True)
    return 1


# -- damage ----------------------------------------------------------------------------------------------------------


def damage(whole: bytes, rng: random.Random, suffix: str) -> bytes:
    """A damaged copy; JSON is damaged as JSON most of the time."""
    if suffix == ".json" and rng.random() < 0.7:
        content = json.loads(whole)
        for _ in range(rng.randint(1, 3)):
            content = damage_json(content, rng)
        depth = rng.choice((5, 200, 5000, 100_000))
        text = json.dumps(content).replace(json.dumps(DEEP), "[" * depth + "]" * depth)
        return text.encode("utf-8", "surrogatepass")
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        damage_bytes(data, rng)
    return bytes(data)


def damage_bytes(data: bytearray, rng: random.Random) -> None:
    """One change, in place."""
    if not data:
        return
    place = rng.randrange(len(data))
    length = min(len(data) - place, rng.choice((1, 2, 4, 8, 100)))
    kind = rng.randrange(6)
    if kind == 0:
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        del data[place : place + length]
    elif kind == 3:
        data[place:place] = data[place : place + length] * rng.choice((1, 2, 50))
    elif kind == 4:
        data[place : place + length] = rng.randbytes(length)
    else:
        data[place : place + length] = (
            rng.choice((b"\x00", b"\xff", b"9", b"-", b"\n", b",", b'"', b"[", b"\x80")) * length
        )


def damage_json(content: Any, rng: random.Random) -> Any:
    """One value replaced by an odd one, one key dropped or renamed, or one entry given twice; sometimes very deep."""
    places = list(walk(content, ()))
    path = rng.choice(places)
    if not path:
        return copy.deepcopy(rng.choice(ODD)) if rng.random() < 0.1 else content
    node = content
    for key in path[:-1]:
        node = node[key]
    kind = rng.randrange(8)
    if kind == 0 and isinstance(node, dict):
        del node[path[-1]]
    elif kind == 1 and isinstance(node, list):
        node.append(node[path[-1]])
    elif kind == 2 and isinstance(node, dict):
        node[str(rng.choice(ODD))[:50]] = node.pop(path[-1])
    elif kind == 3:
        node[path[-1]] = DEEP
    else:
        node[path[-1]] = copy.deepcopy(rng.choice(ODD))
    return content


def walk(node: Any, path: tuple[Any, ...]) -> Any:
    """The path of every value."""
    yield path
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield from walk(value, (*path, key))


# -- what is damaged -------------------------------------------------------------------------------------------------


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

    from dao.dataloaders.datasets.image_io import read_image
    from dao.dataloaders.datasets.masks import read_raw_mask

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
    masks = put("masks/x.csv", "image,mask\na.png,mask.png\nb.png,\n")
    shutil.copy(folder / "mask.png", masks.parent / "mask.png")
    return [
        Target("coco", files["coco"], dataset("CocoDetection", json_file=str(files["coco"]))),
        Target("coco-masks", files["coco"], dataset("CocoSegmentation", json_file=str(files["coco"]))),
        Target("labelme", files["labelme"], dataset("LabelMeDetection", annotations_dir=str(folder / "labelme"))),
        Target("labelme-masks", files["labelme"], dataset("LabelMeSegmentation", data_dir=str(folder / "labelme"))),
        Target("voc", files["voc"], dataset("VocDetection", annotations_dir=str(folder / "voc"))),
        Target("yolo", files["yolo"], dataset("YoloDetection", data_yaml=str(data))),
        Target("yolo-yaml", data, dataset("YoloDetection", data_yaml=str(data))),
        Target("csv", files["csv"], dataset("CsvDataset", csv_file=str(files["csv"]))),
        Target("list", files["list"], dataset("ListDataset", list_file=str(files["list"]), classes=["good", "bad"])),
        Target("seg-csv", masks, dataset("SegCsvDataset", csv_file=str(masks), mask_format="binary", classes=["background", "dent"])),
    ]  # fmt: skip


def config_targets(folder: Path) -> list[Target]:
    """A config as JSON and as YAML, read and validated."""
    import yaml

    from dao import config
    from dao.schema import validate

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

    from dao.exporters.onnx import OnnxExporter
    from dao.exporters.safetensors import SafetensorsExporter
    from dao.predictor import Predictor
    from dao.preprocess import Preprocess
    from dao.tasks import build
    from dao.utils import checkpoint

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
    picture = np.zeros((32, 32, 3), np.uint8)
    return [Target(file.suffix[1:], file, lambda file=file: Predictor(file, "cpu")(picture)) for file in files]


if __name__ == "__main__":
    sys.exit(main())
