"""glibc's allocator under large tensors. No torch here: the command calls it before it imports anything."""

import ctypes
import os
import sys

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
# What a user sets the same with.
_ENVIRONMENT = ('MALLOC_MMAP_MAX_', 'MALLOC_TRIM_THRESHOLD_', 'GLIBC_TUNABLES')


def keep_freed_memory() -> bool:
    """Let this process use its freed memory again; whether that is possible.

    By default glibc gives every freed block of 32 MiB or more back to the system, which has to clear the pages of the
    next one: a quarter of the time of a convolution on a large image. It takes more memory, in exchange: freed pieces
    that no new block fits. For programs of our own; a library leaves its user's allocator alone.
    """
    libc = _glibc()
    if libc is None or any(name in os.environ for name in _ENVIRONMENT):
        return False
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def trim() -> None:
    """Give freed memory back to the system now."""
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
    """Memory that the process has freed and not given back; 0 where that is not known."""
    libc = _glibc()
    if libc is None or not hasattr(libc, 'mallinfo2'):  # of glibc 2.33
        return 0
    libc.mallinfo2.restype = _Mallinfo2
    return int(libc.mallinfo2().fordblks)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == 'linux' else None
    return libc if hasattr(libc, 'mallopt') and hasattr(libc, 'malloc_trim') else None
