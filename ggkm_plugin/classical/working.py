"""Independent jobs on threads, with progress. The jobs must release the GIL to run in parallel."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# Stage, number of steps done, total number of steps.
Progress = Callable[[str, int, int], None]

_REPORTS = 2  # per stage of a photograph, which may take a minute


def progress_lines(name: str, tell: Callable[[str], None]) -> Progress:
    """Return a progress callback that reports few lines for the method `name`."""

    def progress(what: str, done: int, total: int) -> None:
        if done * _REPORTS // total > (done - 1) * _REPORTS // total:
            tell(f'{name}: {what}, {100 * done // total} %')

    return progress


def done_by_threads(
    what: str,
    do: Callable[..., None],
    jobs: Sequence[tuple[Any, ...]],
    progress: Progress | None = None,
    workers: int | None = None,
) -> None:
    """Call `do` with the arguments of each job, by default on one thread per available processor.

    Exceptions of a job and Ctrl-C are raised, and jobs that have not begun are canceled.
    """
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as threads:
        for number, _ in enumerate(threads.map(lambda job: do(*job), jobs), 1):
            if progress:
                progress(what, number, len(jobs))
