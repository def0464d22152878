"""`basicsr profile`: complexity of networks."""

import argparse

from ggkm_plugin.cli.arguments import add_plugin, load_plugins
from ggkm_plugin.utils.errors import OptionError

HELP = 'parameters, MACs, time and peak memory of networks'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('names', nargs='+', metavar='ARCH_OR_OPT', help='registered arch, or option file')
    parser.add_argument('--size', default='720x1280', metavar='HxW', help='input, height first (default: 720x1280)')
    parser.add_argument(
        '--device', default='cpu', metavar='D', help='device of the timing: cpu, cuda[:N], mps or xpu (default: cpu)'
    )
    parser.add_argument('--repeats', type=int, default=3, metavar='N', help='timed runs; 0 only counts (default: 3)')
    parser.add_argument('--variant', metavar='NAME', help='named override from `variants:` in the option files')
    parser.add_argument('--format', choices=('table', 'csv', 'json'), default='table')
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.repeats < 0:
        raise OptionError(f'--repeats: must be 0 or more, not {arguments.repeats}')
    load_plugins(arguments, on_demand=True)
    from ggkm_plugin.evaluation import complexity
    from ggkm_plugin.report import tables

    size, where = complexity.parse_size(arguments.size), (arguments.device, arguments.repeats)
    rows = [complexity.profile_named(name, arguments.variant, size, *where) for name in arguments.names]
    render = {'table': complexity.table, 'csv': tables.to_csv, 'json': tables.to_json}[arguments.format]
    print(render(rows).rstrip('\n'))
