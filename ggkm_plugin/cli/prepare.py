"""`basicsr prepare`: a checked folder tree or LMDB from a downloaded benchmark."""

import argparse
import os

from ggkm_plugin.utils.errors import OptionError

HELP = 'make a checked folder tree or LMDB from a downloaded benchmark: DPDD, LFDOF, RealDOF, RTF or CUHK'
INTERRUPTED = '; nothing was written'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('sources', nargs='+', metavar='SOURCE', help='zip or tar archives or folders of one data set')
    parser.add_argument(
        '-o', '--out', required=True, metavar='OUT', help='new folder, which appears when it is complete'
    )
    parser.add_argument(
        '--set', default='auto', metavar='NAME', help='DPDD, LFDOF, RealDOF, RTF or CUHK (default: detected)'
    )
    parser.add_argument(
        '--format',
        choices=('folder', 'png', 'raw'),
        default='folder',
        help='a folder tree, or an LMDB per split: png is small, raw is fastest to read crops from (default: folder)',
    )
    parser.add_argument('--dry-run', action='store_true', help='print what would be done; write nothing')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count() or 1, metavar='N', help='threads (default: number of cores)'
    )
    parser.add_argument('--skip-bad', action='store_true', help='leave out unreadable images and their partners')


def run(arguments: argparse.Namespace) -> None:
    from ggkm_plugin.data.layouts import LAYOUTS
    from ggkm_plugin.data.preparation import PreparationOptions, check_faults, make_plan, plan_lines, prepare

    if arguments.set not in ('auto', *LAYOUTS):
        raise OptionError(f'--set: must be one of {", ".join(LAYOUTS)}, not "{arguments.set}"')
    options = PreparationOptions(
        sources=tuple(arguments.sources),
        out=arguments.out,
        layout=arguments.set,
        format=arguments.format,
        workers=arguments.workers,
        skip_bad=arguments.skip_bad,
        progress=True,
    )
    plan = make_plan(options)
    if not arguments.dry_run:
        plan = prepare(plan)
    print(*plan_lines(plan), sep='\n')
    check_faults(plan)
