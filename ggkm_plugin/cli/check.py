"""`basicsr check`: validate the option file and data of a training."""

import argparse

from ggkm_plugin.cli.arguments import add_option_file, add_plugin, load_plugins

HELP = 'find every fault of an option file for training, and estimate time and memory'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option_file(parser)
    add_plugin(parser)
    parser.add_argument('--no-steps', action='store_true', help='skip the training steps that measure time and memory')


def run(arguments: argparse.Namespace) -> None:
    load_plugins(arguments)
    from ggkm_plugin.training.run import Request, check

    request = Request(opt=arguments.opt, force_yml=arguments.force_yml, variant=arguments.variant, root=arguments.root)
    report = check(request, dry_run=not arguments.no_steps)
    print('no fault found', *([report] if report else []), sep='\n')
