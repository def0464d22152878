"""Orthogonal matching pursuit of many small signals at once, up to a given error."""

import numpy as np


def pursuit(signals: np.ndarray, atoms: np.ndarray, error: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of atoms of each signal, (N,) int, and their indices in order, (N, most), -1 after the last.

    signals: (N,D); atoms: (K,D) of unit norm that span the signals. The atom nearest to the residual is added until the
    residual, orthogonal to all atoms taken, has at most the norm `error`, or `most` atoms are taken.

    The basis is orthonormalized by Gram-Schmidt, repeated: learned atoms are so similar that faster recursions on their
    Gram matrix lose all digits.
    """
    count = np.zeros(len(signals), int)
    taken = np.full((len(signals), most), -1)
    active, residual = np.arange(len(signals)), signals
    basis = np.zeros((len(signals), 0, signals.shape[1]), signals.dtype)
    for k in range(most):
        far = np.einsum('nd,nd->n', residual, residual) > error**2
        active, residual, basis = active[far], residual[far], basis[far]
        if not len(active):
            break
        best = np.abs(residual @ atoms.T).argmax(axis=1)
        new = atoms[best]
        for _ in range(2 if k else 0):
            new = new - np.einsum('nk,nkd->nd', np.einsum('nkd,nd->nk', basis, new), basis)
        new = new / np.linalg.norm(new, axis=1, keepdims=True)
        residual -= np.einsum('nd,nd->n', residual, new)[:, None] * new
        basis = np.concatenate([basis, new[:, None]], axis=1)
        count[active] += 1
        taken[active, k] = best
    return count, taken
