"""`basicsr export`: a network's file for other programs."""

import argparse
import os
import sys
from functools import partial

from ggkm_plugin.cli.arguments import add_arch, add_plugin, load_plugins
from ggkm_plugin.weights import NAMES

HELP = "write a checkpoint's network for other programs"
DESCRIPTION = (
    'Write the network of a checkpoint with its EMA weights: as weights with their description (.safetensors, .pth), '
    'or as a graph for other runtimes (.onnx, .pt2), which is compared with PyTorch on a photograph.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'weights', metavar='WEIGHTS', help=f'checkpoint, or the name of packaged weights: {", ".join(NAMES)}'
    )
    parser.add_argument(
        '-o', '--output', required=True, metavar='FILE', help='file to write; its suffix chooses the format'
    )
    parser.add_argument('--half', action='store_true', help='store float16, half the size; for .safetensors and .pth')
    parser.add_argument(
        '--size', metavar='HxW', help='fix the size of one image in the graph (default: any batch, height and width)'
    )
    parser.add_argument('--check', action='store_true', help='compare .safetensors and .pth with PyTorch, too')
    add_arch(parser)
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    load_plugins(arguments)
    from ggkm_plugin.evaluation.complexity import parse_size
    from ggkm_plugin.restoration.export import export
    from ggkm_plugin.restoration.load import parse_network

    network = parse_network(arguments.arch) if arguments.arch else None
    size = parse_size(arguments.size) if arguments.size else None
    tell = partial(print, file=sys.stderr)
    difference = export(arguments.weights, arguments.output, arguments.half, network, size, arguments.check, tell)
    compared = '' if difference is None else f', differs from PyTorch by at most {difference:.1e} on a photograph'
    print(f'{arguments.output}: {os.path.getsize(arguments.output) / 1e6:.1f} MB{compared}')
