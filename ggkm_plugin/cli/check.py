"""`basicsr check`: validate an option file and its data."""

import argparse
from typing import Any

from ggkm_plugin.cli.arguments import add_image_check, add_option_file, add_plugin, load_plugins, option_file

HELP = 'find every fault of an option file and its data, and estimate time and memory of a training'


class _PrintSchema(argparse.Action):
    """Print the JSON schema and exit, without the arguments that are otherwise required."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from ggkm_plugin.training.config_schema import json_schema
        from ggkm_plugin.utils import plugins

        plugins.load_installed()
        print(json_schema(), end='')
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option_file(parser)
    add_plugin(parser)
    add_image_check(parser)
    parser.add_argument('--no-steps', action='store_true', help='skip the training steps that measure time and memory')
    parser.add_argument(
        '--schema', action=_PrintSchema, nargs=0, help='only print the JSON schema of option files, for editors'
    )
    parser.add_argument('--show', action='store_true', help='only print the options, merged with base and overrides')


def run(arguments: argparse.Namespace) -> None:
    if arguments.show:
        import yaml

        from ggkm_plugin.utils.config import find_option_file, load_options

        options = load_options(find_option_file(arguments.opt), arguments.variant, arguments.force_yml)
        print(yaml.safe_dump(options, sort_keys=False), end='')
        return
    load_plugins(arguments)
    from ggkm_plugin.training.run import Request, check

    request = Request(**option_file(arguments), check_images=not arguments.skip_image_check)
    report = check(request, dry_run=not arguments.no_steps)
    print('no fault found', *([report] if report else []), sep='\n')
