"""How `jnb_dictionary.npz` was made: JNB's dictionary and its curve, from the photographs in scikit-image's wheel.

They are learned once and come with the package, rather than at the first use: results then depend on neither the
version of scikit-image nor on the rounding of a machine's matrix products, which decides between atoms that are alike.
`python -m ggkm_plugin.datasets_prep.learn_jnb FILE` makes the file anew, in about a minute.
"""

import numpy as np
from scipy import ndimage

from ggkm_plugin.classical.edge_map import luma
from ggkm_plugin.classical.jnb_map import ERROR, MOST_ATOMS, Dictionary, patches, spread_counts
from ggkm_plugin.classical.sparse_coding import pursuit
from ggkm_plugin.classical.working import Progress
from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.utils.image_decoding import read_image

# Not in the paper: these, since with them sharp patches need many atoms and those of sigma 2 few.
BLUR = 2.0  # of the patches learned from
ATOMS = 128
SAMPLES, ROUNDS, SEED = 20_000, 15, 0
SIGMAS = tuple(0.25 * n for n in range(17))
CROP = 192  # pixels a side, of each photograph, that the curve is measured on
_RARE = 10  # patches: an atom that fewer use makes room for another


def learned(progress: Progress | None = None) -> Dictionary:
    """The dictionary and the curve, from the training photographs of `data.photographs`; the same at every call."""
    photographs = [read_image(photo.path) for photo in builtin_photographs('train')]
    atoms = learned_atoms(photographs, progress).astype(np.float32)
    counts: list[float] = []
    for sigma in SIGMAS:
        counts.append(mean_count(photographs, atoms, sigma))
        if progress:
            progress('curve', len(counts), len(SIGMAS))
    # More blur needs fewer atoms: where few patches are left to tell, what says otherwise is left out.
    falls = [n for n, count in enumerate(counts) if count < min(counts[:n], default=np.inf)]
    return Dictionary(atoms, np.array(counts)[falls], np.array(SIGMAS)[falls])


def learned_atoms(photographs: list[np.ndarray], progress: Progress | None = None) -> np.ndarray:
    """(128, 64) float64: in turns the patches' atoms by pursuit, and the atoms by least squares (MOD)."""
    rng = np.random.default_rng(SEED)
    planes = [255 * luma(blurred(photo.astype(np.float64), BLUR)) for photo in photographs]
    signals = np.concatenate([patches(plane) for plane in planes])
    signals = signals[np.einsum('nd,nd->n', signals, signals) > ERROR**2]
    signals = signals[rng.choice(len(signals), SAMPLES, replace=False)]
    atoms = _unit(signals[:ATOMS])
    for done in range(ROUNDS):
        if progress:
            progress('dictionary', done, ROUNDS)
        codes = sparse_codes(signals, atoms)
        moments = codes.T @ codes
        fitted = np.linalg.solve(moments + 1e-6 * np.trace(moments) / ATOMS * np.eye(ATOMS), codes.T @ signals)
        rare = np.count_nonzero(codes, axis=0) < _RARE
        badly = np.argsort(np.linalg.norm(signals - codes @ fitted, axis=1))[::-1]
        fitted[rare] = signals[badly[: np.count_nonzero(rare)]]
        atoms = _unit(fitted)
    return atoms


def sparse_codes(signals: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Weights (N,K) of the atoms that `pursuit` takes for each signal; the rest are 0."""
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
    """Of the map of counts, as spread over the middle of each photograph blurred by sigma: the photographs' mean."""
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
    """Of zero mean, as the patches, and norm 1."""
    atoms = atoms - atoms.mean(axis=1, keepdims=True)
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
