"""The GGKM blur under reflection, Eqs. (9), (13) and (16), as products of spectra, forward and backward.

    B o u = sum_p W_p (beta_p * z_p) = sum_p beta_p * F^-1(T_p * W_p F(u)),    T_p = t_p T_{p-1}

t_p is the real transfer function of gbar_p and W_p (C',C) the output layer's block for z_p: mixing colours commutes
with the chain, so it is done in the spectrum, and of each step one image is made, weighed and added. However many steps
there are, the forward pass keeps a constant number of images; the backward pass makes the spectra again, from copies
of T_p at every sqrt(P)-th step.

Two approximations stay below the dtype's rounding. A chain of blurs is a low pass: from the step on at which a bound on
T_p has fallen below `NEGLIGIBLE` for a frequency, that frequency is left out. And the FFT's margin leaves out as much
of the cumulative kernels' mass. Both follow from alpha, unless a fixed `margin` is given: a GPU would have to be waited
for, so that there every frequency is kept, within the margin that suits any alpha (`widest_margin`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ggkm_plugin.ops.bases import Band, Basis, CosineBasis, FourierBasis

# Shares of amplitude and mass that are left out.
NEGLIGIBLE = {torch.float32: 3e-8, torch.float64: 1e-15}
# On a CPU, products of matrices are faster up to about this many pixels, FFTs of the continued image beyond.
_MATRIX_PIXELS = 256 * 256

ADAPTIVE = -1


def margin_of(alpha: Tensor, bank: Tensor, iterative: bool, dtype: torch.dtype) -> int:
    """Pixels beyond which no cumulative kernel has more than a negligible share of its mass, for alpha (B,P,Q)."""
    reach = bank.shape[-1] // 2
    longest = reach * bank.shape[0] if iterative else reach
    taps = torch.einsum('bpq,pqn->bpn', alpha.double().abs(), bank.double().abs())
    transfer = torch.fft.rfft(taps, n=2 * longest + 2)
    if iterative:
        transfer = transfer.prod(dim=1, keepdim=True)
    line = torch.fft.irfft(transfer, n=2 * longest + 2)[..., longest : 2 * longest + 1]
    outside = 2 * line.flip(-1).cumsum(-1).flip(-1)
    return max(int((outside > NEGLIGIBLE[dtype]).any(0).any(0).sum()) - 1, 0)


def widest_margin(bank: Tensor, iterative: bool, dtype: torch.dtype = torch.float32) -> int:
    """`margin_of` for any alpha of positive coefficients with sum 1: that of each step's widest kernel."""
    offsets = torch.arange(bank.shape[-1], dtype=torch.float64, device=bank.device) - bank.shape[-1] // 2
    widest = (bank.double() * offsets.square()).sum(-1).argmax(-1)
    return margin_of(F.one_hot(widest, bank.shape[1])[None].double(), bank, iterative, dtype)


def _bands(alpha: Tensor, rows: Tensor, columns: Tensor, iterative: bool, negligible: float) -> list[Band]:
    """For each step, how many frequencies of rows and columns it or a later one needs."""

    def needed(lines: Tensor) -> list[int]:
        bound = torch.einsum('bpq,pqf->bpf', alpha.double().abs(), lines.abs())
        bound = (bound.cumprod(1) if iterative else bound).amax(0)
        last = ((bound > negligible) * torch.arange(1, bound.shape[1] + 1)).amax(1).clamp(min=1)
        return last.flip(0).cummax(0).values.flip(0).tolist()

    return list(zip(needed(rows), needed(columns), strict=True))


