import inspect
import json
from itertools import pairwise

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn

from dao.config.signature import check_kwargs, config_parameters
from dao.errors import ConfigError
from dao.optimizers.timm_optimizers import available_optimizers, make_factory, plain_annotation
from dao.register import Registers

MISSING_EXTRAS = ("bnb", "fused")  # bitsandbytes, apex
SECOND_ORDER = {"adahessian"}


def tiny():
    """No bias before the batch norm: its gradient is rounding noise, which normalising optimizers blow up."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def build(name, model=None, **kwargs):
    section = {"type": name, "kwargs": {"lr": 1e-3, **kwargs}}
    return Registers.optimizers.build(section, "optimizer", model=model or tiny())


def train(model, optimizer, steps=2):
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(4, 3, 4, 4)), torch.tensor([0, 1, 0, 1])).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def test_what_is_left_out_has_a_reason():
    left_out = set(list_optimizers()) - set(available_optimizers())
    assert left_out >= SECOND_ORDER
    assert all(name.startswith(MISSING_EXTRAS) for name in left_out - SECOND_ORDER)
    assert len(available_optimizers()) > 70


@pytest.fixture
def eager():
    """kron compiles its steps, which takes half a minute and a C++ compiler."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.filterwarnings("ignore:.*opt_einsum")
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", available_optimizers())
def test_every_optimizer_steps_with_its_defaults(name):
    model = tiny()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = build(name, model)
    after = train(model, optimizer)
    assert all(p.isfinite().all() for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after))
    assert {group["name"] for group in optimizer.param_groups} == {"norm", "weight", "bias"}


@pytest.mark.parametrize("name", available_optimizers())
def test_every_default_passes_its_own_check(name):
    component = Registers.optimizers.get(name)
    defaults = {
        key: parameter.default
        for key, parameter in config_parameters(component).items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert check_kwargs(component, {**json.loads(json.dumps(defaults)), "lr": 1}, "k", ("model",)) == []


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lion", "adan", "nadamw", "rmsproptf", "muon"])
def test_same_steps_as_timm(name):
    """Against timm's own groups: what our signature and grouping do must not change the arithmetic."""
    ours, theirs = tiny(), tiny()
    momentum = {"momentum": 0.95} if name == "muon" else {}  # Muon's own default, where timm would take 0.9
    expected = train(theirs, create_optimizer_v2(theirs, name, lr=1e-2, weight_decay=0.05, **momentum), 4)
    got = train(ours, build(name, ours, lr=1e-2, weight_decay=0.05), 4)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(got, expected))


def test_options_reach_the_optimizer():
    optimizer = build("AdamW", betas=[0.8, 0.9], eps=1e-6, weight_decay=0.3, filter_bias_and_bn=False)
    assert type(optimizer) is torch.optim.AdamW
    assert all(g["betas"] == (0.8, 0.9) and g["eps"] == 1e-6 for g in optimizer.param_groups)
    assert all(g["weight_decay"] == 0.3 for g in optimizer.param_groups)
    assert build("lion", betas=[0.8, 0.9]).param_groups[0]["betas"] == (0.8, 0.9)


def test_defaults_are_those_of_the_optimizer():
    by_name = {g["name"]: g for g in build("adamw").param_groups}
    assert by_name["weight"]["weight_decay"] == 0.01 and by_name["norm"]["weight_decay"] == 0.0
    sgd = build("SGD").param_groups[0]
    assert sgd["momentum"] == 0.9 and sgd["nesterov"]
    assert build("muon").param_groups[0]["momentum"] == 0.95


def test_torch_names_are_the_same_component():
    for name in ("Adam", "AdamW", "SGD", "RMSprop", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta"):
        assert Registers.optimizers.get(name) is Registers.optimizers.get(name.lower())


@pytest.mark.parametrize(
    ("name", "kwargs", "match"),
    [
        ("adamw", {"bettas": [0.9, 0.99]}, r"optimizer\.kwargs\.bettas .*betas=\(0\.9, 0\.999\)"),
        ("adamw", {"betas": [0.9]}, r"optimizer\.kwargs\.betas"),
        ("adamw", {"betas": "high"}, r"optimizer\.kwargs\.betas"),
        ("adamw", {"lr": "0.1"}, r"optimizer\.kwargs\.lr"),
        ("adamw", {"maximize": True}, r"takes no 'maximize'"),
        ("adamp", {"betas": [0.9]}, r"optimizer\.kwargs\.betas"),
        ("adamw", {"lr": -1.0}, "'adamw' cannot be built: Invalid learning rate"),
        ("sgd", {"momentum": 0.0}, "[Nn]esterov"),
        ("adamw", {"layer_decay": 0.5}, "group_matcher"),
        ("adahessian", {}, "is not an optimizer"),
    ],
)
def test_mistakes(name, kwargs, match):
    with pytest.raises(ConfigError, match=match):
        build(name, **kwargs)


def test_layer_decay_scales_the_rates_of_a_timm_model():
    model = timm.create_model("test_vit", num_classes=3)
    rate_of = {id(p): g["lr"] for g in build("adamw", model, lr=0.5, layer_decay=0.5).param_groups for p in g["params"]}
    blocks = [rate_of[id(block.attn.qkv.weight)] for block in model.blocks]
    assert rate_of[id(model.head.weight)] == 0.5
    assert all(later == pytest.approx(2 * earlier) for earlier, later in pairwise(blocks))


def test_an_optimizer_of_a_missing_package_says_so():
    """What a machine with the package but without a GPU would see, too: one message, no traceback."""
    factory = make_factory("bnbadamw8bit")
    assert {"betas", "eps"} <= set(inspect.signature(factory).parameters)
    with pytest.raises(ConfigError, match="bitsandbytes"):
        factory(tiny(), lr=0.1)


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (float | torch.Tensor, 0.1, float),
        (tuple[float | torch.Tensor, float], None, tuple[float, float]),
        (bool | None, None, bool | None),
        (inspect.Parameter.empty, False, bool),
        (inspect.Parameter.empty, 0, float),
        (inspect.Parameter.empty, (0.9, 0.999), tuple[float, float]),
    ],
)
def test_plain_annotation(annotation, default, expected):
    assert plain_annotation(annotation, default) == expected


def test_what_json_cannot_say_is_no_setting():
    assert "mu_dtype" not in config_parameters(Registers.optimizers.get("kron"))
    assert config_parameters(Registers.optimizers.get("adafactorbv"))["momentum_dtype"].default == "bfloat16"
