"""Write pairs of photographs blurred evenly by a Gaussian, to measure the effect of a network.

python -m ggkm_plugin.datasets_prep.blur_evenly OUT --photos FOLDER ... --sigma 0.8 1.5 2.5
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ggkm_plugin.data.photographs import load_photograph, photographs_from_folders
from ggkm_plugin.datasets_prep.running import run_script
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.files import new_folder, writing_into
from ggkm_plugin.utils.image_decoding import write_image


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='blur_evenly', description=__doc__.split('\n')[0])
    parser.add_argument('out', metavar='OUT', help='new folder: OUT/sigma0.8/input, OUT/sigma0.8/ground_truth, ...')
    parser.add_argument('--photos', nargs='+', required=True, metavar='FOLDER', help='sharp photographs')
    parser.add_argument('--sigma', nargs='+', type=float, default=[0.8, 1.5, 2.5], metavar='S', help='pixels')
    parser.add_argument('--crop', type=int, metavar='S', help='the middle SxS pixels (default: whole photographs)')
    parser.add_argument('--count', type=int, metavar='N', help='the first N photographs (default: all)')
    return parser


def middle(image: np.ndarray, side: int | None) -> np.ndarray:
    """Return the middle (side,side,3) of an image, or all of it where it is smaller."""
    if side is None:
        return image
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def make(arguments: argparse.Namespace) -> None:
    """Write the pairs. Raises OptionError, DataError."""
    lengths = [number for number in (arguments.crop, arguments.count) if number is not None]
    if min([*arguments.sigma, *lengths]) <= 0:
        raise OptionError('--sigma, --crop and --count must be above 0')
    out = Path(arguments.out)
    if out.exists():
        raise DataError(f'{out}: exists already. Name a new folder')
    photographs = photographs_from_folders(arguments.photos)[: arguments.count]
    with writing_into(out, 'OUT'), new_folder(out) as folder:
        for photograph in tqdm(photographs, unit='photograph', leave=False):
            image, _ = load_photograph(photograph)
            sharp = np.round(middle(image, arguments.crop) * 255).astype(np.uint8)
            for sigma in arguments.sigma:
                for side, content in (('input', cv2.GaussianBlur(sharp, (0, 0), sigma)), ('ground_truth', sharp)):
                    write_image(str(folder / f'sigma{sigma:g}' / side / f'{photograph.name}.png'), content)
    print(f'{len(photographs)} pairs for each sigma in {out}')


def main(argv: Sequence[str] | None = None) -> int:
    return run_script(build_parser(), make, argv)


if __name__ == '__main__':
    sys.exit(main())
