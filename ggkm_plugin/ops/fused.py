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
# Rows and columns of a tile, and warps a tile. Kernels that sum over tiles have one warp each: they need no barriers.
_TILE = (4, 64, 4)
_SUMMING_TILE = (1, 64, 1)
_LINE_BLOCK = 128


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
        probe = torch.zeros(1, 1, 1, 1, device=device)
        with _on(probe):
            _extended(probe, (2, 2), 0)
    except Exception as error:  # no C compiler for its launcher, an old driver, a GPU that it does not know ...
        reason = f'Triton does not run on {device}: {type(error).__name__}: {error}'
        if device.type != 'cpu':
            warnings.warn(f'{reason}. The blur takes plain torch instead.', stacklevel=2)
        return reason
    return None


def _on(like: Tensor) -> AbstractContextManager:
    """Triton launches on the current GPU, whichever its arguments are on."""
    return torch.cuda.device(like.device) if like.is_cuda else nullcontext()


def _launch(kernel: str, grid: tuple[int, int], *arguments: Any, **constants: Any) -> None:
    from ggkm_plugin.ops import triton_kernels  # imports triton

    getattr(triton_kernels, kernel)[grid](*arguments, **constants, enable_fp_fusion=True)


def _tiles(plane: tuple[int, int], tile: tuple[int, int, int]) -> int:
    return -(-plane[0] // tile[0]) * -(-plane[1] // tile[1])


def _over(
    plane: tuple[int, int], batch: int, kernel: str, *arguments: Any, summing: bool = False, **constants: Any
) -> None:
    """Launches a kernel over the tiles of planes of a size."""
    rows, columns, warps = tile = _SUMMING_TILE if summing else _TILE
    grid = (_tiles(plane, tile), batch)
    _launch(kernel, grid, *arguments, **constants, BLOCK_Y=rows, BLOCK_X=columns, num_warps=warps)


def _transfer(bank: Tensor, period: int, count: int) -> Tensor:
    """`bases.symmetric_transfer` in one launch, (P,Q,count)."""
    groups, kernels, taps = bank.shape
    lines = bank.new_empty(groups, kernels, count)
    grid = (-(-count // _LINE_BLOCK), groups * kernels)
    _launch('cosine_sums', grid, bank, lines, period, taps // 2, count, BLOCK=_LINE_BLOCK)
    return lines


def _extended(u: Tensor, periods: tuple[int, int], margin: int) -> Tensor:
    """`boundary.pad` by reflection to a size, `margin` pixels before the first."""
    batch, channels, *size = u.shape
    out = u.new_empty(batch, channels, *periods)
    _over(periods, batch * channels, 'extend', u, out, *size, *periods, margin)
    return out


def _collapsed(extended: Tensor, size: tuple[int, int], margin: int) -> Tensor:
    """The adjoint of `_extended`."""
    batch, channels, rows, columns = extended.shape
    lines = extended.new_empty(batch, channels, rows, size[1])
    _over((rows, size[1]), batch * channels, 'collapse', extended, lines, columns, rows, size[1], margin, AXIS=1)
    out = extended.new_empty(batch, channels, *size)
    _over(size, batch * channels, 'collapse', lines, out, rows, *size, margin, AXIS=0)
    return out


def _pairs(steps: range) -> int:
    return -(-len(steps) // 2)


class _Blur:
    """One problem: its geometry, the transfer functions, the spectrum of u, and the launches of the kernels."""

    def __init__(
        self, u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, weights: Tensor | None, iterative: bool, margin: int
    ) -> None:
        self.u, self.alpha, self.beta, self.margin = u.contiguous(), alpha.contiguous(), beta, margin
        self.batch, self.channels = u.shape[:2]
        self.groups, self.kernels = bank.shape[:2]
        self.identity = beta.shape[1] > self.groups
        self.out_channels = self.channels if weights is None else weights.shape[1]
        # where there are no weights, a tensor that is not read stands for them
        self.weights = self.u if weights is None else weights
        self.step_weights = self.u if weights is None else weights[int(self.identity) :]
        basis = FourierBasis(u, margin)
        self.size, self.periods, self.half_plane = basis.size, basis.periods, basis.frequencies
        self.scale = 1 / (self.periods[0] * self.periods[1])
        self.rows, self.columns = (
            _transfer(bank.contiguous(), *axis) for axis in zip(self.periods, self.half_plane, strict=True)
        )
        spectrum = torch.fft.rfft2(_extended(self.u, self.periods, margin))
        self.spectrum = torch.view_as_real(spectrum.contiguous())
        pixels = self.batch * self.out_channels * self.periods[0] * self.periods[1]
        self.chunks = chunks_of(self.groups, steps_at_once(pixels))
        self.colours: dict[str, Any] = {'C': self.channels, 'OUT': self.out_channels, 'MIXED': weights is not None}
        self.chain = {**self.colours, 'Q': self.kernels, 'ITERATIVE': iterative}

    def transfer(self) -> Tensor:
        """T before the first step: 1."""
        return self.u.new_ones(self.batch, *self.half_plane)

    def _buffer(self, steps: range) -> Tensor:
        return self.u.new_empty(self.batch, _pairs(steps), self.out_channels, *self.periods, 2)

    def _maps(self, steps: range) -> tuple[int, ...]:
        """First map, pairs, maps in all, and the geometry."""
        return steps.start + self.identity, _pairs(steps), self.beta.shape[1], *self.size, *self.periods, self.margin

    def _products(self, steps: range, before: Tensor, after: Tensor, packed: Tensor, write: bool) -> None:
        _over(
            self.half_plane, self.batch, 'products',
            self.spectrum, self.alpha, self.rows, self.columns, self.step_weights, before, after, packed,
            steps.start, _pairs(steps), self.groups, *self.periods, self.scale, **self.chain, WRITE=write,
        )  # fmt: skip

    def advanced(self, steps: range, before: Tensor) -> Tensor:
        """T after some steps, from that before them."""
        after = torch.empty_like(before)
        self._products(steps, before, after, self.spectrum, write=False)
        return after

    def images(self, steps: range, before: Tensor, after: Tensor) -> Tensor:
        """z of some steps, packed. T after them is written to a tensor that may be the one of T before them."""
        packed = self._buffer(steps)
        self._products(steps, before, after, packed, write=True)
        # `products` has divided by the number of pixels, for which torch would take a pass of its own
        return torch.view_as_real(torch.fft.ifft2(torch.view_as_complex(packed), norm='forward'))

    def fold(self, steps: range, images: Tensor, out: Tensor) -> None:
        _over(
            self.size, self.batch, 'fold',
            images, self.u, self.beta, self.weights, out, *self._maps(steps), *self.beta.stride(),
            **self.colours, FIRST=steps.start == 0, IDENTITY=self.identity,
        )  # fmt: skip

    def duals(self, steps: range, gradient: Tensor) -> Tensor:
        """The spectra of beta times the gradient amid zeros, packed."""
        packed = self._buffer(steps)
        strides, out_channels = self.beta.stride(), self.out_channels
        _over(
            self.periods,
            self.batch,
            'weigh',
            gradient,
            self.beta,
            packed,
            *self._maps(steps),
            *strides,
            OUT=out_channels,
        )
        return torch.view_as_real(torch.fft.fft2(torch.view_as_complex(packed)))

    def map_gradients(self, steps: range, images: Tensor, gradient: Tensor, d_beta: Tensor) -> None:
        maps, out_channels = self._maps(steps), self.out_channels
        _over(self.size, self.batch, 'map_gradients', images, gradient, d_beta, *maps, OUT=out_channels)

    def spectral_gradients(
        self, steps: range, duals: Tensor, before: Tensor, carried: Tensor, d_spectrum: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of alpha (B,g,Q), and of W (g,C'C) or empty; adds to d_spectrum, and makes `carried` that of T before."""
        entries = self.kernels + (self.out_channels * self.channels if self.colours['MIXED'] else 0)
        sums = self.u.new_empty(self.batch, _tiles(self.half_plane, _SUMMING_TILE), 2 * _pairs(steps), entries)
        _over(
            self.half_plane, self.batch, 'spectral_gradients',
            duals, self.spectrum, self.alpha, self.rows, self.columns, self.step_weights, before, carried, d_spectrum,
            sums, steps.start, _pairs(steps), self.groups, *self.periods, self.scale, **self.chain, summing=True,
        )  # fmt: skip
        d_alpha, d_weights = sums.sum(1)[:, : len(steps)].split([self.kernels, entries - self.kernels], dim=-1)
        return d_alpha, d_weights.sum(0)

    def identity_gradients(self, gradient: Tensor, d_u: Tensor, d_beta: Tensor) -> Tensor:
        """The gradient of W_0, flat; adds to d_u and fills map 0 of d_beta."""
        entries = self.out_channels * self.channels
        sums = self.u.new_empty(self.batch, _tiles(self.size, _SUMMING_TILE), entries)
        beta_b, _, beta_y, beta_x = self.beta.stride()
        _over(
            self.size, self.batch, 'identity_gradients',
            gradient, self.u, self.beta, self.weights, d_u, d_beta, sums, self.beta.shape[1], *self.size,
            beta_b, beta_y, beta_x, **self.colours, summing=True,
        )  # fmt: skip
        return sums.sum((0, 1))


def blur(
    u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, weights: Tensor | None, iterative: bool, margin: int
) -> Tensor:
    """`spectral.spectral_blur` in float32 within a margin in pixels; weights (M,C',C) are the blocks of `mix`."""
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
    """Of u, alpha, beta and weights, from that of `blur`'s result."""
    with _on(u):
        gradient = gradient.contiguous()
        problem = _Blur(u, alpha, beta, bank, weights, iterative, margin)
        d_alpha, d_beta = torch.empty_like(problem.alpha), beta.new_empty(beta.shape)
        d_weights = None if weights is None else torch.empty_like(weights)
        d_spectrum = torch.zeros_like(problem.spectrum)
        carried = torch.zeros_like(problem.transfer())

        def advance(i: int, before: Tensor) -> Tensor:
            return problem.advanced(problem.chunks[i], before) if iterative else before

        for i, before in backwards(len(problem.chunks), problem.transfer(), advance):
            steps = problem.chunks[i]
            # of these large tensors, only one pair is alive at a time
            problem.map_gradients(steps, problem.images(steps, before, torch.empty_like(before)), gradient, d_beta)
            d_factors, d_blocks = problem.spectral_gradients(
                steps, problem.duals(steps, gradient), before, carried, d_spectrum
            )
            d_alpha[:, steps.start : steps.stop] = d_factors
            if d_weights is not None:
                d_weights[steps.start + problem.identity :][: len(steps)] = d_blocks.view_as(d_weights[: len(steps)])
        image = torch.fft.irfft2(torch.view_as_complex(d_spectrum), s=problem.periods)
        d_u = _collapsed(image.contiguous(), problem.size, margin)
        if problem.identity:
            d_block = problem.identity_gradients(gradient, d_u, d_beta)
            if d_weights is not None:
                d_weights[0] = d_block.view_as(d_weights[0])
        return d_u, d_alpha, d_beta, d_weights
