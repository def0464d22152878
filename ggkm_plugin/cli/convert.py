"""`basicsr convert`: weights in any format as a self-describing checkpoint."""

import argparse
from pathlib import Path

from ggkm_plugin.cli.arguments import add_plugin, load_plugins

HELP = "convert weights in any format, also as a network's authors released them, to a self-describing checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'file', metavar='FILE', help='PyTorch or safetensors; Keras HDF5 (DPDNetS, MDP) or npz (KPAC), as released'
    )
    parser.add_argument('--arch', required=True, metavar='NAME', help='registered arch')
    parser.add_argument(
        '--options', nargs='+', default=[], metavar='KEY=VALUE', help='options of the arch, beside those of the weights'
    )
    parser.add_argument('-o', '--output', required=True, metavar='FILE', help='file to write: .pth or .safetensors')
    parser.add_argument(
        '--param-key',
        metavar='KEY',
        help='key of the weights in a PyTorch file (default: EMA weights if there are any)',
    )
    parser.add_argument(
        '--allow-pickle', action='store_true', help="read KPAC's npz, which can run code: only from a trusted source"
    )
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    load_plugins(arguments, on_demand=True)
    from ggkm_plugin.restoration.convert import convert
    from ggkm_plugin.utils.config import parse_assignments

    target = Path(arguments.output)
    network = convert(
        source=arguments.file,
        arch=arguments.arch,
        options=parse_assignments('--options', arguments.options),
        target=target,
        allow_pickle=arguments.allow_pickle,
        param_key=arguments.param_key,
    )
    shown = ''.join(f', {key}: {value}' for key, value in network.items())
    print(f'{target}: network_g {{type: {arguments.arch}{shown}}}')
