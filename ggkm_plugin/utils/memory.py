"""Out-of-memory errors with advice, free memory, and a bound on allocations."""

import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ggkm_plugin.utils import allocator
from ggkm_plugin.utils.errors import TrainingError

# Parts of RuntimeErrors of the CPU's allocator, of CUDA and its libraries, and of MPS.
_WORDS = ("can't allocate memory", 'CUDA error: out of memory', 'STATUS_ALLOC_FAILED', 'MPS backend out of memory')
# Whole messages of oneDNN (convolutions on CPUs). Those for unsupported operations are longer.
_ONEDNN = (
    'could not create a primitive',
    'could not execute a primitive',
    'could not create a memory',
    'could not create a memory object',
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the memory of the GPU or the machine is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = ' '.join(str(error).split())
    return isinstance(error, RuntimeError) and (text in _ONEDNN or any(words in text for words in _WORDS))


@contextmanager
def memory_advice(doing: str, advice: str) -> Iterator[None]:
    """Raise TrainingError with `advice` if the memory of the GPU or the machine is full in the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        text = ' '.join(str(error).split())
        raise TrainingError(f'out of memory {doing}: {advice} ({text[:200]})') from error


def free_bytes(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated on a device; None if unknown."""
    if device.type == 'cuda':
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reusable
    available = _available()
    return None if available is None else available + allocator.freed_bytes()


def _available() -> int | None:
    """Return the free bytes of the machine or the container; None if unknown."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    available = (int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable:'))
    limits = [next(available, None), *(_group_left(Path(path)) for path in _GROUPS)]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


# Folders of a container's memory limit and use: control groups v1 and v2.
_GROUPS = ('/sys/fs/cgroup/memory', '/sys/fs/cgroup')


def _group_left(folder: Path) -> int | None:
    for limit, used in (('memory.max', 'memory.current'), ('memory.limit_in_bytes', 'memory.usage_in_bytes')):
        try:
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            # The cache of files counts as used, but is freed when memory is needed.
            cached = re.search(r'^inactive_file (\d+)$', (folder / 'memory.stat').read_text(), re.MULTILINE)
        except (OSError, ValueError):  # no such control group, or its limit is `max`
            continue
        return max(left + int(cached[1] if cached else 0), 0)
    return None


def release(device: torch.device) -> None:
    """Return unused memory to the system or the GPU; allocators keep it, fragmented."""
    gc.collect()
    if device.type == 'cpu':
        allocator.trim()
    else:
        torch.get_device_module(device.type).empty_cache()


@contextmanager
def bounded_memory(device: torch.device) -> Iterator[None]:
    """Limit allocations in the block to the machine's free memory; on a CPU under Linux only.

    Without a limit Linux grants the memory and kills the process when it is used.
    """
    free = _available() if device.type == 'cpu' and sys.platform == 'linux' else None
    if free is None:
        yield
        return
    import resource  # not on Windows

    status = Path('/proc/self/status').read_text()
    own = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith('VmData:'))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [limit for limit in (own + free, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
