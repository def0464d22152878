"""`basicsr figure`: the paper's figures of a network."""

import argparse
import math
from pathlib import Path

from ggkm_plugin.cli.arguments import add_plugin, load_plugins
from ggkm_plugin.cli.inspect import warn_if_untrained, weights_path
from ggkm_plugin.cli.output import progress, warn
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.files import make_writable, writing_into

HELP = "the paper's figures: kernels (Fig. 6), PSFs of two networks (Fig. 7), t-SNE of coefficients (Fig. 9)"

_LEAST = {'per_set': 2, 'size': 16, 'perplexity': 1, 'iterations': 250, 'seed': 0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', choices=('kernels', 'psfs', 'tsne'), help='figure')
    parser.add_argument(
        '--weights',
        metavar='FILE',
        help='checkpoint that describes its network (default: packaged weights, for kernels an untrained network)',
    )
    parser.add_argument(
        '--kernels', nargs='+', metavar='GROUP,Q', help="kernels: which to show, from 0 (default: the paper's five)"
    )
    parser.add_argument('--photo', metavar='FILE', help='psfs: photograph')
    parser.add_argument('--gkmnet', metavar='FILE', help='psfs: checkpoint of GKMNet (default: an untrained network)')
    parser.add_argument(
        '--points', nargs='+', metavar='X,Y', help='psfs: pixels (default: four, from narrow to wide blur)'
    )
    parser.add_argument(
        '--longest', type=int, default=1000, metavar='N', help='psfs: larger photographs are reduced (default: 1000)'
    )
    parser.add_argument(
        '--data', nargs='+', default=[], metavar='NAME=DIR', help='tsne: folders of images, or benchmarks (test split)'
    )
    parser.add_argument('--per-set', type=int, metavar='N', help='tsne: images per set (default: of the smallest)')
    parser.add_argument('--size', type=int, default=360, metavar='N', help='tsne: side of the crops (default: 360)')
    parser.add_argument('--perplexity', type=float, default=15, metavar='F', help='tsne (default: 15)')
    parser.add_argument('--iterations', type=int, default=5000, metavar='N', help='tsne (default: 5000)')
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='tsne (default: 0)')
    parser.add_argument('-o', '--output', default='results/figures', metavar='DIR', help='folder of the results')
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.name == 'tsne':
        if len(arguments.data) < 2:
            raise OptionError('figure tsne: compares sets of images. Name two or more, --data NAME=DIR NAME=DIR')
        for name, least in _LEAST.items():
            value = getattr(arguments, name)
            if value is not None and not least <= value < math.inf:
                raise OptionError(f'--{name.replace("_", "-")}: must be at least {least}, not {value}')
    if arguments.name == 'psfs' and (arguments.photo is None or arguments.longest < 16):
        raise OptionError('figure psfs: needs --photo FILE, and --longest of at least 16')
    load_plugins(arguments, on_demand=True)
    figure = {'kernels': _kernels, 'psfs': _psfs, 'tsne': _tsne}[arguments.name]
    text, written = figure(arguments, Path(arguments.output))
    print(text, '', 'Written:', *written, sep='\n')


def _kernels(arguments: argparse.Namespace, folder: Path) -> tuple[str, list[Path]]:
    from ggkm_plugin.inspection.network import load_subject
    from ggkm_plugin.studies import kernel_figure

    subject = load_subject(arguments.weights, None if arguments.weights else {'type': 'GGKMNetFullyLearned'})
    warn_if_untrained(arguments, subject)
    return kernel_figure.draw(subject, folder, arguments.kernels)


def _psfs(arguments: argparse.Namespace, folder: Path) -> tuple[str, list[Path]]:
    from ggkm_plugin.inspection.network import load_subject
    from ggkm_plugin.studies import psf_figure

    subject, gkm = load_subject(weights_path(arguments)), psf_figure.load_gkmnet(arguments.gkmnet)
    if not gkm.trained:
        warn(arguments, 'GKMNet is untrained: its results mean nothing. Name a checkpoint with --gkmnet')
    return psf_figure.draw(subject, gkm, arguments.photo, arguments.points, arguments.longest, folder)


def _tsne(arguments: argparse.Namespace, folder: Path) -> tuple[str, list[Path]]:
    from ggkm_plugin.inspection.network import load_subject
    from ggkm_plugin.studies import tsne_figure

    settings = tsne_figure.TsneSettings(
        perplexity=arguments.perplexity,
        iterations=arguments.iterations,
        size=arguments.size,
        per_set=arguments.per_set,
        seed=arguments.seed,
    )
    tsne_figure.check_installed()
    with writing_into(folder, '-o'):
        make_writable(folder)
    sets = tsne_figure.open_sets(arguments.data)
    subject = load_subject(weights_path(arguments))
    warn_if_untrained(arguments, subject)
    cloud = tsne_figure.embed(subject, sets, settings, progress)
    return tsne_figure.write(cloud, subject, settings, folder)
