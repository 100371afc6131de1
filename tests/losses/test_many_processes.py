"""Two processes with unequal shares of a batch give the loss, and the gradient, that one gives with all of it."""

import pytest
import torch
import torch.distributed as torch_dist
from torch.multiprocessing import start_processes

from dao.losses.bce import BCEWithLogitsLoss
from dao.losses.cross_entropy import CrossEntropyLoss, SoftTargetCrossEntropy
from dao.losses.focal import FocalLoss
from dao.losses.kl_div import KLDivLoss
from dao.losses.pixelwise import OhemCrossEntropyLoss, SoftBCELoss
from dao.losses.region import BoundaryLoss, DiceLoss, JaccardLoss, LovaszLoss, MCCLoss, TverskyLoss
from dao.losses.regression import L1Loss, MSELoss
from dao.losses.yolox import YOLOXLoss
from dao.models.detection.head import DenseOutput
from dao.structures import BoxTargets

K = 3
SHARES = (slice(0, 2), slice(2, 5))  # of five pictures


def labels():
    return torch.tensor([0, 2, 1, 2, 2])


def masks():
    """Classes that are not everywhere, and a first picture without a single labelled pixel."""
    target = torch.randint(0, K, (5, 12, 10), generator=torch.Generator().manual_seed(1))
    target[:2][target[:2] == 2] = 0
    target[0], target[3, :6] = -100, -100
    return target


CASES = {
    "cross_entropy": (lambda: CrossEntropyLoss(label_smoothing=0.1), labels),
    "weighted": (lambda: CrossEntropyLoss(class_weights=[0.2, 1.0, 3.0]), labels),
    "soft": (SoftTargetCrossEntropy, labels),
    "focal": (FocalLoss, labels),
    "focal_sum": (lambda: FocalLoss(reduction="sum"), labels),
    "focal_sigmoid": (lambda: FocalLoss(activation="sigmoid"), labels),
    "bce": (BCEWithLogitsLoss, labels),
    "kl": (KLDivLoss, labels),
    "l1": (L1Loss, labels),
    "mse": (MSELoss, labels),
    "pixels": (CrossEntropyLoss, masks),
    "weighted_pixels": (lambda: CrossEntropyLoss(class_weights=[0.2, 1.0, 3.0]), masks),
    "ohem": (lambda: OhemCrossEntropyLoss(min_share=0.0), masks),
    "soft_bce": (SoftBCELoss, masks),
    "dice": (DiceLoss, masks),
    "log_dice": (lambda: DiceLoss(log_loss=True), masks),
    "jaccard": (JaccardLoss, masks),
    "tversky": (lambda: TverskyLoss(gamma=2.0), masks),
    "mcc": (MCCLoss, masks),
    "boundary": (BoundaryLoss, masks),
    "lovasz_of_pictures": (lambda: LovaszLoss(per_image=True), masks),
}


def given(name):
    """Loss, logits and targets of a case; the same in every process."""
    make, targets = CASES[name]
    target = targets()
    logits = torch.randn((5, K, *target.shape[1:]), generator=torch.Generator().manual_seed(2))
    return make(), logits, target


def answer(loss, logits, target):
    logits = logits.clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    return value.detach(), logits.grad


def detected(part):
    """YOLOX's loss over some of five pictures, the first of them without an object, and its gradient."""
    draw = torch.Generator().manual_seed(3)
    grid = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0)).flip(1)
    raw = torch.randn((5, 36, 5 + K), generator=draw)[part].requires_grad_()
    output = DenseOutput(raw[..., :4], raw[..., 4], raw[..., 5:], grid, torch.full((36,), 8.0))
    corner = torch.rand((5, 2, 2), generator=draw) * 20 + 2
    boxes = torch.cat((corner, corner + 14), dim=2)
    found = torch.randint(0, K, (5, 2), generator=draw)
    found[0], found[2, 1] = -1, -1
    value = YOLOXLoss()(output, BoxTargets(boxes[part], found[part]))["loss"]
    value.backward()
    return value.detach(), raw.grad


def work(rank, store, results):
    torch.set_num_threads(1)
    torch_dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = {}
    for name in CASES:
        loss, logits, target = given(name)
        found[name] = answer(loss, logits[SHARES[rank]], target[SHARES[rank]])
    found["yolox"] = detected(SHARES[rank])
    torch.save(found, f"{results}/{rank}.pt")
    torch_dist.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("losses")
    start_processes(work, args=(str(folder / "store"), str(folder)), nprocs=2, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", [*CASES, "yolox"])
def test_the_mean_of_two_processes_is_the_loss_of_the_whole_batch(shared, name):
    value, gradient = detected(slice(None)) if name == "yolox" else answer(*given(name))
    assert value > 0
    parts = [found[name] for found in shared]
    torch.testing.assert_close(sum(part for part, _ in parts) / 2, value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.cat([part for _, part in parts]) / 2, gradient, rtol=1e-5, atol=1e-7)
