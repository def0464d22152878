"""`basicsr psf-study`: accuracy of PSF models on pairs of images."""

import argparse
from pathlib import Path

from ggkm_plugin.cli.output import progress
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.files import make_writable, writing_into

HELP = 'accuracy of PSF models on pairs of images (Table 9)'
DESCRIPTION = 'Fit PSF models to pairs of sharp and blurred images and report how close they come (Table 9).'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--dataroot', metavar='DIR', help='folder of a benchmark (default: built-in pairs)')
    parser.add_argument('--layout', default='auto', metavar='NAME', help='of the benchmark (default: detected)')
    parser.add_argument('--split', default='test', metavar='NAME', help='of the benchmark (default: test)')
    parser.add_argument('--lq', metavar='DIR', help='folder of blurred images, instead of --dataroot')
    parser.add_argument('--gt', metavar='DIR', help='folder of the sharp ones, with the same names')
    parser.add_argument('--count', type=int, default=3, metavar='N', help='pairs, spread over the set (default: 3)')
    parser.add_argument('--size', type=int, default=360, metavar='N', help='side of the central crop (default: 360)')
    parser.add_argument('--budget', type=float, default=1, metavar='F', help='factor on the steps of all fits')
    parser.add_argument(
        '--without-identity', action='store_true', help='models without the identity kernel of both networks'
    )
    parser.add_argument('-o', '--output', default='results/psf_study', metavar='DIR', help='folder of the results')


def run(arguments: argparse.Namespace) -> None:
    if (arguments.lq is None) != (arguments.gt is None) or (arguments.lq and arguments.dataroot):
        raise OptionError('name pairs by --dataroot, or by --lq and --gt, or omit all three for built-in pairs')
    for name, least in (('count', 1), ('size', 16)):
        if getattr(arguments, name) < least:
            raise OptionError(f'--{name}: must be at least {least}, not {getattr(arguments, name)}')
    if not 0 < arguments.budget < 1e4:
        raise OptionError(f'--budget: must be a factor above 0, not {arguments.budget}')
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
    with writing_into(arguments.output, '-o'):
        make_writable(arguments.output)
    results = psf_study.study(list(pairs), rows, progress)
    written = psf_study.write(results, Path(arguments.output))
    print(psf_study.report(results))
    print('Written:', *written, sep='\n  ')
