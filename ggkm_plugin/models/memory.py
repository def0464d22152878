"""What to do when the memory is full, in place of an allocator's words."""

from collections.abc import Iterator
from contextlib import contextmanager

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
