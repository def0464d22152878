"""Check a benchmark on disk, folders or LMDB, and score its blurred images (its "Input" row).

python -m ggkm_plugin.datasets_prep.verify DATAROOT [--set SET] [--split SPLIT ...] [--protocol NAME] [--json FILE]
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ggkm_plugin.data.layouts import LAYOUTS
from ggkm_plugin.data.verification import MAX_SHIFT, Report, SplitReport, as_json, verify
from ggkm_plugin.metrics.protocols import PROTOCOLS
from ggkm_plugin.utils.errors import DataError, OptionError, UserError
from ggkm_plugin.utils.files import write_whole

# Each may take 0.7 GB for a pair of DPDD.
_MOST_WORKERS = 8


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='verify', description=__doc__.split('\n')[0], epilog='exit code: 0 sound, 1 faults, 2 wrong usage'
    )
    parser.add_argument('dataroot', metavar='DATAROOT', help='the folder that the set was unpacked or prepared into')
    parser.add_argument('--set', choices=['auto', *LAYOUTS], default='auto', help='which it is (default: auto)')
    parser.add_argument(
        '--split',
        action='append',
        default=[],
        help='train, val or test; repeatable (default: all, scores of those with published ones only)',
    )
    parser.add_argument(
        '--protocol', choices=PROTOCOLS, help='of the scores (default: dpdnet for DPDD, restormer for the others)'
    )
    parser.add_argument('--no-scores', action='store_true', help='leave out PSNR and SSIM, which take most of the time')
    parser.add_argument(
        '--max-shift', type=float, default=MAX_SHIFT, metavar='PX', help=f'of a sound pair (default: {MAX_SHIFT})'
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=min(os.cpu_count() or 1, _MOST_WORKERS),
        metavar='N',
        help=f'processes (default: the number of cores, at most {_MOST_WORKERS})',
    )
    parser.add_argument('--json', metavar='FILE', help='write the whole report, with a record of every pair')
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Check, print what was found, write the JSON file. Raises OptionError on numbers or a file that make no sense."""
    if arguments.workers < 0:
        raise OptionError(f'--workers is at least 0, not {arguments.workers}')
    if not arguments.max_shift >= 0:
        raise OptionError(f'--max-shift is a number of pixels, 0 or more, not {arguments.max_shift}')
    if arguments.json:  # told now, not in an hour
        target = Path(arguments.json).absolute()
        if not target.parent.is_dir():
            raise OptionError(f'--json {arguments.json}: no such folder; make it first')
        if target.is_dir():
            raise OptionError(f'--json {arguments.json}: a folder; name a file')
        if not os.access(target.parent, os.W_OK):
            raise OptionError(f'--json {arguments.json}: cannot be written; choose another folder')
    report = verify(
        arguments.dataroot,
        arguments.set,
        arguments.split,
        arguments.protocol,
        not arguments.no_scores,
        arguments.max_shift,
        arguments.workers,
        progress=True,
    )
    for line in report_lines(report):
        print(line)
    if arguments.json:
        _write_json(arguments.json, report)
    return report


def report_lines(report: Report) -> Iterator[str]:
    """The report for people: each split, then notes, warnings and faults, every one of them."""
    yield f'{report.layout} in {report.dataroot}'
    for split in report.splits:
        yield from _split_lines(split, report.protocol)
    for kind in ('notes', 'warnings', 'faults'):
        found = getattr(report, kind)
        if found:
            yield f'{len(found)} {kind if len(found) > 1 else kind[:-1]}:'
            yield from (f'  {line}' for line in found)
    if not report.faults:
        yield 'no fault'


def _split_lines(split: SplitReport, protocol: str | None) -> Iterator[str]:
    published = '' if split.published is None else f' of {split.published} published'
    scenes = f', {split.scenes} sharp ones' if split.scenes else ', no sharp ones'
    yield f'{split.split}: {split.images} images{published}{scenes}, in {split.place}'
    yield f'  size: {_counted(split.sizes)}; bits: {_counted(split.bit_depths)}'
    if split.largest_shift is not None:
        yield f'  largest shift of a pair: {split.largest_shift:.2f} px'
    for part, row in split.rows.items():
        line = f'  Input, {part}: {row.psnr:.3f} dB / {row.ssim:.3f} ({protocol}, {row.pairs} pairs)'
        if part == 'all' and split.published_rows:
            line += '; published: ' + ' or '.join(f'{psnr:.3f} dB / {ssim:.3f}' for psnr, ssim in split.published_rows)
        yield line


def _counted(counts: dict) -> str:
    """What there is most of, first: `16 (76), 8 (2)`; without the number where all are alike."""
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ', '.join(f'{what} ({count})' for what, count in sorted(counts.items(), key=lambda item: -item[1])) or 'none'


def _write_json(path: str, report: Report) -> None:
    """Complete or not at all. Raises DataError if it cannot be written."""
    try:
        write_whole(Path(path).absolute(), json.dumps(as_json(report), indent=1, allow_nan=False) + '\n')
    except OSError as error:
        raise DataError(f'{path}: {error.strerror or error}') from error


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        report = run(arguments)
    except UserError as error:
        print(f'verify: {error}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print('verify: interrupted; nothing was written', file=sys.stderr)
        return 1
    return 1 if report.faults else 0


if __name__ == '__main__':
    sys.exit(main())
