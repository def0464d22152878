"""Finished results on disk, each reused for as long as nothing that it depends on has changed."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from ggkm_plugin.data.decoding import write_image
from ggkm_plugin.errors import DataError, UserError
from ggkm_plugin.files import make_writable, write_whole

_BLOCK = 1 << 20
_ADVICE = 'Make room, or choose another place with --root; the same command goes on where it was'


class ResultsError(UserError):
    """The folder of the results cannot be written: no model's fault, and the end of the run."""


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
        """To be called before a picture that belongs to the result is written anew. Raises ResultsError."""
        with _told(self._file(place)):
            self._file(place).unlink(missing_ok=True)

    def write(self, place: tuple[str, ...], depends: Any, result: Any) -> None:
        """Raises ResultsError if the folder cannot be written."""
        write_result(self._file(place), json.dumps({'digest': digest(depends), 'result': result}))

    def _file(self, place: tuple[str, ...]) -> Path:
        *folders, name = place
        return self.folder.joinpath(*folders, f'{name}.json')


def write_result(path: Path, text: str) -> None:
    """Write a file and the folders it is in. Raises ResultsError if they cannot be written."""
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(f'{path}: {error.strerror or error}. {_ADVICE}') from error


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write (H,W,3) RGB uint8 as PNG. Raises ResultsError if that cannot be written."""
    try:
        write_image(str(path), image)
    except DataError as error:
        raise ResultsError(f'{error}. {_ADVICE}') from error


def check_writable(*folders: Path) -> None:
    """Make the folders and a file in each. Raises ResultsError, before hours of work that could not be kept."""
    for folder in folders:
        with _told(folder):
            make_writable(folder)


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


def code_digest(*definitions: Callable[..., Any]) -> str:
    """sha256 of the files that define classes and functions, and of what those import from their own package.

    Of torch's nothing: it has a version.
    """
    waiting, files = {definition.__module__ for definition in definitions}, {}
    while waiting:
        name = waiting.pop()
        package, path = name.partition('.')[0], getattr(sys.modules.get(name), '__file__', None)
        if name in files or package == 'torch' or path is None:
            continue
        with suppress(OSError):  # of a zipped package
            files[name] = file_digest(path)
            for value in vars(sys.modules[name]).values():
                kind = value.__name__ if isinstance(value, ModuleType) else getattr(value, '__module__', None)
                if isinstance(value, type | FunctionType | ModuleType) and str(kind).partition('.')[0] == package:
                    waiting.add(str(kind))
    return digest(files)


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
