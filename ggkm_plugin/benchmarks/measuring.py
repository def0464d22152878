"""Measurements in a separate process: its memory and disk reads, and facts of the machine."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from ggkm_plugin.utils.errors import OptionError

# Seconds between two samples of a process's memory. Decoding a 16-bit photograph takes 50 ms, a sample 0.1 ms.
_PERIOD = 0.01
_BLOCK = 1 << 20


class Anonymous(NamedTuple):
    """Anonymous memory, in bytes, of a process and its children at a time (`time.monotonic`)."""

    time: float
    size: int


@dataclass(frozen=True)
class Observed:
    """Result of a function, and the memory of its process with children."""

    result: Any
    memory: list[Anonymous]

    @property
    def peak(self) -> int:
        return max((each.size for each in self.memory), default=0)

    def growth(self, begin: float, end: float) -> int:
        """Return by how many bytes the peak of the last fifth of an interval exceeds that of the first fifth.

        Peaks, since an image that is being decoded comes and goes.
        """
        fifth = (end - begin) / 5
        first = [each.size for each in self.memory if begin <= each.time <= begin + fifth]
        last = [each.size for each in self.memory if end - fifth <= each.time <= end]
        return max(last, default=0) - max(first, default=0)


class Failed(Exception):
    """The observed function raised, or its process died."""


def observed(function: Callable[..., Any], *arguments: Any) -> Observed:
    """Call a function of a module in a new process and sample its memory. Raises Failed."""
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, multiprocessing.get_start_method(), function, arguments))
    process.start()
    memory = []
    try:
        sender.close()
        while not receiver.poll(_PERIOD):
            memory.append(Anonymous(time.monotonic(), _with_children(process.pid or 0)))
        result, failure = receiver.recv()
    except EOFError:
        process.join()
        raise Failed(f'its process died (exit code {process.exitcode}): is the memory full?') from None
    finally:
        process.terminate()
        process.join()
        receiver.close()
    if failure is not None:
        raise Failed(failure)
    return Observed(result, memory)


def _call(sender: Connection, start_method: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # A spawned process would spawn its children, too, workers of a loader among them.
    multiprocessing.set_start_method(start_method, force=True)
    try:
        sender.send((function(*arguments), None))
    except Exception as error:
        sender.send((None, f'{type(error).__name__}: {error}'))


def anonymous_bytes(process: int | str = 'self') -> int:
    """Return RssAnon of a process: heap and stacks, without mapped files. 0 if there is no such process."""
    with suppress(OSError):
        _, resident, shared = Path(f'/proc/{process}/statm').read_bytes().split()[:3]
        return (int(resident) - int(shared)) * os.sysconf('SC_PAGE_SIZE')
    return 0


def _with_children(process: int) -> int:
    children: list[bytes] = []
    with suppress(OSError):  # it may have ended by now
        children = Path(f'/proc/{process}/task/{process}/children').read_bytes().split()
    return sum(anonymous_bytes(each) for each in (str(process), *(child.decode() for child in children)))


def check_proc() -> None:
    """Raise OptionError where /proc does not show the memory of processes."""
    if not Path(f'/proc/self/task/{os.getpid()}/children').exists():
        raise OptionError('memory is measured in /proc, which only Linux has')


def bytes_from_disk() -> int:
    """Return the bytes that this process and its finished children read from the disk."""
    lines = Path('/proc/self/io').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('read_bytes:'))


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob('*') if path.is_file())


def drop_from_cache(folder: Path) -> None:
    """Drop the files below a folder from the page cache; has no effect on a file system in memory."""
    for path in files_below(folder):
        with open(path, 'rb') as file:
            os.fsync(file.fileno())  # dirty pages would stay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_into_cache(folder: Path) -> None:
    for path in files_below(folder):
        with open(path, 'rb') as file:
            while file.read(_BLOCK):
                pass


def machine_line(facts: dict[str, Any]) -> str:
    """Return one line about the machine."""
    versions = ', '.join(f'{name} {facts[name]}' for name in ('python', 'torch', 'opencv', 'lmdb', 'numpy'))
    return (
        f'machine: {facts["processor"]}, {facts["cores"]} cores, {facts["memory_bytes"] / 2**30:.0f} GiB, '
        f'{facts["system"]}; load before: {facts["load_average"]}. {versions}, ggkm_plugin {facts["ggkm_plugin"]}.'
    )
