"""`basicsr app`: a local web page."""

import argparse

from ggkm_plugin.cli.arguments import add_plugin, load_plugins
from ggkm_plugin.cli.output import progress
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.weights import checkpoint_path

HELP = 'local web page: before and after, strength, blur map'
DESCRIPTION = (
    'Open a local web page: drop photographs, compare before and after, choose the strength, download. Needs the extra '
    '[app].'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--weights', metavar='FILE', help='checkpoint that is offered beside the packaged weights')
    parser.add_argument('--device', default='auto', metavar='D', help='auto, cpu, cuda or cuda:N (default: auto)')
    parser.add_argument('--port', type=int, metavar='N', help='port (default: the first free one from 7860 on)')
    parser.add_argument(
        '--share',
        action='store_true',
        help="also a public link through Gradio's servers (default: only this machine, 127.0.0.1)",
    )
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.port is not None and not 1 <= arguments.port <= 65535:
        raise OptionError(f'--port {arguments.port}: from 1 to 65535')
    load_plugins(arguments, on_demand=True)
    from ggkm_plugin.app.page import serve

    weights = checkpoint_path(arguments.weights) if arguments.weights else None
    serve(
        weights,
        arguments.device,
        port=arguments.port,
        share=arguments.share,
        ready=lambda address: progress(f'basicsr app: {address} (Ctrl-C ends it)'),
    )
