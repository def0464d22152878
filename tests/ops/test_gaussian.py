"""Laws of the Gaussian kernels in float64; tolerances are rounding errors of unit sums unless stated."""

import math

import numpy as np
import pytest
import torch

from ggkm_plugin.ops.gaussian import gaussian_bank, gaussian_taps, group_sigma

BANKS = [
    {'num_groups': 21, 'kernels_per_group': 4},
    {'num_groups': 21, 'kernels_per_group': 4, 'sigma_denom': 'P', 'sigma_conv': 's2', 'sigma_q0': 1},
    {'num_groups': 1, 'kernels_per_group': 1},
    {'num_groups': 10, 'kernels_per_group': 3, 'sigma_q0': 1},
]

# Not truncated: the narrowest and widest sigma for which the laws of the infinite Gaussian hold.
UNCUT = [(9, 1.0), (13, 1.5), (21, 2.5), (43, 5.0)]
# The mass of a Gaussian beyond 4 sigma, 6.3e-5, is truncated.
TAIL = 2 * math.erfc(4 / math.sqrt(2))


def variance(taps):
    taps = np.asarray(taps)
    r = np.arange(len(taps)) - (len(taps) - 1) / 2
    return (taps * r**2).sum() / taps.sum()


def sigma_of(taps, exponent=2.0):
    """Compute sigma from the ratio of two neighboring taps, exp(-1/(exponent sigma^2))."""
    middle = len(taps) // 2
    return math.sqrt(-1 / (exponent * math.log(taps[middle + 1] / taps[middle])))


