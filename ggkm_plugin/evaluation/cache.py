"""Finished results on disk, each reused for as long as nothing that it depends on has changed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ggkm_plugin.utils.errors import DataError, UserError
from ggkm_plugin.utils.files import make_writable, write_whole
from ggkm_plugin.utils.hashing import digest
from ggkm_plugin.utils.image_decoding import write_image

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
