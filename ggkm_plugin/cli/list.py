"""`basicsr list`: registered names."""

import argparse

from ggkm_plugin.cli.arguments import add_plugin
from ggkm_plugin.cli.output import warn
from ggkm_plugin.utils.errors import OptionError

HELP = 'list registered names and the distributions that register them'
KINDS = ('archs', 'datasets', 'losses', 'models', 'metrics')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('kinds', nargs='*', metavar='KIND', help=f'any of {", ".join(KINDS)} (default: all)')
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    for kind in arguments.kinds:
        if kind not in KINDS:
            raise OptionError(f'"{kind}": no such kind. Kinds: {", ".join(KINDS)}')
    from ggkm_plugin.utils import plugins

    wanted = arguments.kinds or KINDS
    names, problems = plugins.registered(arguments.plugin)
    for problem in problems:
        warn(arguments, problem)
    rows = [row for row in names if row[0] in wanted]
    width = max(len(name) for _, name, _ in rows)
    for kind in wanted:
        print(kind)
        for row_kind, name, source in rows:
            if row_kind == kind:
                print(f'  {name:{width}}  {source}')
