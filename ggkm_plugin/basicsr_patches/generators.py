"""The state of every random generator that a training may draw from, as values that a safe reader loads."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

# The global generator is what other people's data sets and networks draw from.
# ruff: noqa: NPY002


def generator_states() -> dict[str, Any]:
    """Of python, numpy, torch and, where there is one, this process's GPU."""
    kind, keys, *rest = np.random.get_state()
    return {
        'python': random.getstate(),
        'numpy': (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Set the generators to what `generator_states` gave."""
    version, internal, gauss = states['python']
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = states['numpy']
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'])
    if states['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'])


@contextmanager
def unchanged_generators() -> Iterator[None]:
    """Whatever the block draws, they are afterwards as they were."""
    states = generator_states()
    try:
        yield
    finally:
        restore_generators(states)


def seed_generators(seed: int) -> None:
    """All of this process but the GPU's."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
