"""Restore photographs in one process or several. A failure is recorded and the rest continues."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ggkm_plugin.restoration.image_io import (
    Photograph,
    check_format,
    read_photograph,
    screen_picture,
    write_bytes,
    write_photograph,
)
from ggkm_plugin.restoration.jobs import DeblurJob
from ggkm_plugin.restoration.restorer import ImageRestorer
from ggkm_plugin.restoration.tiling import TileProgress
from ggkm_plugin.utils import allocator
from ggkm_plugin.utils.errors import DataError, UnsupportedImageError, UserError
from ggkm_plugin.utils.files import nearest_there, unfinished
from ggkm_plugin.utils.image_decoding import to_float
from ggkm_plugin.utils.memory import is_out_of_memory

# Largest difference of the channels of a gray image, as a share of white: JPEG rounds.
_GRAY = 0.02

# RGB (H,W,3) or gray (H,W), uint8 or uint16, to the same: a `Restorer`, or any other method.
Restore = Callable[[np.ndarray], np.ndarray]
Tell = Callable[[str | TileProgress], None]
# Makes a Restore for a device, given a function that shows lines and progress. Processes get it, so it is picklable.
Make = Callable[[str, Tell], Restore]


@dataclass(frozen=True)
class Outcome:
    """The result of one job.

    fault: why it failed. skipped: why a file found in a folder is left out. lost: what the result does not hold of the
    source. size: (H,W).
    """

    job: DeblurJob
    fault: str | None = None
    skipped: str | None = None
    lost: list[str] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    seconds: float = 0.0


def deblur(job: DeblurJob, restore: Callable[[], Restore], overwrite: bool) -> Outcome:
    """Restore one photograph. The result is written whole or not at all; any failure is recorded in the outcome."""
    start = time.monotonic()
    try:
        for path in job.results:
            if os.path.lexists(path) and path not in job.kept and not overwrite:
                raise DataError(f'{path}: exists already. Use --overwrite or --skip-existing')
        _check_writable(Path(job.output).parent)
        photograph = read_photograph(job.source)
        check_format(job.output, photograph)
        result = replace(photograph, colors=_deblurred(job, photograph.colors, restore()))
        for path, shown in zip(job.pictures or (), (photograph, result), strict=False):
            write_bytes(path, screen_picture(shown))
        lost = [] if job.output in job.kept else write_photograph(job.output, result)
    except Exception as error:  # a network or a decoder may raise anything
        text = _message(job, error)
        if isinstance(error, UnsupportedImageError) and not job.named:
            return Outcome(job, skipped=text.removeprefix(f'{job.source}: '))
        return Outcome(job, fault=text)
    height, width = photograph.colors.shape[:2]
    return Outcome(job, lost=lost, size=(height, width), seconds=time.monotonic() - start)


def _deblurred(job: DeblurJob, colors: np.ndarray, restore: Restore) -> np.ndarray:
    """Restore colors by the job's strength and mask; write the blur map if it has one."""
    if job.strength == 1 and job.mask is None and job.blur_map is None:
        return restore(colors)
    mask = None if job.mask is None else read_mask(job.mask, colors)
    result = cast(ImageRestorer, restore).adjustable(colors)
    if job.blur_map and job.blur_map not in job.kept:
        if result.estimate is None:
            raise DataError(f'{job.blur_map}: the network estimates no blur. Leave out --blur-map')
        write_photograph(job.blur_map, Photograph(result.estimate.encoded()))
    return result.at(job.strength, mask)


def read_mask(path: str, colors: np.ndarray) -> np.ndarray:
    """Read a mask (H,W) float32 in [0,1] for a photograph. Raises DataError if it has another size, or colors."""
    channels = to_float(np.atleast_3d(read_photograph(path).colors))
    if np.ptp(channels, 2).max() > _GRAY:
        raise DataError(f'{path}: a mask is a grayscale image, this one has colors. Convert it to gray')
    mask = channels[..., 0]
    if mask.shape != colors.shape[:2]:
        sizes = [f'{width}x{height}' for height, width in (mask.shape, colors.shape[:2])]
        raise DataError(f'{path}: the mask has {sizes[0]} pixels, its photograph {sizes[1]}. Resize it')
    return mask


def _check_writable(folder: Path) -> None:
    """Check, without making anything, that a folder can be written. Raises DataError."""
    nearest = nearest_there(folder)
    if not nearest.is_dir():
        raise DataError(f'{nearest}: is a file, not a folder. Give another -o')
    if not os.access(nearest, os.W_OK):
        raise DataError(f'{nearest}: cannot be written. Give another -o')


