"""The nearest point of a hull: against a general solver, and by the conditions that only the optimum meets."""

import numpy as np
import pytest
import scipy.optimize
import torch

from ggkm_plugin.studies.convex_hull import nearest_in_hull


def noise(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def curves(count, seed):
    """21 points along a bent line with a little noise, as a pixel's colors under ever wider kernels."""
    along = torch.linspace(0, 1, 21, dtype=torch.float64)[:, None]
    start, first, second = noise(3, count, 1, 3, seed=seed)
    return start + along * first + along**2 * second + 0.01 * noise(count, 21, 3, seed=seed + 1)


@pytest.mark.parametrize('points', [noise(300, 6, 3, seed=0), curves(300, 1), noise(50, 9, 2, seed=3) + 1])
def test_only_the_optimum_meets_these_conditions(points):
    """c on the simplex, and no point nearer along the found direction: <z_k, x> >= |x|^2 for all k."""
    coefficients, distances = nearest_in_hull(points)
    assert coefficients.min() >= 0
    torch.testing.assert_close(coefficients.sum(dim=1), torch.ones(len(points), dtype=torch.float64))
    nearest = torch.einsum('nk,nkd->nd', coefficients, points)
    torch.testing.assert_close(nearest.square().sum(dim=1), distances, rtol=1e-9, atol=1e-15)
    scale = points.square().sum(dim=2).amax(dim=1)
    short = (distances - torch.einsum('nkd,nd->nk', points, nearest).amin(dim=1)) / scale
    assert short.max() < 1e-10
    assert (coefficients > 0).sum(dim=1).max() <= points.shape[2] + 1


@pytest.mark.parametrize('seed', range(2))
def test_it_is_what_a_general_solver_finds(seed):
    """Nonnegative least squares with a heavy row for the sum: an independent way to the same point."""
    points = curves(1, 10 * seed)
    _, distances = nearest_in_hull(points)
    heavy = 1e6
    system = np.vstack([points[0].T.numpy(), np.full((1, 21), heavy)])
    _, residual = scipy.optimize.nnls(system, np.array([0, 0, 0, heavy]), maxiter=10_000)
    assert distances.item() == pytest.approx(residual**2, rel=1e-5, abs=1e-12)


def test_the_origin_inside_is_reached():
    points = noise(500, 21, 3, seed=5)  # nearly all of these hulls hold the origin
    assert nearest_in_hull(points)[1].median() < 1e-20


def test_equal_and_duplicate_points():
    """A flat patch of an image: every kernel leaves the same color."""
    point = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    same = point.expand(2, 22, 3).clone()
    same[1, 11:] = 2 * point
    coefficients, distances = nearest_in_hull(same)
    torch.testing.assert_close(distances, point.square().sum().expand(2))
    assert coefficients.isfinite().all()
    assert coefficients[1, 11:].sum() == 0
