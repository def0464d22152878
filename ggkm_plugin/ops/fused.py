"""`spectral`'s blur and its gradients by Triton kernels (`triton_kernels`) between cuFFT's transforms, in float32.

A chunk of steps, of a size that does not depend on how many there are, is multiplied, transformed, weighed and added
before the next one: forward, T is all that goes on from chunk to chunk. Backward, chunks are walked from the last to
the first; T before each is made again from few kept ones. Every frequency is kept, the GPU is never waited for, and
nothing depends on earlier calls: a CUDA graph may hold all of it.

Tested in Triton's interpreter and compiled for sm_80 and sm_90; not yet run or timed on a GPU.
"""

import importlib.util
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ggkm_plugin.ops.bases import FourierBasis
from ggkm_plugin.ops.steps import backwards, chunks_of, steps_at_once

# Its kernels carry tuples of tensors through loops since then.
_OLDEST_TRITON = (3, 3)
_BLOCK_Y, _BLOCK_X, _LINE_BLOCK = 4, 64, 128


def refusal(u: Tensor) -> str | None:
    """Why these kernels cannot blur an image, or None."""
    if u.dtype != torch.float32:
        return f'the kernels compute in float32, not {str(u.dtype).removeprefix("torch.")}'
    return _failure(u.device)


@lru_cache
def _failure(device: torch.device) -> str | None:
    """What keeps kernels from running on a device; found once a process, by launching one."""
    if importlib.util.find_spec('triton') is None:
        return 'Triton is not installed'
    try:
        import triton

        if tuple(int(part) for part in triton.__version__.split('.')[:2]) < _OLDEST_TRITON:
            return f'Triton {triton.__version__} is older than {".".join(map(str, _OLDEST_TRITON))}'
        _extended(torch.zeros(1, 1, 1, 1, device=device), (2, 2), 0)
    except Exception as error:  # no C compiler for its launcher, an old driver, a GPU that it does not know ...
        reason = f'Triton does not run on {device}: {type(error).__name__}: {error}'
        if device.type != 'cpu':
            warnings.warn(f'{reason}. The blur takes plain torch instead, which is slower.', stacklevel=2)
        return reason
    return None


def _on(like: Tensor) -> AbstractContextManager:
    """Triton launches on the current GPU, whichever its arguments are on."""
    return torch.cuda.device(like.device) if like.is_cuda else nullcontext()


