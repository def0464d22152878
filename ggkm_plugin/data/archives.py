"""Zip archives, tar archives and folders behind one face, safe to take files out of whoever made them.

All that the listing can tell is checked before anything is written; a file is written under another name, then renamed.
"""

import errno
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from ggkm_plugin.utils.errors import DataError

# More than any of the benchmarks with all its views; what unpacks to more is taken for a bomb.
MAX_BYTES = 200 * 10**9
# More than any photograph.
MAX_FILE_BYTES = 10**9
# Of a name in it, and of its parts: below what file systems take, so that the folder it goes to has room.
_MAX_NAME_BYTES, _MAX_PART_BYTES = 1000, 240
_BLOCK = 1 << 20
_JUNK = ('__MACOSX', 'Thumbs.db', 'desktop.ini')
# What zipfile, tarfile and the decompressors raise on damaged content.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, OSError, NotImplementedError)


class Member(NamedTuple):
    """A file in an archive: its name, relative and with `/`, its size in bytes, and its CRC-32 where it is known."""

    name: str
    size: int
    crc: int | None = None


class Archive(ABC):
    """The files of an archive or folder. `members` by name; `ignored` are the hidden files and systems' leftovers."""

    def __init__(self, path: Path, members: list[Member]) -> None:
        self.path = path
        self.members = {member.name: member for member in members if not _is_junk(member.name)}
        self.ignored = [member.name for member in members if _is_junk(member.name)]

    def extract(self, targets: Mapping[str, Path], max_file_bytes: int = MAX_FILE_BYTES) -> Iterator[Member]:
        """Write members to the paths given for their names; each is yielded when it is there.

        A file that is there with the right size (and CRC, in a zip) is left. The names' checks were made when the
        archive was opened. Raises DataError, naming archive and member, if one is larger than `max_file_bytes` (before
        anything is written), if the archive is damaged, or if the target cannot be written.
        """
        for name in targets:
            if self.members[name].size > max_file_bytes:
                raise DataError(
                    f'{self.path}: {name} unpacks to {size_text(self.members[name].size)}, which is no image '
                    f'(limit: {size_text(max_file_bytes)}); check where the archive comes from'
                )
        waiting = {}
        for name, target in targets.items():
            if _is_there(target, self.members[name]):
                yield self.members[name]
            else:
                waiting[name] = target
        if waiting:
            yield from self._extract(waiting)

    @abstractmethod
    def _extract(self, targets: Mapping[str, Path]) -> Iterator[Member]: ...

    def _write(self, member: Member, stream: IO[bytes], target: Path) -> None:
        """Copy a member's bytes to its path, complete or not at all."""
        temporary = target.with_name('.writing.part')  # a name of its own could be too long
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, 'wb') as file:
                    written = 0
                    # One byte more than promised is asked for, so that a member that goes on is noticed.
                    while block := self._read(stream, min(_BLOCK, member.size - written + 1), member.name):
                        written += len(block)
                        if written > member.size:
                            break
                        file.write(block)
                if written != member.size:
                    raise _damaged(self.path, f'{member.name} is not of the size that the listing gives')
                os.replace(temporary, target)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise

    def _read(self, stream: IO[bytes], size: int, name: str) -> bytes:
        try:
            return stream.read(size)
        except _DAMAGE as error:
            raise _damaged(self.path, f'{name}: {_reason(error)}') from error


class Folder(Archive):
    """A folder of the user's own: links in it are followed, names are not doubted."""

    def __init__(self, path: Path) -> None:
        members = []
        try:
            for name in names_below(path):
                members.append(Member(name, (path / name).stat().st_size))
        except OSError as error:
            raise DataError(f'{error.filename or path}: {error.strerror or error}') from error
        super().__init__(path, members)

    def _extract(self, targets: Mapping[str, Path]) -> Iterator[Member]:
        for name, target in targets.items():
            try:
                stream = open(self.path / name, 'rb')  # noqa: SIM115 (an error on reading is not one on writing)
            except OSError as error:
                raise DataError(f'{self.path / name}: {error.strerror or error}') from error
            with stream:
                self._write(self.members[name], stream, target)
            yield self.members[name]


