"""`basicsr inspect`: estimates of a network for photographs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ggkm_plugin.cli.arguments import add_arch, add_plugin, load_plugins
from ggkm_plugin.cli.output import progress, warn
from ggkm_plugin.utils.errors import DataError, OptionError, UserError
from ggkm_plugin.weights import NOTICE, checkpoint_path

if TYPE_CHECKING:
    from ggkm_plugin.inspection.network import Subject

HELP = 'blur map, coefficient maps and PSFs of photographs (Figs. 7, 8)'
DESCRIPTION = 'Write a sheet and a page for each photograph: blur map, coefficient maps, PSFs, estimates (Figs. 7, 8).'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('images', nargs='+', metavar='IN', help='photographs, or folders of them')
    parser.add_argument(
        '--weights', metavar='FILE', help='checkpoint that describes its network (default: the packaged one)'
    )
    add_arch(parser, '; without --weights, an untrained network')
    parser.add_argument(
        '--points', nargs='+', metavar='X,Y', help='pixels whose PSFs are shown (default: six, from narrow to wide)'
    )
    parser.add_argument(
        '--without-output-layer', action='store_true', help='PSFs without the weight W_p of the output layer'
    )
    parser.add_argument(
        '--size',
        type=int,
        default=1000,
        metavar='N',
        help='longest side; larger photographs are reduced (default: 1000)',
    )
    parser.add_argument('-o', '--output', default='results/inspect', metavar='DIR', help='folder of the results')
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.size < 16:
        raise OptionError(f'--size: must be at least 16, not {arguments.size}')
    load_plugins(arguments, on_demand=True)
    from ggkm_plugin.inspection import files
    from ggkm_plugin.inspection.network import load_subject
    from ggkm_plugin.restoration.load import parse_network

    network = parse_network(arguments.arch) if arguments.arch else None
    untrained = network is not None and arguments.weights is None
    subject = load_subject(None if untrained else weights_path(arguments), network)
    warn_if_untrained(arguments, subject)
    request = files.InspectRequest(
        points=arguments.points,
        output_layer=not arguments.without_output_layer,
        longest=arguments.size,
        folder=Path(arguments.output),
    )
    paths = files.photographs(arguments.images)
    files.check_folder(paths, request)
    faults = []
    for path in paths:
        try:
            print(*files.inspect_file(subject, path, request), sep='\n')
        except UserError as error:
            if len(paths) == 1:
                raise
            faults.append(str(error))
    if faults:
        raise DataError('\n  '.join([f'{len(faults)} of {len(paths)} photographs were not inspected:', *faults]))


def weights_path(arguments: argparse.Namespace) -> str:
    """Return the path of --weights or, with a notice, of the packaged weights."""
    if arguments.weights is None:
        progress(f'basicsr {arguments.command}: {NOTICE}')
    return checkpoint_path(arguments.weights)


def warn_if_untrained(arguments: argparse.Namespace, subject: 'Subject') -> None:
    if not subject.trained:
        warn(
            arguments,
            f'{subject.name} is untrained ({subject.source}): its results mean nothing. Name a checkpoint with '
            '--weights',
        )
