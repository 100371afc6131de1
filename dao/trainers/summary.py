"""What ``--detail`` prints of a model."""

from __future__ import annotations

import contextlib
import copy
import io

from torch import nn

from dao.preprocess.module import Preprocess


def model_summary(model: nn.Module, preprocess: Preprocess) -> str:
    """torchsummary's table of layers, output shapes and parameters; the bare module tree where it cannot trace."""
    from torchsummary import summary

    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            summary(copy.deepcopy(model).cpu(), (preprocess.in_channels, *preprocess.size), batch_size=1, device="cpu")
    except Exception:  # torchsummary trips over modules that return lists or nothing
        return repr(model)
    return text.getvalue()
