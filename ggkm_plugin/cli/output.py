"""Output of commands: results go to stdout, progress and warnings to stderr. A failing stream never ends the work."""

import argparse
import errno
import io
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.files import write_whole, writing_into

if TYPE_CHECKING:
    from typing_extensions import Buffer

# The reader of a pipe has ended, or a terminal was closed.
_READER_GONE = (errno.EPIPE, errno.EIO)


class _Output(io.RawIOBase):
    """A file descriptor that discards all output after a failed write. The failure is in `error`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

    def write(self, data: 'Buffer') -> int | None:
        if self.error is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                return None
            except OSError as error:
                self.error = error
                with suppress(OSError):  # so that child processes do not fail either
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self._descriptor)
        return memoryview(data).nbytes

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def escape_unencodable() -> None:
    """Let stdout and stderr escape the characters that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')


def protect_streams() -> None:
    """Continue working if stdout or stderr is closed, full, or of an encoding that lacks characters."""
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            setattr(sys, name, open(os.devnull, 'w', encoding='utf-8', errors='backslashreplace'))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.flush()
            protected = io.TextIOWrapper(
                io.BufferedWriter(_Output(stream.fileno())),
                encoding=stream.encoding,
                errors='backslashreplace',
                line_buffering=stream.line_buffering or stream.write_through,  # PYTHONUNBUFFERED
                write_through=stream.write_through,
            )
            setattr(sys, name, protected)
    # For child processes.
    os.environ['PYTHONIOENCODING'] = f'{sys.stdout.encoding}:backslashreplace'


def lost_results() -> OSError | None:
    """Return the error by which stdout lost results, None if the reader of a pipe has ended."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    output = getattr(getattr(sys.stdout, 'buffer', None), 'raw', None)
    error = output.error if isinstance(output, _Output) else None
    return None if error is None or error.errno in _READER_GONE else error


def progress(line: str) -> None:
    """Print a line about progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def warn_if_busy(arguments: argparse.Namespace) -> None:
    """Print what to set on a machine that is busy with other work."""
    from ggkm_plugin.utils.machine_load import thread_advice

    if advice := thread_advice():
        warn(arguments, advice)


def warn(arguments: argparse.Namespace, text: str) -> None:
    """Print a warning to stderr."""
    progress(f'basicsr {arguments.command}: warning: {text}')


def check_json(path: str | None) -> None:
    """Raise OptionError before the work if the file of --json cannot be written."""
    if path is not None:
        target = Path(path).absolute()
        if target.is_dir() or not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
            raise OptionError(f'--json {path}: cannot be written. Name a file in an existing folder')


def write_json(path: str | None, content: Any) -> None:
    """Write the file of --json, if it is wanted. Raises DataError."""
    if path is not None:
        with writing_into(path, '--json'):
            write_whole(Path(path).absolute(), json.dumps(content, indent=1) + '\n')
