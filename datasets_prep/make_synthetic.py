"""Write defocused / sharp pairs from sharp photographs, as folders or raw LMDB for PairedDefocusDataset.

python -m ggkm_plugin.datasets_prep.make_synthetic OUT [--photos FOLDER ...] [--scenes real] [--format raw] [--count N]
"""

import argparse
import dataclasses
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ggkm_plugin.data.options import SCENES
from ggkm_plugin.data.photographs import held_out
from ggkm_plugin.data.real_scenes import PRESETS, Optics
from ggkm_plugin.data.synthesis import FORMATS, Job, check_free, places, synthesize
from ggkm_plugin.datasets_prep.running import run_script
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.image_header import read_header

# Options of `Job` that differ from the command-line values.
_RESOLVED = frozenset(('photos', 'optics', 'leave_out', 'hold_out'))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='make_synthetic', description=__doc__.split('\n')[0])
    parser.add_argument('out', metavar='OUT', help='new folder, which appears when it is complete')
    parser.add_argument(
        '--photos', nargs='+', metavar='FOLDER', help='sharp photographs, any format (default: those of scikit-image)'
    )
    parser.add_argument('--builtin', action='store_true', help='with --photos, also those of scikit-image')
    for name, use in (('leave-out', 'not to use'), ('hold-out', 'for a split of their own, val')):
        parser.add_argument(f'--{name}', nargs='+', default=[], metavar='NAME', help=f'photographs {use}')
        parser.add_argument(f'--{name}-file', metavar='FILE', help=f'names of photographs {use}, one per line')
    parser.add_argument(
        '--hold-out-share', type=float, default=0.0, metavar='P', help='hold out this share, by a hash of the name'
    )
    parser.add_argument('--scenes', choices=SCENES, default='plain', help='see SyntheticDefocusDataset')
    parser.add_argument(
        '--optics', nargs='+', metavar='KEY=VALUE',
        help=f'of --scenes real: a preset ({", ".join(PRESETS)}), then keys such as resize_prob=0 or radius=0.5,12',
    )  # fmt: skip
    parser.add_argument('--count', type=int, default=1, metavar='N', help='scenes of each photograph (default: 1)')
    parser.add_argument('--val-count', type=int, default=1, metavar='N', help='of each held out (default: 1)')
    parser.add_argument('--crop', type=int, metavar='S', help='random parts of SxS pixels (default: whole photographs)')
    parser.add_argument('--val-crop', type=int, metavar='S', help='the same for held-out photographs')
    parser.add_argument('--max-blur-radius', type=float, default=4.0, metavar='R', help='pixels (default: 4)')
    parser.add_argument('--noise-std', type=float, default=0.0, metavar='S', help='in 8-bit steps (default: 0)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--format', choices=FORMATS, default='folder', help='PNG (default), or one LMDB per split, fastest to read'
    )
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, metavar='N', help='default: all cores')
    parser.add_argument('--dry-run', action='store_true', help='print what would be written')
    return parser


def parse_optics(words: Sequence[str] | None) -> Optics | None:
    """Read `[PRESET] [KEY=VALUE ...]`; two numbers with a comma are a range. Raises OptionError."""
    if words is None:
        return None
    option: dict[str, Any] = {}
    for place, word in enumerate(words):
        key, equals, value = word.partition('=')
        if not equals and place == 0:
            option['preset'] = word
            continue
        try:
            numbers = [float(number) for number in value.split(',')]
        except ValueError:
            raise OptionError(f'--optics: {word!r} is not KEY=NUMBER or KEY=LOW,HIGH') from None
        option[key] = numbers[0] if len(numbers) == 1 else numbers
    return Optics.from_option(option)


def read_names(path: str | None) -> list[str]:
    """Read names of photographs from a text file, one per line; # starts a comment. Raises DataError."""
    if path is None:
        return []
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: not a readable text file ({error})') from error
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def plan(arguments: argparse.Namespace) -> tuple[Job, list[str]]:
    """Return the job, and the photographs that are too small for it, with the reason. Raises OptionError or DataError.

    A part of a photograph needs its crop and `max_blur_radius` pixels on each side.
    """
    if not 0 <= arguments.hold_out_share < 1:
        raise OptionError(f'--hold-out-share must be at least 0 and below 1, not {arguments.hold_out_share}')
    leave_out = [*arguments.leave_out, *read_names(arguments.leave_out_file)]
    hold_out = [*arguments.hold_out, *read_names(arguments.hold_out_file)]
    names = {field.name for field in dataclasses.fields(Job)}
    job = Job(
        **{key: value for key, value in vars(arguments).items() if key in names - _RESOLVED},
        photos=tuple(arguments.photos) if arguments.photos else None,
        optics=parse_optics(arguments.optics or ([] if arguments.scenes == 'real' else None)),
        leave_out=tuple(leave_out),
        hold_out=tuple(hold_out),
    )
    if job.photos is None:
        if arguments.hold_out_share:
            raise OptionError('--hold-out-share needs --photos FOLDER')
        return job, []
    whole = dataclasses.replace(job, leave_out=(), hold_out=())
    photographs = [photo for photo in whole.dataset('train', 0).photographs if photo.name not in leave_out]
    held = {*hold_out, *held_out((photo.name for photo in photographs), arguments.hold_out_share)}
    skipped, reasons = [], []
    for photo in photographs:
        crop = job.val_crop if photo.name in held else job.crop
        margin = math.ceil(job.max_blur_radius)
        least, (height, width, _) = (crop + 2 * margin if crop else margin + 2), read_header(photo.path).shape
        if min(height, width) < least:
            skipped.append(photo.name)
            reasons.append(f'{photo.path}: {height}x{width} is smaller than {least}x{least}, crop and blur')
    kept_out = [*hold_out, *sorted(held - set(hold_out))]
    return dataclasses.replace(
        job,
        leave_out=(*leave_out, *skipped),
        hold_out=tuple(name for name in kept_out if name not in skipped),
    ), reasons


def run(arguments: argparse.Namespace) -> None:
    """Write the pairs, or print their number for a dry run. Raises OptionError or DataError."""
    if arguments.workers < 1:
        raise OptionError(f'--workers must be at least 1, not {arguments.workers}')
    job, skipped = plan(arguments)
    check_free(job.out)
    todo = places(job)
    if arguments.dry_run:
        photographs = {(place.split, place.photograph) for place in todo}
        for reason in skipped:
            print(f'skipped: {reason}')
        if job.hold_out:
            print(f'held out: {", ".join(job.hold_out)}')
        print(f'{len(todo)} pairs of {len(photographs)} photographs would be written to {job.out}')
        return
    for reason in skipped:
        print(f'make_synthetic: skipped {reason}', file=sys.stderr)
    count, out = synthesize(job, arguments.workers, progress=True), job.out
    if job.format == 'raw':
        print(f'{count} pairs in {out}: train on them with dataroot: {out}, split: train')
    else:
        folder = f'{out}/train' if job.hold_out else out
        print(
            f'{count} pairs in {out}: train on them with dataroot_lq: {folder}/input, dataroot_gt: '
            f'{folder}/ground_truth'
        )


def main(argv: Sequence[str] | None = None) -> int:
    return run_script(build_parser(), run, argv)


if __name__ == '__main__':
    sys.exit(main())