class Zip(Archive):
    def __init__(self, path: Path, max_bytes: float) -> None:
        self._names: dict[str, str] = {}  # as the archive spells them
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except (*_DAMAGE, ValueError) as error:
            raise _damaged(path, _reason(error)) from error
        members = []
        for entry in entries:
            name = _safe_name(path, entry.filename)
            if entry.is_dir():
                continue
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):  # 0: made on a system without such kinds
                raise _unsafe(path, entry.filename, 'a link or device')
            if entry.flag_bits & 1:
                raise DataError(
                    f'{path}: {entry.filename} is encrypted; unpack the archive with its password and name the folder'
                )
            members.append(Member(name, entry.file_size, entry.CRC))
            self._names[name] = entry.filename
        _check_listing(path, members, max_bytes)
        super().__init__(path, members)

    def _extract(self, targets: Mapping[str, Path]) -> Iterator[Member]:
        with zipfile.ZipFile(self.path) as archive:
            for name, target in targets.items():
                try:
                    stream = archive.open(self._names[name])
                except (*_DAMAGE, RuntimeError) as error:
                    raise _damaged(self.path, f'{name}: {_reason(error)}') from error
                with stream:
                    self._write(self.members[name], stream, target)
                yield self.members[name]


class Tar(Archive):
    """A tar archive, compressed or not. It has no directory: it is read through once to list it, once to extract."""

    def __init__(self, path: Path, max_bytes: float, progress: bool) -> None:
        members, total = [], 0
        with (
            self._opened(path) as archive,
            tqdm(desc=f'list {path.name}', unit='file', disable=not progress) as bar,
        ):
            for entry in archive:
                name = _safe_name(path, entry.name)
                total += entry.size
                if entry.size < 0:  # would send tarfile round in circles
                    raise _damaged(path, f'{name} is of negative size')
                if total > max_bytes:  # before the rest of a bomb is unpacked to see what comes after it
                    raise _too_large(path, entry.name, total, max_bytes)
                if entry.isdir():
                    continue
                if not entry.isreg():
                    raise _unsafe(path, entry.name, 'a link or device')
                members.append(Member(name, entry.size))
                bar.update()
            self._check_end(path, archive)
        _check_listing(path, members, max_bytes)
        super().__init__(path, members)

    @staticmethod
    def _check_end(path: Path, archive: tarfile.TarFile) -> None:
        """tarfile stops silently where the archive was cut between two files, or where a header is damaged."""
        stream = archive.fileobj
        assert stream is not None
        stream.seek(archive.offset)
        block = stream.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE or block.strip(b'\0'):
            raise _damaged(path, 'its end is missing')
        while stream.read(_BLOCK):  # the checksum of a compressed archive is at its end
            pass

    @staticmethod
    @contextmanager
    def _opened(path: Path) -> Iterator[tarfile.TarFile]:
        try:
            with tarfile.open(path, 'r:*') as archive:
                yield archive
        except _DAMAGE as error:
            raise _damaged(path, _reason(error)) from error

    def _extract(self, targets: Mapping[str, Path]) -> Iterator[Member]:
        with self._opened(self.path) as archive:
            waiting = set(targets)
            for entry in archive:
                name = _safe_name(self.path, entry.name)
                if name not in waiting:
                    continue
                stream = archive.extractfile(entry)
                if stream is None:
                    raise _damaged(self.path, f'{name} is no file any more')
                self._write(self.members[name], stream, targets[name])
                waiting.remove(name)
                yield self.members[name]
                if not waiting:
                    return


