"""Inputs of the GGKM operator, and its value and gradients, for the tests of its forms."""

import math

import torch

from ggkm_plugin.ops import gaussian_bank


def noise(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(size, groups=4, kernels=3, batch=2, channels=3, identity=True, out_channels=3):
    """Return x, alpha (different for each image), beta, mix and bank, all of order 1."""
    maps = groups + identity
    x = noise(batch, channels, *size, seed=1).sigmoid()
    alpha = noise(batch, groups, kernels, seed=2).softmax(-1)
    beta = noise(batch, maps, *size, seed=3).tanh()
    mix = noise(out_channels, maps * channels, 1, 1, seed=4) / math.sqrt(maps * channels)
    return x, alpha, beta, mix, gaussian_bank(groups, kernels)


def close(got, want, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(want, dtype=got.dtype), rtol=0, atol=atol)


def with_gradients(operator, inputs, *rest, **options):
    """Return the value and the gradients of its inner product with a fixed tensor."""
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    value = operator(*inputs, *rest, **options)
    return value.detach(), torch.autograd.grad((value * noise(*value.shape, seed=9)).sum(), inputs)
