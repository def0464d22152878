"""SHA-256 digests of values, tensors, files and code. Does not import torch."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 1 << 20


def digest(value: Any) -> str:
    """Return the digest of JSON values; the order of keys has no effect."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def tensor_digest(*tensors: 'Tensor') -> str:
    """Return the digest of shapes, types and values."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(f'{tuple(tensor.shape)} {tensor.dtype}'.encode())
        total.update(tensor.contiguous().cpu().numpy().data)
    return total.hexdigest()


def code_digest(*definitions: Callable[..., Any]) -> str:
    """Return the digest of the files that define classes and functions, and of their imports from the same package.

    Files of torch are skipped.
    """
    waiting, files = {definition.__module__ for definition in definitions}, {}
    while waiting:
        name = waiting.pop()
        package, path = name.partition('.')[0], getattr(sys.modules.get(name), '__file__', None)
        if name in files or package == 'torch' or path is None:
            continue
        with suppress(OSError):  # a zipped package
            files[name] = file_digest(path)
            for value in vars(sys.modules[name]).values():
                kind = value.__name__ if isinstance(value, ModuleType) else getattr(value, '__module__', None)
                if isinstance(value, type | FunctionType | ModuleType) and str(kind).partition('.')[0] == package:
                    waiting.add(str(kind))
    return digest(files)


def file_digest(path: str | Path) -> str:
    """Return the digest of a file, cached while its size and time are unchanged. Raises OSError."""
    state = os.stat(path)
    return _file_digest(str(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: str, size: int, changed: int) -> str:
    total = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()
