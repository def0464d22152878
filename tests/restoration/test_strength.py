"""Laws of the strength: exact ends, monotone, sharp regions move least, no halos; masks; any tiles."""

import numpy as np
import pytest
import torch
from restoration.conftest import pixels
from torch import nn

from ggkm_plugin.inspection.inspection import inspect
from ggkm_plugin.inspection.network import Subject
from ggkm_plugin.restoration import psf, strength, tiling
from ggkm_plugin.restoration.blur_estimate import RADIUS_SCALE
from ggkm_plugin.restoration.restorer import Restorer
from ggkm_plugin.restoration.strength import AdjustableResult, blended, gain
from ggkm_plugin.utils.errors import DataError, OptionError

STRENGTHS = torch.linspace(0, 2, 21).tolist()


class Sharpened(nn.Module):
    """A network without an estimate of blur."""

    def forward(self, y):
        return 1.5 * y - 0.5 * nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    y, change = torch.rand(2, 3, 40, 50, generator=generator)
    return y, y + 0.3 * (change - 0.5), 4 * torch.rand(40, 50, generator=generator)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float16', 'float32', 'float64'])
@pytest.mark.parametrize('shape', [(33, 40, 3), (33, 40), (300, 20, 1)])
def test_the_ends_are_exact(network, shape, dtype):
    white = np.iinfo(dtype).max if dtype.startswith('u') else 1
    image = (np.random.default_rng(0).random(shape) * white).astype(dtype)
    restorer = Restorer(network, 'cpu')
    assert np.array_equal(restorer(image, strength=0), image)
    whole = restorer(image)
    assert np.array_equal(restorer.adjustable(image).at(1), whole)
    left = np.zeros(shape[:2])
    left[:, 10:] = 1
    masked = restorer(image, mask=left)
    assert np.array_equal(masked[:, :10], image[:, :10])
    assert np.array_equal(masked[:, 10:], whole[:, 10:])
    assert not np.array_equal(whole, image)


@pytest.mark.parametrize('with_radius', [True, False])
def test_monotone_in_the_strength(pair, with_radius):
    y, x, radius = pair
    outs = torch.stack([blended(y, x, s, radius if with_radius else None) for s in STRENGTHS])
    away = (outs - y) * (x - y).sign()
    assert (away.diff(dim=0) >= -1e-6).all()
    assert torch.equal(outs[0], y)
    assert torch.equal(outs[10], x)


def test_sharp_regions_move_least():
    weight = torch.linspace(0, 1, 50)
    for amount in STRENGTHS:
        assert (gain(amount, weight).diff() >= 0).all()
    assert gain(0.5, torch.zeros(1)) == 0
    assert gain(2.0, torch.zeros(1)) == 1
    assert gain(0.5, torch.ones(1)) == 0.5
    assert gain(2.0, torch.ones(1)) == 2


def test_no_value_beyond_its_surroundings(pair):
    y, x, radius = pair
    out = blended(y, x, 2.0, radius)
    low, high = torch.minimum(y, x), torch.maximum(y, x)
    for row, column in [(0, 0), (5, 7), (20, 49), (39, 30)]:
        window = (slice(None), slice(max(row - 2, 0), row + 3), slice(max(column - 2, 0), column + 3))
        assert (out[:, row, column] >= low[window].amin((1, 2))).all()
        assert (out[:, row, column] <= high[window].amax((1, 2))).all()
    edge = torch.zeros(3, 9, 30)
    edge[..., 15:] = 1
    assert blended(edge * 0.5 + 0.25, edge, 2.0, torch.full((9, 30), 5.0)).aminmax() == (0, 1)


