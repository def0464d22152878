"""`basicsr psf-study`, `inspect`, `figure`, `study`: what the model can say, and what its parts are worth."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggkm_plugin.cli.shared import add_plugin_argument, load_plugins
from ggkm_plugin.studies.catalog import STUDIES
from ggkm_plugin.utils.errors import DataError, OptionError, UserError
from ggkm_plugin.utils.files import make_writable, writing_into
from ggkm_plugin.weights import NOTICE, checkpoint_path

if TYPE_CHECKING:
    from ggkm_plugin.inspection.network import Subject


def add_parsers(commands: Any) -> None:
    """Add the commands of COMMANDS to the parser's subcommands."""
    text = 'how near models of the PSF come to blurred images, given the sharp ones (Table 9)'
    command = commands.add_parser('psf-study', help='the accuracy of PSF models on pairs of images', description=text)
    command.add_argument('--dataroot', metavar='DIR', help='folder of a benchmark; default: built-in pairs')
    command.add_argument('--layout', default='auto', metavar='NAME', help='of the benchmark (default: seen)')
    command.add_argument('--split', default='test', metavar='NAME', help='of the benchmark (default: test)')
    command.add_argument('--lq', metavar='DIR', help='folder of blurred images, instead of --dataroot')
    command.add_argument('--gt', metavar='DIR', help='folder of the sharp ones, with the same names')
    command.add_argument('--count', type=int, default=3, metavar='N', help='pairs, spread over the set (default: 3)')
    command.add_argument('--size', type=int, default=360, metavar='N', help='side of the central crop (default: 360)')
    command.add_argument(
        '--budget', type=float, default=1, metavar='F', help='steps of all fits, times the default (default: 1)'
    )
    command.add_argument(
        '--without-identity', action='store_true', help='leave the identity kernel, which both networks have, out'
    )
    command.add_argument('-o', '--output', default='results/psf_study', metavar='DIR', help='where the results go')

    text = 'blur map, coefficient maps, PSFs and estimates of a photograph: a picture and a page for each (Figs. 7, 8)'
    command = commands.add_parser('inspect', help='what a network sees in photographs', description=text)
    command.add_argument('images', nargs='+', metavar='IN', help='photographs, or folders of them')
    command.add_argument(
        '--weights', metavar='FILE', help='checkpoint that describes its network (default: the packaged one)'
    )
    command.add_argument('--arch', metavar='NAME', help='instead: an untrained network of this arch')
    command.add_argument(
        '--points',
        nargs='+',
        metavar='X,Y',
        help='where to show PSFs, in pixels (default: six, from narrow to wide)',
    )
    command.add_argument(
        '--without-output-layer', action='store_true', help="leave the output layer's weight W_p out of the PSFs"
    )
    command.add_argument(
        '--size',
        type=int,
        default=1000,
        metavar='N',
        help='longest side; larger ones are reduced (default: 1000)',
    )
    command.add_argument('-o', '--output', default='results/inspect', metavar='DIR', help='where the results go')
    add_plugin_argument(command)

    text = "the paper's figures of a network: its kernels (Fig. 6), t-SNE of its coefficients (Fig. 9)"
    command = commands.add_parser('figure', help="the paper's figures of a network", description=text)
    command.add_argument('name', choices=('kernels', 'tsne'), help='which')
    text = 'checkpoint that describes its network (default: tsne takes the packaged one, kernels an untrained network)'
    command.add_argument('--weights', metavar='FILE', help=text)
    command.add_argument(
        '--kernels', nargs='+', metavar='GROUP,Q', help="kernels: which to show, from 0 (default: the paper's five)"
    )
    command.add_argument(
        '--data', nargs='+', default=[], metavar='NAME=DIR', help='tsne: folders of images, or benchmarks (test split)'
    )
    command.add_argument('--per-set', type=int, metavar='N', help='tsne: images of each (default: of the smallest)')
    command.add_argument('--size', type=int, default=360, metavar='N', help='tsne: side of the crops (default: 360)')
    command.add_argument('--perplexity', type=float, default=15, metavar='F', help='tsne (default: 15)')
    command.add_argument('--iterations', type=int, default=5000, metavar='N', help='tsne (default: 5000)')
    command.add_argument('--seed', type=int, default=0, metavar='N', help='tsne (default: 0)')
    command.add_argument('-o', '--output', default='results/figures', metavar='DIR', help='where the results go')
    add_plugin_argument(command)

    text = "the paper's comparisons of networks: trained under one budget and several seeds, a table with theirs beside"
    command = commands.add_parser(
        'study', help="the paper's ablations and studies, trained and scored", description=text
    )
    command.add_argument('name', choices=tuple(STUDIES), metavar='NAME', help=f'one of {", ".join(STUDIES)}')
    command.add_argument(
        '-opt', metavar='FILE', help='option file of the training (default: a small one, built-in data)'
    )
    command.add_argument('--test', metavar='FILE', help="option file whose data sets are scored (default: -opt's val)")
    command.add_argument('--iterations', type=int, metavar='N', help="of each training (default: the option file's)")
    command.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], metavar='N', help='(default: 0 1 2)')
    command.add_argument('--rows', nargs='+', metavar='ROW', help='only these, and the row they are measured against')
    command.add_argument(
        '--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help='override keys of the option file'
    )
    command.add_argument(
        '--root', default='.', metavar='DIR', help='where experiments/ and results/ go (default: here)'
    )
    command.add_argument('--dry-run', action='store_true', help='only list the trainings')
    add_plugin_argument(command)


