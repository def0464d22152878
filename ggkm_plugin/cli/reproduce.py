"""`basicsr reproduce`: a table of the GGKMNet paper from available checkpoints."""

import argparse

from ggkm_plugin.cli.arguments import add_overrides, add_plugin, load_plugins
from ggkm_plugin.cli.output import progress
from ggkm_plugin.utils.errors import OptionError

HELP = "one table of the paper from available checkpoints, beside the paper's figures"
DESCRIPTION = (
    "Evaluate the rows of a table of the GGKMNet paper whose checkpoints are found, print them beside the paper's "
    'figures, and list the command that trains each missing one.'
)
_TABLES = (2, 3, 4, 5, 6, 7, 8, 10, 11)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('table', type=int, choices=_TABLES, metavar='TABLE', help=f'one of {str(_TABLES)[1:-1]}')
    parser.add_argument(
        '--weights-dir',
        metavar='DIR',
        help='folder of checkpoints EXPERIMENT.pth or EXPERIMENT/models/net_g_latest.pth (default: experiments/)',
    )
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these rows, by their names in the paper')
    parser.add_argument(
        '--dry-run', action='store_true', help='only list the rows: checkpoint and data found or missing, and commands'
    )
    parser.add_argument('--format', choices=('table', 'markdown', 'csv', 'latex'), default='table')
    add_overrides(parser, "override keys of the table's compare_DATASET.yml, such as protocol=gkmnet")
    parser.add_argument(
        '--root', default='.', metavar='DIR', help='folder of experiments/, results/, datasets/ (default: current one)'
    )
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    load_plugins(arguments)
    from ggkm_plugin.evaluation import compare
    from ggkm_plugin.studies import reproduction

    found = reproduction.plan(
        arguments.table, arguments.root, arguments.weights_dir, arguments.rows, arguments.force_yml
    )
    if arguments.dry_run:
        print(reproduction.render(found, None, arguments.format), end='')
        return
    if found.data:
        raise OptionError(f'Table {arguments.table}: {found.data}. --dry-run lists its rows without images')
    compared = compare.compare(found.options, progress, arguments.root, noise=bool(found.clean), report=False)
    print(reproduction.render(found, compared.results, arguments.format), end='')
    progress(f'\nResults: {compared.folder}')
    compare.check(compared)
