"""Which sample lies where: one set of pictures, laid out for four tasks. Nothing here draws or writes.

images/0000.png  masks/0000.png            every sample once
cls/<split>/<class>/0000.png               classification: a folder per class
train.txt val.txt labels.txt samples.csv   the same as lists
anomaly/train/good anomaly/test/<label>    anomaly detection, one material, as MVTec AD lays it out
anomaly/ground_truth/<defect>/0000_mask.png
annotations/instances_<split>.json         detection, COCO
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dao.samples.draw import ANOMALY_MATERIAL, LABELS, SLOTS, Identity, identify

Split: TypeAlias = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
VAL_SHARE = 0.24
LIST_FILES = ("labels.txt", "train.txt", "val.txt", "samples.csv", "README.txt")


def identities(per_class: int) -> list[Identity]:
    """All samples of a set: ``per_class`` rounds of seven."""
    return [identify(index) for index in range(per_class * len(SLOTS))]


def split_of(identity: Identity, per_class: int) -> Split:
    """The last rounds are val. A lot is never longer than a round, so no lot lies on both sides."""
    held_out = max(1, round(VAL_SHARE * per_class))
    return "train" if identity.round < per_class - held_out else "val"


def name_of(identity: Identity) -> str:
    """File name of the sample's picture and of its mask."""
    return f"{identity.index:04d}.png"


def in_classification(identity: Identity) -> bool:
    """The extra good pictures would unbalance the classes, and serve the anomaly set alone."""
    return not identity.extra


def anomaly_folder(identity: Identity, per_class: int) -> str | None:
    """``train/good``, ``test/<label>``, or None for what the anomaly set does not use.

    It is of one material, as each category of MVTec AD is: a model of what is normal learns one product, and methods
    such as PaDiM expect every picture to show it at the same place. Its training never sees a defect, so the defects
    of both splits may stand in its test.
    """
    if identity.material != ANOMALY_MATERIAL:
        return None
    if identity.label == "good" and split_of(identity, per_class) == "train":
        return "train/good"
    return f"test/{identity.label}"


def link_places(identity: Identity, per_class: int) -> Iterator[str]:
    """Where else, relative to the set's folder, the sample's picture appears."""
    name = name_of(identity)
    if in_classification(identity):
        yield f"cls/{split_of(identity, per_class)}/{identity.label}/{name}"
    folder = anomaly_folder(identity, per_class)
    if folder:
        yield f"anomaly/{folder}/{name}"


def truth_place(identity: Identity, per_class: int) -> str | None:
    """Where the anomaly set keeps the sample's 0/255 mask; None for a good part and for what is not in that set."""
    if identity.label == "good" or anomaly_folder(identity, per_class) is None:
        return None
    return f"anomaly/ground_truth/{identity.label}/{identity.index:04d}_mask.png"


def all_files(per_class: int) -> list[str]:
    """Every file of a set except its manifest, relative to its folder."""
    files = [*LIST_FILES, *(f"annotations/instances_{split}.json" for split in SPLITS)]
    for identity in identities(per_class):
        files += [f"images/{name_of(identity)}", f"masks/{name_of(identity)}", *link_places(identity, per_class)]
        truth = truth_place(identity, per_class)
        files += [truth] if truth else []
    return files


def list_texts(samples: list[Identity], per_class: int) -> dict[str, str]:
    """labels.txt, train.txt, val.txt and samples.csv: file name and content."""
    texts = {"labels.txt": "".join(f"{label}\n" for label in LABELS)}
    for split in SPLITS:
        chosen = [s for s in samples if in_classification(s) and split_of(s, per_class) == split]
        texts[f"{split}.txt"] = "".join(f"images/{name_of(s)} {s.label}\n" for s in chosen)
    rows = ["image,label,mask,material,split,group"]
    for s in samples:
        split = split_of(s, per_class) if in_classification(s) else "anomaly"
        rows.append(f"images/{name_of(s)},{s.label},masks/{name_of(s)},{s.material},{split},{s.lot}")
    texts["samples.csv"] = "".join(f"{row}\n" for row in rows)
    return texts


def bbox_xywh(mask: NDArray[Any]) -> list[int]:
    """The tight box of what is not 0 in ``mask`` (H, W): left, top, width, height in pixels; the mask is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def run_lengths(mask: NDArray[Any]) -> list[int]:
    """COCO's uncompressed RLE of ``mask`` (H, W): lengths of runs down the columns, the first of zeros."""
    flat = (mask != 0).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate([[0], changes, [flat.size]])
    lengths = np.diff(bounds).tolist()
    return [0, *lengths] if flat[0] else lengths


def coco(samples: list[Identity], masks: dict[int, NDArray[np.uint8]], per_class: int, split: Split) -> dict[str, Any]:
    """One split as a COCO dictionary; good parts are pictures without annotations, ids are the samples' indices."""
    chosen = [s for s in samples if in_classification(s) and split_of(s, per_class) == split]
    images, annotations = [], []
    for s in chosen:
        mask = masks[s.index]
        height, width = mask.shape
        images.append({"id": s.index, "file_name": name_of(s), "width": width, "height": height})
        if s.label == "good":
            continue
        annotations.append(
            {
                "id": s.index + 1,  # evaluators take an annotation id of 0 for "unmatched"
                "image_id": s.index,
                "category_id": LABELS.index(s.label),
                "bbox": bbox_xywh(mask),
                "area": int(np.count_nonzero(mask)),
                "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
                "iscrowd": 0,
            }
        )
    categories = [{"id": i, "name": label, "supercategory": "defect"} for i, label in enumerate(LABELS) if i]
    return {"images": images, "annotations": annotations, "categories": categories}
