"""What PatchCore's pixel AUROC owes to the patch that its greedy choice starts from, and to the projection it is made in.

    python benchmarks/coreset_starts.py --data magnetic_tile --weights resnet18_layer1-3.pth --starts 8

The same patches of the good pictures are thinned out to 1 % from each start: in the full features, in a Gaussian
projection, in a sparse one as anomalib draws it, and at random. Features of the test pictures are computed once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import anomaly

Floats = NDArray[np.float32]
WIDTH = 295  # of both projections: Johnson and Lindenstrauss for 156,800 patches at a distortion of 0.9


def main() -> None:
    """A line for each start, with the means so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--starts", type=int, default=8)
    args = parser.parse_args()
    train, test = anomaly.loaders(args)
    _, _, model, _ = anomaly.our_model("patchcore", 0.01, str(args.weights), 0)()
    with torch.inference_mode():
        patches = torch.cat([embedded(model, train, batch) for batch in train]).flatten(0, 1)
        judged = [(embedded(model, test, batch).half(), batch.targets) for batch in test]
        found: dict[str, list[float]] = {name: [] for name in CHOICES}
        for start in range(args.starts):
            for name, choose in CHOICES.items():
                rng = np.random.default_rng(1000 + start)
                first = int(rng.integers(len(patches)))
                chosen = choose(patches.numpy(), rng, first, len(patches) // 100)
                found[name].append(pixel_auroc(model, judged, patches[torch.from_numpy(chosen)], args.size))
            row = [f"{name} {values[-1]:.4f} (mean {np.mean(values):.4f})" for name, values in found.items()]
            print(f"start {start}:", "  ".join(row), flush=True)


def embedded(model: torch.nn.Module, loader: object, batch: object) -> Tensor:
    """(B, P, D) patches."""
    return model.embed(loader.reader.preprocess.normalise(batch.images))[0]  # type: ignore[attr-defined,operator]


def greedily(
    project: Callable[[Floats, np.random.Generator], Floats],
) -> Callable[[Floats, np.random.Generator, int, int], NDArray[np.int64]]:
    """The greedy choice among projected patches."""

    def choose(patches: Floats, rng: np.random.Generator, first: int, count: int) -> NDArray[np.int64]:
        from dao.models.anomaly.coreset import greedy_k_centre

        return greedy_k_centre(project(patches, rng), count, first=first)[0]

    return choose


def gaussian(patches: Floats, rng: np.random.Generator) -> Floats:
    matrix = rng.standard_normal((patches.shape[1], WIDTH), dtype=np.float32) / np.float32(np.sqrt(WIDTH))
    return patches @ matrix


def sparse(patches: Floats, rng: np.random.Generator) -> Floats:
    """Li, Hastie and Church 2006: one in sqrt(D) entries is not 0."""
    shape, density = (patches.shape[1], WIDTH), patches.shape[1] ** -0.5
    signs = (rng.random(shape) < density) * rng.choice([-1.0, 1.0], shape)
    return patches @ (signs / np.sqrt(density * WIDTH)).astype(np.float32)


CHOICES = {
    "no projection": greedily(lambda patches, rng: patches),
    "gaussian": greedily(gaussian),
    "sparse": greedily(sparse),
    "at random": lambda patches, rng, first, count: rng.choice(len(patches), count, replace=False),
}


def pixel_auroc(model: torch.nn.Module, judged: list, bank: Tensor, size: int) -> float:
    """Of every second pixel of all test pictures, as in benchmarks/anomaly.py."""
    import cv2

    from dao.evaluators import ranking
    from dao.evaluators.score_histogram import ScoreHistogram, aligned
    from dao.models.anomaly.patchcore import nearest_in

    good, wrong = ScoreHistogram(), ScoreHistogram()
    for patches, targets in judged:
        distances, _ = nearest_in(patches.float(), bank)
        side = round(distances.shape[1] ** 0.5)
        coarse = distances.reshape(-1, 1, side, side)
        maps = model.smoothing(F.interpolate(coarse, size=(size, size), mode="bilinear"))[:, 0, ::2, ::2].numpy()
        for one, truth in zip(maps, targets, strict=True):
            mask = cv2.resize(truth.mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)[::2, ::2] > 0
            good.add(one[~mask])
            wrong.add(one[mask])
    return ranking.auroc(*aligned(good, wrong)[1])


if __name__ == "__main__":
    main()