def open_archive(path: str | Path, max_bytes: float = MAX_BYTES, progress: bool = False) -> Archive:
    """List a zip archive, a tar archive (plain, gz, bz2, xz) or a folder; the content tells which, not the suffix.

    Raises DataError naming archive and entry for entries that lead out of the folder (absolute, drive letters, `..`),
    links and devices, entries that share a name (in any case of letters), too long names, encrypted zips, more than
    `max_bytes` in all; for damaged archives, and for anything else than an archive.
    """
    path = Path(path)
    if path.is_dir():
        return Folder(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for, and cannot be read twice
        raise DataError(f'{path}: a pipe or device, not a file; save the archive, and name it')
    try:
        with open(path, 'rb') as file:
            head = file.read(tarfile.BLOCKSIZE)
    except OSError as error:
        raise DataError(f'{path}: {error.strerror or error}') from error
    if not head:
        raise DataError(f'{path}: the file is empty; download it again')
    if head[:4] in (b'PK\3\4', b'PK\5\6'):
        return Zip(path, max_bytes)
    if head[:2] == b'\x1f\x8b' or head[:3] == b'BZh' or head[:6] == b'\xfd7zXZ\0' or head[257:262] == b'ustar':
        return Tar(path, max_bytes, progress)
    page = 'a web page, not the archive: log in or try another mirror' if head.lstrip()[:1] == b'<' else ''
    raise DataError(f'{path}: {page or "no zip or tar archive: unpack it, and name the folder"}')


def names_below(root: Path) -> Iterator[str]:
    """Relative names, with `/`, of all files below a folder; linked folders are followed, circles of them left.

    Raises OSError if a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    above: dict[str, frozenset[str]] = {str(root): frozenset()}  # the real folders on the way to each
    for folder, below, files in os.walk(root, onerror=fail, followlinks=True):
        on_the_way, real = above.pop(folder), os.path.realpath(folder)
        if real in on_the_way:
            below.clear()
            continue
        below.sort()
        above |= {os.path.join(folder, name): on_the_way | {real} for name in below}
        for file in sorted(files):
            yield (Path(folder) / file).relative_to(root).as_posix()


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Raises DataError, saying what helps, where writing to `target` fails."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        helps = 'make room' if full else 'make the folder writable, or choose another'
        raise DataError(
            f'{target}: cannot be written ({error.strerror or error}); {helps}, and run the same command again: it '
            'goes on where it stopped'
        ) from error


def size_text(num_bytes: float) -> str:
    """`1.5 GB` of 1.5e9."""
    for unit in ('bytes', 'kB', 'MB', 'GB'):
        if num_bytes < 1000 or unit == 'GB':
            break
        num_bytes /= 1000
    return f'{num_bytes:.0f} {unit}' if unit == 'bytes' else f'{num_bytes:.1f} {unit}'


def _is_junk(name: str) -> bool:
    return any(part.startswith('.') or part in _JUNK for part in PurePosixPath(name).parts)


def _is_there(target: Path, member: Member) -> bool:
    try:
        if not target.is_file() or target.stat().st_size != member.size:
            return False
        if member.crc is None:
            return True
        crc = 0
        with open(target, 'rb') as file:
            while block := file.read(_BLOCK):
                crc = zlib.crc32(block, crc)
        return crc == member.crc
    except OSError:
        return False


def _safe_name(archive: Path, name: str) -> str:
    """The entry's name, relative and with `/`. Raises DataError if it leads anywhere else than below a folder."""
    slashed = name.replace('\\', '/')  # as some packers on Windows write
    parts = [part for part in slashed.split('/') if part not in ('', '.')]
    if slashed.startswith('/') or re.match(r'[A-Za-z]:', slashed):
        raise _unsafe(archive, name, 'an absolute path')
    if '..' in parts:
        raise _unsafe(archive, name, 'a path that leads out of its folder')
    if any(unicodedata.category(character) in ('Cc', 'Cs') for character in slashed):
        raise _unsafe(archive, ascii(name), 'a name with control characters or of unknown encoding')
    lengths = [len(part.encode()) for part in parts]
    if max(lengths, default=0) > _MAX_PART_BYTES or sum(lengths) + len(lengths) > _MAX_NAME_BYTES:
        raise _unsafe(archive, f'{name[:60]}...', f'a name of {len(name)} characters, which is too long')
    return '/'.join(parts)


def _check_listing(archive: Path, members: list[Member], max_bytes: float) -> None:
    """Raises DataError if two of the members would be one file, or if all are more than `max_bytes`."""
    spelled: dict[str, str] = {}
    total = 0
    for member in members:
        total += member.size
        if total > max_bytes:
            raise _too_large(archive, member.name, total, max_bytes)
        # Where letters of both cases, or of several Unicode forms, are one, the second file would replace the first.
        key = unicodedata.normalize('NFC', member.name).casefold()
        if key in spelled and not _is_junk(member.name):
            same = f'a second file of the name {spelled[key]} (letter case aside)'
            raise _unsafe(archive, member.name, same)
        spelled[key] = member.name
    for member in members:
        for folder in PurePosixPath(member.name).parents:
            key = unicodedata.normalize('NFC', str(folder)).casefold()
            if key in spelled:
                raise _unsafe(archive, member.name, f'below {spelled[key]}, which is a file')


def _unsafe(archive: Path, name: str, what: str) -> DataError:
    return DataError(
        f'{archive}: refused, its entry {name} is {what}; nothing was written. Check where the archive comes from, or '
        'unpack it yourself and name the folder'
    )


def _too_large(archive: Path, name: str, total: int, limit: float) -> DataError:
    return DataError(
        f'{archive}: refused, with its entry {name} it unpacks to {size_text(total)} or more (limit: '
        f'{size_text(limit)}); raise the limit (--max-size) if that is right'
    )


def _damaged(archive: Path, how: str) -> DataError:
    return DataError(f'{archive}: damaged or cut off ({how}); download it again')


def _reason(error: BaseException) -> str:
    """The first line: tarfile lists all that it tried."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(':')
