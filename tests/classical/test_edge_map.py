"""EBDB's map: exact on isolated edges, near on photographs, and its parts against scikit-image and dense algebra."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import canny as skimage_canny

from ggkm_plugin.classical import edge_map
from ggkm_plugin.data.optics import linear_to_srgb, srgb_to_linear
from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.utils.image_decoding import read_image

PHOTOGRAPHS = {photo.name: photo for split in ('train', 'val') for photo in builtin_photographs(split)}
SCENES = ('astronaut', 'camera', 'coffee', 'motorcycle_left', 'rocket')  # the others are pictures of a texture
DOMAINS = {  # a lens blurs light; most experiments blur values
    'values': (np.asarray, np.asarray),
    'light': (srgb_to_linear, linear_to_srgb),
}


def blurred(image, sigma, domain='light'):
    into, back = DOMAINS[domain]
    return back(ndimage.gaussian_filter(into(image), (sigma, sigma, 0), mode='nearest')) if sigma else image


def step(angle, sigma, size=128):
    """An edge at an angle, blurred in the light that the map measures in, as RGB."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    grey = np.where(np.cos(angle) * x + np.sin(angle) * y > 0, 0.8, 0.2) ** 2.4
    return np.repeat(ndimage.gaussian_filter(grey, sigma)[..., None] ** (1 / 2.4), 3, axis=2).astype(np.float32)


@pytest.mark.parametrize('angle', [0, 0.1, 0.5, np.pi / 2])
@pytest.mark.parametrize('sigma', [1, 2, 3, 4])
def test_an_isolated_edge_reads_its_blur(angle, sigma):
    """Also one half-way between two pixels (0 and 90 degrees), where gradients tie."""
    known, counts, found = edge_map.edge_blur(step(angle, sigma))
    assert known.sum() >= 126
    assert np.median(counts[known]) == 9
    assert np.median(found[known]) == pytest.approx(sigma, abs=0.1)
    assert found[known].mean() == pytest.approx(sigma, abs=0.1)
    assert not found[~known].any()


@pytest.mark.parametrize('domain', DOMAINS)
@pytest.mark.parametrize('name', ['astronaut', 'coffee'])
def test_photographs_blurred_evenly(name, domain):
    image = read_image(PHOTOGRAPHS[name].path)
    found = [edge_map.blur_map(blurred(image, sigma, domain)).mean() for sigma in (0, 1, 2, 3)]
    assert 0.4 < found[0] < 0.9  # a sharp photograph
    assert np.abs(np.subtract(found[1:], [1, 2, 3])).max() <= 0.3


@pytest.mark.parametrize('name', PHOTOGRAPHS)
def test_more_blur_reads_as_more(name):
    image = read_image(PHOTOGRAPHS[name].path)[:256, :256]
    found = [edge_map.blur_map(blurred(image, sigma)).mean() for sigma in (0, 0.5, 1, 1.5, 2, 3, 4)]
    assert (np.diff(found) > 0).all(), found


@pytest.mark.slow
def test_photographs_on_the_mean():
    """Lines read low, since they lose contrast faster than edges: fine texture alone may be 0.8 off at sigma 3."""
    images = [read_image(PHOTOGRAPHS[name].path) for name in SCENES]
    for sigma in (1, 2, 3):
        found = [edge_map.blur_map(blurred(image, sigma)).mean() for image in images]
        assert np.mean(found) == pytest.approx(sigma, abs=0.3), found


def test_it_tells_the_sharp_from_the_blurred_half():
    image = read_image(PHOTOGRAPHS['astronaut'].path)
    image = np.concatenate([image[:, :256], blurred(image, 3)[:, 256:]], axis=1)
    found = edge_map.blur_map(image)
    assert found[:, :200].mean() < 1.2
    assert found[:, 312:].mean() > 2.3


def test_nothing_is_found_on_an_even_surface():
    assert not edge_map.blur_map(np.full((40, 50, 3), 0.3)).any()
    ramp = np.linspace(0.1, 0.9, 50)[None, :, None] * np.ones((40, 1, 3))
    assert np.isfinite(edge_map.blur_map(ramp)).all()


def test_values_stay_within_range():
    noise = np.random.default_rng(0).random((64, 64, 3), np.float32)
    found = edge_map.blur_map(noise)
    assert found.shape == (64, 64)
    assert found.min() >= 0
    assert found.max() <= 5


def test_left_and_right_are_alike():
    image = read_image(PHOTOGRAPHS['coffee'].path)[:200, :300]
    for turned in (lambda x: x[:, ::-1], lambda x: x[::-1], lambda x: x.swapaxes(0, 1)):
        known, counts, sigma = (turned(part) for part in edge_map.edge_blur(image))
        other_known, other_counts, other_sigma = edge_map.edge_blur(np.ascontiguousarray(turned(image)))
        assert (known != other_known).mean() < 1e-4  # hysteresis near the threshold, by rounding
        both = known & other_known
        np.testing.assert_allclose(sigma[both], other_sigma[both], atol=1e-2)
        assert (counts[both] == other_counts[both]).mean() > 0.99


@pytest.mark.parametrize('scale', [1.0, 3.0])
def test_edges_are_scikit_image_s_at_the_same_thresholds(scale):
    grey = edge_map.luma(read_image(PHOTOGRAPHS['coffee'].path).astype(np.float64))
    smooth = ndimage.gaussian_filter(grey, scale, mode='nearest')
    high = np.percentile(np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)), 70)
    expected = skimage_canny(grey, scale, 0.4 * high, high, mode='nearest')
    assert expected.mean() > 0.02
    assert (edge_map.canny(grey, scale) != expected).mean() < 1e-3 * expected.mean()


def test_strips_do_not_show(monkeypatch):
    grey = edge_map.luma(read_image(PHOTOGRAPHS['coffee'].path))[:100]
    whole = edge_map.canny(grey, 1.5)
    monkeypatch.setattr(edge_map, '_STRIP', 7)
    assert (edge_map.canny(grey, 1.5) == whole).all()


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


def test_edges_apart_do_not_mix():
    known = np.zeros((5, 9), bool)
    known[:, [2, 6]] = True
    sigma = np.where(np.arange(9) < 4, 1.0, 3.0) * known
    found = edge_map.smoothed_along_edges(sigma, known, np.full(known.shape, 9))
    np.testing.assert_allclose(found, sigma, atol=1e-6)
