"""Laws of the GGKM operator and of the iteration built on it: what the paper's Sec. 3 says must hold.

Float64 unless stated otherwise; 1e-12 is the rounding of sums of values of size 1.
"""

import numpy as np
import pytest
import torch

from ggkm_plugin.archs.ggkmnet_ablations_arch import GGKMNetFullyLearned
from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.ops import gaussian_bank, ggkm_blur, ggkm_blur_ref
from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.ops.gaussian import gaussian_taps
from ggkm_plugin.ops.ggkm.spectral import dct1
from ggkm_plugin.restoration.psf import (
    color_diagonal,
    composite_kernels,
    cumulative_kernels,
    effective_radius,
    pixel_psfs,
    psf_maps,
    step_kernels,
    trimmed,
)


def noise(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(got, want, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(want, dtype=got.dtype), rtol=0, atol=atol)


# The fixed-point iteration, Eqs. (10) and (11)


def uniform_blur(sigma, reach=4):
    """B of one Gaussian for all pixels as the grouped model: groups of one kernel, all weight on the last."""
    bank = torch.zeros(reach, 1, 2 * reach + 1, dtype=torch.float64)
    bank[-1, 0] = gaussian_taps(2 * reach + 1, sigma)
    bank[:-1, 0, reach] = 1

    def blur(x):
        beta = torch.zeros(1, reach, *x.shape[-2:], dtype=torch.float64)
        beta[:, -1] = 1
        alpha = torch.ones(1, reach, 1, dtype=torch.float64)
        return ggkm_blur(x, alpha, beta, bank, include_identity=False, iterative=False)

    return blur, bank[-1, 0].numpy()


def transfer_of(taps, size):
    """Eigenvalues of the blur on an image of this size: its taps' cosine sums, one a frequency of the DCT-I."""
    r = np.arange(len(taps)) - len(taps) // 2
    rows, columns = (np.cos(np.pi * np.outer(np.arange(n), r) / (n - 1)) @ taps for n in size)
    return torch.from_numpy(np.outer(rows, columns))


@pytest.mark.parametrize('sigma', [0.5, 1.0])
def test_every_frequency_converges_at_the_rate_of_its_transfer(sigma):
    """From x = y the error of a frequency after t steps is (1 - h)^(t+1) of the sharp image's."""
    size, steps = (21, 34), 40
    sharp = noise(1, 3, *size, seed=0).sigmoid()
    blur, taps = uniform_blur(sigma)
    transfer = transfer_of(taps, size)
    assert transfer.min() > 0  # what the paper's convergence needs
    assert transfer.max() <= 1 + 1e-12
    y = x = blur(sharp)
    for t in range(steps):
        close(dct1(x - sharp), -((1 - transfer) ** (t + 1)) * dct1(sharp), atol=1e-9)  # sums of 714 pixels
        x = y + x - blur(x)  # Eq. (11)
    slow, fast = transfer.flatten().argmin(), transfer.flatten().topk(2).indices[1]
    error = (dct1(x - sharp) / dct1(sharp)).abs().flatten(2)
    assert error[..., slow].min() > error[..., fast].max()


def test_where_the_transfer_is_negative_it_diverges_as_fast_as_predicted():
    """A wide Gaussian cut to 3x3 is nearly a box: the paper's condition fails, and so does the iteration."""
    blur, taps = uniform_blur(3.6, reach=1)
    transfer = transfer_of(taps, (9, 9))
    assert transfer.min() < -0.2
    sharp = noise(1, 1, 9, 9, seed=0)
    y = x = blur(sharp)
    for _ in range(29):
        x = y + x - blur(x)
    want = -((1 - transfer) ** 30) * dct1(sharp)
    close(dct1(x - sharp) / want.abs().max(), want / want.abs().max(), atol=1e-9)
    assert want.abs().max() > 100 * dct1(sharp).abs().max()


# The operator, Eq. (9), as a sum over pixels with kernels of their own, Eq. (2)


def problem(groups, kernels, size, identity=True):
    maps = groups + identity
    x = noise(1, 3, *size, seed=1).sigmoid()
    alpha, beta = noise(1, groups, kernels, seed=2).softmax(-1), noise(1, maps, *size, seed=3).tanh()
    return x, alpha, beta


def direct_sum(x, psfs, boundary='reflect'):
    """sum_{i,j} b_{m,n}[i,j] x[m-i,n-j], each pixel with its own kernel (H*W,C,S,S)."""
    height, width = x.shape[-2:]
    reach = psfs.shape[-1] // 2
    source = pad(x, reach, reach, reach, reach, boundary)[0]
    out = torch.zeros_like(x)
    for m in range(height):
        for n in range(width):
            seen = source[:, m : m + 2 * reach + 1, n : n + 2 * reach + 1].flip(-2, -1)
            out[0, :, m, n] = (psfs[m * width + n] * seen).sum(dim=(-2, -1))
    return out


@pytest.mark.parametrize('iterative', [True, False])
@pytest.mark.parametrize('identity', [True, False])
@pytest.mark.parametrize(('groups', 'size'), [(4, (11, 9)), (6, (5, 24))])
def test_the_operator_is_a_direct_sum_with_per_pixel_kernels(groups, size, identity, iterative):
    x, alpha, beta = problem(groups, 3, size, identity)
    bank = gaussian_bank(groups, 3)
    kernels = cumulative_kernels(step_kernels(bank, alpha[0]), iterative, identity)
    psfs = pixel_psfs(kernels, beta[0].flatten(1))
    options = {'include_identity': identity, 'iterative': iterative}
    for operator in (ggkm_blur_ref, ggkm_blur):
        close(operator(x, alpha, beta, bank, **options), direct_sum(x, psfs))


def test_the_output_layer_s_diagonal_weighs_the_kernels():
    x, alpha, beta = problem(4, 3, (10, 8))
    bank = gaussian_bank(4, 3)
    weight = noise(3, 5, seed=4)
    mix = torch.zeros(3, 15, 1, 1, dtype=torch.float64)
    for color in range(3):
        mix[color, color::3, 0, 0] = weight[color]
    close(color_diagonal(mix), weight, atol=0)
    kernels = cumulative_kernels(step_kernels(bank, alpha[0]))
    psfs = pixel_psfs(kernels, beta[0].flatten(1), color_diagonal(mix))
    close(ggkm_blur_ref(x, alpha, beta, bank, mix), direct_sum(x, psfs))


@pytest.mark.parametrize('arch', [GGKMNet, GGKMNetFullyLearned])
def test_an_impulse_through_the_network_s_blur_draws_the_psf(arch):
    """Learned kernels have no symmetry: a flipped one would be seen."""
    net = arch(width=4, num_groups=4, kernels_per_group=2, num_scales=1).double()
    blur = net.steps[0].blur
    if arch is GGKMNetFullyLearned:
        with torch.no_grad():
            for j, kernels in enumerate(blur.kernels):
                kernels += 0.1 * noise(*kernels.shape, seed=j)
    alpha = noise(1, 4, 2, seed=2).softmax(-1)
    kernels = cumulative_kernels(composite_kernels(blur, alpha[0]))
    beta = noise(5, seed=3)
    (psf,) = pixel_psfs(kernels, beta[:, None], color_diagonal(blur.mix.weight.detach()))
    u = torch.zeros(1, 3, 31, 31, dtype=torch.float64)
    for color in range(3):
        u.zero_()
        u[0, color, 15, 15] = 1
        drawn = blur(u, alpha, beta.view(1, 5, 1, 1).expand(1, 5, 31, 31)) - blur.mix.bias.view(1, 3, 1, 1)
        close(drawn[0, color, 5:26, 5:26].detach(), psf[color])


# Kernels and radii


def test_trimming_leaves_out_what_it_says():
    kernels = cumulative_kernels(step_kernels(gaussian_bank(), noise(21, 4, seed=0).softmax(-1)))
    assert kernels.shape == (22, 463, 463)
    for tail, widest in ((1e-3, 60), (1e-6, 90)):
        cut = trimmed(kernels, tail)
        assert cut.shape[-1] // 2 <= widest
        assert cut.abs().sum(dim=(-2, -1)).min() >= 1 - tail
        smaller = cut[:, 1:-1, 1:-1].abs().sum(dim=(-2, -1))
        assert smaller.min() < 1 - tail
    assert trimmed(kernels[:1]).shape == (1, 1, 1)


def test_the_radius_of_known_psfs():
    point = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    assert effective_radius(point).item() == 0
    point[..., 4, 4] = 2
    assert effective_radius(point).item() == 0
    point[..., 4, 4] = 0
    point[..., 4, 7] = -1
    point[..., 1, 4] = 1
    close(effective_radius(point), [[3.0]])
    taps = gaussian_taps(61, 3.0)
    close(effective_radius(torch.outer(taps, taps)), 3 * np.sqrt(2), atol=1e-9)


@pytest.mark.parametrize('symmetric', [True, False])
@pytest.mark.parametrize('colors', [None, 3])
def test_the_maps_are_of_each_pixel_s_psf(symmetric, colors):
    """Coefficients of both signs, so that no moment of a kernel would do; float32 sums of some hundred offsets."""
    kernels = cumulative_kernels(step_kernels(gaussian_bank(4, 3), noise(4, 3, seed=0).softmax(-1)))
    if not symmetric:
        kernels = kernels * torch.linspace(0.5, 1.5, kernels.shape[-1], dtype=torch.float64)
    beta = noise(5, 6, 7, seed=1).tanh()
    weight = None if colors is None else noise(colors, 5, seed=2)
    psfs = pixel_psfs(kernels, beta.flatten(1), weight)
    together = torch.cat(list(psfs.unbind(1)), dim=-1)  # the colors side by side, each with offsets of its own
    offsets = torch.arange(21, dtype=torch.float64) - 10
    squares = (offsets.square()[:, None] + offsets.square()).repeat(1, psfs.shape[1])
    want = ((together.abs() * squares).sum((-2, -1)) / together.abs().sum((-2, -1))).sqrt()
    got = psf_maps(kernels, beta, weight)
    close(got.radius, want.view(6, 7), atol=2e-5)
    delta = torch.zeros_like(psfs[0, 0])
    delta[10, 10] = 1
    close(got.strength, (psfs - delta).abs().sum(dim=(-2, -1)).mean(dim=1).view(6, 7), atol=2e-5)
    if colors is None:
        close(effective_radius(psfs)[:, 0], want)
