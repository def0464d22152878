"""The recursive filter: its laws, its equation written out, and what it spreads from a few known values."""

import math

import numpy as np

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
