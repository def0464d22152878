"""How the steps of a chain are walked: several at once on a GPU, and backwards from few kept states."""

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

State = TypeVar('State')

# On a GPU the images of this many steps at most are transformed at once: small images then fill it. Large ones come in
# fewer steps, so that a chunk (in float32) stays about as large as the GPU's last cache. Chosen on paper, not timed.
_MOST_STEPS = 8
_CHUNK_BYTES = 32 << 20


def steps_at_once(pixels: int) -> int:
    """Steps a chunk for as many pixels a step, margins, colours and batch together: 2, 4, 6 or 8 however many follow.

    Even numbers, since pairs of steps make complex images (`triton_kernels`).
    """
    return 2 * max(1, min(_MOST_STEPS // 2, _CHUNK_BYTES // (8 * pixels)))


def chunks_of(steps: int, size: int) -> list[range]:
    """0..steps-1 in ranges of `size` at most."""
    return [range(first, min(first + size, steps)) for first in range(0, steps, size)]


def backwards(count: int, start: State, advance: Callable[[int, State], State]) -> Iterator[tuple[int, State]]:
    """(i, the state before step i) from the last of `count` steps to the first.

    advance(i, state) makes the state after step i and leaves the one before as it is. All but the last step are made
    once to keep every sqrt(count)-th state, then stretch by stretch again: at most 2 sqrt(count) + 2 states are alive.
    """
    stride = math.isqrt(count - 1) + 1
    kept = [start]
    state = start
    for i in range((count - 1) // stride * stride):
        state = advance(i, state)
        if (i + 1) % stride == 0:
            kept.append(state)
    del state
    while kept:
        first = (len(kept) - 1) * stride
        stretch = [kept.pop()]
        for i in range(first, min(first + stride, count) - 1):
            stretch.append(advance(i, stretch[-1]))
        while stretch:
            i = first + len(stretch) - 1
            yield i, stretch.pop()
