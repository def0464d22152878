"""Zip archives, tar archives and folders behind one interface: list the files, copy some of them out.

A file is written to the path that the caller chooses, never under the name that an archive gives.
"""

import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from ggkm_plugin.utils.errors import DataError

# What zipfile, tarfile and the decompressors raise for damaged, encrypted or unsupported content.
_UNREADABLE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, RuntimeError, UnicodeError)


@dataclass(frozen=True)
class Archive:
    """The files of an archive or folder by name, relative and with `/`: their sizes in bytes, and how to read them."""

    path: Path
    sizes: dict[str, int]
    entries: dict[str, Any]
    open: Callable[[Path], AbstractContextManager]
    open_entry: Callable[[Any, Any], Any]

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    def extract(self, targets: Mapping[str, Path]) -> Iterator[str]:
        """Copy files to the paths given by name. Yields each name.

        Raises DataError if the archive is damaged, OSError if a file cannot be written.
        """
        with _reading(self.path), self.open(self.path) as archive:
            for name in self.entries:  # in the order of the archive: a compressed tar cannot be read backward
                if name in targets:
                    targets[name].parent.mkdir(parents=True, exist_ok=True)
                    with self.open_entry(archive, self.entries[name]) as source, open(targets[name], 'wb') as target:
                        shutil.copyfileobj(source, target, 1 << 20)
                    yield name


def open_archive(path: str | Path, progress: bool = False) -> Archive:
    """List a folder, a zip archive or a tar archive (plain, gz, bz2 or xz), recognized by its content.

    Raises DataError naming the file if it is missing, not an archive or damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _list_folder(path)
    if not path.is_file():
        raise DataError(f'{path}: {"not a file or folder" if path.exists() else "no such file"}')
    with _reading(path):
        if zipfile.is_zipfile(path):
            return _list_zip(path)
        if tarfile.is_tarfile(path):
            return _list_tar(path, progress)
    raise DataError(
        f'{path}: not a whole zip or tar archive (truncated, a web page, or another kind of file). Download it again, '
        'or unpack it and name the folder'
    )


def _list_folder(path: Path) -> Archive:
    entries = {name: path / name for name in names_below(path)}
    try:
        sizes = {name: file.stat().st_size for name, file in entries.items()}
    except OSError as error:  # a broken link
        raise DataError(f'{error.filename}: {error.strerror}') from error
    return Archive(path, sizes, entries, nullcontext, lambda _, file: open(file, 'rb'))


def _list_zip(path: Path) -> Archive:
    with zipfile.ZipFile(path) as archive:
        entries = {_relative(info.filename): info for info in archive.infolist() if not info.is_dir()}
    sizes = {name: info.file_size for name, info in entries.items()}
    return Archive(path, sizes, entries, zipfile.ZipFile, zipfile.ZipFile.open)


def _list_tar(path: Path, progress: bool) -> Archive:
    """List a tar archive without its links and devices. It has no directory, so all of it is read."""
    with tarfile.open(path) as archive:
        listing = tqdm(archive, desc=f'list {path.name}', unit='file', disable=not progress)
        entries = {_relative(info.name): info for info in listing if info.isreg()}
    sizes = {name: info.size for name, info in entries.items()}
    return Archive(path, sizes, entries, tarfile.open, tarfile.TarFile.extractfile)


def _relative(name: str) -> str:
    """Return a name without `./`, and with `/` for the separator of some packers on Windows."""
    return PurePosixPath(name.replace('\\', '/')).as_posix()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise DataError where reading the archive fails."""
    try:
        yield
    except (*_UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # gzip and bz2 give no number
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f'{path}: damaged or not readable ({reason}). Download it again, or unpack it and name the folder'
        ) from error


def names_below(root: Path) -> Iterator[str]:
    """Yield the relative names, with `/`, of all files below a folder. Links are followed, except to a folder above.

    Raises DataError if a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise DataError(f'{error.filename}: {error.strerror}') from error

    for folder, below, files in os.walk(root, onerror=fail, followlinks=True):
        above = {os.path.realpath(path) for path in (Path(folder), *Path(folder).absolute().parents)}
        below[:] = [name for name in below if os.path.realpath(os.path.join(folder, name)) not in above]
        for file in files:
            yield Path(folder, file).relative_to(root).as_posix()
