"""Laws of the Gaussian kernels in float64; tolerances are rounding errors of unit sums unless stated."""

import math

import pytest
import torch

from ggkm_plugin.ops.gaussian import gaussian_bank, gaussian_taps, group_sigma

BANKS = [
    {'num_groups': 21, 'kernels_per_group': 4},
    {'num_groups': 21, 'kernels_per_group': 4, 'sigma_denom': 'P', 'sigma_conv': 's2', 'sigma_q0': 1},
    {'num_groups': 1, 'kernels_per_group': 1},
    {'num_groups': 10, 'kernels_per_group': 3, 'sigma_q0': 1},
]


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


def test_default_is_the_bank_of_the_paper():
    bank = gaussian_bank()
    assert bank.shape == (21, 4, 43)
    # The smallest tap, sigma 0.63 at 21 pixels, is 1e-240, which float64 represents.
    assert (bank != 0).sum(-1).tolist() == [[size] * 4 for size in range(3, 44, 2)]
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


def test_eq_3_and_the_authors_code_differ_by_the_root_of_two():
    size = 9
    eq_3 = gaussian_taps(size, 1.7, sigma_conv='s2')
    torch.testing.assert_close(eq_3, gaussian_taps(size, 1.7 / math.sqrt(2), sigma_conv='2s2'), rtol=1e-13, atol=0)
    assert sigma_of(eq_3, exponent=1.0) == pytest.approx(1.7)
    assert sigma_of(gaussian_taps(size, 1.7), exponent=2.0) == pytest.approx(1.7)


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
