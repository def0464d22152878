"""Defocus map of EBDB: blur measured at edges over scales, and spread to all pixels.

Karaali and Jung, "Edge-Based Defocus Blur Estimation with Adaptive Scale Selection" (TIP 2018). The Gaussian derivative
of scale s at an edge of blur sigma has a magnitude proportional to 1 / sqrt(sigma^2 + s^2), so the ratio at two scales
gives sigma. The second scale is the largest at which the edge is separate from others.
"""

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg
from skimage import feature

from ggkm_plugin.classical.domain_transform import recursive_filter, spread
from ggkm_plugin.classical.working import Progress

LARGEST = 5.0  # sigma in pixels; larger ones are clipped
_GAMMA = 2.4
_SCALES = tuple(1 + 0.5 * n for n in range(9))
_CERTAIN = 4  # edges are present at this many of the first scales
_FIRST_SCALE = 1.0  # s1; s2 is half of the scale at which the edge vanishes
_HIGH_PERCENTILE, _LOW_RATIO = 70, 0.4
_STIFFNESS = 20.0
# A smaller gradient is rounding: an image of one color has no edges.
_LEAST_GRADIENT = 1e-7


def blur_map(image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Estimate sigma (H,W), float64 in pixels, 0 to 5, of the Gaussian blur of `image`, (H,W,3) RGB in [0,1].

    It is 0 everywhere if the image has no edge: there is no blur to measure, and no detail to restore.
    """
    image = np.asarray(image, np.float32)
    known, counts, sigma = edge_blur(image, progress)
    if not known.any():
        return np.zeros(known.shape)
    smooth = smoothed_along_edges(sigma, known, counts)
    guide = recursive_filter(image, image, 7, 0.5, 5)
    return spread(smooth, known, guide, min(known.shape) / 8, 3.75, 5)


def edge_blur(image: np.ndarray, progress: Progress | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return edges (H,W) bool, at how many of nine scales each is present, and their sigma, 0 elsewhere."""
    gray = luma(image) ** np.float32(_GAMMA)
    counts = np.zeros(gray.shape, np.int8)
    last = np.zeros(gray.shape, np.int8)  # consecutive scales from the first
    for n, scale in enumerate(_SCALES):
        edges = canny(gray, scale)
        counts += edges
        last += edges & (last == n)
        if progress:
            progress('blur map', n + 1, len(_SCALES))
    known = last >= _CERTAIN
    at = np.nonzero(known)
    stops = np.minimum(last[at], len(_SCALES) - 1)
    first = _derivative(gray, _FIRST_SCALE)[at]
    second_scale = 0.5 * np.asarray(_SCALES)[stops]
    second = np.empty_like(first)
    for scale in np.unique(second_scale):
        here = second_scale == scale
        second[here] = _derivative(gray, scale)[at][here]
    sigma = np.zeros(gray.shape)
    sigma[at] = _sigma_of_ratio((first / second) ** 2, _FIRST_SCALE, second_scale)
    return known, counts, sigma


def luma(image: np.ndarray) -> np.ndarray:
    """Convert (H,W,3) RGB to luma (BT.601), (H,W)."""
    return image @ np.asarray([0.299, 0.587, 0.114], image.dtype)


def _sigma_of_ratio(squared: np.ndarray, s1: float, s2: np.ndarray) -> np.ndarray:
    """Return sqrt((R^2 s1^2 - s2^2) / (1 - R^2)), at most `LARGEST`; 0 where it is not real."""
    with np.errstate(divide='ignore', invalid='ignore'):
        variance = (squared * s1**2 - s2**2) / (1 - squared)
    return np.minimum(np.sqrt(np.where(variance > 0, variance, 0)), LARGEST)


def _derivative(gray: np.ndarray, scale: float) -> np.ndarray:
    """Return the magnitude of the Gaussian derivative."""
    return np.hypot(*(ndimage.gaussian_filter(gray, scale, order, mode='nearest') for order in ((1, 0), (0, 1))))


def canny(gray: np.ndarray, scale: float) -> np.ndarray:
    """Detect edges (H,W) bool by Canny's method at one scale.

    The upper threshold is the 70th percentile of the gradient magnitude, the lower is 0.4 of it.
    """
    smooth = ndimage.gaussian_filter(gray, scale, mode='nearest')
    magnitude = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1))
    high = max(float(np.percentile(magnitude, _HIGH_PERCENTILE)), _LEAST_GRADIENT)
    return feature.canny(gray, scale, _LOW_RATIO * high, high, mode='nearest')


def smoothed_along_edges(sigma: np.ndarray, known: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Smooth `sigma` along 8-connected edges; edges present at many scales have more weight.

    Solves (20 n_i + 1 + e_i) x_i - 20 sum_j x_j = (1 + e_i) sigma_i, j over the n_i neighbors of i, e = `counts`.
    """
    number = np.full(np.add(known.shape, 2), -1)
    inside = number[1:-1, 1:-1]
    inside[known] = np.arange(np.count_nonzero(known))
    row, column = np.nonzero(known)
    pairs = []
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
        other = number[row + 1 + down, column + 1 + right]
        pairs.append(np.stack([np.flatnonzero(other >= 0), other[other >= 0]]))
    one, two = np.concatenate(pairs, axis=1)
    weight = 1.0 + counts[known]
    neighbors = np.bincount(np.concatenate([one, two]), minlength=len(weight))
    links = sparse.coo_array((np.full(len(one), -_STIFFNESS), (one, two)), (len(weight), len(weight)))
    matrix = (links + links.T + sparse.diags_array(_STIFFNESS * neighbors + weight)).tocsr()
    # positive definite with a condition number below 70: conjugate gradients need no preconditioner
    solution, _ = cg(matrix, weight * sigma[known], x0=sigma[known], rtol=1e-8)
    result = np.zeros(known.shape)
    result[known] = solution
    return result
