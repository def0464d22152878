"""Fallback from the Triton form of the blur to the FFT form, with kernels that fail in the place of a GPU's."""

import warnings

import pytest
import torch
from problems import problem, with_gradients

from ggkm_plugin.ops import ggkm_blur
from ggkm_plugin.ops.ggkm import spectral
from ggkm_plugin.ops.ggkm import triton as kernels


class Kernels:
    """Replacement of the Triton form that computes the FFT form and may spoil or refuse it."""

    def __init__(self):
        self.factor, self.largest, self.calls = 1.0, None, 0

    def blur(self, u, alpha, beta, bank, weights, iterative, margin):
        self.calls += 1
        if self.factor is None or (self.largest and u.shape[-1] > self.largest):
            raise RuntimeError('no kernel image is available')
        mix = weights if weights is None else spectral._joined(weights, torch.empty(3, beta.shape[1] * 3, 1, 1), u)
        return self.factor * spectral.compute_blur(u, alpha, beta, bank, mix, iterative, margin, 'fft')

    def gradients(self, gradient, u, alpha, beta, bank, weights, iterative, margin):
        self.calls += 1
        mix = weights if weights is None else spectral._joined(weights, torch.empty(3, beta.shape[1] * 3, 1, 1), u)
        found = spectral.compute_gradients(gradient, u, alpha, beta, bank, mix, iterative, margin, 'fft')
        return *found[:3], spectral._blocks(found[3] * (self.factor or 1), beta.shape[1])


@pytest.fixture
def fake(monkeypatch):
    """A CPU that takes the Triton form by default, as a GPU does."""
    found = Kernels()
    monkeypatch.setattr(spectral, 'FUSED_DEVICES', ('cpu',))
    monkeypatch.setattr(kernels, '_unusable', None)
    monkeypatch.setattr(kernels, '_failures', {})
    monkeypatch.setattr(kernels, 'blur', found.blur)
    monkeypatch.setattr(kernels, 'gradients', found.gradients)
    return found


def blurred(form: str = 'auto'):
    """Value and gradients of a blur in float32, and the warnings."""
    x, alpha, beta, mix, bank = (each.float() for each in problem((17, 65)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        value, gradients = with_gradients(
            lambda *inputs: ggkm_blur(*inputs[:3], bank, inputs[3], form=form, margin=10), [x, alpha, beta, mix]
        )
    return [value, *gradients], [str(warning.message) for warning in caught]


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def test_good_kernels_are_used(fake):
    _, messages = blurred()
    assert not messages
    assert fake.calls == 4  # a comparison and a call, forward and backward
    blurred()
    assert fake.calls == 6


@pytest.mark.parametrize('spoiled', ['wrong', 'NaN', 'raises', 'raises on a large image'])
def test_kernels_that_fail_are_replaced_by_the_fft_form_with_one_warning(fake, spoiled):
    expected, _ = blurred('fft')
    fake.factor = {'wrong': 1.01, 'NaN': float('nan'), 'raises': None}.get(spoiled, 1.0)
    fake.largest = 60 if spoiled == 'raises on a large image' else None
    found, messages = blurred()
    assert_close(found, expected)
    assert len(messages) == 1
    assert 'cpu' in messages[0]
    calls = fake.calls
    assert blurred()[1] == []
    assert fake.calls == calls


def test_wrong_gradients_are_found_apart_from_the_values(fake, monkeypatch):
    expected, _ = blurred('fft')
    good = fake.gradients
    monkeypatch.setattr(kernels, 'gradients', lambda *inputs: (-good(*inputs)[0], *good(*inputs)[1:]))
    found, messages = blurred()
    assert_close(found, expected)
    assert len(messages) == 1


def test_the_form_can_be_forced(fake, monkeypatch):
    monkeypatch.setenv('BASICSR_BLUR_FORM', 'fft')
    blurred()
    assert fake.calls == 0
    monkeypatch.setenv('BASICSR_BLUR_FORM', 'fused')
    fake.factor = 1.01
    with pytest.raises(ValueError, match='fused'):
        blurred()


def test_a_full_memory_is_no_failure_of_the_kernels(fake, monkeypatch):
    blurred()

    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(kernels, 'blur', full)
    with pytest.raises(torch.OutOfMemoryError):
        blurred()
    assert not any(kernels._failures.values())
