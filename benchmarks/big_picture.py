"""A 100-megapixel picture through a tiled segmentation model: seconds, and the process's peak memory.

    python benchmarks/big_picture.py
    python benchmarks/big_picture.py --side 4000 --tile 512

The network is untrained; what is measured is the way of the picture: file, windows, blending, overlay, regions.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10_000, help="pixels")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlap", type=float, default=0.25)
    args = parser.parse_args()
    import cv2
    import numpy as np
    import torch

    from dao.drawing.pictures import write_image
    from dao.predictor import TorchBackend
    from dao.preprocess.module import Preprocess
    from dao.register import Registers, import_all_modules_for_register
    from dao.tasks.segmentation import SegmentationTask

    import_all_modules_for_register()
    report = {"imports, GB": peak()}
    torch.manual_seed(0)
    network = {"encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": [32, 16, 8]}
    model = Registers.seg_models.build({"type": "Unet", "kwargs": network}, num_classes=4, in_chans=3)
    preprocess = Preprocess(size=[args.tile, args.tile], resize="tile", overlap=args.overlap)
    task = SegmentationTask(model.eval(), preprocess, ["background", "a", "b", "c"])
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "big.jpg"
        pattern = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
        times = -(-args.side // 256)
        cv2.imwrite(str(picture), np.tile(pattern, (times, times, 1))[: args.side, : args.side])
        report["picture made, GB"] = peak()
        from dao.images.image_io import read_image

        started = time.perf_counter()
        image = read_image(picture)
        backend = TorchBackend.of(task, torch.device("cpu"))
        prediction = SegmentationTask.answer(backend.run, image, backend.card)
        report |= {"answer, s": round(time.perf_counter() - started, 1), "answer, GB": peak()}
        started = time.perf_counter()
        described = SegmentationTask.describe(prediction, backend.card)
        write_image(Path(folder) / "out.jpg", SegmentationTask.draw(image, prediction, backend.card))
        report |= {"draw and describe, s": round(time.perf_counter() - started, 1), "all, GB": peak()}
        report["regions"] = len(described["regions"])
    print(json.dumps({"side": args.side, "tile": args.tile, "overlap": args.overlap, **report}, indent=2))
    return 0


def peak() -> float:
    """GB that this process held at most so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


if __name__ == "__main__":
    sys.exit(main())
