"""SPADE and STFPM against their equations, literally."""

import numpy as np
import torch

from dao.models.anomaly.spade import SPADE
from dao.models.anomaly.stfpm import STFPM
from dao.models.folding import fold_batch_norms

SMALL = {"backbone": "test_resnet", "layers": ["layer1", "layer2"]}


def pictures(count, seed):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_spade_is_the_nearest_place_of_the_nearest_pictures():
    torch.manual_seed(0)
    model = SPADE(**SMALL, neighbours=3, sigma=0.0, half=False).eval()
    good, new = pictures(6, 1), pictures(2, 2)
    for start in (0, 4):  # in two batches, the later pictures first
        model.collect(
            good[4 - start : 4 - start + (2 if start == 0 else 4)], list(range(4 - start, 6 if start == 0 else 4))
        )
    model.fit()
    places, pooled, (height, width) = model.embed(good)
    own, vectors, _ = model.embed(new)
    maps, scores = model(new)
    for picture in range(2):
        apart = np.linalg.norm(pooled.numpy() - vectors[picture].numpy(), axis=1)
        nearest = np.argsort(apart)[:3]
        np.testing.assert_allclose(scores[picture], apart[nearest].mean(), rtol=1e-5)
        gallery = places[nearest].flatten(0, 1).numpy()
        literal = [np.linalg.norm(gallery - place, axis=1).min() for place in own[picture].numpy()]
        coarse = torch.tensor(np.array(literal)).view(1, 1, height, width)
        wanted = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=False)
        np.testing.assert_allclose(maps[picture], wanted[0].float(), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_spade_finds_its_own_pictures_at_no_distance_and_its_checkpoint_brings_them():
    model = SPADE(**SMALL, neighbours=1, sigma=0.0, half=False).eval()
    good = pictures(3, 1)
    model.collect(good, [0, 1, 2])
    model.fit()
    maps, scores = model(good)
    assert scores.max() < 1e-5 and maps.max() < 1e-2
    other = SPADE(**SMALL, neighbours=1, sigma=0.0, half=False).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(good)[0], maps)


def test_stfpm_is_the_product_of_normalised_distances_and_its_loss_their_mean():
    torch.manual_seed(0)
    model = STFPM(**SMALL)
    images = pictures(2, 3)
    model.eval()
    with torch.no_grad():
        taught, learnt = model.features(images), model.student(images)
        maps, scores = model(images)
        means, product = [], 1.0
        for t, s in zip(taught, learnt, strict=True):
            t, s = (x.double().numpy() for x in (t, s))
            gap = t / np.linalg.norm(t, axis=1, keepdims=True) - s / np.linalg.norm(s, axis=1, keepdims=True)
            half = torch.tensor(0.5 * (gap**2).sum(axis=1, keepdims=True))
            means.append(half.mean().item())
            product = product * torch.nn.functional.interpolate(half, size=(32, 32), mode="bilinear")
    np.testing.assert_allclose(maps, product.sqrt().float(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores, maps.amax(dim=(1, 2, 3)))
    model.train()
    model.student.eval()  # the same statistics as above
    losses = model(images)
    np.testing.assert_allclose(losses["loss"].item(), sum(means), rtol=1e-5)
    losses["loss"].backward()
    assert not model.features.net.training
    assert all(p.grad is None for p in model.features.parameters())
    assert all(p.grad is not None for p in model.student.parameters())


def test_a_students_layers_answer_in_the_order_that_was_asked_for():
    model = STFPM(backbone="test_resnet", layers=["layer2", "layer1"]).eval()
    fold_batch_norms(model.student)  # as the teacher's are
    model.student.load_state_dict(model.features.net.state_dict())
    with torch.no_grad():
        assert max(float(one.max()) for one in model.distances(pictures(1, 0))) < 1e-6
