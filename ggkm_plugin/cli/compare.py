"""`basicsr compare`: several models on the same data."""

import argparse

from ggkm_plugin.basicsr_patches.launch import first_process
from ggkm_plugin.cli.arguments import add_launcher, add_option_file, add_plugin, load_plugins
from ggkm_plugin.cli.output import progress

HELP = 'compare several models on the same data under one protocol'
DESCRIPTION = 'Compare networks on the same images: tables, pictures and a report in results/NAME/.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option_file(parser)
    add_launcher(parser)
    parser.add_argument('--format', choices=('table', 'markdown', 'csv', 'latex'), default='table')
    parser.add_argument('--noise', action='store_true', help='also with the noise levels of the option file')
    parser.add_argument('--no-report', action='store_true', help='skip the HTML report')
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    load_plugins(arguments)
    from ggkm_plugin.evaluation import compare
    from ggkm_plugin.report import comparison_tables
    from ggkm_plugin.utils import config

    options = config.load_options(config.find_option_file(arguments.opt), arguments.variant, arguments.force_yml)
    compared = compare.compare(
        options,
        progress,
        root=arguments.root,
        launcher=arguments.launcher,
        noise=arguments.noise,
        report=not arguments.no_report,
    )
    if first_process():
        print(comparison_tables.render(compared.results, arguments.format), end='')
        progress(f'\nResults: {compared.folder}')
        if compared.report:
            progress(f'Report: {compared.report}')
    compare.check(compared)
