"""`basicsr train`: train a model."""

import argparse
import os
import shlex
from typing import TYPE_CHECKING

from ggkm_plugin.basicsr_patches.launch import first_process
from ggkm_plugin.cli.arguments import (
    add_image_check,
    add_launcher,
    add_option_file,
    add_plugin,
    load_plugins,
    option_file,
)
from ggkm_plugin.cli.output import warn_if_busy

if TYPE_CHECKING:
    from ggkm_plugin.training.run import Finished

HELP = 'train a model from an option file'
INTERRUPTED = '; --auto_resume resumes from the newest checkpoint'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option_file(parser)
    add_plugin(parser)
    add_launcher(parser)
    add_image_check(parser)
    parser.add_argument('--auto_resume', action='store_true', help='resume from the newest state of this experiment')
    parser.add_argument('--debug', action='store_true', help='validate and save every 8 iterations')


def run(arguments: argparse.Namespace) -> None:
    load_plugins(arguments)
    from ggkm_plugin.training.run import Request, train
    from ggkm_plugin.utils.files import stored_path

    if first_process():
        warn_if_busy(arguments)
    finished = train(
        Request(
            **option_file(arguments),
            launcher=arguments.launcher,
            auto_resume=arguments.auto_resume,
            debug=arguments.debug,
            check_images=not arguments.skip_image_check,
        )
    )
    if first_process():
        for picture in finished.pictures:
            print(f'Picture: {picture}')
        print(f'Weights: {stored_path(finished.folder / "models" / "net_g_latest.pth")}')
        _print_next(arguments, finished)


def _print_next(arguments: argparse.Namespace, finished: 'Finished') -> None:
    """Print the commands that usually follow this training."""
    from ggkm_plugin.utils.config import load_options

    commands = []
    curves = finished.folder.parent.parent / 'tb_logger' / finished.name
    if curves.is_dir():
        commands.append(['tensorboard', '--logdir', str(curves)])
    # A variant or an overridden name has no test file.
    same_name = load_options(finished.option_file)['name'] == finished.name
    test_file = finished.option_file.with_name(finished.option_file.name.replace('train_', 'test_', 1))
    if same_name and test_file.is_file() and test_file != finished.option_file:
        packaged = not os.path.isfile(arguments.opt)
        commands.append(['basicsr', 'test', '-opt', test_file.name if packaged else os.path.relpath(test_file)])
        commands[-1] += [] if arguments.root == '.' else ['--root', arguments.root]
    if commands:
        print('Next:', *(shlex.join(command) for command in commands), sep='\n  ')
