"""`basicsr export`: a network's file for other programs."""

import argparse
import os

from ggkm_plugin.cli.arguments import add_arch, add_plugin, load_plugins
from ggkm_plugin.weights import NAMES

HELP = "write a checkpoint's network for other programs"
DESCRIPTION = 'Write the network of a checkpoint, its EMA weights and its description, as .safetensors or .pth.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'weights', metavar='WEIGHTS', help=f'checkpoint, or the name of packaged weights: {", ".join(NAMES)}'
    )
    parser.add_argument(
        '-o', '--output', required=True, metavar='FILE', help='file to write; its suffix chooses the format'
    )
    parser.add_argument('--half', action='store_true', help='store float16, half the size')
    add_arch(parser)
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    load_plugins(arguments)
    from ggkm_plugin.restoration.export import export
    from ggkm_plugin.restoration.load import parse_network

    network = parse_network(arguments.arch) if arguments.arch else None
    export(arguments.weights, arguments.output, arguments.half, network)
    print(f'{arguments.output}: {os.path.getsize(arguments.output) / 1e6:.1f} MB')
