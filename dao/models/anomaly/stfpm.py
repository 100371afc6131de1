"""STFPM (Wang et al. 2021): a student learns a teacher's features of good parts, and fails to guess those of others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dao.models.anomaly.base import AnomalyModel, Smoothing
from dao.models.anomaly.features import FeatureExtractor, student_of
from dao.models.expected import timm_weights
from dao.register import Registers


@Registers.anomaly_models.register()
class STFPM(AnomalyModel):
    """Student and teacher of one architecture; how far apart their features are, at several scales at once.

    backbone, layers: a timm network and its layers; pretrained or checkpoint_path: the teacher's weights (see notes).
    The student begins without any and is trained by gradient: give an optimizer (the paper: SGD, rate 0.4, momentum
    0.9, weight decay 1e-4, 100 epochs). sigma: of a Gaussian over the map, in input pixels; the paper has none.
    """

    expects = staticmethod(timm_weights("backbone", "resnet18"))
    brings = ("loss",)
    fitted_in_one_pass = False

    def __init__(
        self,
        backbone: str = "resnet18",
        layers: tuple[str, ...] = ("layer1", "layer2", "layer3"),
        in_chans: int = 3,
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        sigma: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = FeatureExtractor(backbone, layers, in_chans, pretrained, checkpoint_path)
        self.student = student_of(self.features, backbone, in_chans)
        self.smoothing = Smoothing(sigma)

    def distances(self, images: Tensor) -> list[Tensor]:
        """Eq. (1): half the squared distance of the unit-length feature vectors, (B, 1, H_l, W_l) a layer, within 0..2."""
        taught = self.features(images)
        maps = self.student(images)
        learnt = [maps[i] for i in self.features.order]
        pairs = zip(taught, learnt, strict=True)
        return [0.5 * (F.normalize(t) - F.normalize(s)).square().sum(dim=1, keepdim=True) for t, s in pairs]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor] | dict[str, Tensor]:  # type: ignore[override]
        """In training eq. (2) and (3): {"loss", and its part of every layer}. Else map and score.

        The map is the product over the layers (eq. 4), of which the root is taken: no order changes, and scores stay in
        the distances' own range whatever the number of layers.
        """
        found = self.distances(images)
        if self.training:
            parts = {f"layer{number + 1}": one.mean() for number, one in enumerate(found)}
            return {"loss": torch.stack(list(parts.values())).sum(), **parts}
        size = (images.shape[-2], images.shape[-1])
        large = [F.interpolate(one.float(), size=size, mode="bilinear", align_corners=False) for one in found]
        product = torch.stack(large).clamp_min(0).prod(dim=0)
        maps = self.smoothing(product.pow(1 / len(large)))
        return maps, maps.amax(dim=(1, 2, 3))
