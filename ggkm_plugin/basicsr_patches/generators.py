"""States of the random generators of Python, numpy and torch, as values that `torch.load(weights_only=True)` reads."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

# Data sets and networks of other packages use numpy's global generator.
# ruff: noqa: NPY002


def generator_states() -> dict[str, Any]:
    """Return the states of Python, numpy, torch and, if initialized, this process's GPU."""
    kind, keys, *rest = np.random.get_state()
    return {
        'python': random.getstate(),
        'numpy': (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Restore states returned by `generator_states`."""
    version, internal, gauss = states['python']
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = states['numpy']
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'])
    if states['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'])


@contextmanager
def unchanged_generators() -> Iterator[None]:
    """Restore the states of all generators after the block."""
    states = generator_states()
    try:
        yield
    finally:
        restore_generators(states)


def seed_generators(seed: int) -> None:
    """Seed Python, numpy and torch on the CPU."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
