"""What several commands share: the plugins that they load, and the argument that names more of them."""

import argparse
import sys


def add_plugin_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        '--plugin',
        action='append',
        default=[],
        metavar='MODULE',
        help='also import this local module, which registers archs, losses, data sets ...; may be repeated',
    )


def load_plugins(arguments: argparse.Namespace) -> None:
    from ggkm_plugin.utils import plugins

    for problem in plugins.load_installed():
        print(f'basicsr: warning: {problem}', file=sys.stderr)
    plugins.load_local(arguments.plugin)
