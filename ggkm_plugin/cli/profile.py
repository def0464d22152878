"""`basicsr profile`: complexity of networks."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from ggkm_plugin.cli.arguments import add_plugin, load_plugins
from ggkm_plugin.utils.errors import OptionError

HELP = 'parameters, MACs, time and peak memory of networks'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('names', nargs='*', metavar='ARCH_OR_OPT', help='registered arch, or option file')
    parser.add_argument('--size', default='720x1280', metavar='HxW', help='input, height first (default: 720x1280)')
    parser.add_argument(
        '--device', default='cpu', metavar='D', help='device of the timing: cpu, cuda[:N], mps or xpu (default: cpu)'
    )
    parser.add_argument('--repeats', type=int, default=3, metavar='N', help='timed runs; 0 only counts (default: 3)')
    parser.add_argument('--variant', metavar='NAME', help='named override from `variants:` in the option files')
    parser.add_argument('--format', choices=('table', 'csv', 'json'), default='table')
    parser.add_argument('--paper', action='store_true', help="compare the paper's complexity figures with counted ones")
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    if bool(arguments.names) == arguments.paper:
        raise OptionError('name archs or option files, or else give --paper')
    if arguments.repeats < 0:
        raise OptionError(f'--repeats: must be 0 or more, not {arguments.repeats}')
    load_plugins(arguments, on_demand=True)
    from ggkm_plugin.evaluation import calibration, complexity
    from ggkm_plugin.report import tables

    rows: Sequence[Any]
    table: Callable[..., str]
    if arguments.paper:
        rows, table = calibration.calibrate(), calibration.table
    else:
        size, where = complexity.parse_size(arguments.size), (arguments.device, arguments.repeats)
        rows = [complexity.profile_named(name, arguments.variant, size, *where) for name in arguments.names]
        table = complexity.table
    render: Callable[..., str] = {'table': table, 'csv': tables.to_csv, 'json': tables.to_json}[arguments.format]
    print(render(rows).rstrip('\n'))
