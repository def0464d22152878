"""Make a checked folder tree or LMDB of a downloaded benchmark: DPDD, LFDOF, RealDOF, RTF or CUHK.

python -m ggkm_plugin.datasets_prep.prepare SOURCE [SOURCE ...] -o OUT [--format folder|png|raw] [--dry-run]
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from ggkm_plugin.data.archives import MAX_BYTES
from ggkm_plugin.data.layouts import LAYOUTS
from ggkm_plugin.data.preparation import prepare, report_lines
from ggkm_plugin.data.preparation_plan import FORMATS, Job, check_faults, make_plan, plan_lines
from ggkm_plugin.utils.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='prepare', description=__doc__.split('\n')[0])
    parser.add_argument('sources', nargs='+', metavar='SOURCE', help='zip or tar archives or folders of one set')
    parser.add_argument('-o', '--out', required=True, metavar='OUT', help='new folder; OUT.part until it is complete')
    parser.add_argument('--set', choices=('auto', *LAYOUTS), default='auto', help='which set it is (default: auto)')
    parser.add_argument(
        '--format',
        choices=FORMATS,
        default='folder',
        help='a folder tree (default), or an LMDB a split: png is small, raw fastest to read crops from',
    )
    parser.add_argument('--dry-run', action='store_true', help='say what would be done; write nothing')
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, metavar='N', help='default: all cores')
    parser.add_argument('--skip-bad', action='store_true', help='leave out bad images with their partners, and say so')
    parser.add_argument(
        '--max-size',
        type=float,
        default=MAX_BYTES / 1e9,
        metavar='GB',
        help='refuse archives that unpack to more (default: %(default)g)',
    )
    return parser


def say(lines: Sequence[str]) -> None:
    """Print, file names of no known encoding included."""
    print('\n'.join(lines).encode(errors='backslashreplace').decode())


def run(arguments: argparse.Namespace) -> None:
    """Prepare, or say what would be prepared. Raises OptionError or DataError."""
    job = Job(
        tuple(arguments.sources),
        arguments.out,
        layout=arguments.set,
        format=arguments.format,
        workers=arguments.workers,
        skip_bad=arguments.skip_bad,
        max_bytes=arguments.max_size * 1e9,
        progress=True,
    )
    plan = make_plan(job)
    if arguments.dry_run:
        say(plan_lines(plan))
        check_faults(plan, plan.faults)
        return
    say(report_lines(prepare(plan)))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        run(arguments)
    except UserError as error:
        print(f'prepare: {error}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        words = shlex.join(sys.argv[1:] if argv is None else argv)
        print(f'prepare: interrupted; the same command goes on where it stopped: {words}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
