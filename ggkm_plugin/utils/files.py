"""Atomic writes, names for display, free space, folder locks and the working folder."""

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ggkm_plugin.utils.errors import DataError, LockError, OptionError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def printable(name: str) -> str:
    """Escape the bytes of a file name that are not UTF-8."""
    return name.encode(errors='backslashreplace').decode()


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a file beside `path` that is renamed to it when the block ends.

    If the block fails or is interrupted, the file is removed and `path` stays as it was. Raises OSError.
    """
    target = Path(path)
    with renamed_when_done(unfinished(target), target) as temporary, open(temporary, 'wb') as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def renamed_when_done(temporary: Path, target: str | Path) -> Iterator[Path]:
    """Yield a path whose file is renamed to `target` when the block ends, and removed if it fails. Raises OSError."""
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):  # the folder may be missing
            temporary.unlink()
        raise


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file atomically, text as UTF-8. Raises OSError."""
    with whole_file(path) as file:
        file.write(content.encode(errors='backslashreplace') if isinstance(content, str) else content)


def stored_path(path: str | Path) -> str:
    """Return the path of a checkpoint, or of the .safetensors file that replaces a missing .pth file."""
    safe = Path(path).with_suffix('.safetensors') if Path(path).suffix == '.pth' else None
    return str(safe if safe and safe.is_file() and not Path(path).exists() else path)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that is renamed to it when the block ends, and removed if the block fails.

    Raises OSError, also if `path` exists by then and is not an empty folder.
    """
    target = Path(path).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    # A folder inside the temporary one, which has private permissions and must exist until its clean-up.
    with tempfile.TemporaryDirectory(prefix=f'{target.name}.part-', dir=target.parent) as temporary:
        folder = Path(temporary, target.name)
        folder.mkdir()
        yield folder
        folder.rename(target)


def make_writable(folder: str | Path) -> None:
    """Make a folder and check that files can be created in it. Raises OSError."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


def check_space(folder: str | Path, needed: int, remedy: str) -> None:
    """Raise DataError if the disk of a folder has less than `needed` free bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f'{folder}: needs {size_text(needed)}, but {size_text(free)} are free. {remedy}')


def size_text(num_bytes: float) -> str:
    """Format a size in bytes: 1.5e9 as `1.5 GB`."""
    for unit in ('bytes', 'kB', 'MB', 'GB'):
        if num_bytes < 1000 or unit == 'GB':
            break
        num_bytes /= 1000
    return f'{num_bytes:.0f} {unit}' if unit == 'bytes' else f'{num_bytes:.1f} {unit}'


def nearest_there(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists. It may be a file."""
    return next(part for part in (folder, *folder.absolute().parents) if part.exists())


@contextmanager
def writing_into(place: str | Path, option: str) -> Iterator[None]:
    """Raise a DataError that names the folder or file and its option, in place of an OSError in the block."""
    try:
        yield
    except OSError as error:
        raise DataError(f'{place}: cannot be written ({error.strerror or error}). Change {option}') from error


def unfinished(path: Path) -> Path:
    """Return the name of the temporary file of `whole_file`. A killed process leaves it behind."""
    return path.with_name(f'.{path.name}.part')


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder of a run, which need not exist, against other runs, where the file system has locks.

    The lock file `.NAME.lock` beside it holds the process id and host of its owner, and is removed at the end. Raises
    LockError naming the owner, DataError if the lock file cannot be written.
    """
    path = folder.with_name(f'.{folder.name}.lock')
    with writing_into(folder, '--root'):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(path)
        if handle is not None:
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps({'pid': os.getpid(), 'host': socket.gethostname()}).encode())
    if handle is None:
        raise LockError(f'{folder}: in use by {_owner(path)}. Wait until it ends, or change "name"')
    try:
        yield
    finally:
        with suppress(OSError):  # before the lock ends: another process must not lock a removed file
            path.unlink()
        os.close(handle)


def _lock(path: Path) -> int | None:
    """Open and lock a lock file. Return None if another process has locked it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Not flock: workers would share the lock, and they run on for seconds after a killed parent.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(handle)
            return None
        except (AttributeError, OSError):  # a system or file system without locks
            return handle
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # its owner has removed this file in the meantime


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return f'process {owner["pid"]} on {owner["host"]} (lock file {path})'
    except (OSError, ValueError, LookupError, TypeError):
        return f'another process (lock file {path})'


@contextmanager
def working_folder(root: str) -> Iterator[Path]:
    """Make `root` the current folder in the block, since BasicSR resolves relative paths against it.

    It is created if missing. Raises OptionError if that fails.
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
