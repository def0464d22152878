"""What to do when the memory is full, in place of an allocator's words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ggkm_plugin.errors import TrainingError


@contextmanager
def memory_advice(doing: str, advice: str) -> Iterator[None]:
    """Raises TrainingError if the memory, of the GPU or the machine, runs out in the block."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = ' '.join(str(error).split())
        full = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text
        if not full:
            raise
        raise TrainingError(f'out of memory {doing}: {advice} ({text[:200]})') from error
