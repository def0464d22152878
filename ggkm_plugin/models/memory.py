"""What to do when the memory is full, in place of an allocator's words or of the kernel's axe."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from ggkm_plugin.errors import TrainingError

# How the CPU's allocator, CUDA outside of torch's allocator and CUDA's libraries say it in a plain RuntimeError.
_WORDS = ("can't allocate memory", 'CUDA error: out of memory', 'STATUS_ALLOC_FAILED')


@contextmanager
def memory_advice(doing: str, advice: str) -> Iterator[None]:
    """Raises TrainingError if the memory, of the GPU or the machine, runs out in the block."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = ' '.join(str(error).split())
        full = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in text for words in _WORDS)
        if not full:
            raise
        raise TrainingError(f'out of memory {doing}: {advice} ({text[:200]})') from error


@contextmanager
def bounded_memory(device: torch.device) -> Iterator[None]:
    """On a CPU under Linux: what does not fit into the machine's free memory fails to be allocated in the block.

    Otherwise the kernel kills the process when it touches what it was promised, and all that it was to do is lost.
    """
    free = _free_memory() if device.type == 'cpu' and sys.platform == 'linux' else None
    if free is None:
        yield
        return
    import resource  # not on every system

    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = free if before[0] == resource.RLIM_INFINITY else min(free, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _free_memory() -> int | None:
    """Bytes of data that this process may have in all: what it has and what is free; None where nobody tells."""
    sizes = {}
    for file, key in (('/proc/self/status', 'VmData'), ('/proc/meminfo', 'MemAvailable')):
        with suppress(OSError):
            found = re.search(rf'^{key}:\s*(\d+) kB', Path(file).read_text(encoding='ascii'), re.MULTILINE)
            sizes[key] = int(found[1]) * 1024 if found else None
    own, available = sizes.get('VmData'), sizes.get('MemAvailable')
    if own is None or available is None:
        return None
    bounds = [own + available]
    for file in ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes'):  # a container's
        with suppress(OSError, ValueError):  # ValueError: `max`
            bounds.append(int(Path(file).read_text(encoding='ascii')))
    return min(bounds)
