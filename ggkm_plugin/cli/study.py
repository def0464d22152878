"""`basicsr study`: the paper's ablations and studies."""

import argparse
from pathlib import Path

from ggkm_plugin.cli.arguments import add_overrides, add_plugin, load_plugins
from ggkm_plugin.cli.output import progress
from ggkm_plugin.studies.catalog import STUDIES
from ggkm_plugin.utils.errors import OptionError

HELP = "the paper's ablations and studies, trained and scored"
DESCRIPTION = (
    'Train the networks of an ablation or study under one budget and several seeds, and print a table with the '
    "paper's numbers beside."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', choices=tuple(STUDIES), metavar='NAME', help=f'one of {", ".join(STUDIES)}')
    parser.add_argument(
        '-opt', metavar='FILE', help='option file of the training (default: a small one, built-in data)'
    )
    parser.add_argument('--test', metavar='FILE', help="option file whose data sets are scored (default: -opt's val)")
    parser.add_argument('--iterations', type=int, metavar='N', help="of each training (default: the option file's)")
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], metavar='N', help='(default: 0 1 2)')
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these rows, and the row that they refer to')
    add_overrides(parser, 'override keys of the option files that have them')
    parser.add_argument(
        '--root', default='.', metavar='DIR', help='folder of experiments/ and results/ (default: current folder)'
    )
    parser.add_argument('--dry-run', action='store_true', help='only list the trainings')
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.iterations is not None and arguments.iterations < 1:
        raise OptionError(f'--iterations: must be at least 1, not {arguments.iterations}')
    if min(arguments.seeds) < 0 or len(set(arguments.seeds)) < len(arguments.seeds):
        raise OptionError(f'--seeds: must be different whole numbers from 0, not {arguments.seeds}')
    load_plugins(arguments)
    from ggkm_plugin.studies import plan, runs, summary

    settings = plan.StudySettings(
        study=arguments.name,
        opt=arguments.opt,
        test=arguments.test,
        iterations=arguments.iterations,
        seeds=tuple(arguments.seeds),
        rows=None if arguments.rows is None else tuple(arguments.rows),
        force_yml=arguments.force_yml,
    )
    planned = plan.plan(settings)
    if arguments.dry_run:
        for job in planned.jobs:
            print(f'{job.row.label}, seed {job.seed}: {job.name}, scored as {job.test_name}')
        return
    root = Path(arguments.root).expanduser().absolute()
    outcome = runs.run(planned, root, progress)
    written = summary.write_files(planned, outcome, settings, root / 'results' / 'study')
    print(summary.report(planned, outcome, settings))
    print('Written:', *written, sep='\n  ')
    runs.check(outcome)
