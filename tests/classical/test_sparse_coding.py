"""Orthogonal matching pursuit against its definition."""

import numpy as np
import pytest

from ggkm_plugin.classical.sparse_coding import pursuit


def by_definition(signal, atoms, error, most):
    """The atoms taken, by least squares on all of them at each step."""
    taken, residual = [], signal
    while np.linalg.norm(residual) > error and len(taken) < most:
        taken.append(int(np.abs(atoms @ residual).argmax()))
        weights, *_ = np.linalg.lstsq(atoms[taken].T, signal, rcond=None)
        residual = signal - atoms[taken].T @ weights
    return taken


@pytest.fixture
def atoms():
    atoms = np.random.default_rng(0).standard_normal((24, 10))
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


@pytest.mark.parametrize('error', [0.3, 1.0, 2.0])
@pytest.mark.parametrize('most', [3, 10])
def test_pursuit_takes_the_atoms_of_the_definition(atoms, error, most):
    signals = np.random.default_rng(1).standard_normal((50, 10))
    before = signals.copy()
    counts, taken = pursuit(signals, atoms, error, most)
    np.testing.assert_array_equal(signals, before)
    for signal, count, some in zip(signals, counts, taken, strict=True):
        expected = by_definition(signal, atoms, error, most)
        assert some[:count].tolist() == expected
        assert (some[count:] == -1).all()


def test_nearly_equal_atoms_are_distinguished():
    """Learned atoms are nearly equal; in single precision, down to a small residual."""
    rng = np.random.default_rng(2)
    atoms = 1 + 0.1 * rng.standard_normal((64, 32))
    atoms = (atoms / np.linalg.norm(atoms, axis=1, keepdims=True)).astype(np.float32)
    signals = (10 * rng.standard_normal((40, 32))).astype(np.float32)
    counts, taken = pursuit(signals, atoms, 0.5, 32)
    for signal, count, some in zip(signals.astype(np.float64), counts, taken, strict=True):
        weights, *_ = np.linalg.lstsq(atoms[some[:count]].T, signal, rcond=None)
        assert np.linalg.norm(signal - atoms[some[:count]].T @ weights) < 0.51


def test_small_signals_need_none(atoms):
    counts, taken = pursuit(np.full((3, 10), 0.01), atoms, 1.0, 4)
    assert not counts.any()
    assert (taken == -1).all()
