"""Learn the dictionary and the curve of JNB (`jnb_dictionary.npz`) from the photographs of scikit-image.

The result is packaged, so that blur maps depend neither on the version of scikit-image nor on rounding, which selects
between nearly equal atoms. `python -m ggkm_plugin.classical.jnb_learning FILE` repeats it in about a minute.
"""

import sys

import numpy as np
from scipy import ndimage

from ggkm_plugin.classical.edge_map import luma
from ggkm_plugin.classical.jnb_map import ERROR, MOST_ATOMS, Dictionary, patches, spread_counts
from ggkm_plugin.classical.sparse_coding import pursuit
from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.utils.image_decoding import read_image

# Not in the paper. With these values sharp patches need many atoms, and those of sigma 2 few.
BLUR = 2.0  # sigma of the training patches
ATOMS = 128
SAMPLES, ROUNDS, SEED = 20_000, 15, 0
SIGMAS = tuple(0.25 * n for n in range(17))
CROP = 192  # side in pixels of the part of each photograph that the curve is measured on
_RARE = 10  # patches: an atom used by fewer is replaced


def learned() -> Dictionary:
    """Learn dictionary and curve from the built-in training photographs; deterministic."""
    photographs = [read_image(photo.path) for photo in builtin_photographs('train')]
    atoms = learned_atoms(photographs).astype(np.float32)
    counts = [mean_count(photographs, atoms, sigma) for sigma in SIGMAS]
    # Keep the falling part of the curve: at large sigma few patches have enough atoms.
    falls = [n for n, count in enumerate(counts) if count < min(counts[:n], default=np.inf)]
    return Dictionary(atoms, np.array(counts)[falls], np.array(SIGMAS)[falls])


def learned_atoms(photographs: list[np.ndarray]) -> np.ndarray:
    """Learn atoms (128, 64), float64, alternating pursuit and least squares (MOD)."""
    rng = np.random.default_rng(SEED)
    planes = [255 * luma(blurred(photo.astype(np.float64), BLUR)) for photo in photographs]
    signals = np.concatenate([patches(plane) for plane in planes])
    signals = signals[np.einsum('nd,nd->n', signals, signals) > ERROR**2]
    signals = signals[rng.choice(len(signals), SAMPLES, replace=False)]
    atoms = _unit(signals[:ATOMS])
    for _ in range(ROUNDS):
        codes = sparse_codes(signals, atoms)
        moments = codes.T @ codes
        fitted = np.linalg.solve(moments + 1e-6 * np.trace(moments) / ATOMS * np.eye(ATOMS), codes.T @ signals)
        rare = np.count_nonzero(codes, axis=0) < _RARE
        badly = np.argsort(np.linalg.norm(signals - codes @ fitted, axis=1))[::-1]
        fitted[rare] = signals[badly[: np.count_nonzero(rare)]]
        atoms = _unit(fitted)
    return atoms


def sparse_codes(signals: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Return the weights (N,K) of the atoms that `pursuit` takes for each signal, 0 for others."""
    counts, taken = pursuit(signals, atoms, ERROR, MOST_ATOMS)
    codes = np.zeros((len(signals), len(atoms)))
    for count in range(1, counts.max(initial=0) + 1):
        rows = np.flatnonzero(counts == count)
        which = taken[rows, :count]
        some = atoms[which]
        products = np.einsum('nkd,nd->nk', some, signals[rows])[..., None]
        codes[rows[:, None], which] = np.linalg.solve(some @ some.swapaxes(1, 2), products)[..., 0]
    return codes


def mean_count(photographs: list[np.ndarray], atoms: np.ndarray, sigma: float) -> float:
    """Return the mean spread atom count of the middle of the photographs blurred by sigma."""
    means = []
    for photo in photographs:
        corner = [(side - CROP) // 2 for side in photo.shape[:2]]
        middle = blurred(photo, sigma)[tuple(slice(first, first + CROP) for first in corner)]
        counts = spread_counts(middle, atoms)
        if counts is not None:
            means.append(counts.mean())
    return float(np.mean(means))


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode='nearest') if sigma else image


def _unit(atoms: np.ndarray) -> np.ndarray:
    """Normalize atoms to zero mean and norm 1."""
    atoms = atoms - atoms.mean(axis=1, keepdims=True)
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


if __name__ == '__main__':
    np.savez(sys.argv[1], **vars(learned()))
