"""PaDiM and PatchCore, ours and anomalib's, on the same pictures with the same weights.

    python benchmarks/anomaly.py --data magnetic_tile --weights resnet18_layer1-3.pth --json anomaly.json

Every measurement is a process of its own, so that peak memory is its own; all run one after the other, with the same
number of threads. anomalib is put into an environment of its own (benchmarks/.peers/anomalib) by the first run; torch and
timm are those of this project, for both. Both see the same tensors: our preprocessing, squeezed to --size, in batches of
16 to fit and 8 to answer; what is timed includes reading and decoding where it says so.

PatchCore runs once for each of --seeds: the patch that its greedy choice starts from is drawn, and which one it is moves
the AUROCs by hundredths, so that means are compared and the spread is printed.

picture and pixel AUROC   of every test picture, from raw scores; pixels on every second pixel, masks from 128
collect + fit             reading, features, statistics or coreset
predict                   milliseconds a picture in batches of 8, reading left out; and the backbone's forward alone
memory                    the process's peak above what the bare imports take
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PEER = HERE / ".peers" / "anomalib"
VERSION = "2.7.0"
CASES = {
    "padim": [("ours", "padim", 0.0), ("anomalib", "padim", 0.0)],
    "patchcore": [("ours", "patchcore", 0.01), ("anomalib", "patchcore", 0.01), ("ours", "patchcore", 0.1)],
}
PADIM_LAYERS, PATCHCORE_LAYERS = ["layer1", "layer2", "layer3"], ["layer2", "layer3"]


def main() -> int:
    """All cases, or, as a child, one of them."""
    args = arguments()
    if args.case:
        print(json.dumps(measure(args, *args.case.split(":"))))
        return 0
    install_peer()
    found = {}
    for method in args.only or CASES:
        for who, name, share in CASES[method]:
            label = f"{who} {name}" + (f" {share:.0%}" if share else "")
            seeds = range(args.seeds if method == "patchcore" else 1)
            runs = [child(args, f"{who}:{name}:{share}:{seed}", who) for seed in seeds]
            found[label] = merged(runs)
            print(label, json.dumps(found[label]), flush=True)
    print(render(found))
    if args.json:
        args.json.write_text(json.dumps({"size": args.size, "threads": args.threads, "results": found}, indent=2))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder in MVTec's layout")
    parser.add_argument("--weights", type=Path, required=True, help="weights of resnet18, for both")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="of PatchCore's coreset, whose first patch is drawn")
    parser.add_argument("--only", nargs="*", choices=list(CASES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def merged(runs: list[dict]) -> dict:
    """Means over the seeds, and from where to where the AUROCs reached."""
    row = {key: round(sum(run[key] for run in runs) / len(runs), 4) for key in runs[0]}
    for key in ("picture AUROC", "pixel AUROC"):
        if len(runs) > 1:
            row[f"{key} of each"] = [run[key] for run in runs]
    return row


def install_peer() -> None:
    """anomalib in an environment of its own that sees this one's torch and timm."""
    if (PEER / "ready").is_file():
        return
    import sysconfig

    subprocess.run([sys.executable, "-m", "venv", str(PEER)], check=True)
    python = PEER / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    own = subprocess.run([str(python), "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    (Path(own) / "ours.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    subprocess.run([str(python), "-m", "pip", "install", "-q", f"anomalib=={VERSION}"], check=True)
    (PEER / "ready").touch()


def child(args: argparse.Namespace, case: str, who: str) -> dict:
    """One case in a process of its own."""
    python = sys.executable if who == "ours" else str(PEER / "bin" / "python")
    command = [python, __file__, "--data", str(args.data), "--weights", str(args.weights), "--size", str(args.size)]
    command += ["--threads", str(args.threads), "--case", case]
    import os

    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(args: argparse.Namespace, who: str, method: str, share: str, seed: str) -> dict:
    """Fit, answer, and judge one model."""
    sys.path.insert(0, str(HERE.parent))
    import torch
    from loguru import logger

    logger.remove()
    torch.set_num_threads(args.threads)
    train, test = loaders(args)
    build = (our_model if who == "ours" else peer_model)(method, float(share), str(args.weights), int(seed))
    bare = peak_mib()
    collect, fit, answer, forward = build()
    preprocess = train.reader.preprocess
    with torch.inference_mode():
        started = time.perf_counter(), time.process_time()
        for batch in train:
            collect(preprocess.normalise(batch.images), batch.indices)
        collected = time.perf_counter()
        fit()
        ended = time.perf_counter(), time.process_time()
        scores = judged(test, preprocess, answer, forward)
    return {
        "collect s": round(collected - started[0], 2),
        "fit s": round(ended[0] - collected, 2),
        "collect + fit s": round(ended[0] - started[0], 2),
        "collect + fit CPU s": round(ended[1] - started[1], 2),
        **scores,
        "memory MiB above imports": round(peak_mib() - bare),
    }


def loaders(args: argparse.Namespace):
    from dao.dataloaders.anomaly_reader import AnomalyDataloader
    from dao.dataloaders.datasets.anomaly import MVTecDataset
    from dao.preprocess.module import Preprocess

    preprocess = Preprocess(size=(args.size, args.size), resize="stretch")
    made = []
    for split, training, batch in (("train", True, 16), ("test", False, 8)):
        dataset = MVTecDataset(str(args.data), split=split, held_out=0.0)
        options = {"dataset": dataset, "transforms": None, "preprocess": preprocess, "training": training, "seed": 0}
        made.append(AnomalyDataloader(**options, batch_size=batch, num_workers=0))
    return made


def judged(test, preprocess, answer, forward) -> dict:
    """Areas of all test pictures, and the time that answering takes beside the backbone alone."""
    import cv2
    import numpy as np
    import torch

    from dao.evaluators import ranking
    from dao.evaluators.score_histogram import ScoreHistogram, aligned

    scores, bad, good, wrong = [], [], ScoreHistogram(), ScoreHistogram()
    seconds, alone, cpu, cpu_alone, count = 0.0, 0.0, 0.0, 0.0, 0
    for batch in test:
        images = preprocess.normalise(batch.images)
        started = time.perf_counter(), time.process_time()
        forward(images)
        middle = time.perf_counter(), time.process_time()
        maps, raw = answer(images)
        ended = time.perf_counter(), time.process_time()
        if count:  # the first batch is warm-up
            alone, seconds = alone + middle[0] - started[0], seconds + ended[0] - middle[0]
            cpu_alone, cpu = cpu_alone + middle[1] - started[1], cpu + ended[1] - middle[1]
        count += len(batch)
        scores += raw.flatten().tolist()
        for truth, own in zip(batch.targets, torch.as_tensor(maps).reshape(len(batch), *images.shape[-2:]).numpy()):
            bad.append(truth.bad)
            mask = (
                cv2.resize(truth.mask.astype(np.uint8), own.shape[::-1], interpolation=cv2.INTER_NEAREST)[::2, ::2] > 0
            )
            good.add(own[::2, ::2][~mask])
            wrong.add(own[::2, ::2][mask])
    _, of_good, of_bad = ranking.counts_of(np.array(scores), np.array(bad))
    _, (good_pixels, bad_pixels) = aligned(good, wrong)
    timed = count - test.batch_size
    return {
        "picture AUROC": round(ranking.auroc(of_good, of_bad), 4),
        "pixel AUROC": round(ranking.auroc(good_pixels, bad_pixels), 4),
        "predict ms": round(seconds / timed * 1000, 1),
        "backbone ms": round(alone / timed * 1000, 1),
        "predict CPU ms": round(cpu / timed * 1000, 1),
        "backbone CPU ms": round(cpu_alone / timed * 1000, 1),
    }


def our_model(method: str, share: float, weights: str, seed: int):
    import timm  # noqa: F401 - ours imports it late; the peer's is in before it is weighed, so must this be

    from dao.models.anomaly.padim import PaDiM
    from dao.models.anomaly.patchcore import PatchCore

    def build():
        if method == "padim":
            model = PaDiM(layers=PADIM_LAYERS, dimensions=100, checkpoint_path=weights).eval()
        else:
            model = PatchCore(layers=PATCHCORE_LAYERS, coreset=share, checkpoint_path=weights, seed=seed).eval()
        return model.collect, model.fit, model, model.features

    return build


def peer_model(method: str, share: float, weights: str, seed: int):
    import torch
    from anomalib.models.image.padim.torch_model import PadimModel
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    def build():
        torch.manual_seed(seed)
        if method == "padim":
            model = PadimModel(backbone="resnet18", layers=PADIM_LAYERS, pre_trained=False, n_features=100)
            model.idx = drawn_channels()
        else:
            model = PatchcoreModel(backbone="resnet18", layers=PATCHCORE_LAYERS, pre_trained=False)
        load_by_ending(model.feature_extractor, torch.load(weights, weights_only=True))

        def collect(images, indices):
            model.train()
            model(images)

        def fit():
            model.fit() if method == "padim" else model.subsample_embedding(share)
            model.eval()

        def answer(images):
            said = model(images)
            return said.anomaly_map, said.pred_score

        return collect, fit, answer, model.feature_extractor

    return build


def load_by_ending(module, weights: dict) -> None:
    """Weights into a network that is wrapped: every one of its tensors by the name that its own ends with."""
    own = module.state_dict()
    endings = {key: [name for name in weights if key == name or key.endswith(f".{name}")] for key in own}
    names = {key: max(found, key=len, default=None) for key, found in endings.items()}
    lacking = [key for key, name in names.items() if name is None and not key.endswith("num_batches_tracked")]
    if any("layer4" not in key and ".fc." not in key for key in lacking):
        sys.exit(f"weights not found: {lacking[:5]}")
    module.load_state_dict({key: weights[name] for key, name in names.items() if name}, strict=False)


def drawn_channels():
    """The channels that our PaDiM draws, for both: which hundred of 448 they are moves AUROC by a hundredth."""
    import torch

    return torch.randperm(448, generator=torch.Generator().manual_seed(0))[:100].sort().values


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def render(found: dict) -> str:
    """A table, and our ratios to anomalib."""
    lines = [""]
    for label, row in found.items():
        lines.append(f"{label:22} " + "  ".join(f"{key} {value}" for key, value in row.items()))
    for label in [name for name in found if name.startswith("ours") and name.replace("ours", "anomalib") in found]:
        ours, peer = found[label], found[label.replace("ours", "anomalib")]
        keys = ("collect + fit s", "fit s", "predict ms", "memory MiB above imports")
        ratios = "  ".join(f"{key} {peer[key] / max(ours[key], 1e-9):.2f} x" for key in keys)
        gaps = "  ".join(f"{key} {ours[key] - peer[key]:+.4f}" for key in ("picture AUROC", "pixel AUROC"))
        lines.append(f"{label}: {ratios}  predict / backbone {ours['predict ms'] / ours['backbone ms']:.2f}  {gaps}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
