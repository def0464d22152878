"""Training samples of synthetic defocus per second: made on the fly, or made once and read.

The reference is a training step of `STEP` seconds on a GPU, for a batch of `reader.BATCH`.
"""

import dataclasses
import math
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ggkm_plugin.benchmarks.measuring import Failed
from ggkm_plugin.benchmarks.reader import BATCH, WORKERS, Reader, ReaderSettings, Reading, watch
from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.data.synthesis import Job, synthesise
from ggkm_plugin.report.tables import Table, fixed, write
from ggkm_plugin.utils.errors import DataError

STEP = 0.010
CROP = 160  # as in options/train_GGKMNet_synthetic.yml, like the next two
STORED = 192
MAX_BLUR_RADIUS = 12


@dataclass(frozen=True)
class SynthesisRow:
    """A source of samples with so many workers. steps: number of trainings that it feeds at once."""

    reader: str
    workers: int
    samples_per_second: float

    @property
    def steps(self) -> float:
        return self.samples_per_second * STEP / BATCH


@dataclass(frozen=True)
class SynthesisReport:
    """Result: `made` pairs of STORED x STORED in `making_seconds` by `processes`, written as a database."""

    made: int
    making_seconds: float
    processes: int
    seconds: float
    rows: list[SynthesisRow]

    def record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        constants = {'crop': CROP, 'batch': BATCH, 'stored': STORED, 'max_blur_radius': MAX_BLUR_RADIUS, 'step': STEP}
        rows = [{**dataclasses.asdict(row), 'steps': row.steps} for row in self.rows]
        return {**dataclasses.asdict(self), **constants, 'rows': rows}


def run(settings: ReaderSettings, progress: bool = False) -> SynthesisReport:
    """Make pairs of the photographs inside scikit-image, measure, and remove them. Raises DataError."""
    photographs = len(builtin_photographs('train'))
    processes = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix='basicsr-bench-', dir=settings.work) as folder:
        job = Job(
            f'{folder}/pairs',
            scenes='varied',
            count=math.ceil(settings.pairs / photographs),
            crop=STORED,
            max_blur_radius=MAX_BLUR_RADIUS,
            format='raw',
        )
        began = time.monotonic()
        made = synthesise(job, processes, progress)
        making = time.monotonic() - began
        return SynthesisReport(
            made, making, processes, settings.seconds, _rows(Path(folder), job.out, made, settings, progress)
        )


def _rows(folder: Path, pairs: str, made: int, settings: ReaderSettings, progress: bool) -> list[SynthesisRow]:
    nothing = folder / 'nothing'  # is read from the disk
    nothing.mkdir()
    anew = {'type': 'SyntheticDefocusDataset', 'max_blur_radius': MAX_BLUR_RADIUS, 'gt_size': CROP}
    photographs = len(builtin_photographs('train'))
    readers = [
        (Reader('plain scenes, made on the fly', nothing, False, {**anew, 'scenes': 'plain'}), photographs),
        (Reader('varied scenes, made on the fly', nothing, False, {**anew, 'scenes': 'varied'}), photographs),
        (Reader('varied scenes, LMDB raw', Path(pairs), False, {'dataroot': pairs, 'gt_size': CROP}), made),
    ]
    rows = []
    with tqdm(total=len(WORKERS) * len(readers), unit='row', disable=not progress) as bar:
        for workers in WORKERS:
            for reader, length in readers:
                bar.set_description(f'{reader.name}, {workers} workers')
                try:
                    reading: Reading = watch(reader, workers, length, settings.seconds).result
                except Failed as failure:
                    raise DataError(f'{reader.name}, {workers} workers: {failure}') from failure
                rows.append(SynthesisRow(reader.name, workers, reading.rate))
                bar.update()
    return rows


def table(report: SynthesisReport) -> str:
    """Return the terminal table, with what its numbers mean below it."""
    rows = [
        (row.reader, str(row.workers), fixed(row.samples_per_second, 1), fixed(row.steps, 2)) for row in report.rows
    ]
    notes = [
        '',
        f'sample: a pair of {CROP}x{CROP} in a batch of {BATCH}, loaded as in `basicsr train`; blur of at most '
        f'{MAX_BLUR_RADIUS} px. At least {report.seconds:g} s after a warm-up, files in the page cache.',
        f'steps: trainings that this feeds if a step takes {1000 * STEP:.0f} ms; below 1 a GPU of that speed waits.',
        f'made once: {report.made} pairs of {STORED}x{STORED} in {report.making_seconds:.1f} s by at most '
        f'{report.processes} processes, including their start and the writing of the database.',
    ]
    return write(Table(('samples', 'workers', 'samples/s', 'steps'), rows, notes=notes))
