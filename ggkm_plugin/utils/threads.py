"""Parallel map over threads, for work that releases the GIL."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_Item = TypeVar('_Item')
_Result = TypeVar('_Result')


def map_threads(function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int) -> Iterator[_Result]:
    """Yield the results in the order of the items.

    Unlike `Executor.map`, at most `2 * workers` items are in progress or waiting to be yielded: memory does not grow
    with their number, and an interruption waits for these only.
    """
    waiting = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        futures = deque(pool.submit(function, item) for item in islice(waiting, 2 * workers))
        while futures:
            yield futures.popleft().result()
            futures.extend(pool.submit(function, item) for item in islice(waiting, 1))
