"""Blur map of EBDB: isolated edges, photographs, and its steps against scikit-image and dense algebra."""

import numpy as np
import pytest
from scipy import ndimage

from ggkm_plugin.classical import edge_map
from ggkm_plugin.data.optics import linear_to_srgb, srgb_to_linear
from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.utils.image_decoding import read_image

PHOTOGRAPHS = {photo.name: photo for split in ('train', 'val') for photo in builtin_photographs(split)}
SCENES = ('astronaut', 'camera', 'coffee', 'motorcycle_left', 'rocket')  # the others show a texture
DOMAINS = {  # a lens blurs light; most experiments blur values
    'values': (np.asarray, np.asarray),
    'light': (srgb_to_linear, linear_to_srgb),
}


def blurred(image, sigma, domain='light'):
    into, back = DOMAINS[domain]
    return back(ndimage.gaussian_filter(into(image), (sigma, sigma, 0), mode='nearest')) if sigma else image


def step(angle, sigma, size=128):
    """An RGB edge at an angle, blurred in linear light as the map assumes."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    gray = np.where(np.cos(angle) * x + np.sin(angle) * y > 0, 0.8, 0.2) ** 2.4
    return np.repeat(ndimage.gaussian_filter(gray, sigma)[..., None] ** (1 / 2.4), 3, axis=2).astype(np.float32)


@pytest.mark.parametrize('angle', [0, 0.1, 0.5, np.pi / 2])
@pytest.mark.parametrize('sigma', [1, 2, 3, 4])
def test_the_blur_of_an_isolated_edge(angle, sigma):
    """At 0 and 90 degrees the edge is between two pixels, whose gradients are equal: rounding selects one."""
    known, counts, found = edge_map.edge_blur(step(angle, sigma))
    assert known.sum() >= 126
    assert np.median(counts[known]) >= 7
    assert np.median(found[known]) == pytest.approx(sigma, abs=0.1)
    assert found[known].mean() == pytest.approx(sigma, abs=0.1)
    assert not found[~known].any()


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'domain'), [('astronaut', 'values'), ('coffee', 'light')])
def test_photographs_blurred_evenly(name, domain):
    image = read_image(PHOTOGRAPHS[name].path)
    found = [edge_map.blur_map(blurred(image, sigma, domain)).mean() for sigma in (0, 1, 2, 3, 4)]
    assert 0.4 < found[0] < 0.9  # a sharp photograph
    assert np.abs(np.subtract(found[1:4], [1, 2, 3])).max() <= 0.3
    assert (np.diff(found) > 0).all()


@pytest.mark.slow
def test_photographs_on_the_mean():
    """Lines are underestimated, since they lose contrast faster than edges: by up to 0.8 at sigma 3."""
    images = [read_image(PHOTOGRAPHS[name].path) for name in SCENES]
    for sigma in (1, 2, 3):
        found = [edge_map.blur_map(blurred(image, sigma)).mean() for image in images]
        assert np.mean(found) == pytest.approx(sigma, abs=0.3), found


def test_the_sharp_and_the_blurred_half_differ():
    image = read_image(PHOTOGRAPHS['astronaut'].path)
    image = np.concatenate([image[:, :256], blurred(image, 3)[:, 256:]], axis=1)
    found = edge_map.blur_map(image)
    assert found[:, :200].mean() < 1.2
    assert found[:, 312:].mean() > 2.3


def test_a_constant_image_has_no_edges_and_noise_stays_in_range():
    assert not edge_map.blur_map(np.full((40, 50, 3), 0.3)).any()
    ramp = np.linspace(0.1, 0.9, 50)[None, :, None] * np.ones((40, 1, 3))
    assert np.isfinite(edge_map.blur_map(ramp)).all()
    found = edge_map.blur_map(np.random.default_rng(0).random((64, 64, 3), np.float32))
    assert found.shape == (64, 64)
    assert found.min() >= 0
    assert found.max() <= 5


def test_flips_and_transposition_commute_with_the_map():
    image = read_image(PHOTOGRAPHS['coffee'].path)[:200, :300]
    for turned in (lambda x: x[:, ::-1], lambda x: x[::-1], lambda x: x.swapaxes(0, 1)):
        known, counts, sigma = (turned(part) for part in edge_map.edge_blur(image))
        other_known, other_counts, other_sigma = edge_map.edge_blur(np.ascontiguousarray(turned(image)))
        assert (known != other_known).mean() < 1e-4  # hysteresis near the threshold, by rounding
        both = known & other_known
        np.testing.assert_allclose(sigma[both], other_sigma[both], atol=1e-2)
        assert (counts[both] == other_counts[both]).mean() > 0.99


def test_smoothing_along_edges_solves_its_system():
    rng = np.random.default_rng(4)
    known = rng.random((9, 11)) < 0.4
    counts, sigma = rng.integers(4, 10, known.shape), np.where(known, 5 * rng.random(known.shape), 0)
    places = np.argwhere(known)
    near = np.abs(places[:, None] - places[None]).max(-1) == 1
    weight = 1 + counts[known]
    matrix = np.diag(20 * near.sum(1) + weight) - 20 * near
    expected = np.linalg.solve(matrix, weight * sigma[known])
    found = edge_map.smoothed_along_edges(sigma, known, counts)
    np.testing.assert_allclose(found[known], expected, atol=1e-6)
    assert not found[~known].any()
