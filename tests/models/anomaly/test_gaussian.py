"""Streamed Gaussians against numpy's, whatever the batches and the processes."""

import numpy as np
import torch

from dao.models.anomaly.gaussian import POSITIONS_AT_ONCE, StreamedGaussians, mahalanobis, whitening


def streamed(features, sizes):
    found = StreamedGaussians(features.shape[0], features.shape[2], torch.device("cpu"))
    for part in torch.split(features, sizes, dim=1):
        found.update(part)
    return found


def test_mean_and_covariance_equal_numpys_though_far_from_zero():
    x = torch.randn(7, 40, 5, generator=torch.Generator().manual_seed(0)) * 0.01 + 100
    found = streamed(x, [16, 16, 8])
    exact = x.double().numpy()
    np.testing.assert_allclose(found.mean().numpy(), exact.mean(1), rtol=1e-13)
    wanted = np.stack([np.cov(position, rowvar=False) for position in exact])
    np.testing.assert_allclose(torch.cat(list(found.take_covariances(0.0))).numpy(), wanted, atol=1e-10)


def test_batches_do_not_matter_and_sums_of_two_processes_are_those_of_one():
    positions = POSITIONS_AT_ONCE + 3  # more than one block
    x = torch.randn(positions, 44, 4, generator=torch.Generator().manual_seed(1))
    whole = streamed(x, [44])
    first, second = streamed(x[:, ::2], [5, 17]), streamed(x[:, 1::2], [22])
    for one in (whole, first, second):
        one.reduce()
    assert len(whole.products) == 2
    for name in ("count", "sums"):
        both = getattr(first, name) + getattr(second, name)
        np.testing.assert_allclose(both.numpy(), getattr(whole, name).numpy(), rtol=1e-12, atol=1e-12)
    for mine, theirs, all_of_it in zip(first.products, second.products, whole.products, strict=True):
        np.testing.assert_allclose((mine + theirs).numpy(), all_of_it.numpy(), rtol=1e-12, atol=1e-12)


def test_distances_equal_the_definition():
    x = torch.randn(4, 30, 6, generator=torch.Generator().manual_seed(2))
    found = streamed(x, [30])
    mean, cov = found.mean(), torch.cat(list(found.take_covariances(0.01)))
    got = mahalanobis(x[:, :3], mean.float(), whitening([cov], len(cov))).numpy()
    for p in range(4):
        gap = x[p, :3].double().numpy() - mean[p].numpy()
        literal = np.sqrt(np.einsum("bi,ij,bj->b", gap, np.linalg.inv(cov[p].numpy()), gap))
        np.testing.assert_allclose(got[p], literal, rtol=1e-5)


def test_fewer_pictures_than_dimensions_still_have_an_inverse():
    found = streamed(torch.randn(2, 3, 20), [3])
    assert torch.isfinite(whitening(found.take_covariances(0.01), positions=2)).all()
