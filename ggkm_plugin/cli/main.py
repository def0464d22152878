"""The `basicsr` command: parser, dispatch, exit codes and error messages.

Light: torch and BasicSR are imported inside the commands.
"""

import argparse
import atexit
import importlib
import os
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, cast

from ggkm_plugin import __version__
from ggkm_plugin.basicsr_patches import launch
from ggkm_plugin.cli import output
from ggkm_plugin.cli.arguments import add_local_rank
from ggkm_plugin.utils import allocator, basicsr_imports
from ggkm_plugin.utils.errors import Interrupted, LostProcessError, OptionError, UserError

# At import, because workers started by spawn import this module and call nothing in it.
basicsr_imports.install()

# Seconds that torchrun takes to notice that a process has ended.
_PATIENCE = 3

# Each is a module of this package: `-` is `_` in its name.
COMMANDS = (
    'train', 'test', 'check', 'deblur', 'app', 'compare', 'profile', 'inspect', 'list', 'convert', 'export', 'prepare',
    'verify', 'bench', 'study', 'reproduce', 'psf-study', 'figure',
)  # fmt: skip


class Command(Protocol):
    """A module with one command. DESCRIPTION replaces HELP in its own help; INTERRUPTED follows "interrupted"."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command."""

    def run(self, arguments: argparse.Namespace) -> int | None:
        """Run the command; the exit code, where it is not 0. Raises UserError."""


def command_module(name: str) -> Command:
    """Import the module of a command."""
    return cast(Command, importlib.import_module(f'ggkm_plugin.cli.{name.replace("-", "_")}'))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='basicsr',
        description='BasicSR with its plugins: train, test and compare registered restoration models.',
        epilog='Exit codes: 0 done, 1 failed, 2 wrong usage.',
    )
    parser.add_argument('--version', action='version', version=f'ggkm_plugin {__version__}')
    add_local_rank(parser)
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name in COMMANDS:
        module = command_module(name)
        description = getattr(module, 'DESCRIPTION', f'{module.HELP[0].upper()}{module.HELP[1:]}.')
        module.add_arguments(commands.add_parser(name, help=module.HELP, description=description))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. A process of a distributed run ends here."""
    program = argv is None
    if program:
        output.protect_streams()
        allocator.keep_freed_memory()
    else:
        output.escape_unencodable()
    arguments = build_parser().parse_args(argv)
    # This package reports damaged files itself.
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    warnings.filterwarnings('ignore', category=SyntaxWarning)
    warnings.filterwarnings('ignore', message='torch.meshgrid')
    code = _run(arguments, list(sys.argv[1:] if argv is None else argv))
    if code == 0 and (error := output.lost_results()):
        print(f'basicsr {arguments.command}: standard output: {error.strerror}. Results are lost', file=sys.stderr)
        code = 1
    if program and getattr(arguments, 'launcher', None) not in (None, 'none'):
        _end_at_once(code)
    return code


def _run(arguments: argparse.Namespace, words: list[str]) -> int:
    """Run the command that `words` were parsed to, print what fails, and return the exit code."""
    module = command_module(arguments.command)
    try:
        basicsr_imports.basicsr_folder()
        _choose_launcher(arguments)
        return module.run(arguments) or 0
    except UserError as error:
        _print_failure(f'basicsr {arguments.command}: {_message(error)}', error)
        if isinstance(error, Interrupted) and launch.first_process():
            words += ['--auto_resume'] if getattr(arguments, 'auto_resume', True) is False else []
            launcher = getattr(arguments, 'launcher', None)
            launched = '' if launcher in (None, 'none') else f', launched ({launcher}) as before'
            print(f'Resume with: {shlex.join(["basicsr", *words])}{launched}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f'basicsr {arguments.command}: interrupted{getattr(module, "INTERRUPTED", "")}', file=sys.stderr)
        return 1
    except Exception as error:
        if os.environ.get('BASICSR_TRACEBACK'):
            raise
        _print_failure(
            f'basicsr {arguments.command}: {type(error).__name__}: {error}\n(set BASICSR_TRACEBACK=1 for the traceback)'
        )
        return 1


def _choose_launcher(arguments: argparse.Namespace) -> None:
    if hasattr(arguments, 'launcher'):
        arguments.launcher = launch.choose_launcher(arguments.launcher)
    elif launch.watched() and launch.process_count() > 1:
        raise OptionError(
            f'started by torchrun as one of {launch.process_count()} processes. Run it without torchrun: only train, '
            'test and compare work in several'
        )


def _message(error: UserError) -> str:
    """Return the message of an error. A data loading worker sends it inside a traceback."""
    text = str(error)
    return text.rpartition(f'{type(error).__name__}: ')[2].strip() if 'Original Traceback' in text else text


def _print_failure(message: str, error: UserError | None = None) -> None:
    """Print a message, once for all processes or once per machine if they fail alike."""
    if isinstance(error, LostProcessError):
        # torchrun ends this process meanwhile, and the last words are those of the lost process.
        time.sleep(_PATIENCE)
    else:
        launch.report_failure(message)
    if isinstance(error, OptionError):
        prints = launch.first_of_machine()
    else:
        prints = launch.first_process() or error is None or not error.everywhere
    if prints:
        print(message, file=sys.stderr)


def _end_at_once(code: int) -> None:
    """End a process of a distributed run without finalizing Python.

    A gloo thread that frees the tensors of the last collective during finalization aborts the process, and torchrun
    then reports a failed run.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == '__main__':
    sys.exit(main())
