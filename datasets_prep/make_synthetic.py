"""Write defocused / sharp pairs made from sharp photographs, as folders or raw LMDB that PairedDefocusDataset reads.

python -m ggkm_plugin.datasets_prep.make_synthetic OUT [--photos FOLDER] [--scenes varied] [--format raw] [--count N]
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from ggkm_plugin.data.synthesis import FORMATS, Job, check_free, places, synthesise
from ggkm_plugin.data.synthetic_defocus_dataset import SCENES
from ggkm_plugin.errors import OptionError, UserError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='make_synthetic', description=__doc__.split('\n')[0])
    parser.add_argument('out', metavar='OUT', help='new folder; OUT.part until it is complete')
    parser.add_argument('--photos', metavar='FOLDER', help='sharp photographs (default: those of scikit-image)')
    parser.add_argument('--builtin', action='store_true', help='with --photos, also those of scikit-image')
    parser.add_argument('--leave-out', nargs='+', default=[], metavar='NAME', help='photographs not to take')
    parser.add_argument(
        '--hold-out', nargs='+', default=[], metavar='NAME', help='photographs for a split of their own, val, whole'
    )
    parser.add_argument('--scenes', choices=SCENES, default='plain', help='see SyntheticDefocusDataset')
    parser.add_argument('--count', type=int, default=1, metavar='N', help='scenes of each photograph (default: 1)')
    parser.add_argument('--val-count', type=int, default=1, metavar='N', help='of each held out (default: 1)')
    parser.add_argument('--crop', type=int, metavar='S', help='random parts of SxS pixels (default: whole photographs)')
    parser.add_argument('--max-blur-radius', type=float, default=4.0, metavar='R', help='pixels (default: 4)')
    parser.add_argument('--noise-std', type=float, default=0.0, metavar='S', help='in 8-bit steps (default: 0)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--format', choices=FORMATS, default='folder', help='PNG (default), or an LMDB a split, fastest to read'
    )
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, metavar='N', help='default: all cores')
    parser.add_argument('--dry-run', action='store_true', help='say what would be written')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Make the pairs, or say how many it would be. Raises OptionError or DataError."""
    if arguments.workers < 1:
        raise OptionError(f'--workers is at least 1, not {arguments.workers}')
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in vars(arguments).items()
        if key not in ('workers', 'dry_run')
    }
    job = Job(**given)
    check_free(job.out)
    todo = places(job)
    if arguments.dry_run:
        photographs = {(place.split, place.photograph) for place in todo}
        print(f'{len(todo)} pairs of {len(photographs)} photographs would be written to {job.out}')
        return
    count, out = synthesise(job, arguments.workers, progress=True), job.out
    if job.format == 'raw':
        print(f'{count} pairs in {out}: train on them with dataroot: {out}, split: train')
    else:
        folder = f'{out}/train' if job.hold_out else out
        print(
            f'{count} pairs in {out}: train on them with dataroot_lq: {folder}/input, dataroot_gt: '
            f'{folder}/ground_truth'
        )


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        run(arguments)
    except UserError as error:
        print(f'make_synthetic: {error}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        words = shlex.join(sys.argv[1:] if argv is None else argv)
        print(f'make_synthetic: interrupted; the same command goes on where it stopped: {words}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
