"""Triton form of the GGKM blur in float32: kernels between cuFFT's transforms, forward and backward, and their launch.

A chunk of steps is multiplied, transformed, weighted and added before the next one. Forward, only T passes from one
chunk to the next. Backward, the chunks run from the last to the first; T before each is recomputed from a few stored
ones. Every frequency is kept, the GPU is never waited for, and nothing depends on earlier calls, so a CUDA graph can
hold all of it.

Two steps of the chain form one complex image, z_p + i z_{p+1}: as many bytes as two real images, while PyTorch copies
the input of every inverse real FFT. With A and B the half spectra of the two,

    packed(k) = A(k) + i B(k),    packed(-k) = conj(A(k)) + i conj(B(k)),    k in the half plane,

and back, A(k) = (packed(k) + conj(packed(-k))) / 2 and B(k) = (packed(k) - conj(packed(-k))) / 2i.

u, gradient, out    (B,C,H,W), (B,C',H,W)   images, contiguous
beta                (B,M,H,W)               any dtype and strides
alpha               (B,P,Q)
rows, columns       (P,Q,F), (P,Q,G)        transfer functions of the kernels along each axis, G = N/2 + 1
weights             (P,C',C)                W_p, unless colors are not mixed (MIXED)
spectrum            (B,C,F,G)               half spectrum of the extended u; complex, like `packed`: pairs of floats
transfer, carried   (B,F,G)                 T, and the gradient of T through all later steps
packed              (B,K,C',F,N)            K pairs of steps, as full complex images or their spectra

All arithmetic is float32 (float64 for the transfer functions), never TF32. There are no atomic additions, so results
repeat bit by bit. Axis 0 of a grid counts tiles of a plane, axis 1 the batch.

Tested in Triton's interpreter and compiled for sm_80 and sm_90; not yet run or timed on a GPU. So the first use on a
device is a comparison with the FFT form (`failure`).
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ggkm_plugin.ops.gaussian import gaussian_bank
from ggkm_plugin.ops.ggkm import spectral
from ggkm_plugin.ops.ggkm.spectral import FourierBasis, compute_blur, compute_gradients
from ggkm_plugin.ops.precision import full_precision
from ggkm_plugin.ops.steps import backwards, chunks_of, steps_at_once

try:
    import triton
    import triton.language as tl

    _unusable = None
    if tuple(int(part) for part in triton.__version__.split('.')[:2]) < (3, 3):  # no tuples of tensors in loops
        _unusable = f'Triton {triton.__version__} is older than 3.3'
except Exception as error:  # then the kernels are plain functions, so that the launch code can be imported and tested
    _unusable = 'Triton is not installed' if isinstance(error, ModuleNotFoundError) else f'Triton is broken: {error}'
    triton = SimpleNamespace(jit=lambda kernel=None, **_: kernel or (lambda function: function))
    tl = SimpleNamespace(constexpr=int, int64=int)

# Rows, columns and warps of a tile. Kernels that sum over tiles use one warp each and need no barriers.
_TILE = (4, 64, 4)
_SUMMING_TILE = (1, 64, 1)
_LINE_BLOCK = 128
# Largest difference from the FFT form, relative to the largest value; both have an error of about 1e-6.
_TOLERANCE = 1e-4

# (device, backward) -> why the kernels are not used there, or None where they passed the comparison
_failures: dict[tuple[torch.device, bool], str | None] = {}


# Kernels


@triton.jit
def _tile(height, width, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr):
    """Return this program's rows (y,1) and columns (1,x) of a plane, and a mask (y,x) of the pixels inside it."""
    across = tl.cdiv(width, BLOCK_X)
    y = (tl.program_id(0) // across * BLOCK_Y + tl.arange(0, BLOCK_Y))[:, None]
    x = (tl.program_id(0) % across * BLOCK_X + tl.arange(0, BLOCK_X))[None, :]
    return y, x, (y < height) & (x < width)


@triton.jit
def _at(y, x, width):
    """Compute offsets in a plane, in 64 bits: there may be more than 2^31."""
    return y.to(tl.int64) * width + x


@triton.jit
def _load_complex(plane, at, inside):
    parts = tl.arange(0, 2)[None, None, :]
    return tl.split(tl.load(plane + 2 * at[:, :, None] + parts, mask=inside[:, :, None], other=0.0))


@triton.jit
def _store_complex(plane, at, real, imaginary, inside):
    parts = tl.arange(0, 2)[None, None, :]
    tl.store(plane + 2 * at[:, :, None] + parts, tl.join(real, imaginary), mask=inside[:, :, None])


@triton.jit
def _load_colors(images, at, inside, plane, COLORS: tl.constexpr):
    loaded = ()
    for c in tl.static_range(COLORS):
        loaded = loaded + (tl.load(images + c * plane + at, mask=inside, other=0.0),)
    return loaded


@triton.jit
def _load_spectrum(spectrum, at, inside, plane, COLORS: tl.constexpr):
    """Load the real and the imaginary parts of all colors."""
    real = ()
    imaginary = ()
    for c in tl.static_range(COLORS):
        re, im = _load_complex(spectrum + 2 * c * plane, at, inside)
        real = real + (re,)
        imaginary = imaginary + (im,)
    return real, imaginary


@triton.jit
def _mixed(colors, weights, row: tl.constexpr, COLORS: tl.constexpr, MIXED: tl.constexpr):
    """Compute color `row` of W_p u; `weights` points at W_p."""
    if MIXED:
        total = tl.zeros_like(colors[0])
        for c in tl.static_range(COLORS):
            total += tl.load(weights + row * COLORS + c) * colors[c]
    else:
        total = colors[row]
    return total


@triton.jit
def _line(lines, j, q, at, length, Q: tl.constexpr):
    """Load the transfer function of kernel q of step j along an axis."""
    return tl.load(lines + (j * Q + q) * length + at, mask=at < length, other=0.0)


@triton.jit
def _factor(alpha, rows, columns, j, f, g, F, G, Q: tl.constexpr):
    """Compute t of step j on a tile."""
    total = tl.load(alpha + j * Q) * _line(rows, j, 0, f, F, Q) * _line(columns, j, 0, g, G, Q)
    for q in tl.static_range(1, Q):
        total += tl.load(alpha + j * Q + q) * _line(rows, j, q, f, F, Q) * _line(columns, j, q, g, G, Q)
    return total


@triton.jit
def cosine_sums(taps, lines, period, reach, length, BLOCK: tl.constexpr):
    """Compute transfer functions (K, length) of symmetric taps (K, 2 reach + 1) at the frequencies k / period."""
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    kernel = tl.program_id(1)
    middle = taps + kernel * (2 * reach + 1) + reach
    turn = tl.full([BLOCK], 6.283185307179586, tl.float64) / period.to(tl.float64)
    total = tl.zeros([BLOCK], tl.float64) + tl.load(middle).to(tl.float64)
    for m in range(1, reach + 1):
        cosine = tl.cos((m * k % period).to(tl.float64) * turn)
        total += 2 * tl.load(middle + m).to(tl.float64) * cosine
    tl.store(lines + kernel * length + k, total.to(tl.float32), mask=k < length)


@triton.jit
def _reflected(i, n):
    """Return the position in a line of n pixels that is shown at i under whole-sample reflection."""
    period = tl.maximum(2 * (n - 1), 1)
    there = (i % period + period) % period
    return tl.minimum(there, period - there)


@triton.jit
def extend(u, extended, height, width, F, N, margin, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr):
    """Extend planes (H,W) by reflection to (F,N); the image starts at (margin, margin)."""
    f, n, inside = _tile(F, N, BLOCK_Y, BLOCK_X)
    plane = tl.program_id(1).to(tl.int64)
    at = _at(_reflected(f - margin, height), _reflected(n - margin, width), width)
    value = tl.load(u + plane * height * width + at, mask=inside, other=0.0)
    tl.store(extended + plane * F * N + _at(f, n, N), value, mask=inside)


@triton.jit
def collapse(
    extended, out, length, height, width, margin, AXIS: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr
):
    """Apply the adjoint of `extend` along one axis: planes of `length` along it, back to (H,W)."""
    y, x, inside = _tile(height, width, BLOCK_Y, BLOCK_X)
    plane = tl.program_id(1).to(tl.int64)
    if AXIS == 0:
        i, n, columns = y, height, width
    else:
        i, n, columns = x, width, length
    source = extended + plane * length * (width if AXIS == 0 else height)
    period = tl.maximum(2 * (n - 1), 1)
    total = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
    for fold in range(tl.cdiv(length, period)):
        for mirrored in tl.static_range(2):
            shifted = margin - i if mirrored else margin + i
            there = (shifted % period + period) % period + fold * period
            # an edge pixel is its own mirror image and occurs once per period
            wanted = inside & (there < length) & ((2 * i % period != 0) | (mirrored == 0))
            at = _at(there, x, columns) if AXIS == 0 else _at(y, there, columns)
            total += tl.load(source + at, mask=wanted, other=0.0)
    tl.store(out + plane * height * width + _at(y, x, width), total, mask=inside)


@triton.jit(do_not_specialize=['first', 'pairs'])
def products(
    spectrum, alpha, rows, columns, weights, before, after, packed, first, pairs, P, F, N, scale,
    C: tl.constexpr, OUT: tl.constexpr, Q: tl.constexpr, MIXED: tl.constexpr, ITERATIVE: tl.constexpr,
    WRITE: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Compute scale * T_p W_p F(u), packed (WRITE), and T after the steps from T before them (ITERATIVE)."""
    G = N // 2 + 1
    f, g, inside = _tile(F, G, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    at = _at(f, g, G)
    alpha += b * P * Q
    transfer = tl.load(before + b * F * G + at, mask=inside, other=0.0)
    if WRITE:
        u_re, u_im = _load_spectrum(spectrum + 2 * b * C * F * G, at, inside, tl.cast(F, tl.int64) * G, C)
        here, there = _at(f, g, N), _at(tl.where(f == 0, 0, F - f), N - g, N)
        twice = inside & (g > 0) & (2 * g < N)  # columns 0 and N/2 are their own mirror images
    for i in range(pairs):
        j = first + 2 * i
        k = tl.minimum(j + 1, P - 1)  # after the last step, repeat it: `fold` ignores that image
        even = _factor(alpha, rows, columns, j, f, g, F, G, Q)
        odd = _factor(alpha, rows, columns, k, f, g, F, G, Q)
        if ITERATIVE:
            even *= transfer
            odd *= even
            transfer = odd
        if WRITE:
            for o in tl.static_range(OUT):
                a_re = scale * even * _mixed(u_re, weights + j * OUT * C, o, C, MIXED)
                a_im = scale * even * _mixed(u_im, weights + j * OUT * C, o, C, MIXED)
                b_re = scale * odd * _mixed(u_re, weights + k * OUT * C, o, C, MIXED)
                b_im = scale * odd * _mixed(u_im, weights + k * OUT * C, o, C, MIXED)
                plane = packed + 2 * ((b * pairs + i) * OUT + o) * F * N
                _store_complex(plane, here, a_re - b_im, a_im + b_re, inside)
                _store_complex(plane, there, a_re + b_im, b_re - a_im, twice)
    if ITERATIVE:
        tl.store(after + b * F * G + at, transfer, mask=inside)


@triton.jit
def _maps(beta, at, inside, p, maps, stride):
    """Load maps p and p + 1 in float32; zeros after the last map."""
    one = tl.load(beta + p * stride + at, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(beta + tl.minimum(p + 1, maps - 1) * stride + at, mask=inside, other=0.0).to(tl.float32)
    return one, tl.where(p + 1 < maps, other, 0.0)


@triton.jit(do_not_specialize=['p', 'pairs'])
def fold(
    packed, u, beta, weight, out, p, pairs, maps, height, width, F, N, margin,
    beta_b: tl.int64, beta_m: tl.int64, beta_y: tl.int64, beta_x: tl.int64,
    C: tl.constexpr, OUT: tl.constexpr, MIXED: tl.constexpr, FIRST: tl.constexpr, IDENTITY: tl.constexpr,
    BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Add beta * z to out, starting at map p; the FIRST call starts from beta_0 W_0 u (IDENTITY) or zeros."""
    y, x, inside = _tile(height, width, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    size = tl.cast(height, tl.int64) * width
    at = _at(y, x, width)
    beta += b * beta_b
    beta_at = y * beta_y + x * beta_x
    if not FIRST:
        total = _load_colors(out + b * OUT * size, at, inside, size, OUT)
    else:
        total = ()
        if IDENTITY:
            colors = _load_colors(u + b * C * size, at, inside, size, C)
            identity = tl.load(beta + beta_at, mask=inside, other=0.0).to(tl.float32)
        for o in tl.static_range(OUT):
            if IDENTITY:
                total = total + (identity * _mixed(colors, weight, o, C, MIXED),)
            else:
                total = total + (tl.zeros([BLOCK_Y, BLOCK_X], tl.float32),)
    window = _at(y + margin, x + margin, N)
    for i in range(pairs):
        one, other = _maps(beta, beta_at, inside, p + 2 * i, maps, beta_m)
        further = ()
        for o in tl.static_range(OUT):
            plane = packed + 2 * ((b * pairs + i) * OUT + o) * F * N
            even, odd = _load_complex(plane, window, inside)
            further = further + (total[o] + one * even + other * odd,)
        total = further
    for o in tl.static_range(OUT):
        tl.store(out + (b * OUT + o) * size + at, total[o], mask=inside)


@triton.jit(do_not_specialize=['p', 'pairs'])
def weigh(
    gradient, beta, packed, p, pairs, maps, height, width, F, N, margin,
    beta_b: tl.int64, beta_m: tl.int64, beta_y: tl.int64, beta_x: tl.int64,
    OUT: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Apply the adjoint of `fold`: beta times the zero-padded gradient, two maps per complex image."""
    f, n, inside = _tile(F, N, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    y, x = f - margin, n - margin
    shown = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    size = tl.cast(height, tl.int64) * width
    g = _load_colors(gradient + b * OUT * size, _at(y, x, width), shown, size, OUT)
    for i in range(pairs):
        one, other = _maps(beta + b * beta_b, y * beta_y + x * beta_x, shown, p + 2 * i, maps, beta_m)
        for o in tl.static_range(OUT):
            plane = packed + 2 * ((b * pairs + i) * OUT + o) * F * N
            _store_complex(plane, _at(f, n, N), one * g[o], other * g[o], inside)


@triton.jit(do_not_specialize=['p', 'pairs'])
def map_gradients(
    packed, gradient, d_beta, p, pairs, maps, height, width, F, N, margin,
    OUT: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Compute d_beta (B,M,H,W), contiguous, starting at map p: the gradient times z, summed over colors."""
    y, x, inside = _tile(height, width, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    size = tl.cast(height, tl.int64) * width
    at = _at(y, x, width)
    g = _load_colors(gradient + b * OUT * size, at, inside, size, OUT)
    window = _at(y + margin, x + margin, N)
    for i in range(pairs):
        one = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
        other = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
        for o in tl.static_range(OUT):
            plane = packed + 2 * ((b * pairs + i) * OUT + o) * F * N
            even, odd = _load_complex(plane, window, inside)
            one += g[o] * even
            other += g[o] * odd
        m = p + 2 * i
        target = d_beta + (b * maps + m) * size + at
        tl.store(target, one.to(d_beta.dtype.element_ty), mask=inside)
        if m + 1 < maps:
            tl.store(target + size, other.to(d_beta.dtype.element_ty), mask=inside)


@triton.jit
def _sum(values):
    return tl.sum(tl.sum(values, 1), 0)


@triton.jit
def identity_gradients(
    gradient, u, beta, weight, d_u, d_beta, sums, maps, height, width,
    beta_b: tl.int64, beta_y: tl.int64, beta_x: tl.int64,
    C: tl.constexpr, OUT: tl.constexpr, MIXED: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Differentiate beta_0 W_0 u: add to d_u, write map 0 of d_beta and each tile's sum (B,tiles,C',C) of d_W_0."""
    y, x, inside = _tile(height, width, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    size = tl.cast(height, tl.int64) * width
    at = _at(y, x, width)
    colors = _load_colors(u + b * C * size, at, inside, size, C)
    g = _load_colors(gradient + b * OUT * size, at, inside, size, OUT)
    identity = tl.load(beta + b * beta_b + y * beta_y + x * beta_x, mask=inside, other=0.0).to(tl.float32)
    of_map = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
    for o in tl.static_range(OUT):
        of_map += g[o] * _mixed(colors, weight, o, C, MIXED)
    tl.store(d_beta + b * maps * size + at, of_map.to(d_beta.dtype.element_ty), mask=inside)
    part = sums + (b * tl.num_programs(0) + tl.program_id(0)) * OUT * C
    for c in tl.static_range(C):
        back = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
        if MIXED:
            for o in tl.static_range(OUT):
                back += tl.load(weight + o * C + c) * g[o]
                tl.store(part + o * C + c, _sum(identity * g[o] * colors[c]))
        else:
            back += g[c]
        target = d_u + (b * C + c) * size + at
        tl.store(target, tl.load(target, mask=inside, other=0.0) + identity * back, mask=inside)


@triton.jit
def _step_gradients(
    dual_re, dual_im, u_re, u_im, d_re, d_im, own, transfer, before, share, weights, alpha, rows, columns, sums,
    j, f, g, F, G, C: tl.constexpr, OUT: tl.constexpr, Q: tl.constexpr, MIXED: tl.constexpr,
):  # fmt: skip
    """Differentiate one step: update the gradients of u's spectrum and of T (`own`), store the tile's sums."""
    further_re = ()
    further_im = ()
    for c in tl.static_range(C):
        if MIXED:
            back_re = tl.zeros_like(transfer)
            back_im = tl.zeros_like(transfer)
            for o in tl.static_range(OUT):
                w = tl.load(weights + (j * OUT + o) * C + c)
                back_re += w * dual_re[o]
                back_im += w * dual_im[o]
                inner = dual_re[o] * u_re[c] + dual_im[o] * u_im[c]
                tl.store(sums + Q + o * C + c, _sum(inner * transfer * share))
        else:
            back_re, back_im = dual_re[c], dual_im[c]
        own += (back_re * u_re[c] + back_im * u_im[c]) * share
        further_re = further_re + (d_re[c] + back_re * transfer,)
        further_im = further_im + (d_im[c] + back_im * transfer,)
    for q in tl.static_range(Q):
        line = _line(rows, j, q, f, F, Q) * _line(columns, j, q, g, G, Q)
        tl.store(sums + q, _sum(own * before * line))
    return further_re, further_im, own


@triton.jit(do_not_specialize=['first', 'pairs'])
def spectral_gradients(
    packed, spectrum, alpha, rows, columns, weights, before, carried, d_spectrum, sums, first, pairs, P, F, N, scale,
    C: tl.constexpr, OUT: tl.constexpr, Q: tl.constexpr, MIXED: tl.constexpr, ITERATIVE: tl.constexpr,
    BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Differentiate the steps, last one first, for `packed`, the spectra of the result of `weigh`.

    Adds to d_spectrum. `carried` is the gradient of T of the step after them and becomes that of the first of them. The
    tiles' sums of the gradients of alpha and W go to sums (B,tiles,2K,Q + C'C). `before` is T before the first step.
    """
    G = N // 2 + 1
    f, g, inside = _tile(F, G, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    at, here = _at(f, g, G), _at(f, g, N)
    there = _at(tl.where(f == 0, 0, F - f), tl.where(g == 0, 0, N - g), N)
    # every frequency but the first and the last also counts for its negative
    share = tl.where((g == 0) | (2 * g == N), scale, 2 * scale)
    alpha += b * P * Q
    SUMS: tl.constexpr = Q + OUT * C if MIXED else Q
    sums += (b * tl.num_programs(0) + tl.program_id(0)) * 2 * pairs * SUMS
    u_re, u_im = _load_spectrum(spectrum + 2 * b * C * F * G, at, inside, tl.cast(F, tl.int64) * G, C)
    d_re, d_im = _load_spectrum(d_spectrum + 2 * b * C * F * G, at, inside, tl.cast(F, tl.int64) * G, C)
    own = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
    at_first = own + 1
    if ITERATIVE:
        own = tl.load(carried + b * F * G + at, mask=inside, other=0.0)
        at_first = tl.load(before + b * F * G + at, mask=inside, other=0.0)
    for back in range(pairs):
        i = pairs - 1 - back
        j = first + 2 * i
        k = tl.minimum(j + 1, P - 1)
        t_even = _factor(alpha, rows, columns, j, f, g, F, G, Q)
        t_odd = _factor(alpha, rows, columns, k, f, g, F, G, Q)
        earlier = at_first
        even, odd = t_even, t_odd
        if ITERATIVE:
            for step in range(first, j):
                earlier *= _factor(alpha, rows, columns, step, f, g, F, G, Q)
            even = earlier * t_even
            odd = even * t_odd
        half = tl.where(j + 1 < P, 0.5, 0.0)  # exactly zero for a step after the last
        even_re = ()
        even_im = ()
        odd_re = ()
        odd_im = ()
        for o in tl.static_range(OUT):
            plane = packed + 2 * ((b * pairs + i) * OUT + o) * F * N
            re, im = _load_complex(plane, here, inside)
            mirror_re, mirror_im = _load_complex(plane, there, inside)
            even_re = even_re + (0.5 * (re + mirror_re),)
            even_im = even_im + (0.5 * (im - mirror_im),)
            odd_re = odd_re + (half * (im + mirror_im),)
            odd_im = odd_im + (half * (mirror_re - re),)
        d_re, d_im, own = _step_gradients(
            odd_re, odd_im, u_re, u_im, d_re, d_im, own, odd, even if ITERATIVE else at_first, share, weights,
            alpha, rows, columns, sums + (2 * i + 1) * SUMS, k, f, g, F, G, C, OUT, Q, MIXED,
        )  # fmt: skip
        own = own * t_odd if ITERATIVE else tl.zeros_like(own)
        d_re, d_im, own = _step_gradients(
            even_re, even_im, u_re, u_im, d_re, d_im, own, even, earlier, share, weights,
            alpha, rows, columns, sums + 2 * i * SUMS, j, f, g, F, G, C, OUT, Q, MIXED,
        )  # fmt: skip
        own = own * t_even if ITERATIVE else tl.zeros_like(own)
    for c in tl.static_range(C):
        _store_complex(d_spectrum + 2 * (b * C + c) * F * G, at, d_re[c], d_im[c], inside)
    if ITERATIVE:
        tl.store(carried + b * F * G + at, own, mask=inside)


# Launch


def refusal(u: Tensor, backward: bool = False) -> str | None:
    """Return the reason why the kernels cannot take this image, or None."""
    if u.dtype != torch.float32:
        return f'the kernels compute in float32, not {str(u.dtype).removeprefix("torch.")}'
    return failure(u.device, backward)


def failure(device: torch.device, backward: bool = False) -> str | None:
    """Return the reason why kernels are not used on a device, or None.

    The first call on a device compares them with the FFT form on a small image, forward or backward. A failure on a
    GPU is a warning, and the kernels are not used in this process.
    """
    if _unusable is not None:
        return _unusable
    key = (device, backward)
    if key not in _failures:
        _failures[key] = None  # for the comparison itself
        try:
            _compare_with_fft(device, backward)
        except Exception as error:  # no C compiler for the launcher, an old driver, an unknown GPU ...
            disable(device, error)
    return _failures[key]


def disable(device: torch.device, error: Exception) -> None:
    """Use the kernels no more on a device, and warn. Raises RuntimeError if the GPU cannot be used any more."""
    reason = ' '.join(f'Triton does not run on {device}: {type(error).__name__}: {error}'.split())
    try:
        torch.zeros(1, device=device).add_(1).item()
    except Exception as lost:
        raise RuntimeError(f'{reason}. Set BASICSR_BLUR_FORM=fft and start again') from lost
    if device.type in spectral.FUSED_DEVICES:
        warnings.warn(f'{reason}. The blur runs in its FFT form instead.', stacklevel=2)
    _failures.update({(device, False): reason, (device, True): reason})


def _compare_with_fft(device: torch.device, backward: bool) -> None:
    """Raise RuntimeError unless results, or gradients, are those of the FFT form on a small image."""
    generator = torch.Generator().manual_seed(0)
    x, alpha, beta, mix, gradient = (
        torch.rand(size, generator=generator).to(device)
        for size in ((1, 3, 24, 40), (1, 3, 4), (1, 4, 24, 40), (3, 12, 1, 1), (1, 3, 24, 40))
    )
    bank, margin = gaussian_bank(3, 4).float().to(device), 12
    compute = partial(compute_gradients, gradient) if backward else compute_blur
    with full_precision(x):
        got, want = (compute(x, alpha, beta, bank, mix, True, margin, form) for form in ('fused', 'fft'))
    for one, other in zip(*((got, want) if backward else ([got], [want])), strict=True):
        difference = float((one - other).abs().max() / other.abs().max())
        if not difference < _TOLERANCE:
            raise RuntimeError(f'its results differ from those of the FFT form by {difference:.1g}')


def _on(like: Tensor) -> AbstractContextManager:
    """Make the device of a tensor the current one: Triton launches there, not where its arguments are."""
    return torch.cuda.device(like.device) if like.is_cuda else nullcontext()


def _launch(kernel: Callable, grid: tuple[int, int], *arguments: Any, **constants: Any) -> None:
    kernel[grid](*arguments, **constants, enable_fp_fusion=True)


def _tiles(plane: tuple[int, int], tile: tuple[int, int, int]) -> int:
    return -(-plane[0] // tile[0]) * -(-plane[1] // tile[1])


def _over(
    plane: tuple[int, int], batch: int, kernel: Callable, *arguments: Any, summing: bool = False, **constants: Any
) -> None:
    """Launch a kernel over the tiles of planes of a size."""
    rows, columns, warps = tile = _SUMMING_TILE if summing else _TILE
    grid = (_tiles(plane, tile), batch)
    _launch(kernel, grid, *arguments, **constants, BLOCK_Y=rows, BLOCK_X=columns, num_warps=warps)


def _transfer(bank: Tensor, period: int, count: int) -> Tensor:
    """Compute `spectral.transfer_function` (P,Q,count) in one launch."""
    groups, kernels, taps = bank.shape
    lines = bank.new_empty(groups, kernels, count)
    grid = (-(-count // _LINE_BLOCK), groups * kernels)
    _launch(cosine_sums, grid, bank, lines, period, taps // 2, count, BLOCK=_LINE_BLOCK)
    return lines


def _extended(u: Tensor, periods: tuple[int, int], margin: int) -> Tensor:
    """Extend by reflection to a size, with `margin` pixels before the first."""
    batch, channels, *size = u.shape
    out = u.new_empty(batch, channels, *periods)
    _over(periods, batch * channels, extend, u, out, *size, *periods, margin)
    return out


def _collapsed(extended: Tensor, size: tuple[int, int], margin: int) -> Tensor:
    """Apply the adjoint of `_extended`."""
    batch, channels, rows, columns = extended.shape
    lines = extended.new_empty(batch, channels, rows, size[1])
    _over((rows, size[1]), batch * channels, collapse, extended, lines, columns, rows, size[1], margin, AXIS=1)
    out = extended.new_empty(batch, channels, *size)
    _over(size, batch * channels, collapse, lines, out, rows, *size, margin, AXIS=0)
    return out


def _pairs(steps: range) -> int:
    return -(-len(steps) // 2)


class _Launcher:
    """One call of the blur: geometry, transfer functions, the spectrum of u, and the kernel launches."""

    def __init__(
        self, u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, weights: Tensor | None, iterative: bool, margin: int
    ) -> None:
        self.u, self.alpha, self.beta, self.margin = u.contiguous(), alpha.contiguous(), beta, margin
        self.batch, self.channels = u.shape[:2]
        self.groups, self.kernels = bank.shape[:2]
        self.identity = beta.shape[1] > self.groups
        self.out_channels = self.channels if weights is None else weights.shape[1]
        # without weights, any tensor that is not read
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
        self.colors: dict[str, Any] = {'C': self.channels, 'OUT': self.out_channels, 'MIXED': weights is not None}
        self.chain = {**self.colors, 'Q': self.kernels, 'ITERATIVE': iterative}

    def transfer(self) -> Tensor:
        """Return T before the first step: 1."""
        return self.u.new_ones(self.batch, *self.half_plane)

    def _buffer(self, steps: range) -> Tensor:
        return self.u.new_empty(self.batch, _pairs(steps), self.out_channels, *self.periods, 2)

    def _maps(self, steps: range) -> tuple[int, ...]:
        """Return the first map, the number of pairs, the number of maps, and the geometry."""
        return steps.start + self.identity, _pairs(steps), self.beta.shape[1], *self.size, *self.periods, self.margin

    def _products(self, steps: range, before: Tensor, after: Tensor, packed: Tensor, write: bool) -> None:
        _over(
            self.half_plane, self.batch, products,
            self.spectrum, self.alpha, self.rows, self.columns, self.step_weights, before, after, packed,
            steps.start, _pairs(steps), self.groups, *self.periods, self.scale, **self.chain, WRITE=write,
        )  # fmt: skip

    def advanced(self, steps: range, before: Tensor) -> Tensor:
        """Compute T after a range of steps from T before them."""
        after = torch.empty_like(before)
        self._products(steps, before, after, self.spectrum, write=False)
        return after

    def images(self, steps: range, before: Tensor, after: Tensor) -> Tensor:
        """Compute z of a range of steps, packed. T after them is written to `after`, which may be `before`."""
        packed = self._buffer(steps)
        self._products(steps, before, after, packed, write=True)
        # `products` divided by the number of pixels already; PyTorch would use a separate pass
        return torch.view_as_real(torch.fft.ifft2(torch.view_as_complex(packed), norm='forward'))

    def fold(self, steps: range, images: Tensor, out: Tensor) -> None:
        _over(
            self.size, self.batch, fold,
            images, self.u, self.beta, self.weights, out, *self._maps(steps), *self.beta.stride(),
            **self.colors, FIRST=steps.start == 0, IDENTITY=self.identity,
        )  # fmt: skip

    def duals(self, steps: range, gradient: Tensor) -> Tensor:
        """Compute the spectra of beta times the zero-padded gradient, packed."""
        packed = self._buffer(steps)
        strides, out_channels = self.beta.stride(), self.out_channels
        _over(
            self.periods,
            self.batch,
            weigh,
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
        _over(self.size, self.batch, map_gradients, images, gradient, d_beta, *maps, OUT=out_channels)

    def spectral_gradients(
        self, steps: range, duals: Tensor, before: Tensor, carried: Tensor, d_spectrum: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of alpha (B,g,Q) and W (g,C'C) or empty; update d_spectrum and `carried`."""
        entries = self.kernels + (self.out_channels * self.channels if self.colors['MIXED'] else 0)
        sums = self.u.new_empty(self.batch, _tiles(self.half_plane, _SUMMING_TILE), 2 * _pairs(steps), entries)
        _over(
            self.half_plane, self.batch, spectral_gradients,
            duals, self.spectrum, self.alpha, self.rows, self.columns, self.step_weights, before, carried, d_spectrum,
            sums, steps.start, _pairs(steps), self.groups, *self.periods, self.scale, **self.chain, summing=True,
        )  # fmt: skip
        d_alpha, d_weights = sums.sum(1)[:, : len(steps)].split([self.kernels, entries - self.kernels], dim=-1)
        return d_alpha, d_weights.sum(0)

    def identity_gradients(self, gradient: Tensor, d_u: Tensor, d_beta: Tensor) -> Tensor:
        """Return the gradient of W_0, flat; add to d_u and fill map 0 of d_beta."""
        entries = self.out_channels * self.channels
        sums = self.u.new_empty(self.batch, _tiles(self.size, _SUMMING_TILE), entries)
        beta_b, _, beta_y, beta_x = self.beta.stride()
        _over(
            self.size, self.batch, identity_gradients,
            gradient, self.u, self.beta, self.weights, d_u, d_beta, sums, self.beta.shape[1], *self.size,
            beta_b, beta_y, beta_x, **self.colors, summing=True,
        )  # fmt: skip
        return sums.sum((0, 1))


def blur(
    u: Tensor, alpha: Tensor, beta: Tensor, bank: Tensor, weights: Tensor | None, iterative: bool, margin: int
) -> Tensor:
    """Compute `spectral.spectral_blur` in float32; margin in pixels, weights (M,C',C) the blocks of `mix`."""
    with _on(u):
        problem = _Launcher(u, alpha, beta, bank, weights, iterative, margin)
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
    """Compute the gradients of u, alpha, beta and weights from that of `blur`'s result."""
    with _on(u):
        gradient = gradient.contiguous()
        problem = _Launcher(u, alpha, beta, bank, weights, iterative, margin)
        d_alpha, d_beta = torch.empty_like(problem.alpha), beta.new_empty(beta.shape)
        d_weights = None if weights is None else torch.empty_like(weights)
        d_spectrum = torch.zeros_like(problem.spectrum)
        carried = torch.zeros_like(problem.transfer())

        def advance(i: int, before: Tensor) -> Tensor:
            return problem.advanced(problem.chunks[i], before) if iterative else before

        for i, before in backwards(len(problem.chunks), problem.transfer(), advance):
            steps = problem.chunks[i]
            # only one pair of these large tensors is alive at a time
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
