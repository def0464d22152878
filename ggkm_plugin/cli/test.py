"""`basicsr test`: score a trained model."""

import argparse

from ggkm_plugin.basicsr_patches.launch import first_process
from ggkm_plugin.cli.arguments import (
    add_image_check,
    add_launcher,
    add_option_file,
    add_plugin,
    load_plugins,
    option_file,
)

HELP = 'score a trained model'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option_file(parser)
    add_plugin(parser)
    add_launcher(parser)
    add_image_check(parser)
    # Accepted because BasicSR's own test script has them.
    parser.add_argument('--auto_resume', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('--debug', action='store_true', help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> None:
    load_plugins(arguments)
    from ggkm_plugin.training.run import Request, test

    finished = test(
        Request(
            **option_file(arguments),
            launcher=arguments.launcher,
            debug=arguments.debug,
            check_images=not arguments.skip_image_check,
        )
    )
    if first_process():
        for picture in finished.pictures:
            print(f'Picture: {picture}')
        print(f'Results: {finished.folder}')
