"""A task's model as an exporter traces it, and its tensors as the arrays that answers are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from dao.answers.checked import Outputs

if TYPE_CHECKING:
    from dao.tasks.base import Task


class Deployable(nn.Module):
    """A task's model with everything round it: (B, H, W, C) or (B, C, H, W) uint8 of any size -> named tensors."""

    def __init__(self, task: Task, layout: str = "nhwc") -> None:
        super().__init__()
        self.model, self.preprocess, self.layout = task.model, task.preprocess, layout
        self._infer, self._restore = task.infer, task.restore

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: uint8 in the layout given at construction."""
        if self.layout == "nhwc":
            images = images.permute(0, 3, 1, 2)
        return self._restore(self._infer(self.preprocess(images)), (images.shape[-2], images.shape[-1]))


def as_arrays(outputs: Mapping[str, Tensor]) -> Outputs:
    """Tensors of any device as numpy arrays; half precision becomes float32, whole numbers stay what they are."""
    return {
        name: (value.float() if value.is_floating_point() else value).cpu().numpy() for name, value in outputs.items()
    }
