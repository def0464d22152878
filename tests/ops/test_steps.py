"""Chunks of steps, and reverse iteration over a chain from few stored states."""

import math
import weakref

import pytest

from ggkm_plugin.ops.steps import backwards, chunks_of, steps_at_once


@pytest.mark.parametrize(('steps', 'size'), [(1, 1), (1, 8), (21, 4), (21, 8), (24, 8)])
def test_chunks_hold_every_step_once(steps, size):
    chunks = chunks_of(steps, size)
    assert [step for chunk in chunks for step in chunk] == list(range(steps))
    assert max(map(len, chunks)) <= size


def test_more_pixels_take_fewer_steps_at_once():
    sizes = [steps_at_once(3 * side * side) for side in range(16, 5000, 16)]
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) == {2, 4, 6, 8}


class Alive:
    """State that counts its live instances."""

    now = peak = 0

    def __init__(self, steps):
        self.steps = steps
        Alive.now += 1
        Alive.peak = max(Alive.peak, Alive.now)
        weakref.finalize(self, Alive.end)

    @classmethod
    def end(cls):
        cls.now -= 1


@pytest.mark.parametrize('count', [1, 2, 4, 9, 10, 21, 84])
def test_backwards_gives_each_state_from_few_stored_ones(count):
    Alive.now = Alive.peak = advances = 0

    def advance(i, state):
        nonlocal advances
        assert state.steps == i
        advances += 1
        return Alive(i + 1)

    visited = []
    for i, state in backwards(count, Alive(0), advance):
        assert state.steps == i
        visited.append(i)
        del state
    assert visited == list(reversed(range(count)))
    assert advances < 2 * count
    assert Alive.peak <= 2 * math.sqrt(count) + 2
