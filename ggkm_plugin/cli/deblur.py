"""`basicsr deblur`: deblur photographs."""

import argparse

from ggkm_plugin import __version__
from ggkm_plugin.cli.arguments import add_arch, add_plugin, load_plugins
from ggkm_plugin.cli.output import warn_if_busy
from ggkm_plugin.weights import DEFAULT, NAMES

HELP = 'deblur photographs'
DESCRIPTION = (
    'Deblur photographs: JPEG, PNG, TIFF, WebP, AVIF, BMP and GIF with 8 or 16 bits; HEIC and camera raw with the '
    'extras [heic] and [raw]. Results lie beside their photographs.'
)
INTERRUPTED = '; finished results are complete, and the same command does the rest'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('inputs', nargs='*', metavar='IN', help='photographs, folders, or quoted patterns')
    parser.add_argument('-o', '--out', metavar='OUT', help='a folder, or a file for a single photograph')
    parser.add_argument(
        '--weights',
        metavar='FILE',
        help=f'checkpoint of a trained network, or the name of a packaged one: {", ".join(NAMES)} (default: {DEFAULT})',
    )
    add_arch(parser)
    parser.add_argument(
        '--backend',
        nargs='+',
        default=[],
        metavar=('NAME', 'MODEL'),
        help='torch (default), or onnx with the file that `basicsr export` wrote: --backend onnx model.onnx. ONNX runs '
        'whole images; exact tiles need PyTorch',
    )
    parser.add_argument(
        '--method',
        metavar='NAME',
        help='a classical method instead of a network, EBDB or JNB, on the CPU; NAME,KEY=VALUE changes a setting: '
        'EBDB,fidelity=420',
    )
    parser.add_argument(
        '--tile',
        default='auto',
        metavar='N',
        help='side of the tiles in pixels, none for the whole image, or auto for what the memory allows (default: '
        'auto); the result is the same',
    )
    parser.add_argument('--half', action='store_true', help='mixed precision: faster on GPUs, with small errors')
    parser.add_argument(
        '--device',
        default='auto',
        metavar='D',
        help='auto, cpu, cuda, cuda:N, mps or xpu (default: auto, all GPUs)',
    )
    parser.add_argument(
        '--compare', action='store_true', help='also a page with a before/after slider, in a folder beside the results'
    )
    parser.add_argument(
        '--strength',
        type=float,
        default=1.0,
        metavar='S',
        help='0 to 2: 0 leaves the photograph, 1 is the result, 2 is the most; blurred regions change most (default: '
        '1)',
    )
    parser.add_argument(
        '--mask',
        metavar='FILE',
        help='grayscale image of the size of the photograph: 0 keeps it, white has the full effect; or a folder with '
        'a mask of the same name for each photograph',
    )
    parser.add_argument(
        '--blur-map',
        action='store_true',
        help='also NAME_blur.png beside each result: 16 bits, 256 times the radius of the blur in pixels',
    )
    parser.add_argument(
        '--jobs', type=int, metavar='N', help='processes (default: one per GPU; on a CPU what cores and memory allow)'
    )
    parser.add_argument('--recursive', '-r', action='store_true', help='also folders in folders')
    parser.add_argument('--overwrite', action='store_true', help='replace existing results')
    parser.add_argument('--skip-existing', action='store_true', help='leave out photographs whose result exists')
    parser.add_argument(
        '--suffix', default='_deblurred', metavar='TEXT', help='of the names of results (default: _deblurred)'
    )
    add_plugin(parser)


def _with_backend(arguments: argparse.Namespace) -> tuple[list[str], str | None]:
    """Return inputs and weights with those of ``--backend NAME [MODEL.onnx] [IN...]``. Raises OptionError."""
    from ggkm_plugin.restoration.onnx_restorer import is_onnx
    from ggkm_plugin.utils.errors import OptionError

    backend, *words = arguments.backend or ['']
    weights = next(filter(is_onnx, words), arguments.weights)
    inputs = [*arguments.inputs, *(word for word in words if not is_onnx(word))]
    if backend not in ('', 'onnx' if is_onnx(weights) else 'torch'):
        raise OptionError(
            f'--backend {backend}: does not run {weights or "the packaged weights"}. Use torch, or onnx with a '
            'file that `basicsr export` wrote: --backend onnx model.onnx'
        )
    if not inputs:
        raise OptionError('IN: no photographs. Name files, folders or quoted patterns')
    return inputs, weights


def run(arguments: argparse.Namespace) -> None:
    load_plugins(arguments, on_demand=True)
    from ggkm_plugin.restoration import deblur

    inputs, weights = _with_backend(arguments)
    given = {name: value for name, value in vars(arguments).items() if name in deblur.DeblurRequest.__annotations__}
    request = deblur.DeblurRequest(**{**given, 'inputs': inputs, 'weights': weights, 'plugins': arguments.plugin})
    warn_if_busy(arguments)
    deblurred = deblur.deblur(request)
    if deblurred.folder and deblurred.pairs:
        from ggkm_plugin.report import comparison_page

        network = {'weights': weights or f'{DEFAULT}, packaged'}
        used = {'method': arguments.method} if arguments.method else network
        if arguments.strength != 1:
            used['strength'] = f'{arguments.strength:g}'
        facts = {**used, 'ggkm_plugin': __version__}
        page = comparison_page.write_before_after(deblurred.folder, deblurred.pairs, facts, deblurred.faults)
        print(f'Slider: {page}')
    deblur.check(deblurred)
