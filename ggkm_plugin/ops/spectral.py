"""The GGKM blur under reflection, Eqs. (9), (13) and (16), as products of spectra, forward and backward.

    B o u = sum_p W_p (beta_p * z_p) = sum_p beta_p * F^-1(T_p * W_p F(u)),    T_p = t_p T_{p-1}

t_p is the real transfer function of gbar_p and W_p (C',C) the output layer's block for z_p: mixing colours commutes
with the chain, so it is done in the spectrum, and of each step one image is made, weighed and added. However many steps
there are, the forward pass keeps a constant number of images; the backward pass makes the spectra again, from copies
of T_p at about every sqrt(P)-th step.

Two approximations stay below the dtype's rounding. A chain of blurs is a low pass: from the step on at which a bound on
T_p has fallen below `NEGLIGIBLE` for a frequency, that frequency is left out. And the FFT's margin leaves out as much
of the cumulative kernels' mass. Both follow from alpha, unless a fixed `margin` is given, such as the one that suits
any alpha (`widest_margin`).

A GPU would have to be waited for to know alpha: there every frequency is kept. It takes several steps at a time, by
Triton kernels if it can (`fused`).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ggkm_plugin.ops import fused
from ggkm_plugin.ops.bases import Band, Basis, CosineBasis, FourierBasis
from ggkm_plugin.ops.steps import backwards, chunks_of, steps_at_once

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
    """The steps' transfer functions: `rows` (P,Q,F) and `columns` (P,Q,G) of every kernel, cut to the steps' bands.

    Steps come in `chunks` of one band each.
    """

    basis: Basis
    alpha: Tensor
    rows: Tensor
    columns: Tensor
    bands: list[Band]
    chunks: list[range]
    iterative: bool

    def factors(self, steps: range) -> Tensor:
        """t of some steps, (B,g,F',G') in their band."""
        (f, g), chunk = self.bands[steps.start], slice(steps.start, steps.stop)
        weighted = self.alpha[:, chunk, :, None] * self.rows[chunk, :, :f]
        return weighted.mT @ self.columns[chunk, :, :g]

    def factors_adjoint(self, j: int, gradient: Tensor) -> Tensor:
        """The gradient (B,Q) of alpha, from that of t of step j (B,F',G')."""
        f, g = gradient.shape[-2:]
        return ((gradient @ self.columns[j, :, :g].T) * self.rows[j, :, :f].T).sum(-2)

    def transfers(self, factors: Tensor, before: Tensor | None) -> Tensor:
        """T of some steps (B,g,F',G'), from their t and T of the step before them."""
        if not self.iterative:
            return factors
        transfers = factors if factors.shape[1] == 1 else factors.cumprod(1)
        return transfers if before is None else transfers * _low(before, factors).unsqueeze(1)

    def advance(self, i: int, before: Tensor | None) -> Tensor | None:
        """T of the last step of a chunk, from that of the step before the chunk."""
        if not self.iterative:
            return None
        factors = self.factors(self.chunks[i])
        after = factors[:, 0] if factors.shape[1] == 1 else factors.prod(1)
        return after if before is None else after.mul_(_low(before, after))


def _margin(alpha: Tensor, bank: Tensor, iterative: bool, margin: int) -> int:
    return margin_of(alpha, bank, iterative, alpha.dtype) if margin == ADAPTIVE else margin


def _plan(u: Tensor, alpha: Tensor, colours: int, bank: Tensor, iterative: bool, margin: int, form: str) -> _Chain:
    """`colours` are those of the result."""
    cpu = u.device.type == 'cpu'
    matrices = cpu and u.shape[-2] * u.shape[-1] <= _MATRIX_PIXELS if form == 'auto' else form == 'dct'
    basis: Basis = CosineBasis(u) if matrices else FourierBasis(u, _margin(alpha, bank, iterative, margin))
    rows, columns = basis.transfer(bank)
    bands = [basis.frequencies] * bank.shape[0]
    if cpu and margin == ADAPTIVE:
        bands = [basis.cut(band) for band in _bands(alpha, rows, columns, iterative, NEGLIGIBLE[u.dtype])]
    # One step at a time stays in a processor's cache and has a band of its own.
    at_once = 1 if cpu else steps_at_once(u.shape[0] * colours * 2 * math.prod(basis.frequencies))
    chunks = chunks_of(bank.shape[0], at_once)
    return _Chain(basis, alpha, rows.to(u.dtype), columns.to(u.dtype), bands, chunks, iterative)


def _low(plane: Tensor, like: Tensor) -> Tensor:
    """The lower frequencies, those that another one has."""
    return plane[..., : like.shape[-2], : like.shape[-1]]


def _lines(spectrum: Tensor) -> Tensor:
    """(...,F,G), real or complex, as real (...,N)."""
    return torch.view_as_real(spectrum).flatten(-3) if spectrum.is_complex() else spectrum.flatten(-2)


def _mixed(weights: Tensor | None, spectra: Tensor) -> Tensor:
    """Colours of (B,g,C,F,G) mixed by weights (g,C',C), or as they are."""
    if weights is None:
        return spectra
    mixed = torch.matmul(weights, _lines(spectra))
    if spectra.is_complex():
        return torch.view_as_complex(mixed.unflatten(-1, (*spectra.shape[-2:], 2)))
    return mixed.unflatten(-1, spectra.shape[-2:])


def _blocks(mix: Tensor | None, maps: int) -> Tensor | None:
    """W_p of every map, (M,C',C)."""
    return None if mix is None else mix.flatten(1).unflatten(1, (maps, -1)).transpose(0, 1).contiguous()


def _fuses(u: Tensor, form: str) -> bool:
    """Whether Triton kernels do it: on a GPU if they can, elsewhere (in Triton's interpreter) on demand."""
    if form != 'fused' and not (form == 'auto' and u.is_cuda):
        return False
    reason = fused.refusal(u)
    if reason and form == 'fused':
        raise ValueError(f'form: fused cannot be taken: {reason}')
    return reason is None


@torch.library.custom_op('ggkm_plugin::spectral_blur', mutates_args=())
def spectral_blur(
    u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, mix: Tensor | None, iterative: bool, margin: int, form: str
) -> Tensor:
    """B o u (B,C',H,W) for u (B,C,H,W), alpha (B,P,Q), bank (P,Q,2P+1), mix (C',M*C,1,1) or None for a plain sum.

    u, alpha and bank are of one dtype, float32 or float64; beta (B,M,H,W) of any: it is converted map by map. M is P,
    or P+1 with the identity's map first. `margin` in pixels, or ADAPTIVE. `form` is auto, dct, fft or fused.
    """
    maps, groups = beta.shape[1], bank.shape[0]
    weights = _blocks(mix, maps)
    if _fuses(u, form):
        return fused.blur(u, alpha, beta, bank, weights, iterative, _margin(alpha, bank, iterative, margin))
    out = u.new_zeros(u.shape[0], u.shape[1] if mix is None else mix.shape[0], *u.shape[-2:])
    if maps > groups:
        mixed = u if weights is None else torch.matmul(weights[0], u.flatten(2)).view_as(out)
        out.addcmul_(beta[:, :1].to(u.dtype), mixed)
    chain = _plan(u, alpha, out.shape[1], bank, iterative, margin, form)
    spectrum, before = chain.basis.analyse(u), None
    for steps in chain.chunks:
        transfers = chain.transfers(chain.factors(steps), before)
        before = transfers[:, -1]
        of = slice(steps.start + maps - groups, steps.stop + maps - groups)
        products = _low(spectrum, before).unsqueeze(1) * transfers.unsqueeze(2)
        for rows, images in chain.basis.synthesise(_mixed(None if weights is None else weights[of], products)):
            for p, image in zip(range(of.start, of.stop), images.unbind(1), strict=True):
                out[..., rows, :].addcmul_(beta[:, p : p + 1, rows].to(u.dtype), image)
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
    maps, groups = beta.shape[1], bank.shape[0]
    weights = _blocks(mix, maps)
    if _fuses(u, form):
        margin = _margin(alpha, bank, iterative, margin)
        d_u, d_alpha, d_beta, d_weights = fused.gradients(gradient, u, alpha, beta, bank, weights, iterative, margin)
        return d_u, d_alpha, d_beta, _joined(d_weights, mix, u)
    d_alpha = torch.zeros_like(alpha)
    d_beta = torch.empty_like(beta, memory_format=torch.contiguous_format)
    d_weights = None if weights is None else torch.empty_like(weights)
    d_u = torch.zeros_like(u)
    if maps > groups:
        weighted = gradient * beta[:, :1].to(u.dtype)
        if weights is None or d_weights is None:
            d_u += weighted
            mixed = u
        else:
            lines = u.flatten(2)
            d_u += torch.matmul(weights[0].T, weighted.flatten(2)).view_as(u)
            d_weights[0] = (weighted.flatten(2) @ lines.mT).sum(0)
            mixed = torch.matmul(weights[0], lines).view_as(gradient)
        d_beta[:, 0] = (gradient * mixed).sum(1)

    chain = _plan(u, alpha, gradient.shape[1], bank, iterative, margin, form)
    basis = chain.basis
    whole = basis.analyse(u)
    d_spectrum = torch.zeros_like(whole)
    carried: Tensor | None = None  # the gradient of T_p, through all that follows
    for i, before in backwards(len(chain.chunks), None, chain.advance):
        steps = chain.chunks[i]
        of = slice(steps.start + maps - groups, steps.stop + maps - groups)
        weight, band = None if weights is None else weights[of], chain.bands[steps.start]
        factors, scale = chain.factors(steps), basis.weight(band)
        transfers = chain.transfers(factors, before)
        spectrum = _low(whole, factors).unsqueeze(1)
        products = spectrum * transfers.unsqueeze(2)
        weighted = gradient.unsqueeze(1) * beta[:, of].unsqueeze(2).to(u.dtype)
        dual = basis.synthesise_adjoint(weighted, band)
        if weight is not None and d_weights is not None:
            d_weights[of] = (_lines(dual * scale) @ _lines(products).mT).sum(0)
        back = _mixed(None if weight is None else weight.mT, dual)
        for rows, images in basis.synthesise(_mixed(weight, products)):
            d_beta[:, of, rows] = (gradient[..., rows, :].unsqueeze(1) * images).sum(2).to(beta.dtype)

        own = (back.conj() * spectrum).real.sum(2) * scale if whole.is_complex() else (back * spectrum).sum(2)
        for k, j in reversed(list(enumerate(steps))):
            _low(d_spectrum, factors).add_(back[:, k] * transfers[:, k, None])
            d_transfer, earlier = own[:, k], transfers[:, k - 1] if k else before
            if carried is not None:
                _low(d_transfer, carried).add_(carried)
            if iterative and earlier is not None:
                d_alpha[:, j] = chain.factors_adjoint(j, d_transfer * _low(earlier, d_transfer))
                carried = d_transfer.mul_(factors[:, k])
            else:
                d_alpha[:, j] = chain.factors_adjoint(j, d_transfer)
    d_u += basis.analyse_adjoint(d_spectrum)
    return d_u, d_alpha, d_beta, _joined(d_weights, mix, u)


def _joined(d_weights: Tensor | None, mix: Tensor | None, like: Tensor) -> Tensor:
    """The gradient of mix from that of its blocks; an operator cannot return None."""
    if d_weights is None or mix is None:
        return like.new_empty(0)
    return d_weights.transpose(0, 1).reshape(mix.shape)


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
