"""Gaussian kernels of the GGKM model, Eqs. (3) and (6), as one-dimensional taps: g(sigma) = outer(taps, taps)."""

import torch
from torch import Tensor


def gaussian_taps(size: int, sigma: float, sigma_conv: str = '2s2') -> Tensor:
    """Compute `size` (odd) float64 taps of exp(-r^2 / (2 sigma^2)) with sum 1; sigma is in pixels.

    `sigma_conv='s2'` is Eq. (3)'s exp(-r^2 / sigma^2). The default is `2s2`, as in the authors' earlier code.
    """
    if sigma_conv not in ('2s2', 's2'):
        raise ValueError(f'sigma_conv is 2s2 or s2, not {sigma_conv!r}')
    r = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    taps = torch.exp(-r.square() / (sigma**2 * (2 if sigma_conv == '2s2' else 1)))
    return taps / taps.sum()


def group_sigma(
    p: int, q: int, num_groups: int, kernels_per_group: int, sigma_denom: str = 'PQ', sigma_q0: int = 0
) -> float:
    """Compute sigma, in pixels, of kernel q (from 0) of step p: (p + PQ)/(2PQ) + q, Sec. 4.3.

    Not in the paper: `sigma_q0` is the q of the first kernel of a group, 0 because Fig. 6 counts from 0.
    `sigma_denom='P'` reads the formula as (p + P)/(2P) + q.
    """
    if sigma_denom not in ('PQ', 'P'):
        raise ValueError(f'sigma_denom is PQ or P, not {sigma_denom!r}')
    count = num_groups * (kernels_per_group if sigma_denom == 'PQ' else 1)
    return (p + count) / (2 * count) + q + sigma_q0


def gaussian_bank(
    num_groups: int = 21,
    kernels_per_group: int = 4,
    sigma_denom: str = 'PQ',
    sigma_conv: str = '2s2',
    sigma_q0: int = 0,
    first_size: int = 3,
) -> Tensor:
    """Compute the taps of all kernels of the steps p = 2..P+1: float64 (P, Q, 2P+1), centered, zero beyond their size.

    The 2-D kernel g_{p,q} is the outer product of its taps with themselves, so it sums to 1 and is the same for every
    color. Its size is 2p-1 (3 to 2P+1 pixels), as in the paper, which truncates the kernels with a larger sigma.
    `first_size=1` has the steps p = 1..P of sizes 1 to 2P-1, as Sec. 4.3 counts them: the first group is the identity.
    """
    if first_size not in (1, 3):
        raise ValueError(f'first_size is 1 or 3, not {first_size!r}')
    if num_groups < 1 or kernels_per_group < 1:
        raise ValueError(f'num_groups and kernels_per_group are at least 1, not {num_groups} and {kernels_per_group}')
    bank = torch.zeros(num_groups, kernels_per_group, 2 * num_groups + 1, dtype=torch.float64)
    for j in range(num_groups):
        p = j + (first_size + 1) // 2
        for q in range(kernels_per_group):
            sigma = group_sigma(p, q, num_groups, kernels_per_group, sigma_denom, sigma_q0)
            first = num_groups - (p - 1)  # the middle is tap P
            bank[j, q, first : first + 2 * p - 1] = gaussian_taps(2 * p - 1, sigma, sigma_conv)
    return bank


def gkm_taps() -> Tensor:
    """Compute the taps (22, 21), float64, of the fixed kernels of GKMNet (NeurIPS 2021).

    They are the identity and 21 Gaussians of sigma 0.25, 0.5, ... 5.25 pixels (2 sigma^2 in the exponent) and size
    3, 3, 3, 5, 5, 7, 7, ... 21, 21 pixels.
    """
    taps = torch.zeros(22, 21, dtype=torch.float64)
    taps[0, 10] = 1
    for i in range(21):
        reach = max(1, (i + 1) // 2)
        taps[i + 1, 10 - reach : 11 + reach] = gaussian_taps(2 * reach + 1, 0.25 * (i + 1))
    return taps
