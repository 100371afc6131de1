"""A detector small enough for tests: YOLOX's neck and head on timm's test network, and pictures for it."""

import pytest
import torch

import dao.register
from dao.register import Registers


@pytest.fixture(scope="session")
def registered():
    dao.register.import_all_modules_for_register()


@pytest.fixture
def build(registered):
    """``build("YOLOX", size="nano")``: a model as a config would build it, with 3 classes unless said."""

    def make(kind, num_classes=3, in_chans=3, **kwargs):
        torch.manual_seed(0)
        return Registers.det_models.build(
            {"type": kind, "kwargs": kwargs}, "model", num_classes=num_classes, in_chans=in_chans
        )

    return make
