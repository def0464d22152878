"""Write defocused / sharp pairs made from sharp photographs, as two folders that PairedDefocusDataset reads.

python -m ggkm_plugin.datasets_prep.make_synthetic OUT [--photos FOLDER] [--count N] [--max-blur-radius R]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ggkm_plugin.data.decoding import write_image
from ggkm_plugin.data.synthetic_defocus_dataset import SyntheticDefocusDataset
from ggkm_plugin.errors import DataError, OptionError, UserError, listed


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='make_synthetic', description=__doc__.split('\n')[0])
    parser.add_argument('out', metavar='OUT', help='new folder for input/ and ground_truth/')
    parser.add_argument('--photos', metavar='FOLDER', help='sharp photographs (default: two of scikit-image)')
    parser.add_argument('--count', type=int, default=1, metavar='N', help='scenes of each photograph (default: 1)')
    parser.add_argument('--max-blur-radius', type=float, default=4.0, metavar='R', help='pixels (default: 4)')
    parser.add_argument('--noise-std', type=float, default=0.0, metavar='S', help='in 8-bit steps (default: 0)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--dry-run', action='store_true', help='say what would be written')
    return parser


def make_pairs(arguments: argparse.Namespace) -> None:
    """Write `count` pairs of each photograph, 8 bits. Raises DataError if OUT is in use."""
    out = Path(arguments.out)
    if arguments.count < 1:
        raise OptionError(f'--count is at least 1, not {arguments.count}')
    if arguments.seed < 0:
        raise OptionError(f'--seed is at least 0, not {arguments.seed}')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f'{out}: already there; name a new folder')
    datasets = [
        SyntheticDefocusDataset(
            {
                'phase': 'test',
                'dataroot_gt': arguments.photos,
                'max_blur_radius': arguments.max_blur_radius,
                'noise_std': arguments.noise_std,
                'noise_clip': True,
                # not seed + scene: two sets of neighbouring seeds would share scenes, and one be no test of the other
                'seed': int(np.random.default_rng([arguments.seed, scene]).integers(2**62)),
            }
        )
        for scene in range(arguments.count)
    ]
    names = [photo.name for photo in datasets[0].photographs]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise DataError(f'{arguments.photos}: several photographs of one name: {listed(twins)}; rename all but one')
    jobs = [(scene, index) for index in range(len(datasets[0])) for scene in range(arguments.count)]
    if arguments.dry_run:
        print(f'{len(jobs)} pairs of {len(datasets[0])} photographs would be written to {out}')
        return
    for scene, index in tqdm(jobs, unit='pair'):
        sample = datasets[scene][index]
        for folder, key in (('input', 'lq'), ('ground_truth', 'gt')):
            image = (sample[key].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
            write_image(str(out / folder / f'{sample["lq_path"]}_{scene:03d}.png'), image)
    print(f'{len(jobs)} pairs in {out}: train on them with dataroot_lq: {out}/input, dataroot_gt: {out}/ground_truth')


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        make_pairs(arguments)
    except UserError as error:
        print(f'make_synthetic: {error}', file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == '__main__':
    sys.exit(main())
