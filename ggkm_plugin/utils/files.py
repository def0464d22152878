"""Small files that are there as a whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ggkm_plugin.utils.errors import DataError, OptionError


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file beside `path`, renamed when the block has ended: `path` is the old file or the whole new one.

    Raises OSError, and what the block raises; then, and when Ctrl-C comes in between, nothing is left behind.
    """
    target = Path(path)
    temporary = unfinished(target)
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):  # the folder itself may be what is missing
            temporary.unlink()
        raise


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a `whole_file`. Text is UTF-8. Raises OSError."""
    with whole_file(path) as file:
        file.write(content.encode(errors='backslashreplace') if isinstance(content, str) else content)


def make_writable(folder: str | Path) -> None:
    """Make the folder and, for a moment, a file in it: to be told before the work, not after. Raises OSError."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


def nearest_there(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: where it would be made. It may be a file."""
    return next(part for part in (folder, *folder.absolute().parents) if part.exists())


@contextmanager
def writing_into(place: str | Path, option: str) -> Iterator[None]:
    """An OSError within becomes a DataError that names the folder or file, and the option that does."""
    try:
        yield
    except OSError as error:
        raise DataError(f'{place}: cannot be written ({error.strerror or error}); see {option}') from error


def unfinished(path: Path) -> Path:
    """Where `path` is written until it is whole; a process that is killed leaves it there."""
    return path.with_name(f'.{path.name}.part')


@contextmanager
def working_folder(root: str) -> Iterator[Path]:
    """Change into `root`, which is made if missing. BasicSR resolves relative paths against the current folder.

    Raises OptionError if that is not possible.
    """
    target, before = Path(root).expanduser().absolute(), Path.cwd()
    try:
        target.mkdir(parents=True, exist_ok=True)
        os.chdir(target)
    except OSError as error:
        raise OptionError(f'--root {root}: {error.strerror or error}') from error
    try:
        yield target
    finally:
        os.chdir(before)
