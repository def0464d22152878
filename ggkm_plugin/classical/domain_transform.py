"""Recursive filter of the domain transform: edge-aware smoothing by a guide image.

Gastal and Oliveira, "Domain Transform for Edge-Aware Image and Video Processing" (SIGGRAPH 2011).
"""

import numpy as np
from scipy import ndimage

# A smaller weight at a pixel is rounding noise.
_LEAST_WEIGHT = 1e-30


def recursive_filter(
    image: np.ndarray, guide: np.ndarray, sigma_s: float, sigma_r: float, iterations: int
) -> np.ndarray:
    """Smooth `image`, (H,W) or (H,W,C), where `guide`, (H,W) or (H,W,C), has no edges; same shape and dtype.

    `sigma_s` is in pixels, `sigma_r` in values of the guide. The distance between neighbors is

        d_j = 1 + sigma_s / sigma_r sum_c |G_j - G_{j-1}|

    and pass i of N, forth and back along the rows, then along the columns, is F_j += V_j (F_{j-1} - F_j) with

        sigma_i = sigma_s sqrt(3) 2^(N-i) / sqrt(4^N - 1),   V_j = exp(-sqrt(2) / sigma_i)^d_j

    Constants are preserved, and the filter is linear in `image`.
    """
    planes = np.array(image, order='C').reshape(*image.shape[:2], -1)
    guide = guide.reshape(*guide.shape[:2], -1)
    distances = [1 + sigma_s / sigma_r * np.abs(np.diff(guide, axis=axis)).sum(-1, keepdims=True) for axis in (1, 0)]
    for i in range(1, iterations + 1):
        sigma = sigma_s * np.sqrt(3) * 2.0 ** (iterations - i) / np.sqrt(4.0**iterations - 1)
        for axis, distance in zip((1, 0), distances, strict=True):
            feedback = np.exp(-np.sqrt(2) / sigma * distance).astype(planes.dtype)
            # the axis comes first, so that each step of the recursion reads contiguous memory
            turned = np.ascontiguousarray(np.swapaxes(planes, 0, axis))
            _forth_and_back(turned, np.swapaxes(feedback, 0, axis))
            planes = np.swapaxes(turned, 0, axis)
    return np.ascontiguousarray(planes).reshape(image.shape)


def _forth_and_back(planes: np.ndarray, feedback: np.ndarray) -> None:
    """Run the recursion along the first axis in place; feedback[j] is between planes[j] and planes[j + 1]."""
    for j in range(1, len(planes)):
        planes[j] += feedback[j - 1] * (planes[j - 1] - planes[j])
    for j in range(len(planes) - 2, -1, -1):
        planes[j] += feedback[j] * (planes[j + 1] - planes[j])


def spread(
    values: np.ndarray, known: np.ndarray, guide: np.ndarray, sigma_s: float, sigma_r: float, iterations: int
) -> np.ndarray:
    """Spread `values` (H,W) from the pixels where `known` (H,W) is true: RF(x known) / RF(known), (H,W) float64.

    Results are means of known values. Not in the papers: pixels without weight, as behind many edges, take the nearest
    known value. At least one value must be known.
    """
    both = np.stack([np.where(known, values, 0), known], axis=-1).astype(np.float64)
    total, weight = np.moveaxis(recursive_filter(both, guide, sigma_s, sigma_r, iterations), -1, 0)
    reached = weight > _LEAST_WEIGHT
    result = total / np.where(reached, weight, 1)
    if not reached.all():
        nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
        result = np.where(reached, result, values[tuple(nearest)])
    return result
