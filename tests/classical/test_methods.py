"""Classical methods by name: results on photographs, settings and errors."""

import numpy as np
import pytest
from scipy import ndimage

from ggkm_plugin.classical.methods import METHODS, method
from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.image_decoding import read_image


@pytest.fixture(scope='module')
def photograph():
    return read_image(builtin_photographs('val')[1].path)[100:228, 300:492]


@pytest.mark.parametrize('name', METHODS)
def test_a_blurred_photograph_gains(photograph, name):
    blurred = ndimage.gaussian_filter(photograph, (1.5, 1.5, 0), mode='nearest')
    steps = []
    found = method(name, {'fidelity': 420})(blurred, lambda *step: steps.append(step))
    assert (found.shape, found.dtype) == (photograph.shape, np.float32)
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.mean((found - photograph) ** 2) < 0.8 * np.mean((blurred - photograph) ** 2)
    assert steps[-1][0] == 'deconvolution'
    assert all(done <= total for _, done, total in steps)


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (7, 2), (33, 21)])
def test_any_size(name, size):
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    found = METHODS[name](image)
    assert found.shape == image.shape
    assert np.isfinite(found).all()


@pytest.mark.parametrize('name', METHODS)
def test_a_constant_photograph_stays_constant(name):
    image = np.full((40, 50, 3), 0.4, np.float32)
    np.testing.assert_allclose(METHODS[name](image), image, atol=1e-3)


def test_settings_change_the_result_and_are_described(photograph):
    small = ndimage.gaussian_filter(photograph[:48, :64], (1, 1, 0))
    results = {}
    for settings in ({}, {'fidelity': 420}, {'deconvolution': 'richardson_lucy', 'iterations': 5}, {'bins': 2}):
        one = method('EBDB', settings)
        assert settings.items() <= one.description.items()
        results[str(one.description)] = one(small)
    assert len(results) == 4
    assert method('EBDB').description == {'deconvolution': 'hyper_laplacian', 'fidelity': 16.8, 'bins': 32}
    images = list(results.values())
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(images) for b in images[:i])


@pytest.mark.parametrize(
    ('name', 'settings', 'named'),
    [
        ('EDBB', {}, 'EDBB.*EBDB'),
        (None, {}, 'None'),
        ('EBDB', {'fidelty': 3}, 'fidelty.*fidelity'),
        ('EBDB', {'fidelity': 0}, 'fidelity'),
        ('EBDB', {'fidelity': float('inf')}, 'fidelity'),
        ('EBDB', {'bins': 2.5}, 'bins'),
        ('EBDB', {'deconvolution': 'wiener'}, 'deconvolution.*wiener'),
    ],
)
def test_wrong_settings_are_named(name, settings, named):
    with pytest.raises(OptionError, match=named):
        method(name, settings)
