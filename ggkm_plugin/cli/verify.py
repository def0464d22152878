"""`basicsr verify`: check a benchmark on disk and score its blurred images."""

import argparse
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from ggkm_plugin.cli.output import check_json, write_json
from ggkm_plugin.utils.errors import OptionError

if TYPE_CHECKING:
    from ggkm_plugin.data.verification import SplitReport, VerificationReport

HELP = 'check a benchmark on disk, folders or LMDB, and score its blurred images (the "Input" row)'
INTERRUPTED = '; nothing was written'

# A worker takes up to 0.7 GB for a pair of DPDD.
_MAX_WORKERS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = 'Exit codes: 0 sound, 1 faults, 2 wrong usage.'
    parser.add_argument('dataroot', metavar='DATAROOT', help='folder that the data set was unpacked or prepared into')
    parser.add_argument(
        '--set', default='auto', metavar='NAME', help='DPDD, LFDOF, RealDOF, RTF or CUHK (default: detected)'
    )
    parser.add_argument(
        '--split',
        action='append',
        default=[],
        help='train, val or test; repeatable (default: all; scores only of those with published scores)',
    )
    parser.add_argument(
        '--protocol',
        metavar='NAME',
        help='evaluation protocol of the scores (default: dpdnet for DPDD, restormer for the others)',
    )
    parser.add_argument('--no-scores', action='store_true', help='skip PSNR and SSIM, which take most of the time')
    parser.add_argument(
        '--max-shift', type=float, default=0.75, metavar='PX', help='shift of a sound pair (default: %(default)s)'
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=min(os.cpu_count() or 1, _MAX_WORKERS),
        metavar='N',
        help=f'processes (default: number of cores, at most {_MAX_WORKERS})',
    )
    parser.add_argument('--json', metavar='FILE', help='write the whole report, with a record of every pair')


def run(arguments: argparse.Namespace) -> int:
    if arguments.workers < 0:
        raise OptionError(f'--workers: must be at least 0, not {arguments.workers}')
    if not arguments.max_shift >= 0:
        raise OptionError(f'--max-shift: must be 0 pixels or more, not {arguments.max_shift}')
    check_json(arguments.json)
    from ggkm_plugin.data.layouts import LAYOUTS
    from ggkm_plugin.data.verification import verify
    from ggkm_plugin.evaluation.paper import INPUT_ROWS
    from ggkm_plugin.metrics.protocols import PROTOCOLS

    for option, value, known in (('--set', arguments.set, LAYOUTS), ('--protocol', arguments.protocol, PROTOCOLS)):
        if value not in (None, 'auto', *known):
            raise OptionError(f'{option}: must be one of {", ".join(known)}, not "{value}"')

    report = verify(
        arguments.dataroot,
        layout=arguments.set,
        splits=arguments.split,
        protocol=arguments.protocol,
        scores=not arguments.no_scores,
        max_shift=arguments.max_shift,
        workers=arguments.workers,
        progress=True,
        input_rows=INPUT_ROWS,
    )
    for line in report_lines(report):
        print(line)
    write_json(arguments.json, asdict(report))
    return 1 if report.faults else 0


def report_lines(report: 'VerificationReport') -> Iterator[str]:
    """Format a report: each split, then all warnings and faults."""
    yield f'{report.layout} in {report.dataroot}'
    for split in report.splits:
        yield from _split_lines(split, report.protocol)
    for kind in ('warnings', 'faults'):
        lines = getattr(report, kind)
        if lines:
            yield f'{len(lines)} {kind if len(lines) > 1 else kind[:-1]}:'
            yield from (f'  {line}' for line in lines)
    if not report.faults:
        yield 'no fault'


def _split_lines(split: 'SplitReport', protocol: str | None) -> Iterator[str]:
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
    """Format counts, most frequent first: `16 (76), 8 (2)`; without the count if there is one value only."""
    if len(counts) == 1:
        return str(next(iter(counts)))
    return (
        ', '.join(f'{value} ({count})' for value, count in sorted(counts.items(), key=lambda item: -item[1])) or 'none'
    )
