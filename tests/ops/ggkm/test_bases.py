"""Bases of the spectral form: inverses, adjoints, and convolutions under reflection as products. float64."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from ggkm_plugin.ops.gaussian import gaussian_taps
from ggkm_plugin.ops.ggkm.spectral import CosineBasis, FourierBasis

SIZES = [(1, 1), (1, 8), (7, 9), (40, 33), (200, 130)]  # the last has several blocks of rows


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bases(size):
    like = noise(1, 1, *size)
    return [CosineBasis(like), FourierBasis(like, 12)]


def image(basis, spectrum, size):
    out = torch.full((*spectrum.shape[:2], *size), torch.nan, dtype=torch.float64)
    for rows, block in basis.synthesize(spectrum):
        out[..., rows, :] = block
    return out


@pytest.mark.parametrize('size', SIZES)
def test_synthesis_inverts_analysis(size):
    u = noise(2, 3, *size)
    for basis in bases(size):
        torch.testing.assert_close(image(basis, basis.analyze(u), size), u, rtol=0, atol=1e-12)


@pytest.mark.parametrize('size', SIZES)
def test_transfer_functions_are_convolution_under_reflection(size):
    """Taps within the margin, against scipy's whole-sample reflection (`mirror`)."""
    taps = torch.stack([gaussian_taps(9, 1.3), gaussian_taps(9, 4.0)])
    u = noise(1, 2, *size)
    want = convolve1d(convolve1d(u.numpy(), taps[0].numpy(), axis=-2, mode='mirror'), taps[1].numpy(), mode='mirror')
    for basis in bases(size):
        rows, columns = basis.transfer(taps)
        spectrum = basis.analyze(u) * torch.outer(rows[0], columns[1])
        np.testing.assert_allclose(image(basis, spectrum, size).numpy(), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize('size', SIZES)
def test_adjoints(size):
    """<v, synthesize(S)> and <S, analyze(u)>, for the full spectrum and for a band."""
    for basis in bases(size):
        u, v = noise(1, 2, *size, seed=1), noise(1, 2, *size, seed=2)
        spectrum = basis.analyze(noise(1, 2, *size, seed=3))
        for band in (basis.frequencies, basis.cut(tuple(-(-n // 2) for n in basis.frequencies))):
            cut = spectrum[..., : band[0], : band[1]]
            dual, weight = basis.synthesize_adjoint(v, band), basis.weight(band)
            inner = (weight * (dual.conj() * cut).real if cut.is_complex() else dual * cut).sum()
            torch.testing.assert_close((v * image(basis, cut, size)).sum(), inner, rtol=1e-12, atol=1e-12)
        dual = basis.synthesize_adjoint(v, basis.frequencies)
        round_trip = (u * basis.analyze_adjoint(dual)).sum()  # synthesize(analyze(u)) = u
        torch.testing.assert_close(round_trip, (u * v).sum(), rtol=1e-11, atol=1e-11)
