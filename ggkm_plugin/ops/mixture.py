"""The GGKM blur operator, Eq. (9), and the iterative group Gaussian convolution it is built on, Eqs. (13) and (16).

    B o x = sum_p beta_p * z_p,    z_1 = x,    z_p = gbar_p (*) z_{p-1},    gbar_p = sum_q alpha_p[q] g_{p,q}

x      (B,C,H,W)   image
alpha  (B,P,Q)     within-group coefficients of the steps p = 2..P+1, one set per image
beta   (B,M,H,W)   coefficient maps, M = P+1: map 0 belongs to z_1 = x, the identity kernel
bank   (P,Q,2P+1)  taps of the kernels g_{p,q} (`gaussian.gaussian_bank`)
z      (B,M,C,H,W) the image under the cumulative kernels

Convolution and correlation agree (the kernels are symmetric); kernel centres are the middle tap. `boundary` says how
each step continues its input: under `reflect` a constant image stays constant, under `zeros` a chain darkens borders.
All of it runs in float32 at least, also under autocast: a bfloat16 chain of 21 steps is off by 0.012.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ggkm_plugin.ops.boundary import BOUNDARIES, pad
from ggkm_plugin.ops.dct import dct1, idct1, transfer_function
from ggkm_plugin.ops.precision import colour_mix, full_precision


def _chain_reflect(x: Tensor, alpha: Tensor, bank: Tensor, iterative: bool) -> Tensor:
    """z_2 .. z_{P+1} as products in the DCT-I basis: reflection of every step is one mirror extension of x."""
    rows, columns = (transfer_function(bank, n) for n in x.shape[-2:])
    transfer = torch.einsum('bpq,pqh,pqw->bphw', alpha, rows, columns)
    if iterative:
        transfer = transfer.cumprod(dim=1)
    return idct1(transfer.unsqueeze(2) * dct1(x).unsqueeze(1))


def _chain_separable(x: Tensor, alpha: Tensor, bank: Tensor, iterative: bool, boundary: str) -> Tensor:
    """z_2 .. z_{P+1}, every g_{p,q} as two one-dimensional passes."""
    batch, channels, height, width = x.shape
    num_groups, kernels, _ = bank.shape
    z, outputs = x, []
    for j in range(num_groups):
        reach = j + 1
        taps = bank[j, :, num_groups - reach : num_groups + reach + 1]
        source = pad(z if iterative else x, reach, reach, reach, reach, boundary)
        source = source.reshape(batch * channels, 1, height + 2 * reach, width + 2 * reach)
        blurred = F.conv2d(F.conv2d(source, taps[:, None, None, :]), taps[:, None, :, None], groups=kernels)
        z = torch.einsum('bq,bcqhw->bchw', alpha[:, j], blurred.view(batch, channels, kernels, height, width))
        outputs.append(z)
    return torch.stack(outputs, dim=1)


def _chain_dense(x: Tensor, alpha: Tensor, bank: Tensor, iterative: bool, boundary: str) -> Tensor:
    """z_2 .. z_{P+1} as the equation reads: composite two-dimensional kernels, one convolution a step."""
    batch, channels, height, width = x.shape
    num_groups = bank.shape[0]
    z, outputs = x, []
    for j in range(num_groups):
        reach = j + 1
        taps = bank[j, :, num_groups - reach : num_groups + reach + 1]
        kernel = torch.einsum('bq,qm,qn->bmn', alpha[:, j], taps, taps)  # gbar_p, Eq. (16)
        source = pad(z if iterative else x, reach, reach, reach, reach, boundary)
        source = source.reshape(1, batch * channels, height + 2 * reach, width + 2 * reach)
        weight = kernel.repeat_interleave(channels, dim=0).unsqueeze(1)
        z = F.conv2d(source, weight, groups=batch * channels).view(batch, channels, height, width)  # Eq. (13)
        outputs.append(z)
    return torch.stack(outputs, dim=1)


def _prepare(x: Tensor, alpha: Tensor, bank: Tensor, boundary: str) -> tuple[Tensor, Tensor, Tensor]:
    """Check shapes and bring the three tensors to one dtype, float32 or wider."""
    if boundary not in BOUNDARIES:
        raise ValueError(f'boundary is one of {", ".join(BOUNDARIES)}, not {boundary!r}')
    if alpha.shape != (x.shape[0], *bank.shape[:2]):
        raise ValueError(f'alpha has shape {tuple(alpha.shape)}, not (B, P, Q) = {(x.shape[0], *bank.shape[:2])}')
    dtype = torch.promote_types(torch.promote_types(x.dtype, alpha.dtype), torch.float32)
    return x.to(dtype), alpha.to(dtype), bank.to(dtype)


def _with_identity(x: Tensor, chain: Tensor, include_identity: bool) -> Tensor:
    return torch.cat([x.unsqueeze(1), chain], dim=1) if include_identity else chain


def iterative_group_conv(
    x: Tensor,
    alpha: Tensor,
    bank: Tensor,
    boundary: str = 'reflect',
    include_identity: bool = True,
    iterative: bool = True,
) -> Tensor:
    """z, Eqs. (13) and (16): (B,M,C,H,W) in float32 or wider, M = P+1, or P without the identity.

    `iterative=False` applies each gbar_p to x itself, the paper's "standard" alternative. Raises ValueError on shapes
    or a boundary that do not fit.
    """
    with full_precision(x):
        x, alpha, bank = _prepare(x, alpha, bank, boundary)
        if boundary == 'reflect':
            chain = _chain_reflect(x, alpha, bank, iterative)
        else:
            chain = _chain_separable(x, alpha, bank, iterative, boundary)
        return _with_identity(x, chain, include_identity)


def iterative_group_conv_ref(
    x: Tensor,
    alpha: Tensor,
    bank: Tensor,
    boundary: str = 'reflect',
    include_identity: bool = True,
    iterative: bool = True,
) -> Tensor:
    """`iterative_group_conv` as the equations read; what the fast form is held against."""
    with full_precision(x):
        x, alpha, bank = _prepare(x, alpha, bank, boundary)
        return _with_identity(x, _chain_dense(x, alpha, bank, iterative, boundary), include_identity)


def _weighted_sum(z: Tensor, beta: Tensor, mix: Tensor | None) -> Tensor:
    """Eq. (9)'s sum over p, or the 1x1 convolution that stands for it in the network."""
    if beta.shape != (wanted := (*z.shape[:2], *z.shape[3:])):
        raise ValueError(f'beta has shape {tuple(beta.shape)}, not (B, M, H, W) = {wanted}')
    with full_precision(z):
        weighted = beta.to(z.dtype).unsqueeze(2) * z
        if mix is None:
            return weighted.sum(dim=1)
        return colour_mix(weighted.flatten(1, 2), mix.to(z.dtype))


def ggkm_blur(
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    bank: Tensor,
    mix: Tensor | None = None,
    boundary: str = 'reflect',
    include_identity: bool = True,
    iterative: bool = True,
) -> Tensor:
    """B o x, Eq. (9): (B,C,H,W) in float32 or wider.

    `mix` (C', M*C, 1, 1), channel m*C+c for colour c of z_m, replaces the plain sum over m by a learned 1x1
    convolution (Sec. 4.1). Raises ValueError on shapes or a boundary that do not fit.
    """
    return _weighted_sum(iterative_group_conv(x, alpha, bank, boundary, include_identity, iterative), beta, mix)


def ggkm_blur_ref(
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    bank: Tensor,
    mix: Tensor | None = None,
    boundary: str = 'reflect',
    include_identity: bool = True,
    iterative: bool = True,
) -> Tensor:
    """`ggkm_blur` on the reference chain."""
    return _weighted_sum(iterative_group_conv_ref(x, alpha, bank, boundary, include_identity, iterative), beta, mix)
