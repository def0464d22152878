"""Each method by its name: photographs in and out, and settings that are told when they are wrong."""

import numpy as np
import pytest
from scipy import ndimage

from ggkm_plugin.classical.methods import METHODS, Method, Settings, method
from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.image_decoding import read_image


@pytest.fixture(scope='module')
def photograph():
    return read_image(builtin_photographs('val')[1].path)[100:228, 300:492]


@pytest.mark.parametrize('name', METHODS)
def test_a_blurred_photograph_gains(photograph, name):
    blurred = ndimage.gaussian_filter(photograph, (1.5, 1.5, 0), mode='nearest')
    told = []
    found = method(name, {'fidelity': 420})(blurred, lambda *step: told.append(step))
    assert (found.shape, found.dtype) == (photograph.shape, np.float32)
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.mean((found - photograph) ** 2) < 0.8 * np.mean((blurred - photograph) ** 2)
    assert told[-1][0] == 'deconvolution'
    assert all(done <= total for _, done, total in told)


@pytest.mark.parametrize('name', METHODS)
def test_the_same_again(photograph, name):
    small, before = photograph[:40, :60].copy(), photograph[:40, :60].copy()
    first = METHODS[name](small)
    np.testing.assert_array_equal(METHODS[name](small), first)
    np.testing.assert_array_equal(small, before)


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (7, 2), (33, 21)])
def test_any_size(name, size):
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    found = METHODS[name](image)
    assert found.shape == image.shape
    assert np.isfinite(found).all()


@pytest.mark.parametrize('name', METHODS)
def test_an_even_photograph_stays(name):
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
    images = list(results.values())
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(images) for b in images[:i])


def test_only_settings_in_use_are_described():
    assert method('JNB').description == {'deconvolution': 'hyper_laplacian', 'fidelity': 16.8, 'bins': 32}
    assert 'fidelity' not in method('JNB', {'deconvolution': 'richardson_lucy'}).description
    assert {name: Method(name, Settings()) for name in ('EBDB', 'JNB')} == METHODS


@pytest.mark.parametrize(
    ('name', 'settings', 'words'),
    [
        ('EDBB', {}, ['EDBB', 'Did you mean EBDB']),
        (None, {}, ['None', 'EBDB', 'JNB']),
        ('EBDB', {'fidelty': 3}, ['fidelty', 'Did you mean fidelity']),
        ('EBDB', {'fidelity': 0}, ['fidelity', 'above 0', '0']),
        ('EBDB', {'fidelity': '3'}, ['fidelity', "'3'"]),
        ('EBDB', {'fidelity': float('inf')}, ['fidelity', 'inf']),
        ('EBDB', {'bins': 2.5}, ['bins', 'whole', '2.5']),
        ('EBDB', {'iterations': True}, ['iterations', 'True']),
        ('EBDB', {'deconvolution': 'wiener'}, ['deconvolution', 'wiener', 'richardson_lucy']),
    ],
)
def test_wrong_settings(name, settings, words):
    with pytest.raises(OptionError) as raised:
        method(name, settings)
    assert all(word in str(raised.value) for word in words), raised.value
