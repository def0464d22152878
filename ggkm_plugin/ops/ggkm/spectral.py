"""Spectral form of the GGKM blur under reflection, Eqs. (9), (13) and (16), with its bases; forward and backward.

    B o u = sum_p W_p (beta_p * z_p) = sum_p beta_p * F^-1(T_p * W_p F(u)),    T_p = t_p T_{p-1}

t_p is the real transfer function of gbar_p and W_p (C',C) the output layer's block for z_p. Mixing colors commutes with
the chain, so it is done in the spectrum: each step produces one image, which is weighted and added. The forward pass
keeps a constant number of images for any P. The backward pass recomputes the spectra from copies of T_p at about every
sqrt(P)-th step.

In both bases a symmetric convolution under whole-sample reflection is a product:

`CosineBasis`   DCT-I of the image, as matrix products: exact for any kernel, fastest for small images.
`FourierBasis`  FFT of the image extended by reflection, with a `margin` of at least that many pixels on each side: for
                kernels whose mass beyond the margin is negligible. N log N.

Two approximations stay below the dtype's rounding error. The chain is a low-pass filter: once a bound on T_p is below
`NEGLIGIBLE` at a frequency, later steps skip that frequency. The FFT margin neglects the same share of the cumulative
kernels' mass. Both follow from alpha unless a fixed `margin` is given, such as the one valid for every alpha
(`widest_margin`). A GPU would have to wait for alpha, so there every frequency is kept, and several steps are computed
at a time, in Triton kernels where possible (`triton`).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ggkm_plugin.ops.boundary import pad, pad_adjoint
from ggkm_plugin.ops.precision import exact
from ggkm_plugin.ops.steps import backwards, chunks_of, steps_at_once

# Shares of amplitude and mass that may be neglected.
NEGLIGIBLE = {torch.float32: 3e-8, torch.float64: 1e-15}
# On a CPU, matrix products are faster up to about this many pixels, FFTs of the extended image beyond.
_MATRIX_PIXELS = 256 * 256
# Rows of an image that fit into a processor's cache.
_BLOCK = 96

ADAPTIVE = -1
# Where `auto` takes the Triton form.
FUSED_DEVICES = ('cuda',)

Band = tuple[int, int]  # number of frequencies kept, of rows and of columns
Block = tuple[slice, Tensor]  # rows of an image


def dct1_matrix(n: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
    """Build the DCT-I matrix C (n, n): C[k, m] = w_m cos(pi k m / (n-1)), w = 1 at both ends, else 2; CC = 2(n-1) I."""
    k = torch.arange(n, dtype=torch.float64, device=device)
    matrix = 2 * torch.cos(torch.outer(k, k).remainder(2 * max(n - 1, 1)) * (math.pi / max(n - 1, 1)))
    matrix[:, 0] = 1
    matrix[:, -1] = torch.cos(math.pi * k)
    return matrix.to(dtype)


def dct1(x: Tensor) -> Tensor:
    """Compute the two-dimensional DCT-I of (..., H, W), unnormalized."""
    rows, columns = (dct1_matrix(n, x.dtype, x.device) for n in x.shape[-2:])
    return ((x @ columns.T).transpose(-1, -2) @ rows.T).transpose(-1, -2)


def idct1(spectrum: Tensor) -> Tensor:
    """Compute the inverse of `dct1`: the same transform, scaled."""
    height, width = spectrum.shape[-2:]
    return dct1(spectrum) / (max(2 * (height - 1), 1) * max(2 * (width - 1), 1))


def transfer_function(taps: Tensor, period: int, count: int) -> Tensor:
    """Compute the transfer function (..., count) of symmetric taps (..., 2K+1) at the frequencies k / period."""
    half_size = taps.shape[-1] // 2
    taps = exact(taps)
    m = torch.arange(half_size + 1, dtype=torch.float64, device=taps.device)
    k = torch.arange(count, dtype=torch.float64, device=taps.device)
    cosines = 2 * torch.cos(torch.outer(m, k).remainder(period) * (2 * math.pi / period))
    cosines[0] = 1
    return taps[..., half_size:] @ cosines


def cosine_chain(x: Tensor, alpha: Tensor, bank: Tensor, iterative: bool) -> Tensor:
    """Compute z_2 .. z_{P+1} as products in the DCT-I basis: (B,P,C,H,W), in standard operators only.

    Reflection in every step is one mirror extension of x.
    """
    rows, columns = (transfer_function(bank, max(2 * (n - 1), 1), n).to(x.dtype) for n in x.shape[-2:])
    transfer = torch.einsum('bpq,pqh,pqw->bphw', alpha, rows, columns)
    if iterative:
        transfer = transfer.cumprod(dim=1)
    return idct1(transfer.unsqueeze(2) * dct1(x).unsqueeze(1))


class Basis(Protocol):
    """Basis of images (B,C,H,W) with spectra (B,C,F,G) in which a convolution is `synthesize(transfer * analyze(u))`.

    The transfer function of a separable symmetric kernel is the real outer product of one over the rows' frequencies
    and one over the columns'. A spectrum cut to a band is zero beyond it. `synthesize` yields blocks of rows, which
    stay in the processor's cache. Both transforms are real-linear: `synthesize_adjoint` returns the spectrum g^ for
    which sum(weight * Re(conj(g^) * S)) = <g, synthesize(S)>, and `analyze_adjoint` maps a sum of such spectra back to
    an image.
    """

    frequencies: Band

    def transfer(self, taps: Tensor) -> tuple[Tensor, Tensor]: ...
    def analyze(self, u: Tensor) -> Tensor: ...
    def analyze_adjoint(self, spectrum: Tensor) -> Tensor: ...
    def cut(self, band: Band) -> Band: ...
    def synthesize(self, spectrum: Tensor) -> Iterator[Block]: ...
    def synthesize_adjoint(self, image: Tensor, band: Band) -> Tensor: ...
    def weight(self, band: Band) -> Tensor | float: ...


@lru_cache(maxsize=32)
def _cosines(n: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Build the DCT-I matrix and its inverse."""
    matrix = dct1_matrix(n, torch.float64, device)
    return matrix.to(dtype), (matrix / max(2 * (n - 1), 1)).to(dtype)


