"""Functions in a new process, and its peak memory."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from ggkm_plugin.utils.errors import OptionError

_STATUS = Path('/proc/self/status')


class Failed(Exception):
    """The function raised, or its process died."""


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in a new process and return its result. Raises Failed."""
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, context, _set_start_method, (multiprocessing.get_start_method(),)) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise Failed('its process died: is the memory full?') from None
        except Exception as error:
            raise Failed(f'{type(error).__name__}: {error}') from error


def _set_start_method(name: str) -> None:
    """Restore the start method of the parent: a spawned process would spawn its own workers, too."""
    multiprocessing.set_start_method(name, force=True)


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far, libraries included."""
    return next(int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith('VmHWM')) * 1024


def check_proc() -> None:
    """Raise OptionError where /proc does not show the memory of a process."""
    if not _STATUS.exists():
        raise OptionError('bench: memory is measured in /proc, which only Linux has. Run it on Linux')
