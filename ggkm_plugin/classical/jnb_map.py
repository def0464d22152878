"""Defocus map of JNB: blurred patches need fewer atoms of a dictionary.

Shi, Xu and Jia, "Just Noticeable Defocus Blur Detection and Estimation" (CVPR 2015). The dictionary and the curve from
numbers of atoms to sigma are in `jnb_dictionary.npz`, made by `jnb_learning`.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.morphology import disk

from ggkm_plugin.classical.domain_transform import spread
from ggkm_plugin.classical.edge_map import luma
from ggkm_plugin.classical.sparse_coding import pursuit
from ggkm_plugin.classical.working import Progress, done_by_threads

PATCH = 8
ERROR = 18.4  # norm of the residual of a patch, in 8-bit steps
# Not in the paper: a patch that needs more atoms is sharp; counting them would take most of the time.
MOST_ATOMS = 32
_TOO_FEW = 3  # atoms: such a patch is flat, or blurred beyond the range of the curve
_ERODED = 2  # pixels
_AT_ONCE = 512  # patches, whose bases fit the processor cache


@dataclass(frozen=True)
class Dictionary:
    """`atoms`, (128, 64) float32 of unit norm and zero mean, and the curve `counts`, falling, -> `sigmas`, rising."""

    atoms: np.ndarray
    counts: np.ndarray
    sigmas: np.ndarray


@cache
def dictionary() -> Dictionary:
    """Load the packaged dictionary."""
    with np.load(Path(__file__).with_name('jnb_dictionary.npz')) as content:
        return Dictionary(content['atoms'], content['counts'], content['sigmas'])


def blur_map(image: np.ndarray, progress: Progress | None = None, workers: int | None = None) -> np.ndarray:
    """Estimate sigma (H,W), float64 in pixels, 0 to 4, of the Gaussian blur of `image`, (H,W,3) RGB in [0,1].

    Accurate for small blur, up to about 2 pixels. Without any patch with enough atoms it is the largest everywhere.
    """
    known = dictionary()
    counts = spread_counts(image, known.atoms, progress, workers)
    if counts is None:
        return np.full(image.shape[:2], known.sigmas[-1])
    return np.interp(-counts, -known.counts, known.sigmas)


def spread_counts(
    image: np.ndarray, atoms: np.ndarray, progress: Progress | None = None, workers: int | None = None
) -> np.ndarray | None:
    """Spread the atom counts of patches with enough atoms: (H,W) float64; None if there is no such patch."""
    image = np.asarray(image, np.float32)
    counts = atom_counts(255 * luma(image), atoms, progress, workers)
    telling = ndimage.binary_erosion(counts > _TOO_FEW, disk(_ERODED), border_value=True)
    return spread(counts, telling, image, 15, 0.15, 3) if telling.any() else None


def atom_counts(
    gray: np.ndarray, atoms: np.ndarray, progress: Progress | None = None, workers: int | None = None
) -> np.ndarray:
    """Count the atoms, (H,W) int, of the patch around each pixel of `gray`, (H,W) in [0,255]."""
    before, after = (PATCH - 1) // 2, PATCH // 2
    padded = np.pad(gray, (before, after), mode='symmetric')
    counts = np.empty(gray.shape, int)

    def do(row: int) -> None:
        signals = patches(padded[row : row + PATCH])
        for first in range(0, len(signals), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            counts[row, some], _ = pursuit(signals[some], atoms, ERROR, MOST_ATOMS)

    done_by_threads('blur map', do, [(row,) for row in range(len(gray))], progress, workers)
    return counts


def patches(gray: np.ndarray) -> np.ndarray:
    """Return all patches of (H,W), row by row, minus their means: (N, 64)."""
    windows = np.lib.stride_tricks.sliding_window_view(gray, (PATCH, PATCH)).reshape(-1, PATCH**2)
    return windows - windows.mean(axis=1, keepdims=True)
