"""`basicsr deblur`: one's own photographs."""

import argparse
from typing import Any

from ggkm_plugin import __version__
from ggkm_plugin.cli.shared import add_plugin_argument, load_plugins
from ggkm_plugin.weights import DEFAULT, NAMES


def add_parsers(commands: Any) -> None:
    """Add the command of COMMANDS to the parser's subcommands."""
    text = 'your own photographs: JPEG, PNG, TIFF, WebP, BMP of 8 or 16 bits; each result lies beside its photograph'
    command = commands.add_parser('deblur', help='deblur photographs', description=text)
    command.add_argument('inputs', nargs='+', metavar='IN', help='photographs, folders, or quoted patterns')
    command.add_argument('-o', '--out', metavar='OUT', help='a folder, or a file for a single photograph')
    command.add_argument(
        '--weights',
        metavar='FILE',
        help=f'checkpoint of a trained network, or the name of a packaged one: {", ".join(NAMES)} (default: {DEFAULT})',
    )
    command.add_argument(
        '--method',
        metavar='NAME',
        help='a classical method instead of a network, EBDB or JNB, on the processor; NAME,KEY=VALUE changes a '
        'setting: EBDB,fidelity=420',
    )
    command.add_argument(
        '--tile',
        default='auto',
        metavar='N',
        help='side of the tiles in pixels, none for the whole image, or auto: what the memory allows (default); the '
        'result is the same',
    )
    command.add_argument('--half', action='store_true', help='mixed precision: faster on GPUs, with small errors')
    command.add_argument(
        '--device', default='auto', metavar='D', help='auto, cpu, cuda or cuda:N (default: auto, all GPUs)'
    )
    command.add_argument(
        '--compare', action='store_true', help='also a page with a before/after slider, in a folder beside the results'
    )
    command.add_argument(
        '--jobs', type=int, metavar='N', help='processes (default: one a GPU; on a CPU what cores and memory allow)'
    )
    command.add_argument('--recursive', '-r', action='store_true', help='also the folders in folders')
    command.add_argument('--overwrite', action='store_true', help='replace results that are there already')
    command.add_argument(
        '--suffix', default='_deblurred', metavar='TEXT', help="for the results' names (default: _deblurred)"
    )
    add_plugin_argument(command)


def run(arguments: argparse.Namespace) -> None:
    load_plugins(arguments)
    from ggkm_plugin.restoration import deblur

    request = deblur.Request(
        arguments.inputs,
        arguments.out,
        arguments.weights,
        arguments.method,
        arguments.tile,
        arguments.half,
        arguments.device,
        arguments.jobs,
        arguments.suffix,
        arguments.recursive,
        arguments.overwrite,
        arguments.compare,
        arguments.plugin,
    )
    deblurred = deblur.deblur(request)
    if deblurred.folder and deblurred.pairs:
        from ggkm_plugin.report import before_after

        weights = {'weights': arguments.weights or f'{DEFAULT}, packaged'}
        used = {'method': arguments.method} if arguments.method else weights
        facts = {**used, 'ggkm_plugin': __version__}
        print(f'Slider: {before_after.write_page(deblurred.folder, deblurred.pairs, facts, deblurred.faults)}')
    deblur.check(deblurred)


COMMANDS = {'deblur': run}
