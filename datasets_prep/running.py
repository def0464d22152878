"""Runner of the scripts in this folder: parse the arguments, run, and report a user's mistake in one line."""

import argparse
import sys
from collections.abc import Callable, Sequence

from ggkm_plugin.cli.output import protect_streams
from ggkm_plugin.utils.errors import UserError


def run_script(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None], argv: Sequence[str] | None
) -> int:
    """Run a script with its arguments, those of the process by default; return the exit code."""
    if argv is None:
        protect_streams()
    arguments = parser.parse_args(argv)
    try:
        run(arguments)
    except UserError as error:
        print(f'{parser.prog}: {error}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f'{parser.prog}: interrupted; nothing was written', file=sys.stderr)
        return 1
    return 0
