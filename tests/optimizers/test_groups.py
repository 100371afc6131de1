import pytest
import timm
import torch
from timm.optim._param_groups import param_groups_layer_decay
from torch import nn

from dao.errors import ConfigError
from dao.optimizers.groups import layer_scales, parameter_groups, parameter_kinds

MODELS = ["resnet18", "test_vit", "convnext_atto"]


def make(name):
    return timm.create_model(name, num_classes=3)


def names_of(model, groups):
    name_of = {id(p): name for name, p in model.named_parameters()}
    return {group["name"]: [name_of[id(p)] for p in group["params"]] for group in groups}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layer_decay", [None, 0.7])
def test_every_parameter_exactly_once(name, layer_decay):
    model = make(name)
    groups = parameter_groups(model, 0.1, 0.05, layer_decay)
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters()) and len(set(ids)) == len(ids)
    assert len({group["name"] for group in groups}) == len(groups)


def test_resnet18_by_hand():
    """20 batch norms with weight and bias, 20 convolutions without bias, one linear layer with both."""
    model = make("resnet18")
    named = names_of(model, parameter_groups(model, 0.1, 1e-4))
    assert {kind: len(names) for kind, names in named.items()} == {"norm": 20, "weight": 21, "bias": 21}
    assert list(named) == ["norm", "weight", "bias"] and "fc.bias" in named["bias"] and "bn1.weight" in named["norm"]


def test_only_weights_decay_unless_all_shall():
    model = make("resnet18")
    assert [g["weight_decay"] for g in parameter_groups(model, 0.1, 0.05)] == [0.0, 0.05, 0.0]
    assert [g["weight_decay"] for g in parameter_groups(model, 0.1, 0.05, decay_all=True)] == [0.05] * 3


def test_vit_embeddings_are_spared_also_inside_a_wrapper():
    model = nn.Module()
    model.timm_model = make("test_vit")
    kinds = parameter_kinds(model)
    assert model.timm_model.no_weight_decay() >= {"pos_embed"}
    assert kinds["timm_model.pos_embed"] == "norm" and model.timm_model.pos_embed.ndim == 3
    assert kinds["timm_model.blocks.0.attn.qkv.weight"] == "weight"


def test_odd_shapes():
    model = nn.ModuleDict({"norm": nn.LayerNorm((4, 4)), "attention": nn.MultiheadAttention(4, 2)})
    model.register_parameter("scale", nn.Parameter(torch.ones(())))
    model.register_parameter("bias_table", nn.Parameter(torch.ones(3, 3)))
    assert parameter_kinds(model) == {
        "scale": "norm",
        "bias_table": "weight",
        "norm.weight": "norm",
        "norm.bias": "bias",
        "attention.in_proj_weight": "weight",
        "attention.in_proj_bias": "bias",
        "attention.out_proj.weight": "weight",
        "attention.out_proj.bias": "bias",
    }


def test_tied_parameters_count_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert [len(group["params"]) for group in parameter_groups(model, 0.1, 0.0)] == [1, 2]


def test_frozen_parameters_are_left_out_and_all_frozen_is_an_error():
    model = make("resnet18")
    model.requires_grad_(False)
    model.fc.requires_grad_(True)
    assert names_of(model, parameter_groups(model, 0.1, 0.0)) == {"weight": ["fc.weight"], "bias": ["fc.bias"]}
    model.fc.requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        parameter_groups(model, 0.1, 0.0)


@pytest.mark.parametrize("name", MODELS)
def test_layer_scales_equal_timm(name):
    model = make(name)
    theirs = {id(p): g["lr_scale"] for g in param_groups_layer_decay(model, layer_decay=0.7) for p in g["params"]}
    ours = layer_scales(model, 0.7)
    assert {id(p): ours[n] for n, p in model.named_parameters()} == pytest.approx(theirs)
    rates = {id(p): g["lr"] for g in parameter_groups(model, 0.2, 0.0, 0.7) for p in g["params"]}
    assert rates == pytest.approx({key: 0.2 * scale for key, scale in theirs.items()})
    assert len(set(theirs.values())) > 3


def test_a_loose_head_keeps_the_full_rate():
    model = nn.Module()
    model.timm_model, model.head = make("resnet18"), nn.Linear(4, 2)
    scales = layer_scales(model, 0.5)
    assert scales["head.weight"] == scales["timm_model.fc.weight"] == 1.0
    assert scales["timm_model.layer4.1.conv2.weight"] < 1.0
    groups = parameter_groups(model, 0.1, 0.0, 0.5)
    assert any(p is model.head.weight for group in groups for p in group["params"])


@pytest.mark.parametrize(("decay", "match"), [(0.0, "above 0"), (1.2, "up to 1"), (0.7, "group_matcher")])
def test_layer_decay_mistakes(decay, match):
    with pytest.raises(ConfigError, match=match):
        parameter_groups(nn.Linear(2, 2), 0.1, 0.0, decay)
