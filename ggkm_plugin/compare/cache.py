"""Finished results on disk, each reused for as long as nothing that it depends on has changed."""

import hashlib
import json
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from ggkm_plugin.errors import DataError
from ggkm_plugin.files import write_whole

_BLOCK = 1 << 20


class Cache:
    """One JSON file a result, below `folder`: the digest of what it depends on, and the result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, place: tuple[str, ...], depends: Any) -> Any:
        """The result kept for a place, such as (data set, image, model); None if it depends on something else."""
        try:
            content = json.loads(self._file(place).read_text(encoding='utf-8'))
            return content['result'] if content['digest'] == digest(depends) else None
        except (OSError, ValueError, LookupError, TypeError):  # not there, or damaged: as good as not there
            return None

    def forget(self, place: tuple[str, ...]) -> None:
        """To be called before a picture that belongs to the result is written anew."""
        with suppress(FileNotFoundError):
            self._file(place).unlink()

    def write(self, place: tuple[str, ...], depends: Any, result: Any) -> None:
        """Raises DataError if the folder cannot be written."""
        write_result(self._file(place), json.dumps({'digest': digest(depends), 'result': result}))

    def _file(self, place: tuple[str, ...]) -> Path:
        *folders, name = place
        return self.folder.joinpath(*folders, f'{name}.json')


def write_result(path: Path, text: str) -> None:
    """Write a file and the folders it is in. Raises DataError if they cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise DataError(f'{path}: {error.strerror or error}; see --root') from error


def digest(value: Any) -> str:
    """sha256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def tensor_digest(*tensors: Tensor) -> str:
    """sha256 of shapes and values."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(f'{tuple(tensor.shape)} {tensor.dtype}'.encode())
        total.update(tensor.contiguous().cpu().numpy().data)
    return total.hexdigest()


def file_digest(path: str) -> str:
    """sha256 of a file's content, read once as long as its size and time stay. Raises OSError."""
    state = os.stat(path)
    return _file_digest(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: str, size: int, changed: int) -> str:
    total = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()
