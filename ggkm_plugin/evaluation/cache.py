"""Finished results on disk, reused as long as nothing that they depend on has changed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ggkm_plugin.utils.errors import DataError, UserError
from ggkm_plugin.utils.files import make_writable, write_whole
from ggkm_plugin.utils.hashing import digest
from ggkm_plugin.utils.image_decoding import write_image

_ADVICE = 'Free disk space, or choose another place with --root; the same command continues from here'


class ResultsError(UserError):
    """The folder of the results cannot be written, which ends the run."""


class Cache:
    """One JSON file for each result, below `folder`: the digest of what it depends on, and the result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, place: tuple[str, ...], depends: Any) -> Any:
        """Return the result for a place, such as (data set, image, model); None if it depends on something else."""
        try:
            content = json.loads(self._file(place).read_text(encoding='utf-8'))
            return content['result'] if content['digest'] == digest(depends) else None
        except (OSError, ValueError, LookupError, TypeError):  # missing or damaged
            return None

    def forget(self, place: tuple[str, ...]) -> None:
        """Remove the result, before a picture that belongs to it is written again. Raises ResultsError."""
        with _writing(self._file(place)):
            self._file(place).unlink(missing_ok=True)

    def write(self, place: tuple[str, ...], depends: Any, result: Any) -> None:
        """Store a result. Raises ResultsError if the folder cannot be written."""
        write_result(self._file(place), json.dumps({'digest': digest(depends), 'result': result}))

    def _file(self, place: tuple[str, ...]) -> Path:
        *folders, name = place
        return self.folder.joinpath(*folders, f'{name}.json')


def write_result(path: Path, text: str) -> None:
    """Write a file and make its folders. Raises ResultsError if that fails."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(f'{path}: {error.strerror or error}. {_ADVICE}') from error


def write_picture(path: str | Path, image: np.ndarray | Tensor, bits: int = 8) -> None:
    """Write (H,W,3) RGB uint8 as PNG, or (3,H,W) float RGB, clipped and rounded, with 8 or 16 bits.

    Raises ResultsError if it cannot be written.
    """
    try:
        write_image(str(path), image if isinstance(image, np.ndarray) else _pixels(image, bits))
    except DataError as error:
        raise ResultsError(f'{error}. {_ADVICE}') from error


def _pixels(image: Tensor, bits: int) -> np.ndarray:
    white = 2**bits - 1
    values = image.detach().float().clamp(0, 1).mul(white).round().permute(1, 2, 0).cpu().numpy()
    return values.astype(np.uint16 if bits == 16 else np.uint8)


def check_writable(*folders: Path) -> None:
    """Make the folders and a file in each, before hours of work that could not be kept. Raises ResultsError."""
    for folder in folders:
        with _writing(folder):
            make_writable(folder)
