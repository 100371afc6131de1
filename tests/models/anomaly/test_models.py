"""PaDiM and PatchCore whole: what they answer, and that a checkpoint brings what was fitted."""

import numpy as np
import pytest
import torch

from dao.errors import CheckpointError, ConfigError, DataError
from dao.models.anomaly.base import Smoothing
from dao.models.anomaly.features import FeatureExtractor
from dao.models.anomaly.gaussian import PICTURES_AT_ONCE
from dao.models.anomaly.padim import PaDiM
from dao.models.anomaly.patchcore import PatchCore, nearest_in, project

SMALL = {"backbone": "test_resnet", "layers": ["layer1", "layer2"]}


def make(kind, **kwargs):
    torch.manual_seed(0)
    return kind(**{**SMALL, **kwargs}).eval()


def padim(**kwargs):
    return make(PaDiM, **{"dimensions": 20, **kwargs})


def patchcore(**kwargs):
    return make(PatchCore, **kwargs)


def pictures(count=12, seed=0, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 0.1


@torch.no_grad()
def fitted(model, images=None, batch=5):
    images = pictures() if images is None else images
    model.begin()
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        model.collect(part, list(range(start, start + len(part))))
    model.fit()
    return model


@pytest.mark.parametrize("make_model", [padim, patchcore])
@torch.no_grad()
def test_a_strange_square_scores_higher_and_lies_where_it_is(make_model):
    model = fitted(make_model(sigma=1.0))
    new = pictures(4, seed=9)
    new[2, :, 4:14, 18:28] += 3
    maps, scores = model(new)
    assert maps.shape == (4, 1, 32, 32) and scores.shape == (4,)
    assert scores.argmax() == 2
    y, x = divmod(int(maps[2, 0].argmax()), 32)
    assert 2 <= y <= 16 and 16 <= x <= 30


@pytest.mark.parametrize("make_model", [padim, patchcore])
@torch.no_grad()
def test_the_state_dict_brings_what_was_fitted_into_a_fresh_model(make_model):
    model = fitted(make_model())
    torch.manual_seed(5)
    fresh = type(model)(**SMALL, **({"dimensions": 20} if make_model is padim else {}), seed=3).eval()
    assert not fresh(pictures(1))[0].any()
    fresh.load_state_dict(model.state_dict())
    for a, b in zip(model(pictures(3, 4)), fresh(pictures(3, 4)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("make_model", [padim, patchcore])
@torch.no_grad()
def test_batches_do_not_change_what_is_fitted(make_model):
    first, second = (fitted(make_model(), batch=batch)(pictures(2, 7))[1] for batch in (5, 12))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padim_equals_the_literal_gaussian_at_every_position():
    model = fitted(padim(sigma=0))
    features, (height, width) = model.embed(pictures())
    new, _ = model.embed(pictures(1, 3))
    expected = np.zeros(height * width)
    for p in range(height * width):
        x = features[p].double().numpy()
        cov = np.cov(x, rowvar=False) + 0.01 * np.eye(x.shape[1])
        gap = new[p, 0].double().numpy() - x.mean(0)
        expected[p] = np.sqrt(gap @ np.linalg.inv(cov) @ gap)
    coarse = torch.tensor(expected).view(1, 1, height, width)
    wanted = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(model(pictures(1, 3))[0].numpy(), wanted.numpy(), rtol=1e-3)


def test_the_memory_of_a_padim_fit_is_the_same_for_any_number_of_pictures():
    sizes = {}
    model = padim()
    for start in range(0, 100, 4):
        with torch.no_grad():
            model.collect(pictures(4, start), list(range(start, start + 4)))
        gathered = model.collected
        held = [gathered.count, gathered.sums, *gathered.products, *gathered.waiting]
        sizes[start + 4] = sum(x.numel() for x in held)
    assert sizes[36] == sizes[68] == sizes[100]  # the same number of pictures waits at each of these
    positions, dimensions = gathered.sums.shape
    assert max(sizes.values()) < positions * dimensions * (dimensions + 1 + PICTURES_AT_ONCE) + 1


@torch.no_grad()
def test_patchcore_keeps_the_wanted_share_and_finds_its_own_memory_at_no_distance():
    model = fitted(patchcore(coreset=0.25, sigma=0))
    patches, _ = model.embed(pictures())
    assert len(model.bank) == int(patches.shape[0] * patches.shape[1] * 0.25)
    distances, place = nearest_in(model.bank[None, :20], model.bank)
    assert not distances.any() and place[0].tolist() == list(range(20))


@torch.no_grad()
def test_nearest_in_pieces_equals_all_distances_at_once(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    patches, bank = torch.randn(2, 50, 8, generator=generator), torch.randn(30, 8, generator=generator)
    monkeypatch.setattr("dao.models.anomaly.patchcore.CHUNK", 30 * 8 * 7)
    distances, place = nearest_in(patches, bank)
    literal = (patches[:, :, None] - bank).square().sum(-1).sqrt()
    torch.testing.assert_close(distances, literal.min(2).values)
    assert torch.equal(place, literal.argmin(2))


@torch.no_grad()
def test_the_picture_score_is_the_papers_equation_seven():
    model = fitted(patchcore(coreset=0.5, neighbours=3, sigma=0))
    new = pictures(2, 8)
    patches, _ = model.embed(new)
    for own, score in zip(patches, model(new)[1], strict=True):
        d = (own[:, None] - model.bank).square().sum(2).sqrt()
        star = d.min(1).values.argmax()
        memory = d[star].argmin()
        around = (model.bank - model.bank[memory]).square().sum(1).argsort()[:3]
        share = d[star, memory].exp() / d[star, around].exp().sum()
        torch.testing.assert_close(score, (1 - share) * d[star, memory], rtol=1e-3, atol=1e-4)


def test_patchcore_sizes_its_work_and_refuses_what_will_not_fit():
    patchcore().expect(10, (32, 32))
    with pytest.raises(ConfigError, match=r"Lower preprocess\.size"):
        patchcore(max_gib=0.001).expect(100, (224, 224))


def test_projection_is_left_out_where_it_would_not_shorten():
    points = np.ones((100, 8), np.float32)
    assert project(points, np.random.default_rng(0)) is points
    wide = np.random.default_rng(1).standard_normal((60, 900), dtype=np.float32)
    short = project(wide, np.random.default_rng(0))
    assert short.shape == (60, 101)  # 4 ln(60) / (0.9^2 / 2 - 0.9^3 / 3)
    lengths = [np.linalg.norm(x[:, None] - x[None], axis=2)[np.triu_indices(60, 1)] for x in (wide, short)]
    assert 0.9 < float(np.mean(lengths[1] / lengths[0])) < 1.1


def test_one_picture_is_too_few_for_a_covariance():
    model = padim()
    model.collect(pictures(1), [0])
    with pytest.raises(DataError, match="at least 2"):
        model.fit()


def test_a_process_without_pictures_has_the_same_gaussians(monkeypatch):
    """As if a second process had collected everything: its shape and sums are what this one hears of."""
    other = padim()
    other.collect(pictures(4), list(range(4)))
    sums = other.collected
    shape = tuple(sums.sums.shape)
    sums._add_waiting()
    parts = iter([sums.count, sums.sums, *sums.products])
    monkeypatch.setattr("dao.processes.dist.all_gather_object", lambda own: [own, shape])
    monkeypatch.setattr("dao.processes.dist.all_reduce_sum", lambda own: own.add_(next(parts)))
    model = padim()
    model.fit()
    monkeypatch.undo()
    other.fit()
    assert torch.equal(model.mean, other.mean) and torch.equal(model.precision_root, other.precision_root)


def test_pictures_for_nobody_are_one_message(monkeypatch):
    monkeypatch.setattr("dao.processes.dist.all_gather_object", lambda own: [own, None])
    with pytest.raises(DataError, match="at least 2"):
        padim().fit()


def test_no_epsilon_is_refused_and_one_that_is_too_small_is_said():
    assert [p.where for p in PaDiM.check_config({"epsilon": 0}, "model.kwargs")] == ["model.kwargs.epsilon"]
    model = padim(epsilon=1e-30)
    model.collect(pictures(2), [0, 1])
    with pytest.raises(DataError, match="epsilon higher"):
        model.fit()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"layers": ["layer9"]}, "has no layer 'layer9'"),
        ({"layers": []}, "at least one layer"),
        ({"backbone": "resnt18"}, "Nearest"),
        ({"dimensions": 10_000}, "channels together"),
        ({"pretrained": True, "checkpoint_path": "x.pth"}, "not both"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(kwargs, words):
    with pytest.raises(ConfigError, match=words):
        padim(**kwargs)


def test_layers_come_in_the_order_asked_for_and_stay_as_they_are():
    torch.manual_seed(0)
    net = FeatureExtractor("test_resnet", ["layer2", "layer1"])
    deep, shallow = net(pictures(1))
    assert deep.shape[-1] < shallow.shape[-1] and net.reductions[0] > net.reductions[1]
    net.train()
    assert not any(module.training for module in net.modules()) and not any(p.requires_grad for p in net.parameters())


def test_local_weights_reach_the_layers_whatever_timm_calls_them(tmp_path):
    import timm

    for name, layers in (("test_resnet", ["layer1"]), ("test_efficientnet", [1])):
        torch.manual_seed(3)
        whole = timm.create_model(name)
        torch.save(whole.state_dict(), tmp_path / "w.pth")
        torch.manual_seed(4)
        net = FeatureExtractor(name, layers, checkpoint_path=str(tmp_path / "w.pth"))
        expected = timm.create_model(name, features_only=True)
        known = {key.replace("_", "."): value for key, value in whole.state_dict().items()}
        expected.load_state_dict({key: known[key.replace("_", ".")] for key in expected.state_dict()})
        wanted = expected.eval()(pictures(1))[net.feature_place[0]]
        torch.testing.assert_close(net(pictures(1))[0], wanted)


def test_a_file_of_another_network_is_refused(tmp_path):
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="another model"):
        FeatureExtractor("test_resnet", ["layer1"], checkpoint_path=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("size", [64, 20, 10])
def test_smoothing_equals_scipys(size):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    mode = "mirror" if size > 16 else "nearest"
    wanted = ndimage.gaussian_filter(x[0, 0].double().numpy(), 4.0, mode=mode, truncate=4.0)
    np.testing.assert_allclose(Smoothing(4.0)(x)[0, 0].numpy(), wanted, atol=1e-5)


def test_smoothing_within_a_region_takes_no_mean_over_its_border():
    from dao.models.anomaly.base import Smoothing

    smoothing, maps = Smoothing(2.0), torch.rand(1, 1, 24, 24)
    smoothing.region = torch.zeros(1, 1, 24, 24)
    smoothing.region[..., 5:15, 4:20] = 1
    inside = smoothing.region > 0
    smoothed = smoothing(maps)
    torch.testing.assert_close(smoothing(torch.where(inside, maps, 1e3)), smoothed)
    assert smoothed[~inside].abs().max() == 0
    torch.testing.assert_close(smoothing(torch.ones_like(maps))[inside], torch.ones(160))


def test_patchcore_keeps_and_scores_no_patch_outside_its_region():
    from dao.models.anomaly.patchcore import PatchCore

    torch.manual_seed(0)
    model = PatchCore("test_resnet", ("layer1",), coreset=1.0, neighbours=1, sigma=0.0, patch=1).eval()
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[8:24, 8:24] = True
    model.look_within(region)
    images = torch.randn(3, 3, 32, 32)
    model.collect(images, [0, 1, 2])
    model.fit()
    cells = (32 // model.features.reductions[0]) ** 2
    assert len(model.bank) == 3 * cells // 4
    maps, scores = model(torch.randn(2, 3, 32, 32))
    assert maps[..., ~region].abs().max() == 0 and (maps[..., region] > 0).all()
    patches, _ = model.embed(other := torch.randn(1, 3, 32, 32))
    kept = patches[0][model.patches_within((8, 8)).flatten() > 0]
    torch.testing.assert_close(model(other)[1], torch.cdist(kept, model.bank).amin(1).max()[None])
