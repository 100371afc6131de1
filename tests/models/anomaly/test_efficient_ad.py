"""EfficientAD against published numbers and its equations, literally; its phases, and what a checkpoint of each brings."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from dao.errors import CheckpointError, ConfigError
from dao.models.anomaly.efficient_ad import EfficientAD
from dao.models.anomaly.pdn import (
    PDN,
    Autoencoder,
    described,
    hard_feature_loss,
    jittered,
    over_pixels,
    region_of_places,
)  # fmt: skip
from dao.models.anomaly.pdn_teacher import channel_statistics, load_teacher

SMALL = {"backbone": "test_resnet", "layers": ["layer1"]}
HW = (48, 64)


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def images(count=2, seed=0, hw=HW):
    return torch.randn(count, 3, *hw, generator=torch.Generator().manual_seed(seed))


class Good:
    """Pictures whose input is their pixels."""

    def __init__(self, hw=HW, batches=3):
        self.hw, self.batches = hw, batches

    def good(self):
        return (images(2, 100 + i, self.hw) for i in range(self.batches))

    def draw(self, folder, count):
        return torch.rand(count, 3, *self.hw) * 255

    def to_pixels(self, x):
        return x

    def to_input(self, x):
        return x


# -- networks


def test_sizes_are_the_published_ones():
    """Of convolutions 4x4 3-128, 4x4 128-256, 3x3 256-256, 4x4 256-384, and so on; 8 and 21 million in the paper."""
    assert parameters(PDN("small")) == 6272 + 524544 + 590080 + 1573248
    assert parameters(PDN("small", 768)) == 6272 + 524544 + 590080 + 3146496
    assert parameters(PDN("medium")) == 12544 + 2097664 + 262656 + 2359808 + 3146112 + 147840
    assert parameters(Autoencoder()) == 444224 + 652096
    for size, published in (("small", 8), ("medium", 21)):
        net = EfficientAD(size=size, **SMALL)
        assert round(sum(map(parameters, (net.teacher.net, net.student, net.autoencoder))) / 1e6) == published


@pytest.mark.parametrize("size", ["small", "medium"])
@torch.inference_mode()
def test_256_pixels_give_56_places_or_64_with_padding(size):
    for padding, places in ((False, 56), (True, 64)):
        net = PDN(size, 3, padding=padding)
        assert net(torch.zeros(1, 3, 256, 256)).shape == (1, 3, places, places)
        for hw in ((47, 98), (130, 61)):
            assert net(torch.zeros(1, 3, *hw)).shape[-2:] == net.places(hw)


@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize(("padding", "middle"), [(False, 16), (True, 0)])
def test_a_place_sees_33_pixels_round_its_middle(size, padding, middle):
    torch.manual_seed(0)
    net = PDN(size, 4, padding=padding)
    x = torch.rand(1, 3, 128, 128, requires_grad=True)
    net(x)[0, :, 12, 15].sum().backward()
    rows, columns = (x.grad[0].abs().sum(dim=(0, axis)).nonzero().flatten() for axis in (2, 1))
    assert (rows[0], rows[-1]) == (4 * 12 + middle - 16, 4 * 12 + middle + 16)
    assert (columns[0], columns[-1]) == (4 * 15 + middle - 16, 4 * 15 + middle + 16)
    maps = torch.zeros(1, 1, *net.places((128, 128)))
    maps[0, 0, 12, 15] = 1
    y, x = divmod(int(over_pixels(maps, (128, 128), padding)[0, 0].argmax()), 128)
    assert (y, x) == (4 * 12 + middle, 4 * 15 + middle)


@torch.no_grad()
def test_an_autoencoder_passes_through_the_papers_sizes_and_those_of_other_inputs():
    net, seen = Autoencoder().eval(), []
    for conv in (*net.encoder, net.bottleneck, *net.decoder, net.last):
        conv.register_forward_hook(lambda module, given, out: seen.append(out.shape[-1]))
    assert net(torch.zeros(1, 3, 256, 256), (56, 56), 4).shape == (1, 384, 56, 56)
    assert seen == [128, 64, 32, 16, 8, 1, 4, 9, 16, 33, 64, 128, 64]
    for hw in ((32, 40), (96, 160), (300, 64)):
        for padding in (False, True):
            places = PDN(padding=padding).places(hw) if padding or min(hw) > 32 else (1, 1)
            assert net(torch.zeros(1, 3, *hw), places, 0 if padding else 4).shape[-2:] == places


# -- arithmetic


@pytest.mark.parametrize("count", [7, 1000, 1001, 12345])
@pytest.mark.parametrize("p_hard", [0.0, 0.5, 0.999])
def test_hard_features_are_those_above_the_quantile(count, p_hard):
    rng = np.random.default_rng(count)
    for values in (rng.random(count), rng.integers(0, 5, count).astype(float)):  # and many that are equal
        values = values.astype(np.float32)
        literal = values[values >= np.quantile(values, p_hard)].astype(np.float64).mean()
        assert hard_feature_loss(torch.tensor(values), p_hard).item() == pytest.approx(literal, rel=1e-5)


def test_hard_features_of_a_large_batch():
    """More elements than torch.quantile took for long."""
    values = torch.rand(17_000_000, generator=torch.Generator().manual_seed(0))
    own = values.numpy()
    assert hard_feature_loss(values, 0.999).item() == pytest.approx(
        own[own >= np.quantile(own, 0.999)].mean(), rel=1e-5
    )


def test_only_hard_features_are_learnt_from():
    values = torch.arange(100.0, requires_grad=True)
    hard_feature_loss(values, 0.9).backward()
    assert values.grad[:90].abs().sum() == 0 and torch.equal(values.grad[90:], torch.full((10,), 0.1))


def test_colours_change_as_torchvision_changes_them():
    from torchvision.transforms import functional as tv

    pixels = torch.rand(3, 3, 8, 9, generator=torch.Generator().manual_seed(0)) * 255
    factor = torch.tensor([0.8, 1.15, 1.2])
    for number, change in enumerate((tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)):
        own = jittered(pixels, torch.full((3,), number), factor)
        for picture, f, found in zip(pixels / 255, factor, own / 255, strict=True):
            torch.testing.assert_close(found, change(picture, f.item()), atol=2e-4, rtol=0)  # its weights have 4 digits
    grey = pixels[:, :1]
    torch.testing.assert_close(jittered(grey, torch.full((3,), 2), factor), grey)


def test_what_a_teacher_learns_is_the_mean_of_nine_places_and_of_neighbouring_channels():
    first, second = images(1, 0, (5, 6)).repeat(1, 2, 1, 1), images(1, 1, (5, 6))
    found = described([first, second], 3)  # 9 channels to 3
    around = torch.cat([first, second], 1)[0, 3:6, 1:4, 2:5]
    assert found[0, 1, 2, 3].item() == pytest.approx(around.mean().item(), abs=1e-6)


@torch.no_grad()
def test_statistics_are_over_all_places_of_all_pictures():
    batches = [images(3, 1) * 5 + 2, images(1, 2, (20, 30))]
    mean, std = channel_statistics(iter(batches), 3, torch.device("cpu"))
    joined = np.concatenate([one.numpy().transpose(1, 0, 2, 3).reshape(3, -1) for one in batches], axis=1)
    np.testing.assert_allclose(mean, joined.mean(1, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(std, joined.std(1, dtype=np.float64), rtol=1e-6)


# -- the model


def trained(steps=2, **kwargs):
    """A model whose student has begun."""
    torch.manual_seed(0)
    model = EfficientAD(**SMALL, distil_steps=1, **kwargs).train()
    model.plan(100)
    for step in range(steps):
        torch.manual_seed(step)
        model(images(), **model.beside(images(), Good()))
    return model


@torch.no_grad()
def test_the_map_is_the_mean_of_both_normalised_ones_but_for_a_constant():
    model, new = trained().eval(), images(2, 9)
    model.settle([images(3, 5), images(2, 6)])
    taught = (model.teacher.net(new) - model.teacher.mean) / model.teacher.std
    learnt, made = model.student(new), model.autoencoder(new, tuple(taught.shape[-2:]), 4)
    kept = {"student": [], "autoencoder": []}
    for good in (images(3, 5), images(2, 6)):
        own, from_student = model.teacher(good), model.student(good)
        kept["student"].append((own - from_student[:, :384]).square().mean(1).numpy().ravel())
        out = model.autoencoder(good, tuple(own.shape[-2:]), 4)
        kept["autoencoder"].append((out - from_student[:, 384:]).square().mean(1).numpy().ravel())
    literal, offset = 0, 0
    gaps = {"student": taught - learnt[:, :384], "autoencoder": made - learnt[:, 384:]}
    for row, (name, gap) in enumerate(gaps.items()):
        low, high = np.quantile(np.concatenate(kept[name]).astype(np.float64), [0.9, 0.995])
        np.testing.assert_allclose(model.quantiles[row], [low, high], rtol=1e-5)
        literal = literal + 0.5 * 0.1 * (gap.square().mean(1, keepdim=True).numpy() - low) / (high - low)
        offset += 0.5 * 0.1 * low / (high - low)
    maps, scores = model(new)
    places = maps[..., 16::4, 16::4][..., : literal.shape[-2], : literal.shape[-1]]
    np.testing.assert_allclose(places.numpy(), literal + offset, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores, places.amax(dim=(1, 2, 3)))
    assert maps.shape == (2, 1, *HW) and maps.min() > 0


@torch.no_grad()
def test_a_region_alone_sets_the_scale():
    model = trained().eval()
    region = torch.zeros(HW, dtype=torch.bool)
    region[:24, :40] = True
    model.look_within(region)
    model.settle([images(3, 5)])
    distances = model.maps(images(3, 5))[0][:, 0]
    inside = [distances[:, i, j].numpy() for i in range(4) for j in range(8) if region[16 + 4 * i, 16 + 4 * j]]
    assert len(inside) == 2 * 6
    np.testing.assert_allclose(model.quantiles[0], np.quantile(np.array(inside, np.float64), [0.9, 0.995]), rtol=1e-5)
    assert region_of_places(torch.zeros(1, 1, *HW), (4, 8), False) is None


def test_losses_are_the_papers():
    model = trained(penalty_folder=".")
    torch.manual_seed(3)
    beside = model.beside(images(), Good())
    assert set(beside) == {"augmented", "ordinary"} and not torch.equal(beside["augmented"], images())
    model.eval()  # no dropout; the losses are asked for by name
    parts = model.losses(images(), **beside)
    with torch.no_grad():
        gap = (model.teacher(images()) - model.student(images())[:, :384]).square().numpy()
        taught = model.teacher(beside["augmented"])
        made = model.autoencoder(beside["augmented"], tuple(taught.shape[-2:]), 4)
        literal = {
            "student": gap[gap >= np.quantile(gap, 0.999)].mean(),
            "penalty": model.student(beside["ordinary"])[:, :384].square().mean().item(),
            "autoencoder": F.mse_loss(made, taught).item(),
            "both": F.mse_loss(model.student(beside["augmented"])[:, 384:], made).item(),
        }
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(literal, rel=1e-4)


def gradients(model):
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_first_the_teacher_learns_and_then_the_others_do():
    torch.manual_seed(0)
    model = EfficientAD(**SMALL, distil_steps=2).train()
    model.plan(10)
    for learning in ({"teacher"}, {"teacher"}, {"student", "autoencoder"}, {"student", "autoencoder"}):
        model.zero_grad(set_to_none=True)
        losses = model(images(), **model.beside(images(), Good()))
        losses["loss"].backward()
        assert gradients(model) == learning
        if learning != {"teacher"}:
            assert all(p.grad is not None for p in (*model.student.parameters(), *model.autoencoder.parameters()))
    assert model.features is None and not any("features" in name for name in model.state_dict())
    answers = torch.cat([model.teacher(one) for one in Good().good()]).detach()
    np.testing.assert_allclose(answers.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(answers.std((0, 2, 3), correction=0), 1, atol=1e-3)


def test_a_teacher_comes_nearer_to_what_it_is_distilled_from():
    torch.manual_seed(0)
    model, seen = EfficientAD(**SMALL, distil_steps=40).train(), images(hw=(36, 36))
    optimizer = torch.optim.Adam(model.parameters(), 3e-4)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(seen, **model.beside(seen, Good((36, 36))))["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_channel_that_is_silent_on_good_parts_does_not_outcry_the_others(monkeypatch):
    """Photographs wake it; divided by next to nothing it would be all that is learnt."""
    model = EfficientAD(**SMALL, distil_steps=2, penalty_folder=".").train()

    def answer(seen):
        maps = torch.randn(len(seen), 384, 4, 8, generator=torch.Generator().manual_seed(0))
        maps[:, 7] = (seen.amax() > 20).float() * 3  # pixels of `draw`, not of `good`
        return maps

    monkeypatch.setattr(model.teacher, "described", answer)
    model.beside(images(), Good())
    assert 0.5 < model.teacher.target_std[0, 7, 0, 0] < 3
    model.teacher.steps, model.penalty_folder = 0, None
    model.beside(images(), Good())
    assert model.teacher.target_std[0, 7, 0, 0].item() == pytest.approx(1e-3, rel=0.05)


def test_before_the_student_begins_nothing_is_strange():
    model = trained(steps=1).eval()
    assert not model(images())[0].any()
    assert trained(steps=2).eval()(images())[0].any()


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_checkpoint_of_any_phase_goes_on_there(steps):
    model = trained(steps)
    torch.manual_seed(7)
    other = EfficientAD(**SMALL, distil_steps=1).train()
    other.load_state_dict(model.state_dict())
    for step in range(steps, 4):
        losses = []
        for one in (model, other):
            torch.manual_seed(step)
            losses.append(one(images(), **one.beside(images(), Good()))["loss"])
        assert losses[0].item() == losses[1].item()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_model_with_a_backbone_left_takes_a_finished_ones_weights_and_the_other_way_round(tmp_path):
    torch.save(PDN().state_dict(), tmp_path / "teacher.pth")
    finished, begun = trained(2), trained(1)
    finished.load_state_dict(begun.state_dict())  # the best of a run may be of an earlier phase
    assert finished.features is None and torch.equal(finished.teacher.net.conv1.weight, begun.teacher.net.conv1.weight)
    begun.load_state_dict(trained(2).state_dict())
    assert begun.features is None
    given = EfficientAD(teacher_path=str(tmp_path / "teacher.pth"))
    given.load_state_dict(trained(2).state_dict())


# -- a teacher from a file


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("names", ["own", "prefixed", "sequence"])
def test_a_teachers_file_by_its_names_or_its_order(tmp_path, suffix, names):
    torch.manual_seed(0)
    state, path = PDN("small").state_dict(), tmp_path / f"teacher{suffix}"
    if names == "prefixed":
        state = {f"model.teacher.{name}": value for name, value in state.items()}
    if names == "sequence":
        state = {f"{(0, 3, 6, 8)[int(name[4]) - 1]}{name[5:]}": value for name, value in state.items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    model = EfficientAD(teacher_path=str(path))
    assert model.features is None and not any(p.requires_grad for p in model.teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(model.teacher.net.state_dict().values(), state.values(), strict=True))
    model.train()
    losses = model(images(), **model.beside(images(), Good()))
    assert set(losses) == {"loss", "student", "autoencoder", "both"} and model.teacher.known == 1


def test_a_file_that_is_no_such_teacher_is_refused_by_name(tmp_path):
    path = tmp_path / "teacher.pth"
    torch.save(PDN("medium").state_dict(), path)
    with pytest.raises(CheckpointError, match=r'conv1.weight(.|\n)*\[128, 3, 4, 4\](.|\n)*"medium"'):
        load_teacher(PDN("small"), str(path))
    torch.save({name: value for name, value in PDN().state_dict().items() if "conv3" not in name}, path)
    with pytest.raises(CheckpointError, match=r"2 of the model are not in the file(.|\n)*: conv3.weight, conv3.bias"):
        load_teacher(PDN("small"), str(path))


def test_a_grey_input_takes_a_colour_teacher(tmp_path):
    torch.save(PDN().state_dict(), tmp_path / "teacher.pth")
    model = EfficientAD(teacher_path=str(tmp_path / "teacher.pth"), in_chans=1)
    grey = images(1)[:, :1]
    whole = PDN()
    whole.load_state_dict(torch.load(tmp_path / "teacher.pth", weights_only=True))
    torch.testing.assert_close(model.teacher.net(grey), whole(grey.repeat(1, 3, 1, 1)), atol=1e-5, rtol=1e-4)


# -- settings


def test_a_run_without_iterations_for_the_student_is_refused():
    model = EfficientAD(**SMALL, distil_steps=50)
    with pytest.raises(ConfigError, match="none is left for the student"):
        model.plan(50)
    model.plan(51)
    for iterations, wanted in ((1, 0), (2, 1), (100, 25)):
        model = EfficientAD(**SMALL)
        model.plan(iterations)
        assert model.teacher.steps_wanted == wanted


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"p_hard": 1.0}, "below 1"),
        ({"distil_steps": 0}, "at least 1"),
        ({"teacher_path": "t.pth", "pretrained": True}, "a teacher already"),
        ({"penalty_folder": "/nowhere/at/all"}, "is not a folder"),
    ],
)
def test_settings_that_contradict(kwargs, words):
    assert words in EfficientAD.check_config(kwargs, "model.kwargs")[0].what


@torch.no_grad()
def test_an_answer_is_the_same_bit_for_bit_in_training_and_after():
    model = trained().to(memory_format=torch.channels_last).eval()
    other = EfficientAD(**SMALL).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(images())[0], other(images())[0])


def test_the_autoencoder_alone_binds_to_the_place():
    assert EfficientAD(**SMALL).position_bound
    model = trained(autoencoder=False).eval()
    assert not model.position_bound and len(model.maps(images())) == 1
    assert model(images())[0].any()


def test_the_autoencoder_is_the_papers_table_row_by_row():
    """Literal, at 256 pixels: ReLU after EncConv-1 to 5 and DecConv-1 to 7, none after EncConv-6 and DecConv-8."""
    torch.manual_seed(0)
    net, x = Autoencoder().eval(), torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        y = x
        for conv in net.encoder:
            y = F.conv2d(y, conv.weight, conv.bias, stride=2, padding=1).clamp(min=0)
        y = F.conv2d(y, net.bottleneck.weight, net.bottleneck.bias)
        assert y.shape == (1, 64, 1, 1) and (y < 0).any()
        for conv, side in zip(net.decoder, (3, 8, 15, 32, 63, 127)):
            y = F.interpolate(y, size=(side, side), mode="bilinear")
            y = F.conv2d(y, conv.weight, conv.bias, padding=2).clamp(min=0)
        y = F.interpolate(y, size=(64, 64), mode="bilinear")
        y = F.conv2d(y, net.last.weight, net.last.bias, padding=1).clamp(min=0)
        expected = F.conv2d(y, net.out.weight, net.out.bias, padding=1)
        torch.testing.assert_close(net(x, (64, 64)), expected)