def _psf_study(arguments: argparse.Namespace) -> None:
    if (arguments.lq is None) != (arguments.gt is None) or (arguments.lq and arguments.dataroot):
        raise OptionError('name pairs by --dataroot, or by --lq and --gt, or leave all three out for built-in pairs')
    for name, least in (('count', 1), ('size', 16)):
        if getattr(arguments, name) < least:
            raise OptionError(f'--{name} is at least {least}, not {getattr(arguments, name)}')
    if not 0 < arguments.budget < 1e4:
        raise OptionError(f'--budget is a factor above 0, not {arguments.budget}')
    from ggkm_plugin.studies import psf_pairs, psf_study

    if arguments.dataroot or arguments.lq:
        places = {'dataroot': arguments.dataroot, 'layout': arguments.layout, 'split': arguments.split}
        if arguments.lq:
            places = {'dataroot_lq': arguments.lq, 'dataroot_gt': arguments.gt}
        pairs = psf_pairs.pairs_of_dataset(places, arguments.count, arguments.size)
    else:
        pairs = psf_pairs.builtin_pairs(arguments.size)
    budget = psf_study.Budget().times(arguments.budget)
    rows = psf_study.methods(budget, identity=not arguments.without_identity)
    _check_folder(Path(arguments.output))
    results = psf_study.study(list(pairs), rows, lambda line: print(line, file=sys.stderr))
    written = psf_study.write(results, Path(arguments.output))
    print(psf_study.report(results))
    print('Written:', *written, sep='\n  ')


def _check_folder(folder: Path) -> None:
    """Raises DataError before minutes of work that could not be kept."""
    with writing_into(folder, '-o'):
        make_writable(folder)


def _inspect(arguments: argparse.Namespace) -> None:
    if arguments.size < 16:
        raise OptionError(f'--size is at least 16, not {arguments.size}')
    load_plugins(arguments)
    from ggkm_plugin.inspection import files
    from ggkm_plugin.inspection.network import load_subject

    if arguments.weights is not None and arguments.arch:
        raise OptionError('--arch is of an untrained network: name it, or --weights, not both')
    subject = load_subject(None if arguments.arch else _weights(arguments), arguments.arch or 'GGKMNet')
    _warn(arguments, subject)
    request = files.Request(
        arguments.points, not arguments.without_output_layer, arguments.size, Path(arguments.output)
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


def _weights(arguments: argparse.Namespace) -> str:
    """Those that are named, or the packaged ones, which is said."""
    if arguments.weights is None:
        print(f'basicsr {arguments.command}: {NOTICE}', file=sys.stderr)
    return checkpoint_path(arguments.weights)


def _warn(arguments: argparse.Namespace, subject: 'Subject') -> None:
    if not subject.trained:
        words = f'{subject.name} is untrained ({subject.source}): what it shows means nothing'
        print(f'basicsr {arguments.command}: warning: {words}; name a checkpoint with --weights', file=sys.stderr)


def _figure(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.output)
    if arguments.name == 'tsne':
        if len(arguments.data) < 2:
            raise OptionError('figure tsne compares sets of images: name two or more, --data NAME=DIR NAME=DIR')
        for name, least in (('per_set', 2), ('size', 16), ('perplexity', 1), ('iterations', 250), ('seed', 0)):
            value = getattr(arguments, name)
            if value is not None and not least <= value < math.inf:
                raise OptionError(f'--{name.replace("_", "-")} is at least {least}, not {value}')
    load_plugins(arguments)
    from ggkm_plugin.inspection.network import load_subject
    from ggkm_plugin.studies import kernel_figure, tsne_figure

    if arguments.name == 'kernels':
        subject = load_subject(arguments.weights, 'GGKMNetFullyLearned')
        _warn(arguments, subject)
        said, written = kernel_figure.draw(subject, folder, arguments.kernels)
    else:
        settings = tsne_figure.Settings(
            arguments.perplexity, arguments.iterations, arguments.size, arguments.per_set, arguments.seed
        )
        tsne_figure.check_installed()
        _check_folder(folder)
        sets = tsne_figure.open_sets(arguments.data)
        subject = load_subject(_weights(arguments))
        _warn(arguments, subject)
        found = tsne_figure.embed(subject, sets, settings, lambda line: print(line, file=sys.stderr))
        said, written = tsne_figure.write(found, subject, settings, folder)
    print(said, '', 'Written:', *written, sep='\n')


def _study(arguments: argparse.Namespace) -> None:
    if arguments.iterations is not None and arguments.iterations < 1:
        raise OptionError(f'--iterations is at least 1, not {arguments.iterations}')
    if min(arguments.seeds) < 0 or len(set(arguments.seeds)) < len(arguments.seeds):
        raise OptionError(f'--seeds are different whole numbers from 0, not {arguments.seeds}')
    load_plugins(arguments)
    from ggkm_plugin.studies import plan, runs, summary

    settings = plan.Settings(
        arguments.name, arguments.opt, arguments.test, arguments.iterations, tuple(arguments.seeds),
        None if arguments.rows is None else tuple(arguments.rows), arguments.force_yml,
    )  # fmt: skip
    planned = plan.plan(settings)
    if arguments.dry_run:
        for job in planned.jobs:
            print(f'{job.row.label}, seed {job.seed}: {job.name}, scored as {job.test_name}')
        return
    root = Path(arguments.root).expanduser().absolute()
    outcome = runs.run(planned, root, arguments.plugin, lambda line: print(line, file=sys.stderr, flush=True))
    written = summary.write_files(planned, outcome, settings, root / 'results' / 'study')
    print(summary.report(planned, outcome, settings, markdown=False))
    print('Written:', *written, sep='\n  ')
    runs.check(outcome)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    'psf-study': _psf_study,
    'inspect': _inspect,
    'figure': _figure,
    'study': _study,
}
