"""Settings of glibc's allocator for large tensors. Does not import torch: the command calls it first."""

import ctypes
import os
import sys

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
# Environment variables of these settings.
_ENVIRONMENT = ('MALLOC_MMAP_MAX_', 'MALLOC_TRIM_THRESHOLD_', 'GLIBC_TUNABLES')


def keep_freed_memory() -> bool:
    """Let this process reuse its freed memory; return whether this is possible.

    By default glibc returns every freed block of 32 MiB or more to the system, which then clears the pages of the next
    one: a quarter of the time of a convolution on a large image. The cost is more memory, by fragmentation. Only
    commands call this, since the allocator belongs to the program.
    """
    libc = _glibc()
    if libc is None or any(name in os.environ for name in _ENVIRONMENT):
        return False
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def trim() -> None:
    """Return freed memory to the system."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            'arena', 'ordblks', 'smblks', 'hblks', 'hblkhd', 'usmblks', 'fsmblks', 'uordblks', 'fordblks', 'keepcost',
        )
    ]  # fmt: skip


def freed_bytes() -> int:
    """Return the bytes that the process has freed and not returned to the system; 0 if unknown."""
    libc = _glibc()
    if libc is None or not hasattr(libc, 'mallinfo2'):  # since glibc 2.33
        return 0
    libc.mallinfo2.restype = _Mallinfo2
    return int(libc.mallinfo2().fordblks)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == 'linux' else None
    return libc if hasattr(libc, 'mallopt') and hasattr(libc, 'malloc_trim') else None
