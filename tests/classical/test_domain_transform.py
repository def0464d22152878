"""The recursive filter: its laws, its equation written out, and what it spreads from a few known values."""

import math

import numpy as np
import pytest

from ggkm_plugin.classical.domain_transform import recursive_filter, spread


def reference(image, guide, sigma_s, sigma_r, iterations):
    """The equations, value by value."""
    planes = image.astype(np.float64).copy()
    height, width, _ = planes.shape
    for i in range(1, iterations + 1):
        sigma = sigma_s * math.sqrt(3) * 2 ** (iterations - i) / math.sqrt(4**iterations - 1)
        a = math.exp(-math.sqrt(2) / sigma)

        def toward(new, old, a=a):
            planes[new] += a ** (1 + sigma_s / sigma_r * np.abs(guide[new] - guide[old]).sum()) * (
                planes[old] - planes[new]
            )

        for y in range(height):
            for x in range(1, width):
                toward((y, x), (y, x - 1))
            for x in range(width - 2, -1, -1):
                toward((y, x), (y, x + 1))
        for x in range(width):
            for y in range(1, height):
                toward((y, x), (y - 1, x))
            for y in range(height - 2, -1, -1):
                toward((y, x), (y + 1, x))
    return planes


def test_it_is_its_equation():
    rng = np.random.default_rng(0)
    image, guide = rng.random((7, 9, 2)), rng.random((7, 9, 3))
    expected = reference(image, guide, 3.0, 0.4, 3)
    np.testing.assert_allclose(recursive_filter(image, guide, 3.0, 0.4, 3), expected, rtol=1e-12)
    single = recursive_filter(image.astype(np.float32), guide.astype(np.float32), 3.0, 0.4, 3)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-5)


def test_a_constant_stays_and_sums_are_sums():
    rng = np.random.default_rng(1)
    guide = rng.random((12, 10, 3))
    one, two = rng.random((2, 12, 10))
    args = (guide, 5, 0.3, 4)
    np.testing.assert_allclose(recursive_filter(np.full((12, 10), 0.7), *args), 0.7, rtol=1e-12)
    both = recursive_filter(2 * one - two, *args)
    np.testing.assert_allclose(both, 2 * recursive_filter(one, *args) - recursive_filter(two, *args), atol=1e-12)


def test_a_constant_guide_blurs_by_sigma_s():
    """The variances of the passes sum to sigma_s^2; sampling the exponentials costs a few percent."""
    impulse = np.zeros((1, 401))
    impulse[0, 200] = 1
    response = recursive_filter(impulse, np.zeros((1, 401)), 12.0, 1.0, 5)[0]
    at = np.arange(401) - 200
    assert response.sum() == pytest.approx(1, abs=1e-6)
    assert response @ at == pytest.approx(0, abs=0.1)
    assert math.sqrt(response @ at**2) == pytest.approx(12, rel=0.03)


def test_an_edge_of_the_guide_stops_it():
    image = np.zeros((6, 20))
    image[:, 10:] = 1
    guide = image.copy()
    assert np.abs(recursive_filter(image, guide, 10, 0.01, 3) - image).max() < 1e-6
    assert np.abs(recursive_filter(image, 0 * guide, 10, 0.01, 3) - image).max() > 0.3


def test_spread_is_a_mean_of_what_is_known():
    rng = np.random.default_rng(3)
    values, known = rng.random((30, 40)), rng.random((30, 40)) < 0.05
    found = spread(values, known, rng.random((30, 40, 3)), 20, 0.5, 3)
    assert found.min() >= values[known].min() - 1e-12
    assert found.max() <= values[known].max() + 1e-12
    np.testing.assert_allclose(spread(np.full((30, 40), 2.5), known, rng.random((30, 40)), 20, 0.5, 3), 2.5)


def test_where_no_weight_arrives_it_is_the_nearest():
    values, known = np.zeros((1, 3000)), np.zeros((1, 3000), bool)
    known[0, [0, 2000]] = True
    values[0, 2000] = 3
    stripes = np.arange(3000)[None] % 2
    found = spread(values, known, stripes, 4, 0.01, 3)[0]
    assert np.isfinite(found).all()
    assert (found[900], found[1100]) == (0, 3)
