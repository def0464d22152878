"""Deconvolution of a spatially varying Gaussian blur, quantized into bins of equal sigma.

For each bin the image is deconvolved as if its blur were uniform, and the pixels of that bin are kept. The work is
split into blocks with margins, so memory does not grow with the number of bins, and with the size of the image only by
the result.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy import fft
from skimage import restoration

from ggkm_plugin.classical.working import Progress, done_by_threads

# (plane (H,W) float32, sigma in pixels) -> the sharp plane
Deconvolution = Callable[[np.ndarray, float], np.ndarray]
Window = tuple[slice, slice]

# Not in the papers: a narrower blur does not change an 8-bit image (the tap beside the center is below half a step).
SHARP = 0.28
_BLOCK = 768  # pixels a side
_TRUNCATE = 4.0  # radius of a kernel in sigmas
_TAPERINGS = 4
# Margin in pixels beside the radius of the kernel. Beyond it a border changes the result by less than a tenth of an
# 8-bit step.
_REACH = 16
_ALPHA = 1.5
_BETAS = (1.0, 2 * math.sqrt(2), 256.0)  # first, factor, end


def gaussian_taps(sigma: float) -> np.ndarray:
    """Return the taps of a Gaussian up to 4 sigma: an odd number, float64, sum 1."""
    reach = max(1, math.ceil(_TRUNCATE * sigma))
    taps = np.exp(-np.square(np.arange(-reach, reach + 1)) / (2 * sigma**2))
    return taps / taps.sum()


def hyper_laplacian(plane: np.ndarray, sigma: float, fidelity: float) -> np.ndarray:
    """Deconvolve a plane (H,W), float32 in [0,1], blurred by a Gaussian of `sigma` pixels, with little noise.

    Krishnan and Fergus, "Fast Image Deconvolution using Hyper-Laplacian Priors" (NIPS 2009) minimize over x

        fidelity / 2 ||k * x - y||^2 + sum |D x|^1.5

    by half-quadratic splitting: with beta rising from 1 by 2 sqrt(2) to 256, w = argmin |w|^1.5 + beta/2 (w - D x)^2 in
    closed form, then x = argmin fidelity/2 ||k * x - y||^2 + beta/2 ||D x - w||^2 by FFT. The plane is padded by its
    border values and tapered, since the FFT is periodic.
    """
    height, width = plane.shape
    pad = len(gaussian_taps(sigma)) // 2 + _REACH
    size = fft.next_fast_len(height + 2 * pad, real=True), fft.next_fast_len(width + 2 * pad, real=True)
    y = np.pad(plane, [(pad, to - here - pad) for to, here in zip(size, plane.shape, strict=True)], mode='edge')
    y = y.astype(np.float32)
    kernel = _transfer(sigma, size)
    y = _tapered(y, sigma, kernel)
    frequencies = fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None]
    laplacian = sum(2 - 2 * np.cos(2 * np.pi * frequency) for frequency in frequencies)
    laplacian = np.asarray(laplacian, np.float32)
    from_image = np.float32(fidelity) * kernel * fft.rfft2(y)
    weight = np.float32(fidelity) * kernel**2
    x, beta = y, np.float32(_BETAS[0])
    while beta < _BETAS[2]:
        divergence = np.zeros_like(x)
        for axis in (0, 1):
            w = _shrunk(np.roll(x, -1, axis) - x, beta)
            divergence += np.roll(w, 1, axis) - w
        x = fft.irfft2((from_image + beta * fft.rfft2(divergence)) / (weight + beta * laplacian), size)
        beta *= np.float32(_BETAS[1])
    return x[pad : pad + height, pad : pad + width]


def _shrunk(slope: np.ndarray, beta: np.float32) -> np.ndarray:
    """Compute argmin_w |w|^1.5 + beta/2 (w - slope)^2: with s = sqrt(|w|), beta s^2 + 1.5 s - beta |slope| = 0."""
    root = (np.sqrt(_ALPHA**2 + 4 * beta**2 * np.abs(slope)) - np.float32(_ALPHA)) / (2 * beta)
    return np.copysign(root**2, slope)


def _transfer(sigma: float, size: tuple[int, int]) -> np.ndarray:
    """Return the Gaussian's transfer function on the half plane of a real FFT; real, since the kernel is symmetric."""
    taps = gaussian_taps(sigma)
    lines = []
    for length, transform in zip(size, (fft.fft, fft.rfft), strict=True):
        line = np.zeros(length)
        np.add.at(line, (np.arange(len(taps)) - len(taps) // 2) % length, taps)
        lines.append(transform(line).real)
    return np.outer(*lines).astype(np.float32)


def _tapered(plane: np.ndarray, sigma: float, kernel: np.ndarray) -> np.ndarray:
    """Blend a plane with its periodic blur toward the borders, so that opposite borders are continuous.

    The share of the blur is the kernel's autocorrelation at the distance from the border, here exp(-d^2 / 4 sigma^2).
    """
    inner = []
    for length in plane.shape:
        distance = np.minimum(np.arange(length), np.arange(length)[::-1])
        inner.append(1 - np.exp(-np.square(distance) / (4 * sigma**2)))
    share = np.outer(*inner).astype(np.float32)
    for _ in range(_TAPERINGS):
        plane = share * plane + (1 - share) * fft.irfft2(fft.rfft2(plane) * kernel, plane.shape)
    return plane


def richardson_lucy(plane: np.ndarray, sigma: float, iterations: int) -> np.ndarray:
    """Deconvolve a plane (H,W) float32 by Richardson-Lucy of scikit-image, padded by its border values."""
    pad = math.ceil(6 * sigma) + _REACH  # scikit-image pads with zeros
    taps = gaussian_taps(sigma)
    y = np.pad(np.maximum(plane, 0), pad, mode='edge')
    x = restoration.richardson_lucy(y, np.outer(taps, taps), num_iter=iterations)
    return x[pad : pad + plane.shape[0], pad : pad + plane.shape[1]]


def deconvolved(
    image: np.ndarray,
    sigma: np.ndarray,
    deconvolution: Deconvolution,
    bins: int = 32,
    progress: Progress | None = None,
    workers: int | None = None,
) -> np.ndarray:
    """Deconvolve an image (H,W,C), float32 in [0,1], by a map `sigma` (H,W) in pixels; clipped to [0,1].

    Sigma is quantized into `bins` of equally many pixels, to the lower edge of each; pixels below `SHARP` are not
    changed. The result does not depend on the number of threads, `workers` (default: one per available processor).
    """
    planes = np.ascontiguousarray(np.moveaxis(image, 2, 0), np.float32)
    result = planes.copy()
    widths, which = quantized(sigma, bins)

    def do(block: Window, n: int) -> None:
        place = _around(which[block] == n, block)
        here = which[place] == n
        window, inner = _with_margin(place, _REACH + math.ceil(10 * widths[n]), sigma.shape)
        for plane, sharp in zip(planes, result, strict=True):
            sharp[place][here] = deconvolution(plane[window], widths[n])[inner][here]

    blocks = _blocks(sigma.shape)
    jobs = [(block, n) for block in blocks for n in np.unique(which[block]).tolist() if widths[n] >= SHARP]
    done_by_threads('deconvolution', do, jobs, progress, workers)
    return np.ascontiguousarray(np.moveaxis(result, 0, 2).clip(0, 1))


def quantized(sigma: np.ndarray, bins: int) -> tuple[list[float], np.ndarray]:
    """Return the rising lower edges of at most `bins` quantile bins, and the bin of each pixel."""
    edges = np.unique(np.quantile(sigma, np.linspace(0, 1, bins + 1)[:-1]))
    return edges.tolist(), np.searchsorted(edges, sigma, side='right') - 1


def _blocks(size: tuple[int, ...]) -> list[Window]:
    """Split (H,W) into blocks of about equal sizes, at most `_BLOCK` a side."""
    cuts = [range(-(-side // _BLOCK) + 1) for side in size]
    rows, columns = ([side * n // (len(cut) - 1) for n in cut] for side, cut in zip(size, cuts, strict=True))
    return [(slice(*r), slice(*c)) for r in pairwise(rows) for c in pairwise(columns)]


def _around(mask: np.ndarray, block: Window) -> Window:
    """Return the bounding box of a block's mask."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    top, left = block[0].start, block[1].start
    return slice(top + rows[0], top + rows[-1] + 1), slice(left + columns[0], left + columns[-1] + 1)


def _with_margin(place: Window, margin: int, size: tuple[int, ...]) -> tuple[Window, Window]:
    """Return a window with a margin, clipped to the image, and the place of the window in it."""
    rows, columns = (slice(max(0, p.start - margin), min(n, p.stop + margin)) for p, n in zip(place, size, strict=True))
    top, left = place[0].start - rows.start, place[1].start - columns.start
    height, width = (p.stop - p.start for p in place)
    return (rows, columns), (slice(top, top + height), slice(left, left + width))
