"""What to do when the memory is full, in place of an allocator's words; and how much of it is free."""

import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ggkm_plugin.utils import allocator
from ggkm_plugin.utils.errors import TrainingError

# Words in the RuntimeErrors of the CPU's allocator, of CUDA outside of torch's allocator, of its libraries, and of MPS.
_WORDS = ("can't allocate memory", 'CUDA error: out of memory', 'STATUS_ALLOC_FAILED', 'MPS backend out of memory')
# All that oneDNN says of it, whose convolutions run on CPUs; what it cannot do at all is said in more words.
_ONEDNN = (
    'could not create a primitive',
    'could not execute a primitive',
    'could not create a memory',
    'could not create a memory object',
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory, of the GPU or the machine, is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = ' '.join(str(error).split())
    return isinstance(error, RuntimeError) and (text in _ONEDNN or any(words in text for words in _WORDS))


@contextmanager
def memory_advice(doing: str, advice: str) -> Iterator[None]:
    """Raises TrainingError if the memory, of the GPU or the machine, runs out in the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        text = ' '.join(str(error).split())
        raise TrainingError(f'out of memory {doing}: {advice} ({text[:200]})') from error


def free_bytes(device: torch.device) -> int | None:
    """Memory that may still be taken on a device without harm to others; None where the system does not say."""
    if device.type == 'cuda':
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reusable
    available = _available()
    return None if available is None else available + allocator.freed_bytes()


def _available() -> int | None:
    """What the system, or the container, has left for this process."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    available = (int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable:'))
    limits = [next(available, None), *(_group_left(Path(path)) for path in _GROUPS)]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


# A container's own limit and use, in the two generations of Linux's control groups.
_GROUPS = ('/sys/fs/cgroup/memory', '/sys/fs/cgroup')


def _group_left(folder: Path) -> int | None:
    for limit, used in (('memory.max', 'memory.current'), ('memory.limit_in_bytes', 'memory.usage_in_bytes')):
        try:
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            # files that were read count as used, and make room when it is needed
            cached = re.search(r'^inactive_file (\d+)$', (folder / 'memory.stat').read_text(), re.MULTILINE)
        except (OSError, ValueError):  # no such group, or its limit is `max`
            continue
        return max(left + int(cached[1] if cached else 0), 0)
    return None


def release(device: torch.device) -> None:
    """Give back what is no longer used, before another attempt: allocators keep it, in pieces that fit nothing."""
    gc.collect()
    if device.type == 'cpu':
        allocator.trim()
    else:
        torch.get_device_module(device.type).empty_cache()


@contextmanager
def bounded_memory(device: torch.device) -> Iterator[None]:
    """On a CPU under Linux: what does not fit into the machine's free memory cannot be allocated in the block.

    Otherwise the kernel kills the process when it touches what it was promised, and all that it was to do is lost.
    """
    free = _available() if device.type == 'cpu' and sys.platform == 'linux' else None
    if free is None:
        yield
        return
    import resource  # not on every system

    status = Path('/proc/self/status').read_text()
    own = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith('VmData:'))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [limit for limit in (own + free, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
