"""Separable form of the GGKM operators: every g_{p,q} as two one-dimensional passes, for any boundary.

Symbols are in `ggkm_plugin.ops.ggkm`.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.ops.precision import color_mix


def separable_chain(x: Tensor, alpha: Tensor, bank: Tensor, iterative: bool, boundary: str) -> Tensor:
    """Compute z_2 .. z_{P+1}, step by step: (B,P,C,H,W)."""
    z, outputs = x, []
    for j in range(bank.shape[0]):
        z = _step(z if iterative else x, alpha, bank, j, boundary)
        outputs.append(z)
    return torch.stack(outputs, dim=1)


def separable_blur(
    x: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, mix: Tensor | None, boundary: str, iterative: bool
) -> Tensor:
    """Compute B o x step by step, adding each z_p to the sum as soon as it exists.

    In training, the chain is divided into about sqrt(P) segments that the backward pass recomputes.
    """
    groups = bank.shape[0]
    skipped = beta.shape[1] - groups

    def segment(z: Tensor, total: Tensor, steps: Iterable[int]) -> tuple[Tensor, Tensor]:
        for j in steps:
            z = _step(z if iterative else x, alpha, bank, j, boundary)
            total = total + _term(z, beta, mix, j + skipped)
        return z, total

    total = _term(x, beta, mix, 0) if skipped else torch.zeros_like(x[:, :1])
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return segment(x, total, range(groups))[1]
    z, stride = x, math.isqrt(groups - 1) + 1
    for first in range(0, groups, stride):
        steps = range(first, min(first + stride, groups))
        z, total = checkpoint(segment, z, total, steps, use_reentrant=False)
    return total


def _step(source: Tensor, alpha: Tensor, bank: Tensor, j: int, boundary: str) -> Tensor:
    """Convolve with gbar of step j."""
    batch, channels, height, width = source.shape
    num_groups, kernels, _ = bank.shape
    reach = j + 1
    taps = bank[j, :, num_groups - reach : num_groups + reach + 1]
    padded = pad(source, reach, reach, reach, reach, boundary)
    padded = padded.reshape(batch * channels, 1, height + 2 * reach, width + 2 * reach)
    blurred = F.conv2d(F.conv2d(padded, taps[:, None, None, :]), taps[:, None, :, None], groups=kernels)
    return torch.einsum('bq,bcqhw->bchw', alpha[:, j], blurred.view(batch, channels, kernels, height, width))


def _term(z: Tensor, beta: Tensor, mix: Tensor | None, p: int) -> Tensor:
    """Compute one term of the sum, W_p (beta_p * z_p)."""
    channels = z.shape[1]
    mixed = z if mix is None else color_mix(z, mix[:, p * channels : (p + 1) * channels])
    return beta[:, p : p + 1].to(z.dtype) * mixed
