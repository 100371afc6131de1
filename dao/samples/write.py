"""Write the sample set: once, whole, and never over somebody else's files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from loguru import logger
from numpy.typing import NDArray

from dao.errors import DataError
from dao.samples import plan
from dao.samples.draw import LABELS, draw
from dao.words.counted import counted

VERSION = 1  # raise it when a picture or the layout changes: sets of an older version are then written anew
SIZE = 128
PER_CLASS = 170
SIZES = (32, 1024)
MANIFEST = "manifest.json"
README = """Sample pictures for AICore
==========================
Drawn by `python -m dao.samples --seed {seed} --size {size} --per-class {per_class}`; nothing here is a photograph.
Licence: Apache-2.0.

Materials: brushed metal with rivets, fabric with buttons, printed board with components.
Classes:   {labels}.

images/, masks/   every sample; a mask's value is the class index (0 background), all zero for a good part
cls/              classification: <split>/<class>/, links to images/
train.txt val.txt labels.txt samples.csv
                  the same as lists; in samples.csv the split "anomaly" marks good parts used by anomaly/ alone,
                  and parts of one group share dye and tint and lie on one side of the split
anomaly/          anomaly detection in MVTec AD's layout, brushed metal only; ground_truth/ masks are 0 or 255
annotations/      detection, COCO: one box and one run-length mask to a defect; file names are relative to images/
manifest.json     written last: while it says "finished": false the set is not whole

Do not keep files of your own here: the folder is rewritten when other settings are asked for.
"""


def write_samples(out: Path, seed: int = 0, size: int = SIZE, per_class: int = PER_CLASS) -> bool:
    """Write the set into ``out``; returns False where the same set already stood there, whole.

    seed: >= 0; size: pixels to a side; per_class: pictures of each class, train and val together, >= 2.
    Raises DataError for settings out of range and for a folder that holds files of somebody else.
    """
    arguments = {"version": VERSION, "seed": seed, "size": size, "per_class": per_class}
    _check(seed, size, per_class)
    found = _read_manifest(out)
    files = plan.all_files(per_class)
    whole = found.get("finished") is True and found.get("arguments") == arguments
    if whole and all((out / name).is_file() for name in files):
        logger.info(f"{out} already holds this sample set; nothing to do")
        return False
    _clear(out, found.get("files", []))
    _write_json(out / MANIFEST, {"finished": False, "arguments": arguments, "files": files})
    masks = _write_pictures(out, seed, size, per_class)
    _write_lists(out, arguments, masks)
    _write_json(out / MANIFEST, {"finished": True, "arguments": arguments, "files": files})
    logger.info(f"{counted(len(masks), 'sample picture')} written to {out}")
    return True


def _check(seed: int, size: int, per_class: int) -> None:
    if seed < 0:
        raise DataError(f"--seed {seed}: expected 0 or more")
    if not SIZES[0] <= size <= SIZES[1]:
        raise DataError(f"--size {size}: expected {SIZES[0]} to {SIZES[1]} pixels")
    if per_class < 2:
        raise DataError(f"--per-class {per_class}: expected 2 or more, so that train and val both get one")


def _read_manifest(out: Path) -> dict[str, Any]:
    """What an earlier run noted, {} for a folder that is new or empty. Raises DataError where others keep files."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, not a folder. Choose another --out")
    if not out.is_dir() or not any(out.iterdir()):
        return {}
    try:
        found = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if isinstance(found, dict) and {"finished", "arguments", "files"} <= found.keys():
        return found
    raise DataError(
        f"{out} is not empty and was not written by dao.samples (it has no readable {MANIFEST} of ours). "
        "Nothing was touched. Choose another --out, or empty that folder yourself"
    )


def _clear(out: Path, files: list[str]) -> None:
    """Remove what an earlier run wrote, by its own list: nothing else, and nothing outside ``out``."""
    root = out.resolve()
    for name in files:
        path = root / name
        if path.parent.resolve().is_relative_to(root):
            path.unlink(missing_ok=True)


def _write_pictures(out: Path, seed: int, size: int, per_class: int) -> dict[int, NDArray[np.uint8]]:
    """Draw and write every sample and its links; returns the masks by index."""
    masks = {}
    for identity in plan.identities(per_class):
        drawing = draw(seed, identity.index, size)
        picture = out / "images" / plan.name_of(identity)
        _write_png(picture, cv2.cvtColor(drawing.image, cv2.COLOR_RGB2BGR))
        _write_png(out / "masks" / plan.name_of(identity), drawing.mask)
        for place in plan.link_places(identity, per_class):
            _link(picture, out / place)
        truth = plan.truth_place(identity, per_class)
        if truth:
            _write_png(out / truth, np.where(drawing.mask > 0, 255, 0).astype(np.uint8))
        masks[identity.index] = drawing.mask
    return masks


def _write_lists(out: Path, arguments: dict[str, int], masks: dict[int, NDArray[np.uint8]]) -> None:
    per_class = arguments["per_class"]
    samples = plan.identities(per_class)
    texts = plan.list_texts(samples, per_class)
    texts["README.txt"] = README.format(labels=", ".join(LABELS), **arguments)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    for split in plan.SPLITS:
        _write_json(out / f"annotations/instances_{split}.json", plan.coco(samples, masks, per_class, split))


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    # encode first: cv2.imwrite fails silently, and not at all on paths that are not ASCII on some systems
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    path.write_bytes(encoded.tobytes())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all: written beside, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    beside.replace(path)


def _link(source: Path, place: Path) -> None:
    """A hard link costs no space; some file systems and network shares know none."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)