def _tiles(plane: tuple[int, int]) -> int:
    return -(-plane[0] // _BLOCK_Y) * -(-plane[1] // _BLOCK_X)


def _launch(kernel: str, plane: tuple[int, int], batch: int, *arguments: Any, **constants: Any) -> None:
    """Over all tiles of planes of a size."""
    from ggkm_plugin.ops import triton_kernels

    grid = (_tiles(plane), batch)
    getattr(triton_kernels, kernel)[grid](*arguments, **constants, BLOCK_Y=_BLOCK_Y, BLOCK_X=_BLOCK_X)


def _transfer(bank: Tensor, period: int, count: int) -> Tensor:
    """`bases.symmetric_transfer` in one launch, (P,Q,count)."""
    from ggkm_plugin.ops import triton_kernels

    groups, kernels, taps = bank.shape
    lines = bank.new_empty(groups, kernels, count)
    grid = (-(-count // _LINE_BLOCK), groups * kernels)
    triton_kernels.cosine_sums[grid](bank, lines, period, taps // 2, count, BLOCK=_LINE_BLOCK)
    return lines


def _extended(u: Tensor, periods: tuple[int, int], margin: int) -> Tensor:
    """`boundary.pad` by reflection to a size, `margin` pixels before the first."""
    batch, channels, *size = u.shape
    out = u.new_empty(batch, channels, *periods)
    _launch('extend', periods, batch * channels, u, out, *size, *periods, margin)
    return out


def _collapsed(extended: Tensor, size: tuple[int, int], margin: int) -> Tensor:
    """The adjoint of `_extended`."""
    batch, channels, rows, columns = extended.shape
    lines = extended.new_empty(batch, channels, rows, size[1])
    _launch('collapse', (rows, size[1]), batch * channels, extended, lines, columns, rows, size[1], margin, AXIS=1)
    out = extended.new_empty(batch, channels, *size)
    _launch('collapse', size, batch * channels, lines, out, rows, *size, margin, AXIS=0)
    return out


class _Blur:
    """One problem: its geometry, the spectrum of u, the transfer functions, and a launch for each kernel."""

    def __init__(
        self, u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, weights: Tensor | None, iterative: bool, margin: int
    ) -> None:
        self.u, self.alpha, self.beta = u.contiguous(), alpha.contiguous(), beta
        self.batch, channels, *_ = u.shape
        self.groups, kernels, _ = bank.shape
        self.identity = beta.shape[1] > self.groups
        # a tensor that is never read stands for the weights that there are not
        self.weights = self.u if weights is None else weights.contiguous()
        self.step_weights = self.weights[int(self.identity) :] if weights is not None else self.weights
        self.out_channels = channels if weights is None else weights.shape[1]
        self.iterative, self.mixed, self.margin = iterative, weights is not None, margin
        basis = FourierBasis(u, margin)
        self.size, self.periods, self.half_plane = basis.size, basis.periods, basis.frequencies
        self.rows, self.columns = (
            _transfer(bank.contiguous(), *axis) for axis in zip(self.periods, self.half_plane, strict=True)
        )
        spectrum = torch.fft.rfft2(_extended(self.u, self.periods, margin))
        self.spectrum = torch.view_as_real(spectrum.contiguous())
        images = self.batch * self.out_channels
        self.chunks = chunks_of(self.groups, steps_at_once(images * self.periods[0] * self.periods[1]))
        self.colours = {'C': channels, 'OUT': self.out_channels, 'MIXED': self.mixed}
        self.chain = {**self.colours, 'Q': kernels, 'ITERATIVE': iterative}

    def transfer(self) -> Tensor:
        """T before the first step: 1."""
        return self.u.new_ones(self.batch, *self.half_plane)

    def packed(self, steps: range) -> Tensor:
        """An empty buffer for as many steps, two a complex image."""
        return self.u.new_empty(self.batch, -(-len(steps) // 2), self.out_channels, *self.periods, 2)

    def _products(self, steps: range, before: Tensor, after: Tensor, packed: Tensor | None) -> None:
        _launch(
            'products', self.half_plane, self.batch,
            self.spectrum, self.alpha, self.rows, self.columns, self.step_weights, before, after,
            self.spectrum if packed is None else packed, steps.start, -(-len(steps) // 2), self.groups, *self.periods,
            1 / (self.periods[0] * self.periods[1]), **self.chain, WRITE=packed is not None,
        )  # fmt: skip

    def advanced(self, steps: range, before: Tensor) -> Tensor:
        """T after some steps, from that before them."""
        after = torch.empty_like(before)
        self._products(steps, before, after, None)
        return after

    def images(self, steps: range, before: Tensor, after: Tensor) -> Tensor:
        """z of some steps, packed; writes T after them, which may be the tensor of T before them."""
        packed = self.packed(steps)
        self._products(steps, before, after, packed)
        # not normalised: a pass of its own in torch, where `products` has divided already
        return torch.view_as_real(torch.fft.ifft2(torch.view_as_complex(packed), norm='forward'))

    def duals(self, steps: range, gradient: Tensor) -> Tensor:
        """The spectra of beta times the gradient amid zeros, packed."""
        packed = self.packed(steps)
        _launch('weigh', self.periods, self.batch, gradient, self.beta, packed, *self._maps(steps), *self.beta.stride(),
                OUT=self.out_channels)  # fmt: skip
        return torch.view_as_real(torch.fft.fft2(torch.view_as_complex(packed)))

    def _maps(self, steps: range) -> tuple[int, ...]:
        """First map, pairs, maps in all, and the geometry, as kernels on images take them."""
        pairs = -(-len(steps) // 2)
        return steps.start + self.identity, pairs, self.beta.shape[1], *self.size, *self.periods, self.margin

    def fold(self, steps: range, images: Tensor, out: Tensor) -> None:
        _launch(
            'fold', self.size, self.batch,
            images, self.u, self.beta, self.weights, out, *self._maps(steps), *self.beta.stride(),
            **self.colours, FIRST=steps.start == 0, IDENTITY=self.identity,
        )  # fmt: skip

    def map_gradients(self, steps: range, images: Tensor, gradient: Tensor, d_beta: Tensor) -> None:
        _launch('map_gradients', self.size, self.batch, images, gradient, d_beta, *self._maps(steps),
                OUT=self.out_channels)  # fmt: skip

    def spectral_gradients(
        self, steps: range, duals: Tensor, before: Tensor, carried: Tensor, d_spectrum: Tensor
    ) -> Tensor:
        """Gradients of alpha, then W, (B,steps,Q + C'C); carries that of T on and adds to that of u's spectrum."""
        entries = self.alpha.shape[2] + (self.out_channels * self.u.shape[1] if self.mixed else 0)
        pairs = -(-len(steps) // 2)
        sums = self.u.new_empty(self.batch, _tiles(self.half_plane), 2 * pairs, entries)
        _launch(
            'spectral_gradients', self.half_plane, self.batch,
            duals, self.spectrum, self.alpha, self.rows, self.columns, self.step_weights, before, carried, d_spectrum,
            sums, steps.start, pairs, self.groups, *self.periods, 1 / (self.periods[0] * self.periods[1]), **self.chain,
        )  # fmt: skip
        return sums.sum(1)[:, : len(steps)]

    def identity_gradients(self, gradient: Tensor, d_u: Tensor, d_beta: Tensor) -> Tensor:
        """Gradient of W_0, flat; adds to d_u and fills map 0 of d_beta."""
        sums = self.u.new_empty(self.batch, _tiles(self.size), self.out_channels * self.u.shape[1])
        beta_b, _, beta_y, beta_x = self.beta.stride()
        _launch(
            'identity_gradients', self.size, self.batch,
            gradient, self.u, self.beta, self.weights, d_u, d_beta, sums, self.beta.shape[1], *self.size,
            beta_b, beta_y, beta_x, **self.colours,
        )  # fmt: skip
        return sums.sum((0, 1))


def blur(
    u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, weights: Tensor | None, iterative: bool, margin: int
) -> Tensor:
    """`spectral.spectral_blur` for float32 within a margin; weights (M,C',C) are the blocks of `mix`."""
    with _on(u):
        problem = _Blur(u, alpha, beta, bank, weights, iterative, margin)
        out, transfer = u.new_empty(u.shape[0], problem.out_channels, *u.shape[-2:]), problem.transfer()
        for steps in problem.chunks:
            problem.fold(steps, problem.images(steps, transfer, transfer), out)
        return out


def gradients(
    gradient: Tensor,
    u: Tensor,
    alpha: Tensor,
    beta: Tensor,
    bank: Tensor,
    weights: Tensor | None,
    iterative: bool,
    margin: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Of u, alpha, beta and weights, from the (contiguous) gradient of `blur`'s result."""
    with _on(u):
        problem = _Blur(u, alpha, beta, bank, weights, iterative, margin)
        d_alpha, d_beta = torch.empty_like(problem.alpha), beta.new_empty(beta.shape)
        d_weights = None if weights is None else torch.empty_like(problem.weights)
        d_spectrum = torch.zeros_like(problem.spectrum)
        carried = problem.u.new_zeros(problem.batch, *problem.half_plane)

        def advance(i: int, before: Tensor) -> Tensor:
            return problem.advanced(problem.chunks[i], before) if iterative else before

        for i, before in backwards(len(problem.chunks), problem.transfer(), advance):
            steps = problem.chunks[i]
            images = problem.images(steps, before, torch.empty_like(before))
            problem.map_gradients(steps, images, gradient, d_beta)
            del images
            duals = problem.duals(steps, gradient)
            sums = problem.spectral_gradients(steps, duals, before, carried, d_spectrum)
            d_alpha[:, steps.start : steps.stop] = sums[..., : alpha.shape[2]]
            if d_weights is not None:
                first = steps.start + problem.identity
                d_weights[first : first + len(steps)] = sums[..., alpha.shape[2] :].sum(0).view(len(steps), *weights.shape[1:])
        image = torch.fft.irfft2(torch.view_as_complex(d_spectrum), s=problem.periods)
        d_u = _collapsed(image.contiguous(), problem.size, margin)
        if problem.identity:
            d_identity = problem.identity_gradients(gradient, d_u, d_beta)
            if d_weights is not None:
                d_weights[0] = d_identity.view(weights.shape[1:])
        return d_u, d_alpha, d_beta, d_weights
