"""Independent pieces of work on threads, told as they are done; what is called releases Python's lock."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

# What is being done, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]


def done_by_threads(
    what: str,
    do: Callable[..., None],
    jobs: Iterable[tuple[Any, ...]],
    progress: Progress | None = None,
    workers: int | None = None,
) -> None:
    """Calls `do` with each job's arguments; by default on as many threads as processors may be used.

    A job's exception is raised, and so is Ctrl-C; jobs that have not begun by then do not.
    """
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as threads:
        futures = [threads.submit(do, *job) for job in jobs]
        try:
            for number, future in enumerate(as_completed(futures), 1):
                future.result()
                if progress:
                    progress(what, number, len(futures))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
