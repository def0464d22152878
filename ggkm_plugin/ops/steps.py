"""Iteration over the steps of a chain: chunks for a GPU, and reverse order from few stored states."""

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

State = TypeVar('State')

# Most steps transformed at once on a GPU, enough for small images to fill it. For large images the chunk (in float32)
# stays about as large as the GPU's last-level cache. Chosen on paper, not timed.
_MOST_STEPS = 8
_CHUNK_BYTES = 32 << 20


def steps_at_once(pixels: int) -> int:
    """Return the steps per chunk (2, 4, 6 or 8) for this many pixels per step, with margins, colors and batch.

    Even numbers, because two steps form one complex image (`ggkm.triton`).
    """
    return 2 * max(1, min(_MOST_STEPS // 2, _CHUNK_BYTES // (8 * pixels)))


def chunks_of(steps: int, size: int) -> list[range]:
    """Divide 0..steps-1 into ranges of at most `size`."""
    return [range(first, min(first + size, steps)) for first in range(0, steps, size)]


def backwards(count: int, start: State, advance: Callable[[int, State], State]) -> Iterator[tuple[int, State]]:
    """Yield (i, state before step i) from the last of `count` steps to the first.

    advance(i, state) returns the state after step i and leaves its argument unchanged. A first pass stores every
    sqrt(count)-th state; each stretch is then recomputed, so at most 2 sqrt(count) + 2 states are alive.
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
