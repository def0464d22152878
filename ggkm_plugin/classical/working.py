"""Independent pieces of work on threads, told as they are done; what is called releases Python's lock."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

# What is being done, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]

_TOLD = 2  # times for each stage of a photograph, which may take a minute


def told(name: str, tell: Callable[[str], None]) -> Progress:
    """A progress of the method `name` in few lines."""

    def progress(what: str, done: int, total: int) -> None:
        if done * _TOLD // total > (done - 1) * _TOLD // total:
            tell(f'{name}: {what}, {100 * done // total} %')

    return progress


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
