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

`ggkm_blur` has several forms that agree to rounding, of which `auto` takes the fastest:

dct, fft    products of spectra, z never made (`spectral`); under `reflect` only
fused       fft in Triton kernels, in float32; on a GPU, or in Triton's interpreter
separable   every g_{p,q} as two one-dimensional passes, weighed and added step by step
reference   dense composite kernels, as the equations read
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ggkm_plugin.ops import spectral
from ggkm_plugin.ops.boundary import BOUNDARIES, pad
from ggkm_plugin.ops.dct import dct1, idct1, transfer_function
from ggkm_plugin.ops.precision import colour_mix, full_precision

FORMS = ('auto', 'dct', 'fft', 'fused', 'separable', 'reference')


def _chain_reflect(x: Tensor, alpha: Tensor, bank: Tensor, iterative: bool) -> Tensor:
    """z_2 .. z_{P+1} as products in the DCT-I basis: reflection of every step is one mirror extension of x."""
    rows, columns = (transfer_function(bank, n) for n in x.shape[-2:])
    transfer = torch.einsum('bpq,pqh,pqw->bphw', alpha, rows, columns)
    if iterative:
        transfer = transfer.cumprod(dim=1)
    return idct1(transfer.unsqueeze(2) * dct1(x).unsqueeze(1))


def _step_separable(source: Tensor, alpha: Tensor, bank: Tensor, j: int, boundary: str) -> Tensor:
    """gbar of step j (*) source, every g_{p,q} as two one-dimensional passes."""
    batch, channels, height, width = source.shape
    num_groups, kernels, _ = bank.shape
    reach = j + 1
    taps = bank[j, :, num_groups - reach : num_groups + reach + 1]
    padded = pad(source, reach, reach, reach, reach, boundary)
    padded = padded.reshape(batch * channels, 1, height + 2 * reach, width + 2 * reach)
    blurred = F.conv2d(F.conv2d(padded, taps[:, None, None, :]), taps[:, None, :, None], groups=kernels)
    return torch.einsum('bq,bcqhw->bchw', alpha[:, j], blurred.view(batch, channels, kernels, height, width))


def _chain_separable(x: Tensor, alpha: Tensor, bank: Tensor, iterative: bool, boundary: str) -> Tensor:
    """z_2 .. z_{P+1}, step by step."""
    z, outputs = x, []
    for j in range(bank.shape[0]):
        z = _step_separable(z if iterative else x, alpha, bank, j, boundary)
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
    form: str = 'auto',
) -> Tensor:
    """z, Eqs. (13) and (16): (B,M,C,H,W) in float32 or wider, M = P+1, or P without the identity.

    `iterative=False` applies each gbar_p to x itself, the paper's "standard" alternative. `form` is `auto`, which under
    `reflect` is products in the DCT-I basis, or `separable`. Raises ValueError on shapes or a boundary that do not fit.
    """
    with full_precision(x):
        x, alpha, bank = _prepare(x, alpha, bank, boundary)
        if boundary == 'reflect' and form == 'auto':
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
    weighted = beta.to(z.dtype).unsqueeze(2) * z
    return weighted.sum(dim=1) if mix is None else colour_mix(weighted.flatten(1, 2), mix)


def _term(z: Tensor, beta: Tensor, mix: Tensor | None, p: int) -> Tensor:
    """W_p (beta_p * z_p), one term of the sum."""
    channels = z.shape[1]
    mixed = z if mix is None else colour_mix(z, mix[:, p * channels : (p + 1) * channels])
    return beta[:, p : p + 1].to(z.dtype) * mixed


def _blur_separable(
    x: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, mix: Tensor | None, boundary: str, iterative: bool
) -> Tensor:
    """Step by step, each z_p added once it is made; in training, sqrt(P) segments of the chain are computed again."""
    groups = bank.shape[0]
    skipped = beta.shape[1] - groups

    def segment(z: Tensor, total: Tensor, steps: Iterable[int]) -> tuple[Tensor, Tensor]:
        for j in steps:
            z = _step_separable(z if iterative else x, alpha, bank, j, boundary)
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


def _check_sum(x: Tensor, beta: Tensor, bank: Tensor, include_identity: bool, boundary: str, form: str) -> None:
    batch, _, *size = x.shape
    if beta.shape != (wanted := (batch, bank.shape[0] + include_identity, *size)):
        raise ValueError(f'beta has shape {tuple(beta.shape)}, not (B, M, H, W) = {wanted}')
    if form not in FORMS:
        raise ValueError(f'form is one of {", ".join(FORMS)}, not {form!r}')
    if form in ('dct', 'fft', 'fused') and boundary != 'reflect':
        raise ValueError(f'form: {form} needs boundary: reflect, not {boundary}')


def ggkm_blur(
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    bank: Tensor,
    mix: Tensor | None = None,
    boundary: str = 'reflect',
    include_identity: bool = True,
    iterative: bool = True,
    form: str = 'auto',
    margin: int | None = None,
) -> Tensor:
    """B o x, Eq. (9): (B,C,H,W) in float32 or wider.

    `mix` (C', M*C, 1, 1), channel m*C+c for colour c of z_m, replaces the plain sum over m by a learned 1x1
    convolution (Sec. 4.1). `form` is one of FORMS. `margin` in pixels is that of the FFT (`spectral.widest_margin`);
    None finds the one that alpha allows, for which a GPU has to be waited. The images alive at once do not depend on
    P, but for sqrt(P) of them in training. Raises ValueError on shapes, a form or a boundary that do not fit, and where
    `fused` is asked for without Triton.
    """
    if form == 'reference':
        return ggkm_blur_ref(x, alpha, beta, bank, mix, boundary, include_identity, iterative)
    with full_precision(x):
        x, alpha, bank = _prepare(x, alpha, bank, boundary)
        _check_sum(x, beta, bank, include_identity, boundary, form)
        mix = None if mix is None else mix.to(x.dtype)
        if boundary != 'reflect' or form == 'separable':
            return _blur_separable(x, alpha, beta, bank, mix, boundary, iterative)
        if torch.compiler.is_exporting():  # to programs without Python, in operations that each of them knows
            z = _with_identity(x, _chain_reflect(x, alpha, bank, iterative), include_identity)
            return _weighted_sum(z, beta, mix)
        margin = spectral.ADAPTIVE if margin is None else margin
        return spectral.spectral_blur(x, alpha, beta, bank, mix, iterative, margin, form)


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
    z = iterative_group_conv_ref(x, alpha, bank, boundary, include_identity, iterative)
    _check_sum(x, beta, bank, include_identity, boundary, 'reference')
    with full_precision(z):
        return _weighted_sum(z, beta, None if mix is None else mix.to(z.dtype))
