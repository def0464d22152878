"""Deconvolution: PSNR gain, steps against brute force, independence of blocks and threads."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from scipy import ndimage, optimize

from ggkm_plugin.classical import deconvolution
from ggkm_plugin.classical.deconvolution import deconvolved, hyper_laplacian, quantized, richardson_lucy
from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.utils.image_decoding import read_image

PHOTOGRAPHS = {photo.name: photo for split in ('train', 'val') for photo in builtin_photographs(split)}
SHARP = partial(hyper_laplacian, fidelity=420)


@pytest.fixture(scope='module')
def astronaut():
    return read_image(PHOTOGRAPHS['astronaut'].path)[100:260, 150:350]


def blurred(image, sigma, noise=0.003):
    soft = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode='nearest')
    return (soft + np.random.default_rng(0).normal(0, noise, image.shape)).astype(np.float32)


def psnr(image, truth):
    return -10 * np.log10(np.mean((image.astype(np.float64) - truth) ** 2))


def everywhere(sigma, image):
    return np.full(image.shape[:2], float(sigma))


@pytest.mark.parametrize('name', ['astronaut', 'brick', 'coffee', 'motorcycle_left'])
@pytest.mark.parametrize('sigma', [1.5, 3])
@pytest.mark.parametrize('undo', [SHARP, partial(richardson_lucy, iterations=30)], ids=['hyper', 'richardson_lucy'])
def test_the_true_sigma_gains_a_decibel(name, sigma, undo):
    truth = read_image(PHOTOGRAPHS[name].path)[100:260, 150:350]
    image = blurred(truth, sigma)
    assert psnr(deconvolved(image, everywhere(sigma, image), undo), truth) > psnr(image, truth) + 1


def test_a_constant_plane_stays_constant():
    plane = np.full((40, 50), 0.3, np.float32)
    for undo in (SHARP, partial(richardson_lucy, iterations=20)):
        np.testing.assert_allclose(undo(plane, 2.0), plane, atol=1e-3)


def test_borders_are_no_worse_than_the_middle(astronaut):
    """An FFT joins opposite borders."""
    image = blurred(astronaut, 3, noise=0)
    error = (deconvolved(image, everywhere(3, image), SHARP) - astronaut) ** 2
    before = (image - astronaut) ** 2
    rim = np.ones(error.shape[:2], bool)
    rim[8:-8, 8:-8] = False
    assert error[rim].mean() < before[rim].mean()


# --- the steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('beta', [1.0, 22.6, 181.0])
@pytest.mark.parametrize('slope', [-0.7, -0.01, 0.0, 0.2, 1.0])
def test_shrinking_minimizes_its_cost(beta, slope):
    found = float(deconvolution._shrunk(np.array([slope]), np.float32(beta))[0])
    cost = lambda w: abs(w) ** 1.5 + beta / 2 * (w - slope) ** 2  # noqa: E731
    least = optimize.minimize_scalar(cost, bounds=(-1, 1), method='bounded', options={'xatol': 1e-9})
    assert cost(found) <= least.fun + 1e-9


# --- over the image ---------------------------------------------------------------------------------------------------


def test_bins_have_equally_many_pixels_and_their_lower_edges():
    sigma = np.random.default_rng(0).random((64, 64)) * 3
    edges, which = quantized(sigma, 32)
    assert np.bincount(which.ravel()).tolist() == [128] * 32
    at = np.array(edges)[which]
    assert (at <= sigma).all()
    assert all(0 <= sigma[which == n].min() - edge < 0.01 for n, edge in enumerate(edges))
    edges, which = quantized(np.full((5, 6), 2.5), 32)
    assert edges == [2.5]
    assert not which.any()


def test_each_part_is_deconvolved_by_its_own_blur(astronaut):
    sigma = np.where(np.arange(200) < 100, 1.0, 3.0) * np.ones((160, 1))
    image = np.where(sigma[..., None] == 1, blurred(astronaut, 1), blurred(astronaut, 3))
    found = deconvolved(image, sigma, SHARP)
    for part, width in ((np.s_[:, :80], 1), (np.s_[:, 120:], 3)):
        even = deconvolved(image, everywhere(width, image), SHARP)
        np.testing.assert_allclose(found[part], even[part], atol=2e-3)
    np.testing.assert_array_equal(deconvolved(astronaut, everywhere(0.2, astronaut), SHARP), astronaut)
    assert psnr(found, astronaut) > max(
        psnr(deconvolved(image, everywhere(width, image), SHARP), astronaut) for width in (1, 3)
    )


@pytest.mark.parametrize(
    'undo',
    [partial(hyper_laplacian, fidelity=4.2), SHARP, partial(richardson_lucy, iterations=30)],
    ids=['4.2', '420', 'richardson_lucy'],
)
def test_blocks_do_not_change_the_result(astronaut, undo, monkeypatch):
    """Tolerance: an eighth of an 8-bit step."""
    image = blurred(astronaut, 2)
    sigma = np.linspace(0.3, 4, 200)[None] * np.ones((160, 1))
    whole = deconvolved(image, sigma, undo, bins=6)
    monkeypatch.setattr(deconvolution, '_BLOCK', 64)
    np.testing.assert_allclose(deconvolved(image, sigma, undo, bins=6), whole, atol=0.125 / 255)


@pytest.mark.slow
def test_memory_does_not_grow_with_bins_nor_much_with_the_image(monkeypatch):
    monkeypatch.setattr(deconvolution, '_BLOCK', 128)

    def peak(size, bins):
        image = np.random.default_rng(0).random((size, size, 3), np.float32)
        sigma = np.linspace(0.5, 3, size)[None] * np.ones((size, 1))
        tracemalloc.start()
        deconvolved(image, sigma, SHARP, bins, workers=1)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(256, 32) < 1.1 * peak(256, 4)
    assert peak(512, 4) - peak(256, 4) < 60 * (512**2 - 256**2)  # bytes a pixel: image, result, bins


def test_progress_counts_the_bins_of_the_blocks(astronaut):
    sigma = np.linspace(0, 3, 200)[None] * np.ones((160, 1))
    steps = []
    deconvolved(astronaut, sigma, SHARP, 10, lambda *step: steps.append(step))
    assert steps == [('deconvolution', n, 9) for n in range(1, 10)]  # the first bin is sharp
