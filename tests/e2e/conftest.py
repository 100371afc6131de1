"""Parts to learn from and to judge by, and a config for them."""

import cv2
import numpy as np
import pytest

KINDS = ("bright", "dark")


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory):
    """MVTec's layout: 20 good pictures to learn from, 6 good and 3 of each of 2 kinds of defect to be judged by."""
    root = tmp_path_factory.mktemp("parts")

    def write(path, seed, defect=None):
        rng = np.random.default_rng(seed)
        image = rng.integers(110, 130, (40, 48, 3), dtype=np.uint8)
        image[10:30, 12:36] = np.clip(image[10:30, 12:36] + 40, 0, 255)  # the part
        path.parent.mkdir(parents=True, exist_ok=True)
        if defect:
            y, x = rng.integers(12, 20, 2)
            image[y : y + 8, x : x + 8] = 255 if defect == "bright" else 0
            mask = np.zeros((40, 48), np.uint8)
            mask[y : y + 8, x : x + 8] = 255
            truth = root / "ground_truth" / defect / f"{path.stem}_mask.png"
            truth.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(truth), mask)
        cv2.imwrite(str(path), image)

    for i in range(20):
        write(root / "train" / "good" / f"{i:02}.png", i)
    for i in range(6):
        write(root / "test" / "good" / f"{i:02}.png", 100 + i)
    for number, kind in enumerate(KINDS):
        for i in range(3):
            write(root / "test" / kind / f"{i:02}.png", 200 + 10 * number + i, kind)
    return root


@pytest.fixture
def tiny_anomaly_config(tiny_parts, tmp_path):
    def loader(split):
        kwargs = {"data_dir": str(tiny_parts), "split": split}
        dataset = {"type": "MVTecDataset", "kwargs": kwargs}
        return {"type": "AnomalyDataloader", "kwargs": {"batch_size": 3, "num_workers": 0}, "dataset": dataset}

    network = {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "sigma": 1.0, "dimensions": 24}
    return {
        "name": "tinyparts",
        "type": "anomaly",
        "trainer": {"type": "TrainVal", "kwargs": {"log_dir": str(tmp_path / "runs")}},
        "preprocess": {"size": [32, 40]},
        "model": {"type": "PaDiM", "kwargs": network},
        "dataloader": loader("train"),
        "evaluator": {"type": "AnomalyEvaluator", "dataloader": loader("test")},
    }