class CosineBasis:
    """DCT-I as matrix products."""

    def __init__(self, like: Tensor) -> None:
        self.frequencies = (like.shape[-2], like.shape[-1])
        (self.rows, self.rows_inverse), (self.columns, self.columns_inverse) = (
            _cosines(n, like.dtype, like.device) for n in self.frequencies
        )

    def transfer(self, taps: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = (transfer_function(taps, max(2 * (n - 1), 1), n) for n in self.frequencies)
        return rows, columns

    def analyze(self, u: Tensor) -> Tensor:
        return self.rows @ (u @ self.columns.T)

    def analyze_adjoint(self, spectrum: Tensor) -> Tensor:
        return self.rows.T @ (spectrum @ self.columns)

    def cut(self, band: Band) -> Band:
        return band

    def synthesize(self, spectrum: Tensor) -> Iterator[Block]:
        rows, columns = spectrum.shape[-2:]
        lines = spectrum @ self.columns_inverse[:, :columns].T
        yield slice(None), self.rows_inverse[:, :rows] @ lines

    def synthesize_adjoint(self, image: Tensor, band: Band) -> Tensor:
        return (self.rows_inverse[:, : band[0]].T @ image) @ self.columns_inverse[:, : band[1]]

    def weight(self, band: Band) -> float:
        return 1.0


def fast_length(n: int) -> int:
    """Return the next even number without prime factors above 5, for which FFTs are fast."""
    while n % 2 or pow(30, 32, n):  # such a number divides a power of 30
        n += 1
    return n


class FourierBasis:
    """Real FFT of the image extended by reflection. Bands cut the columns of frequencies, never the rows."""

    def __init__(self, like: Tensor, margin: int) -> None:
        self.size = (like.shape[-2], like.shape[-1])
        self.margin = margin
        self.periods = (fast_length(self.size[0] + 2 * margin), fast_length(self.size[1] + 2 * margin))
        self.frequencies = (self.periods[0], self.periods[1] // 2 + 1)
        self.like = like
        self.block = _BLOCK if like.device.type == 'cpu' else self.size[0]

    @property
    def _margins(self) -> tuple[int, int, int, int]:
        (height, width), (rows, columns), m = self.size, self.periods, self.margin
        return m, columns - width - m, m, rows - height - m

    def transfer(self, taps: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = (
            transfer_function(taps, period, count) for period, count in zip(self.periods, self.frequencies, strict=True)
        )
        return rows, columns

    def analyze(self, u: Tensor) -> Tensor:
        return torch.fft.rfft2(pad(u, *self._margins))

    def analyze_adjoint(self, spectrum: Tensor) -> Tensor:
        return pad_adjoint(torch.fft.irfft2(spectrum, s=self.periods), *self._margins)

    def cut(self, band: Band) -> Band:
        """Keep all rows: their frequencies rise to the highest and fall again."""
        return self.frequencies[0], band[1]

    def synthesize(self, spectrum: Tensor) -> Iterator[Block]:
        """Invert the columns first, then only the rows inside the image."""
        m, (height, width) = self.margin, self.size
        lines = torch.fft.ifft(spectrum, dim=-2)
        for first in range(0, height, self.block):
            rows = slice(first, min(first + self.block, height))
            block = lines[..., m + rows.start : m + rows.stop, :]
            yield rows, torch.fft.irfft(block, n=self.periods[1], dim=-1)[..., m : m + width]

    def synthesize_adjoint(self, image: Tensor, band: Band) -> Tensor:
        """Transform the zero-padded image: rows first, then only the columns of frequencies in the band."""
        left, right, top, bottom = self._margins
        lines = torch.fft.rfft(torch.nn.functional.pad(image, (left, right)), dim=-1)[..., : band[1]]
        return torch.fft.fft(torch.nn.functional.pad(lines, (0, 0, top, bottom)), dim=-2)

    def weight(self, band: Band) -> Tensor:
        """Count every frequency but the first and the last twice, for its negative; the inverse FFT divides by N."""
        rows, columns = self.periods
        weight = self.like.new_full((self.frequencies[1],), 2 / (rows * columns))
        weight[0] = weight[-1] = 1 / (rows * columns)
        return weight[: band[1]]


def margin_of(alpha: Tensor, bank: Tensor, iterative: bool, dtype: torch.dtype) -> int:
    """Compute the margin, in pixels, beyond which every cumulative kernel has negligible mass, for alpha (B,P,Q)."""
    reach = bank.shape[-1] // 2
    longest = reach * bank.shape[0] if iterative else reach
    taps = torch.einsum('bpq,pqn->bpn', exact(alpha).abs(), exact(bank).abs())
    transfer = torch.fft.rfft(taps, n=2 * longest + 2)
    if iterative:
        transfer = transfer.prod(dim=1, keepdim=True)
    line = torch.fft.irfft(transfer, n=2 * longest + 2)[..., longest : 2 * longest + 1]
    outside = 2 * line.flip(-1).cumsum(-1).flip(-1)
    return max(int((outside > NEGLIGIBLE[dtype]).any(0).any(0).sum()) - 1, 0)


def widest_margin(bank: Tensor, iterative: bool, dtype: torch.dtype = torch.float32) -> int:
    """Compute a margin valid for every alpha of positive coefficients with sum 1: that of the widest kernels."""
    bank = exact(bank)
    offsets = torch.arange(bank.shape[-1], dtype=torch.float64, device=bank.device) - bank.shape[-1] // 2
    widest = (bank * offsets.square()).sum(-1).argmax(-1)
    return margin_of(F.one_hot(widest, bank.shape[1])[None].double(), bank, iterative, dtype)


def _bands(alpha: Tensor, rows: Tensor, columns: Tensor, iterative: bool, negligible: float) -> list[Band]:
    """Find, for each step, how many frequencies of rows and columns this step or a later one needs."""

    def needed(lines: Tensor) -> list[int]:
        bound = torch.einsum('bpq,pqf->bpf', alpha.double().abs(), lines.abs())
        bound = (bound.cumprod(1) if iterative else bound).amax(0)
        last = ((bound > negligible) * torch.arange(1, bound.shape[1] + 1)).amax(1).clamp(min=1)
        return last.flip(0).cummax(0).values.flip(0).tolist()

    return list(zip(needed(rows), needed(columns), strict=True))


@dataclass(frozen=True)
class _Chain:
    """Transfer functions of the steps: `rows` (P,Q,F) and `columns` (P,Q,G) of every kernel.

    Steps are computed in `chunks`; each chunk has one band.
    """

    basis: Basis
    alpha: Tensor
    rows: Tensor
    columns: Tensor
    bands: list[Band]
    chunks: list[range]
    iterative: bool

    def factors(self, steps: range) -> Tensor:
        """Compute t of a range of steps, (B,g,F',G') in their band."""
        (f, g), chunk = self.bands[steps.start], slice(steps.start, steps.stop)
        weighted = self.alpha[:, chunk, :, None] * self.rows[chunk, :, :f]
        return weighted.mT @ self.columns[chunk, :, :g]

    def factors_adjoint(self, j: int, gradient: Tensor) -> Tensor:
        """Compute the gradient (B,Q) of alpha from the gradient (B,F',G') of t of step j."""
        f, g = gradient.shape[-2:]
        return ((gradient @ self.columns[j, :, :g].T) * self.rows[j, :, :f].T).sum(-2)

    def transfers(self, factors: Tensor, before: Tensor | None) -> Tensor:
        """Compute T of a range of steps (B,g,F',G') from their t and from T of the step before them."""
        if not self.iterative:
            return factors
        transfers = factors if factors.shape[1] == 1 else factors.cumprod(1)
        return transfers if before is None else transfers * _low(before, factors).unsqueeze(1)

    def advance(self, i: int, before: Tensor | None) -> Tensor | None:
        """Compute T of the last step of a chunk from T of the step before the chunk."""
        if not self.iterative:
            return None
        factors = self.factors(self.chunks[i])
        after = factors[:, 0] if factors.shape[1] == 1 else factors.prod(1)
        return after if before is None else after.mul_(_low(before, after))


def _margin(alpha: Tensor, bank: Tensor, iterative: bool, margin: int) -> int:
    return margin_of(alpha, bank, iterative, alpha.dtype) if margin == ADAPTIVE else margin


def _plan(u: Tensor, alpha: Tensor, colors: int, bank: Tensor, iterative: bool, margin: int, form: str) -> _Chain:
    """Choose basis, bands and chunks; `colors` is the number of the result's."""
    cpu = u.device.type == 'cpu'
    matrices = cpu and u.shape[-2] * u.shape[-1] <= _MATRIX_PIXELS if form == 'auto' else form == 'dct'
    basis: Basis = CosineBasis(u) if matrices else FourierBasis(u, _margin(alpha, bank, iterative, margin))
    rows, columns = basis.transfer(bank)
    bands = [basis.frequencies] * bank.shape[0]
    if cpu and margin == ADAPTIVE:
        bands = [basis.cut(band) for band in _bands(alpha, rows, columns, iterative, NEGLIGIBLE[u.dtype])]
    # On a CPU one step at a time stays in the cache and has its own band.
    at_once = 1 if cpu else steps_at_once(u.shape[0] * colors * 2 * math.prod(basis.frequencies))
    chunks = chunks_of(bank.shape[0], at_once)
    rows, columns = (lines.to(u.dtype).to(u.device) for lines in (rows, columns))
    return _Chain(basis, alpha, rows, columns, bands, chunks, iterative)


def _low(plane: Tensor, like: Tensor) -> Tensor:
    """Cut a plane to the lower frequencies that `like` has."""
    return plane[..., : like.shape[-2], : like.shape[-1]]


def _lines(spectrum: Tensor) -> Tensor:
    """View (...,F,G), real or complex, as real (...,N)."""
    return torch.view_as_real(spectrum).flatten(-3) if spectrum.is_complex() else spectrum.flatten(-2)


def _mixed(weights: Tensor | None, spectra: Tensor) -> Tensor:
    """Mix the colors of (B,g,C,F,G) by weights (g,C',C), if given."""
    if weights is None:
        return spectra
    mixed = torch.matmul(weights, _lines(spectra))
    if spectra.is_complex():
        return torch.view_as_complex(mixed.unflatten(-1, (*spectra.shape[-2:], 2)))
    return mixed.unflatten(-1, spectra.shape[-2:])


def _blocks(mix: Tensor | None, maps: int) -> Tensor | None:
    """Split `mix` into W_p of every map, (M,C',C)."""
    return None if mix is None else mix.flatten(1).unflatten(1, (maps, -1)).transpose(0, 1).contiguous()


def unavailable(device: torch.device) -> str | None:
    """Return the reason why the Triton form does not run on a device, or None."""
    from ggkm_plugin.ops.ggkm import triton as kernels

    return kernels.failure(device)


def _fused(u: Tensor, form: str, compute: Callable[[ModuleType], Any], backward: bool = False) -> Any:
    """Compute in the Triton module if it takes this image, else return None.

    It takes images on a GPU, and elsewhere (in its interpreter) on request. After a failure on a GPU it takes none.
    Raises ValueError where `fused` is requested and Triton cannot run.
    """
    if form != 'fused' and not (form == 'auto' and u.device.type in FUSED_DEVICES):
        return None
    from ggkm_plugin.ops.ggkm import triton as kernels  # imports Triton, which takes time

    reason = kernels.refusal(u, backward)
    if reason and form == 'fused':
        raise ValueError(f'form: fused is not available: {reason}')
    if reason:
        return None
    try:
        return compute(kernels)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the comparison of a small image does not compile every specialization
        if form == 'fused':
            raise
        kernels.disable(u.device, error)
        return None


def compute_blur(
    u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, mix: Tensor | None, iterative: bool, margin: int, form: str
) -> Tensor:
    """Compute B o u (B,C',H,W) for u (B,C,H,W), alpha (B,P,Q), bank (P,Q,2P+1), mix (C',M*C,1,1) or None for a sum.

    u, alpha and bank have one dtype, float32 or float64; beta (B,M,H,W) may have another and is converted map by map. M
    is P, or P+1 with the identity's map first. `margin` is in pixels, or ADAPTIVE. `form` is auto, dct, fft or fused.
    """
    maps, groups = beta.shape[1], bank.shape[0]
    weights = _blocks(mix, maps)
    fused = _fused(
        u,
        form,
        lambda kernels: kernels.blur(u, alpha, beta, bank, weights, iterative, _margin(alpha, bank, iterative, margin)),
    )
    if fused is not None:
        return fused
    out = u.new_zeros(u.shape[0], u.shape[1] if mix is None else mix.shape[0], *u.shape[-2:])
    if maps > groups:
        mixed = u if weights is None else torch.matmul(weights[0], u.flatten(2)).view_as(out)
        out.addcmul_(beta[:, :1].to(u.dtype), mixed)
    chain = _plan(u, alpha, out.shape[1], bank, iterative, margin, form)
    spectrum, before = chain.basis.analyze(u), None
    for steps in chain.chunks:
        transfers = chain.transfers(chain.factors(steps), before)
        before = transfers[:, -1]
        of = slice(steps.start + maps - groups, steps.stop + maps - groups)
        products = _low(spectrum, before).unsqueeze(1) * transfers.unsqueeze(2)
        for rows, images in chain.basis.synthesize(_mixed(None if weights is None else weights[of], products)):
            for p, image in zip(range(of.start, of.stop), images.unbind(1), strict=True):
                out[..., rows, :].addcmul_(beta[:, p : p + 1, rows].to(u.dtype), image)
    return out


spectral_blur = torch.library.custom_op('ggkm_plugin::spectral_blur', compute_blur, mutates_args=())


@spectral_blur.register_fake
def _(
    u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, mix: Tensor | None, iterative: bool, margin: int, form: str
) -> Tensor:
    return u.new_empty(u.shape[0], u.shape[1] if mix is None else mix.shape[0], *u.shape[-2:])


def compute_gradients(
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
    """Compute the gradients of u, alpha, beta and mix (empty if None) from that of `spectral_blur`'s result."""
    maps, groups = beta.shape[1], bank.shape[0]
    weights = _blocks(mix, maps)
    fused = _fused(
        u,
        form,
        lambda kernels: kernels.gradients(
            gradient, u, alpha, beta, bank, weights, iterative, _margin(alpha, bank, iterative, margin)
        ),
        backward=True,
    )
    if fused is not None:
        return *fused[:3], _joined(fused[3], mix, u)
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
    whole = basis.analyze(u)
    d_spectrum = torch.zeros_like(whole)
    carried: Tensor | None = None  # gradient of T_p through all later steps
    for i, before in backwards(len(chain.chunks), None, chain.advance):
        steps = chain.chunks[i]
        of = slice(steps.start + maps - groups, steps.stop + maps - groups)
        weight, band = None if weights is None else weights[of], chain.bands[steps.start]
        factors, scale = chain.factors(steps), basis.weight(band)
        transfers = chain.transfers(factors, before)
        spectrum = _low(whole, factors).unsqueeze(1)
        products = spectrum * transfers.unsqueeze(2)
        weighted = gradient.unsqueeze(1) * beta[:, of].unsqueeze(2).to(u.dtype)
        dual = basis.synthesize_adjoint(weighted, band)
        if weight is not None and d_weights is not None:
            d_weights[of] = (_lines(dual * scale) @ _lines(products).mT).sum(0)
        back = _mixed(None if weight is None else weight.mT, dual)
        for rows, images in basis.synthesize(_mixed(weight, products)):
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
    d_u += basis.analyze_adjoint(d_spectrum)
    return d_u, d_alpha, d_beta, _joined(d_weights, mix, u)


def _joined(d_weights: Tensor | None, mix: Tensor | None, like: Tensor) -> Tensor:
    """Join the gradients of the blocks to that of mix; a custom operator cannot return None."""
    if d_weights is None or mix is None:
        return like.new_empty(0)
    return d_weights.transpose(0, 1).reshape(mix.shape)


spectral_blur_backward = torch.library.custom_op(
    'ggkm_plugin::spectral_blur_backward', compute_gradients, mutates_args=()
)


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