@pytest.mark.parametrize('options', BANKS)
def test_every_kernel_sums_to_one_is_symmetric_and_peaks_at_the_center(options):
    bank = gaussian_bank(**options)
    assert bank.dtype == torch.float64
    torch.testing.assert_close(bank.sum(-1), torch.ones(bank.shape[:2], dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(bank, bank.flip(-1), rtol=0, atol=0)
    assert (bank.argmax(-1) == options['num_groups']).all()


@pytest.mark.parametrize('options', BANKS)
def test_sizes_grow_from_three_by_two_and_the_rest_is_zero(options):
    bank = gaussian_bank(**options)
    num_groups = options['num_groups']
    assert bank.shape == (num_groups, options['kernels_per_group'], 2 * num_groups + 1)
    # The smallest tap, sigma 0.63 at 21 pixels, is 1e-240, which float64 represents.
    sizes = (bank != 0).sum(-1)
    assert sizes.tolist() == [[2 * j + 3] * options['kernels_per_group'] for j in range(num_groups)]


def test_default_is_the_bank_of_the_paper():
    bank = gaussian_bank()
    assert bank.shape == (21, 4, 43)
    # Sec. 4.3 with P = 21, Q = 4, PQ = 84, p = 2 and p = 22, q from 0: in pixels.
    assert [sigma_of(taps) for taps in bank[0]] == pytest.approx([86 / 168 + q for q in range(4)])
    assert [sigma_of(taps) for taps in bank[20]] == pytest.approx([106 / 168 + q for q in range(4)])


@pytest.mark.parametrize('sigma_q0', [0, 1])
@pytest.mark.parametrize(('sigma_denom', 'count'), [('PQ', 84), ('P', 21)])
def test_sigma_has_the_closed_form_of_the_paper(sigma_denom, count, sigma_q0):
    bank = gaussian_bank(sigma_denom=sigma_denom, sigma_q0=sigma_q0)
    for p in range(2, 23):
        for q in range(4):
            want = (p + count) / (2 * count) + q + sigma_q0
            assert group_sigma(p, q, 21, 4, sigma_denom, sigma_q0) == pytest.approx(want)
            # Eight digits: the ratio of small taps loses some.
            assert sigma_of(bank[p - 2, q]) == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize('options', BANKS)
def test_variances_add_under_convolution(options):
    """Exact for all taps of unit sum, also for truncated kernels."""
    bank = gaussian_bank(**options).numpy()
    kernel, total = np.ones(1), 0.0
    for j in range(options['num_groups']):
        for q in range(options['kernels_per_group']):
            taps = bank[j, q]
            kernel, total = np.convolve(kernel, taps), total + variance(taps)
    assert kernel.sum() == pytest.approx(1)
    assert variance(kernel) == pytest.approx(total)


@pytest.mark.parametrize(('size', 'sigma'), UNCUT)
def test_an_untruncated_kernel_has_the_variance_sigma_squared(size, sigma):
    # Beyond 4 sigma, r^2 times the tail mass: 16 sigma^2 * 6e-5 is a thousandth of sigma^2.
    assert variance(gaussian_taps(size, sigma)) == pytest.approx(sigma**2, rel=2e-3)


def test_a_kernel_wider_than_its_size_has_a_smaller_variance():
    # The widest of the first group, sigma 3.5 on 3 taps: nearly a box, whose variance is 2/3.
    assert variance(gaussian_bank()[0, 3]) == pytest.approx(2 / 3, rel=0.03)


@pytest.mark.parametrize(('size', 'sigma'), UNCUT)
def test_transfer_function_is_the_gaussian(size, sigma):
    taps = gaussian_taps(size, sigma).numpy()
    w = np.linspace(0, np.pi, 50)
    transfer = np.cos(np.outer(w, np.arange(size) - size // 2)) @ taps
    # The spectrum of the sampled Gaussian has aliasing, exp(-pi^2 / 2) = 0.7% at sigma 1.
    folded = np.exp(-(sigma**2) * (2 * np.pi - w) ** 2 / 2)
    np.testing.assert_allclose(transfer, np.exp(-(sigma**2) * w**2 / 2) + folded, rtol=0, atol=TAIL)


@pytest.mark.parametrize(('first', 'second'), [(1.0, 1.0), (1.0, 2.5), (3.0, 4.0)])
def test_two_gaussians_in_a_row_are_one(first, second):
    sigma = math.hypot(first, second)
    size = 2 * math.ceil(4 * sigma) + 1
    row = np.convolve(gaussian_taps(size, first), gaussian_taps(size, second))
    one = gaussian_taps(len(row), sigma)
    np.testing.assert_allclose(row, one, rtol=0, atol=TAIL)


@pytest.mark.parametrize('size', [3, 9, 43])
def test_eq_3_and_the_authors_code_differ_by_the_root_of_two(size):
    eq_3 = gaussian_taps(size, 1.7, sigma_conv='s2')
    torch.testing.assert_close(eq_3, gaussian_taps(size, 1.7 / math.sqrt(2), sigma_conv='2s2'), rtol=1e-13, atol=0)
    assert sigma_of(eq_3, exponent=1.0) == pytest.approx(1.7)
    assert sigma_of(gaussian_taps(size, 1.7), exponent=2.0) == pytest.approx(1.7)


def test_bank_passes_the_convention_on():
    narrow, wide = gaussian_bank(sigma_conv='s2'), gaussian_bank()
    assert sigma_of(narrow[7, 2]) * math.sqrt(2) == pytest.approx(sigma_of(wide[7, 2]))


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        ({'sigma_denom': 'Q'}, "sigma_denom is PQ or P, not 'Q'"),
        ({'sigma_conv': '2s'}, "sigma_conv is 2s2 or s2, not '2s'"),
        ({'num_groups': 0}, 'num_groups .* at least 1, not 0'),
        ({'kernels_per_group': -1}, 'kernels_per_group .* -1'),
    ],
)
def test_errors_name_the_option(options, named):
    with pytest.raises(ValueError, match=named):
        gaussian_bank(**options)


def test_literal_sizes_are_1_to_41_with_84_in_the_denominator():
    """Sec. 4.3 counts p from 1: the first group is the identity, and the others are those of the default."""
    literal, default = gaussian_bank(first_size=1), gaussian_bank()
    assert literal.shape == (21, 4, 43)
    assert [int((taps != 0).sum()) for taps in literal[:, 3]] == list(range(1, 42, 2))
    assert literal[0, :, 21].tolist() == [1, 1, 1, 1]
    assert torch.equal(literal[1:], default[:-1])
