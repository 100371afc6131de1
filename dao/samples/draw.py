"""One sample: picture and mask, as a function of (seed, index) alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.samples import board, fabric, metal
from dao.samples.defects import DEFECTS, Material, Spot
from dao.samples.scene import OVERSAMPLE, Picture, Plane, Scene, View, random_view

LABELS = ("good", "scratch", "dent", "stain", "hole", "missing_part")  # a label's place is its value in a mask
MATERIALS: tuple[Material, ...] = get_args(Material)
ANOMALY_MATERIAL: Material = "metal"
SLOTS = (*LABELS, "good")  # one round of pictures; the last is metal always, and only for the anomaly set
VISIBLE = 0.4  # a pixel belongs to the mask where the defect covers at least this share of it
MARGIN = 24.0  # units between a defect's centre and the picture's edge
SCENE, DEFECT, CAMERA, LOT = 1, 2, 3, 4  # independent random streams of one picture
_PAINTERS: dict[Material, tuple[Callable[..., Scene], int]] = {
    "metal": (metal.metal, metal.PARTS),
    "fabric": (fabric.fabric, fabric.PARTS),
    "board": (board.board, board.REMOVABLE),
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What a sample is, known from its index without drawing it.

    round: seven pictures make a round; lot: parts of one lot share tint and dye and lie on one side of every split.
    extra: a good picture for the anomaly set alone.
    """

    index: int
    label: str
    material: Material
    round: int
    lot: str
    extra: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """image: (H, W, 3) uint8 RGB; mask: (H, W) uint8, the label's index where the defect is, else 0."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def identify(index: int) -> Identity:
    """What the sample at ``index`` shows."""
    number, slot = divmod(index, len(SLOTS))
    extra = slot == len(LABELS)
    material = ANOMALY_MATERIAL if extra else MATERIALS[number % len(MATERIALS)]
    return Identity(index, SLOTS[slot], material, number, f"{material}-{number:03d}", extra)


def draw(seed: int, index: int, size: int = 128, with_defect: bool = True) -> Drawing:
    """Draw one sample. Without its defect it is the same part in the same light, and the mask is empty."""
    identity = identify(index)
    label = identity.label if with_defect else "good"
    scene_rng, defect_rng, camera_rng = (np.random.default_rng([seed, s, index]) for s in (SCENE, DEFECT, CAMERA))
    material_index = MATERIALS.index(identity.material)
    lot = np.random.default_rng([seed, LOT, identity.round, material_index])
    paint, parts = _PAINTERS[identity.material]
    view = random_view(scene_rng, OVERSAMPLE * size)
    missing = int(defect_rng.integers(parts)) if label == "missing_part" else None
    scene = paint(view, scene_rng, lot, missing)
    image, covered = _apply(label, scene, view, identity.material, defect_rng)
    image = cv2.resize(_light(image, view, camera_rng), (size, size), interpolation=cv2.INTER_AREA)
    share = cv2.resize(covered, (size, size), interpolation=cv2.INTER_AREA)
    mask = np.where(share >= VISIBLE, LABELS.index(label), 0).astype(np.uint8)
    return Drawing(_expose(image, camera_rng), mask)


def _apply(label: str, scene: Scene, view: View, material: Material, rng: np.random.Generator) -> tuple[Picture, Plane]:
    """The scene with its defect, and what the defect covers."""
    if scene.bare is not None and scene.removed is not None:
        return scene.bare, scene.removed
    if label == "good":
        return scene.clean, np.zeros_like(scene.occupied)
    x, y = _free_place(scene, view, rng)
    return scene.clean, DEFECTS[label](scene.clean, Spot(view, material, x, y), rng)


def _free_place(scene: Scene, view: View, rng: np.random.Generator) -> tuple[float, float]:
    """The emptiest of a dozen random places: a defect that hides a component would be two defects."""
    k = view.pixels_per_unit
    window = 2 * round(10 * k) + 1
    crowded = cv2.blur(scene.occupied, (window, window))
    places = rng.uniform(MARGIN * k, view.side - MARGIN * k, (12, 2))
    best = min(places, key=lambda p: float(crowded[int(p[1]), int(p[0])]))
    return float(best[0]), float(best[1])


def _light(image: Picture, view: View, rng: np.random.Generator) -> Picture:
    """The lamp's fall-off over the field (brighter towards it) and the lens's darker corners."""
    axis = np.linspace(-1, 1, view.side, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    slope = np.float32(rng.uniform(0.03, 0.13))
    gain = 1 + slope * (x * view.light[0] + y * view.light[1]) - np.float32(rng.uniform(0.02, 0.06)) * (x * x + y * y)
    return image * (gain * np.float32(rng.uniform(0.93, 1.07))).astype(np.float32)[..., None]


def _expose(image: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """White balance, then the sensor: noise that grows with light, and 8 bits."""
    image = image * rng.uniform(0.99, 1.01, 3).astype(np.float32)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image = image + noise * np.sqrt(0.008**2 + 0.00012 * np.clip(image, 0, 1))
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