def _message(job: DeblurJob, error: Exception) -> str:
    text = ' '.join(str(error).split())
    if is_out_of_memory(error):
        text = f'out of memory ({text[:200]}). Reduce the image or use a machine with more memory'
    elif not isinstance(error, UserError):
        text = f'{type(error).__name__}: {text}'
    return text if text.startswith((job.source, job.output)) else f'{job.source}: {text}'


def run(
    jobs: Sequence[DeblurJob], make: Make, devices: Sequence[str], threads: int, overwrite: bool, tell: Tell
) -> Iterator[Outcome]:
    """Yield outcomes as they come, from a process with `threads` threads for each of `devices`.

    A single device works in this process and raises what `make` raises. A killed process costs only its photograph.
    When the iterator is closed or interrupted, the processes end and their unfinished files are removed.
    """
    if len(devices) > 1:
        yield from _Team(make, devices, threads, overwrite, tell).run(jobs)
        return
    restore = make(devices[0], tell)
    for job in jobs:
        yield deblur(job, lambda: restore, overwrite)


class _Once:
    """Make a Restore on first use, so that a failure counts for one photograph and the next one tries again."""

    def __init__(self, make: Callable[[], Restore]) -> None:
        self._make = make
        self._made: Restore | None = None

    def __call__(self) -> Restore:
        if self._made is None:
            self._made = self._make()
        return self._made


@contextmanager
def _held_interrupts() -> Iterator[None]:
    """Deliver Ctrl-C after the block, and never to processes that start in it: their parent ends them.

    The mask is for the processes; another thread of this one may still receive the signal, hence the handler.
    """
    held: list[Any] = []
    handler = signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if held and callable(handler):
            handler(*held[0])


class _Worker:
    """A process on its device, and its current job."""

    def __init__(self, device: str, make: Make, threads: int, overwrite: bool) -> None:
        context = multiprocessing.get_context('spawn')  # a fork would share CUDA's and OpenMP's state
        self.device = device
        self.job: DeblurJob | None = None
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, make, device, threads, overwrite), daemon=True)
        with _held_interrupts():
            self.process.start()
        theirs.close()  # so that the pipe ends with the process

    def begin(self, job: DeblurJob) -> None:
        self.job = job
        with suppress(OSError):  # a dead process is noticed when its outcome is received
            self.pipe.send(job)

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()
        if self.job:
            for path in self.job.files:
                with suppress(OSError):
                    unfinished(Path(path)).unlink()


class _Team:
    def __init__(self, make: Make, devices: Sequence[str], threads: int, overwrite: bool, tell: Tell) -> None:
        self._start = partial(_Worker, make=make, threads=threads, overwrite=overwrite)
        self._devices, self._tell = devices, tell

    def run(self, jobs: Sequence[DeblurJob]) -> Iterator[Outcome]:
        waiting = list(reversed(jobs))
        workers: list[_Worker] = []
        try:
            for device in self._devices[: len(jobs)]:
                workers.append(self._start(device))
                workers[-1].begin(waiting.pop())
            while workers:
                pipes = {worker.pipe: worker for worker in workers}
                for pipe in wait(list(pipes)):
                    worker = pipes[pipe]  # type: ignore[index]
                    outcome = self._receive(worker)
                    if outcome is None:
                        continue
                    yield outcome
                    if waiting:
                        if not worker.process.is_alive():
                            workers[workers.index(worker)] = worker = self._start(worker.device)
                        worker.begin(waiting.pop())
                    else:
                        workers.remove(worker)
                        worker.end()
        finally:
            for worker in workers:
                worker.end()

    def _receive(self, worker: _Worker) -> Outcome | None:
        """Receive the outcome of a worker's job, or print its line and return None."""
        assert worker.job is not None
        try:
            message: Any = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            code, job = worker.process.exitcode, worker.job
            worker.end()
            return Outcome(job, f'{job.source}: worker killed ({_how(code)}), probably out of memory')
        if isinstance(message, Outcome):
            worker.job = None
            return message
        self._tell(message)
        return None


def _how(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f'exit code {code}'


def _work(pipe: Connection, make: Make, device: str, threads: int, overwrite: bool) -> None:
    """Restore the photographs that come through the pipe; send outcomes and lines back."""
    torch.set_num_threads(threads)
    allocator.keep_freed_memory()
    restore = _Once(partial(make, device, pipe.send))
    with suppress(EOFError, OSError):  # the parent is gone
        while True:
            pipe.send(deblur(pipe.recv(), restore, overwrite))