@pytest.mark.parametrize('net', ['GGKMNet', 'without an estimate'])
def test_bands_and_tiles_change_nothing(network, monkeypatch, net):
    image = torch.rand(3, 150, 170)
    chosen = network if net == 'GGKMNet' else Sharpened()
    whole = Restorer(chosen, 'cpu', tile=None).adjustable(image)
    assert (whole.estimate is None) == (net != 'GGKMNet')
    want = whole.at(1.5)
    monkeypatch.setattr('ggkm_plugin.restoration.strength._ROWS', 32)
    torch.testing.assert_close(whole.at(1.5), want, atol=1e-6, rtol=0)
    if whole.estimate is not None:
        tiled = Restorer(chosen, 'cpu', tile=64).adjustable(image)
        torch.testing.assert_close(tiled.at(1.5), want, atol=1e-5, rtol=0)
        torch.testing.assert_close(tiled.estimate.radius, whole.estimate.radius, atol=1e-4, rtol=0)


def test_memory_is_that_of_tiles_and_bands(network, monkeypatch):
    sizes = {'tile': [], 'band': []}
    features = tiling.cropped_features
    monkeypatch.setattr(
        tiling, 'cropped_features', lambda bfe, y, *more: sizes['tile'].append(y.shape) or features(bfe, y, *more)
    )
    monkeypatch.setattr(strength, 'blended', lambda y, *more: sizes['band'].append(y.shape) or blended(y, *more))
    monkeypatch.setattr(strength, '_ROWS', 64)
    monkeypatch.setattr(psf, '_BLOCK', 1 << 10)  # the radius, a few pixels at a time
    whole = Restorer(network, 'cpu', tile=None)(torch.ones(3, 200, 400) / 2, strength=2)
    sizes['tile'].clear()
    sizes['band'].clear()
    torch.testing.assert_close(Restorer(network, 'cpu', tile=64)(torch.ones(3, 200, 400) / 2, strength=2), whole)
    halo = tiling.coefficient_radius(network.steps[0])
    assert len(sizes['tile']) > 10
    assert max(max(shape[-2:]) for shape in sizes['tile']) <= 64 + 2 * halo
    assert [shape[-2] for shape in sizes['band']] == [71, 78, 78, 15]


def test_the_radius_is_that_of_inspect(network):
    image = torch.rand(3, 37, 50)
    estimate = Restorer(network, 'cpu').adjustable(image).estimate
    seen = inspect(Subject(network, '', True, {}), image)
    torch.testing.assert_close(estimate.radius, seen.radius, atol=0.01, rtol=0)
    torch.testing.assert_close(estimate.psf_at(20, 30), seen.psf_at((20, 30)), atol=1e-3, rtol=0)
    assert np.abs(estimate.encoded() / RADIUS_SCALE - estimate.radius.numpy()).max() <= 0.5 / RADIUS_SCALE


def test_a_point_of_a_reduced_estimate(network, monkeypatch):
    image = torch.rand(3, 64, 96)
    whole = Restorer(network, 'cpu').adjustable(image).estimate
    monkeypatch.setattr('ggkm_plugin.restoration.blur_estimate._KEPT', 64 * 96 // 4)
    reduced = Restorer(network, 'cpu').adjustable(image).estimate
    assert (reduced.step, whole.step) == (2, 1)
    for x, y in [(0, 0), (30, 14), (95, 63)]:
        even = (min(round(x / 2), 47) * 2, min(round(y / 2), 31) * 2)
        torch.testing.assert_close(reduced.psf_at(x, y), whole.psf_at(*even))


def test_a_batch_has_one_strength(network):
    images = torch.rand(2, 3, 24, 30)
    restorer = Restorer(network, 'cpu')
    out = restorer(images, strength=0.5)
    torch.testing.assert_close(out[1], restorer(images[1], strength=0.5))


@pytest.mark.parametrize('amount', [-0.1, 2.01, float('nan')])
def test_a_strength_that_cannot_be(network, amount):
    with pytest.raises(OptionError):
        Restorer(network, 'cpu')(pixels(9, 9), strength=amount)


def test_a_mask_that_does_not_fit():
    result = AdjustableResult(pixels(9, 9), torch.zeros(3, 9, 9), None)
    for wrong in (255, -0.1, float('nan')):
        with pytest.raises(DataError, match='mask'):
            result.at(1, np.full((9, 9), wrong))
    for shape in [(9, 8), (9, 9, 3), (81,)]:
        with pytest.raises(DataError, match='mask'):
            result.at(1, np.ones(shape))