@dataclass(frozen=True)
class _Chain:
    """The steps' transfer functions: `rows` (P,Q,F) and `columns` (P,Q,G) of every kernel, cut to the steps' bands."""

    basis: Basis
    alpha: Tensor
    rows: Tensor
    columns: Tensor
    bands: list[Band]
    iterative: bool

    def __len__(self) -> int:
        return len(self.bands)

    def step(self, j: int) -> Tensor:
        """t of step j, (B,F',G') in its band."""
        f, g = self.bands[j]
        weighted = self.alpha[:, j, :, None] * self.rows[j, :, :f]
        return weighted.mT @ self.columns[j, :, :g]

    def step_adjoint(self, j: int, gradient: Tensor) -> Tensor:
        """The gradient (B,Q) of alpha, from that of t (B,F',G')."""
        f, g = gradient.shape[-2:]
        return ((gradient @ self.columns[j, :, :g].T) * self.rows[j, :, :f].T).sum(-2)

    def transfer(self, j: int, before: Tensor | None) -> Tensor:
        """T of step j, from that of the step before."""
        t = self.step(j)
        return t if before is None or not self.iterative else t.mul_(_cut(before, self.bands[j]))

    def backwards(self) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Step, its T, and the T before, from the last step to the first; T is kept at every sqrt(P)-th step only."""
        if not self.iterative:
            yield from ((j, self.step(j), None) for j in reversed(range(len(self))))
            return
        stride = math.isqrt(len(self) - 1) + 1
        kept: list[Tensor | None] = [None]
        current: Tensor | None = None
        for j in range((len(self) - 1) // stride * stride):
            current = self.transfer(j, current)
            if (j + 1) % stride == 0:
                kept.append(current)
        while kept:
            first = (len(kept) - 1) * stride
            segment = [kept.pop()]
            for j in range(first, min(first + stride, len(self))):
                segment.append(self.transfer(j, segment[-1]))
            for i in range(len(segment) - 1, 0, -1):
                current = segment.pop()
                assert current is not None
                yield first + i - 1, current, segment[-1]


def _plan(u: Tensor, alpha: Tensor, bank: Tensor, iterative: bool, margin: int, form: str) -> _Chain:
    negligible, adaptive = NEGLIGIBLE[u.dtype], margin == ADAPTIVE
    matrices = (
        u.device.type == 'cpu' and u.shape[-2] * u.shape[-1] <= _MATRIX_PIXELS if form == 'auto' else form == 'dct'
    )
    basis: Basis
    if matrices:
        basis = CosineBasis(u)
    else:
        basis = FourierBasis(u, margin_of(alpha, bank, iterative, u.dtype) if adaptive else margin)
    rows, columns = basis.transfer(bank)
    bands = [basis.frequencies] * bank.shape[0]
    if adaptive:
        bands = [basis.cut(band) for band in _bands(alpha, rows, columns, iterative, negligible)]
    return _Chain(basis, alpha, rows.to(u.dtype), columns.to(u.dtype), bands, iterative)


def _cut(spectrum: Tensor, band: Band) -> Tensor:
    return spectrum if tuple(spectrum.shape[-2:]) == band else spectrum[..., : band[0], : band[1]].contiguous()


def _lines(spectrum: Tensor) -> Tensor:
    """(B,C,F,G), real or complex, as real (B,C,N)."""
    return (torch.view_as_real(spectrum) if spectrum.is_complex() else spectrum).flatten(2)


def _mixed(weight: Tensor | None, spectrum: Tensor) -> Tensor:
    """Colours mixed by weight (C',C), or as they are."""
    if weight is None:
        return spectrum
    batch, _, f, g = spectrum.shape
    mixed = torch.matmul(weight, _lines(spectrum))
    if spectrum.is_complex():
        return torch.view_as_complex(mixed.view(batch, -1, f, g, 2))
    return mixed.view(batch, -1, f, g)


def _blocks(mix: Tensor | None, channels: int) -> list[Tensor | None] | None:
    """W_p (C',C) of every map."""
    return None if mix is None else list(mix.flatten(1).split(channels, dim=1))


@torch.library.custom_op('ggkm_plugin::spectral_blur', mutates_args=())
def spectral_blur(
    u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, mix: Tensor | None, iterative: bool, margin: int, form: str
) -> Tensor:
    """B o u (B,C',H,W) for u (B,C,H,W), alpha (B,P,Q), bank (P,Q,2P+1), mix (C',M*C,1,1) or None for a plain sum.

    u, alpha and bank are of one dtype, float32 or float64; beta (B,M,H,W) of any: it is converted map by map. M is P,
    or P+1 with the identity's map first. `margin` in pixels, or ADAPTIVE. `form` is auto, dct or fft.
    """
    maps, groups, channels = beta.shape[1], bank.shape[0], u.shape[1]
    weights = _blocks(mix, channels)
    out = u.new_zeros(u.shape[0], channels if mix is None else mix.shape[0], *u.shape[-2:])
    if maps > groups:
        mixed = u if weights is None else torch.matmul(weights[0], u.flatten(2)).view_as(out)
        out.addcmul_(beta[:, :1].to(u.dtype), mixed)
    chain = _plan(u, alpha, bank, iterative, margin, form)
    spectrum, transfer = chain.basis.analyse(u), None
    for j in range(groups):
        p = j + maps - groups
        spectrum, transfer = _cut(spectrum, chain.bands[j]), chain.transfer(j, transfer)
        product = _mixed(None if weights is None else weights[p], spectrum) * transfer.unsqueeze(1)
        coefficients = beta[:, p : p + 1]
        for rows, image in chain.basis.synthesise(product):
            out[..., rows, :].addcmul_(coefficients[..., rows, :].to(u.dtype), image)
    return out


@spectral_blur.register_fake
def _(
    u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, mix: Tensor | None, iterative: bool, margin: int, form: str
) -> Tensor:
    return u.new_empty(u.shape[0], u.shape[1] if mix is None else mix.shape[0], *u.shape[-2:])


@torch.library.custom_op('ggkm_plugin::spectral_blur_backward', mutates_args=())
def spectral_blur_backward(
    gradient: Tensor,
    u: Tensor,
    alpha: Tensor,
    beta: Tensor,
    bank: Tensor,
    mix: Tensor | None,
    iterative: bool,
    margin: int,
    form: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, alpha, beta and mix (empty without one), from that of `spectral_blur`'s result."""
    maps, groups, channels = beta.shape[1], bank.shape[0], u.shape[1]
    weights = _blocks(mix, channels)
    d_alpha = torch.zeros_like(alpha)
    d_beta = torch.empty_like(beta, memory_format=torch.contiguous_format)
    d_mix = u.new_empty(0) if mix is None else torch.empty_like(mix, memory_format=torch.contiguous_format)
    d_weights = None if mix is None else d_mix.flatten(1).split(channels, dim=1)
    d_u = torch.zeros_like(u)
    if maps > groups:
        weighted = gradient * beta[:, :1].to(u.dtype)
        if weights is None or d_weights is None:
            d_u += weighted
            mixed = u
        else:
            lines = u.flatten(2)
            d_u += torch.matmul(weights[0].T, weighted.flatten(2)).view_as(u)
            d_weights[0].copy_((weighted.flatten(2) @ lines.mT).sum(0))
            mixed = torch.matmul(weights[0], lines).view_as(gradient)
        d_beta[:, 0] = (gradient * mixed).sum(1)

    chain = _plan(u, alpha, bank, iterative, margin, form)
    basis = chain.basis
    whole = basis.analyse(u)
    d_spectrum = torch.zeros_like(whole)
    d_transfer: Tensor | None = None  # of T_p, through all that follows
    for j, transfer, before in chain.backwards():
        p, (f, g) = j + maps - groups, chain.bands[j]
        weight = None if weights is None else weights[p]
        scale = basis.weight((f, g))
        weighted = gradient * beta[:, p : p + 1].to(u.dtype)
        dual = basis.synthesise_adjoint(weighted, (f, g))
        spectrum = whole[..., :f, :g]
        product = spectrum * transfer.unsqueeze(1)
        if weight is not None and d_weights is not None:
            d_weights[p].copy_((_lines(dual * scale) @ _lines(product).mT).sum(0))
        back = _mixed(None if weight is None else weight.T, dual)
        d_spectrum[..., :f, :g] += back * transfer.unsqueeze(1)
        for rows, image in basis.synthesise(_mixed(weight, product)):
            d_beta[:, p, rows] = (gradient[..., rows, :] * image).sum(1)

        own = (back.conj() * spectrum).real.sum(1) * scale if whole.is_complex() else (back * spectrum).sum(1)
        if d_transfer is not None:
            own += F.pad(d_transfer, (0, g - d_transfer.shape[-1], 0, f - d_transfer.shape[-2]))
        if before is not None:
            d_alpha[:, j] = chain.step_adjoint(j, own * _cut(before, (f, g)))
            d_transfer = own.mul_(chain.step(j))
        else:
            d_alpha[:, j] = chain.step_adjoint(j, own)
    d_u += basis.analyse_adjoint(d_spectrum)
    return d_u, d_alpha, d_beta, d_mix


@spectral_blur_backward.register_fake
def _(gradient: Tensor, u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, mix: Tensor | None, *_: object) -> tuple:
    like = (u, alpha, beta, u.new_empty(0) if mix is None else mix)
    return tuple(torch.empty_like(each, memory_format=torch.contiguous_format) for each in like)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.iterative, ctx.margin, ctx.form = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    d_u, d_alpha, d_beta, d_mix = spectral_blur_backward(
        gradient.contiguous(), *tensors, ctx.iterative, ctx.margin, ctx.form
    )
    return d_u, d_alpha, d_beta, None, None if tensors[4] is None else d_mix, None, None, None


spectral_blur.register_autograd(_backward, setup_context=_keep)
