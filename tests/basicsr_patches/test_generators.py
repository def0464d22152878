"""States of the random generators, saved and restored."""

import contextlib
import random

import numpy as np
import pytest
import torch

from ggkm_plugin.basicsr_patches.generators import (
    generator_states,
    restore_generators,
    seed_generators,
    unchanged_generators,
)

# ruff: noqa: NPY002


def draws():
    """Numbers of each generator; Python and numpy make normal numbers in pairs and keep one."""
    return [
        [random.random(), random.gauss(0, 1), random.getrandbits(64)],
        [np.random.rand(), np.random.randn(), int(np.random.randint(1 << 30)), np.random.randn()],
        torch.cat([torch.rand(3), torch.randn(17), torch.randperm(5)]).tolist(),
    ]


@pytest.mark.parametrize('normal', [0, 1])
@pytest.mark.parametrize('seed', [0, 2**32 - 1])
def test_a_restored_state_repeats_the_draws(tmp_path, seed, normal):
    seed_generators(seed)
    for _ in range(normal):  # one is kept
        np.random.randn()
        random.gauss(0, 1)
    torch.save(generator_states(), tmp_path / 'states')
    expected = draws()
    seed_generators(77)
    assert draws() != expected
    restore_generators(torch.load(tmp_path / 'states', weights_only=True))
    assert draws() == expected


def test_a_block_leaves_the_generators_unchanged():
    seed_generators(3)
    expected = draws()
    seed_generators(3)
    with unchanged_generators():
        draws()
    with contextlib.suppress(KeyError), unchanged_generators():
        raise KeyError(draws())
    assert draws() == expected
