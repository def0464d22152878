"""Laws of the DCT-I in float64; 1e-12 is the rounding error of sums of up to a thousand terms."""

import numpy as np
import pytest
import scipy.fft
import torch

from ggkm_plugin.ops.ggkm import spectral
from ggkm_plugin.ops.ggkm.spectral import dct1, dct1_matrix, idct1, transfer_function

LENGTHS = [1, 2, 3, 4, 7, 16, 31, 64]
SIZES = [(1, 1), (1, 8), (9, 1), (2, 5), (7, 9), (16, 31)]


@pytest.fixture(params=['gemm', 'fft'])
def form(request, monkeypatch):
    """Use one of the two line transforms for every length."""
    monkeypatch.setattr(spectral, '_GEMM_LENGTH', 10**6 if request.param == 'gemm' else 0)


def image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.3


def close(got, want, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(want), rtol=0, atol=atol)


@pytest.mark.parametrize('n', LENGTHS)
def test_matrix_is_its_own_inverse_up_to_the_period(n):
    matrix = dct1_matrix(n)
    close(matrix @ matrix, max(2 * (n - 1), 1) * torch.eye(n, dtype=torch.float64))


@pytest.mark.parametrize('n', [2, 3, 16, 31])
def test_matrix_is_the_one_of_scipy(n):
    close(dct1_matrix(n), scipy.fft.dct(np.eye(n), type=1, axis=0))


@pytest.mark.usefixtures('form')
@pytest.mark.parametrize('size', [size for size in SIZES if min(size) > 1])
def test_equals_scipy(size):
    x = image(2, 3, *size)
    close(dct1(x), scipy.fft.dctn(x.numpy(), type=1, axes=(-2, -1)))


@pytest.mark.parametrize('size', SIZES)
def test_gemm_form_equals_fft_form(size, monkeypatch):
    x = image(2, *size)
    gemm = dct1(x)
    monkeypatch.setattr(spectral, '_GEMM_LENGTH', 0)
    close(dct1(x), gemm)


def test_a_line_beyond_the_gemm_length_equals_scipy():
    """One side is transformed by a matrix product, the other by an FFT."""
    x = image(3, spectral._GEMM_LENGTH + 77)
    close(dct1(x), scipy.fft.dctn(x.numpy(), type=1), atol=1e-10)


@pytest.mark.usefixtures('form')
@pytest.mark.parametrize('size', SIZES)
def test_inverse_inverts(size):
    x = image(2, 3, *size)
    close(idct1(dct1(x)), x)
    close(dct1(idct1(x)), x)


def line(n):
    """Period and number of frequencies of a line of n pixels under reflection."""
    return max(2 * (n - 1), 1), n


def symmetric_taps(reach, seed=1):
    half = image(reach + 1, seed=seed)
    return torch.cat([half[1:].flip(0), half])


@pytest.mark.usefixtures('form')
@pytest.mark.parametrize('reach', [0, 1, 4, 21])
@pytest.mark.parametrize('size', SIZES)
def test_symmetric_convolution_under_reflection_is_diagonal(size, reach):
    """Also for kernels wider than the image."""
    rows, columns = symmetric_taps(reach), symmetric_taps(reach, seed=2)
    x = image(*size)
    padded = np.pad(x.numpy(), reach, mode='reflect')
    for axis, taps in enumerate((rows, columns)):
        padded = np.apply_along_axis(lambda values, taps=taps: np.convolve(values, taps, 'valid'), axis, padded)
    transfer = torch.outer(*(transfer_function(taps, *line(n)) for taps, n in zip((rows, columns), size, strict=True)))
    close(idct1(transfer * dct1(x)), padded, atol=1e-11)


def test_transfer_function_at_zero_frequency_is_the_sum():
    taps = torch.stack([symmetric_taps(3), symmetric_taps(3, seed=2)])
    got = transfer_function(taps, *line(12))
    assert got.shape == (2, 12)
    close(got[:, 0], taps.sum(-1))
    # At the highest frequency the taps alternate in sign.
    close(got[:, -1], (taps * torch.tensor([-1.0, 1, -1, 1, -1, 1, -1], dtype=torch.float64)).sum(-1))


def test_float32_in_float32_out():
    assert dct1(image(5, 6).float()).dtype == torch.float32
