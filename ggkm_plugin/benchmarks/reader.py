"""Training samples per second and their CPU time: BasicSR's reading against this package's, in one run.

Every measurement runs in a new process. Compared are BasicSR's data set with its own sampler and loader, and this
package's data set with those of `basicsr train`; crops, flips and batches are the same.
"""

import contextlib
import dataclasses
import io
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ggkm_plugin.benchmarks.processes import Failed, in_new_process
from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.lmdb_store import CODECS, key_of, write_lmdb
from ggkm_plugin.data.photographs import SharpPhotograph, builtin_photographs, load_photograph
from ggkm_plugin.report.tables import Table, fixed, write
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.files import size_text
from ggkm_plugin.utils.image_decoding import write_image

CROP = 256
BATCH = 4
WORKERS = (0, 2)

_SIDES = ('blurred', 'sharp')
# Untimed batches: two per worker, as many as a loader prefetches.
_WARM_UP = 4
_LEAST_BATCHES = 8
# Upper bound of the samples per second: it sets the length of an epoch, so that no measurement reaches its end.
_FASTEST = 5000


@dataclass(frozen=True)
class ReaderSettings:
    """Arguments: pairs of photographs and their size (H,W), seconds per measurement, work folder or None.

    The default size is DPDD's. Raises OptionError.
    """

    pairs: int = 16
    size: tuple[int, int] = (1120, 1680)
    seconds: float = 10
    work: str | None = None

    def __post_init__(self) -> None:
        if self.pairs < BATCH:
            raise OptionError(f'--pairs {self.pairs}: at least {BATCH}, one batch')
        if min(self.size) < CROP:
            height, width = self.size
            raise OptionError(f'--size {height}x{width}: at least {CROP}x{CROP}, one training crop')
        if not 0 < self.seconds < math.inf:
            raise OptionError(f'--seconds {self.seconds:g}: above 0')
        if self.work is not None and not os.path.isdir(self.work):
            raise OptionError(f'--work {self.work}: no such folder; make it first')


@dataclass(frozen=True)
class Reader:
    """A way to read. folder: holds all of its files. options: of the data set, with its type if it is another."""

    name: str
    folder: Path
    is_basicsr: bool
    options: dict[str, Any]

    @property
    def bytes_stored(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob('*') if path.is_file())


@dataclass(frozen=True)
class ReaderRow:
    """A reader with so many workers: samples per second, and seconds of CPU time per sample over all processes.

    failed: why a reader of BasicSR failed; it has no numbers then.
    """

    reader: str
    workers: int
    samples_per_second: float | None = None
    cpu_per_sample: float | None = None
    failed: str | None = None


@dataclass(frozen=True)
class ReaderReport:
    """Result of the benchmark. stored: bytes on the disk by reader."""

    settings: ReaderSettings
    stored: dict[str, int]
    rows: list[ReaderRow]

    def record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**dataclasses.asdict(self), 'bits': 16, 'crop': CROP, 'batch': BATCH}


def run(settings: ReaderSettings, progress: bool = False) -> ReaderReport:
    """Make the photographs, measure, and remove them. Raises DataError for a full disk or a failure of this package."""
    work = settings.work or tempfile.gettempdir()
    try:
        with tempfile.TemporaryDirectory(prefix='basicsr-bench-', dir=work) as folder:
            readers = make_readers(Path(folder), settings, progress)
            stored = {reader.name: reader.bytes_stored for reader in readers}
            return ReaderReport(settings, stored, _rows(readers, settings, progress))
    except OSError as error:
        raise DataError(f'{error.filename or work}: {error.strerror or error}') from error


def make_readers(folder: Path, settings: ReaderSettings, progress: bool = False) -> list[Reader]:
    """Write the pairs in all forms below `folder`. Ratios are to the first reader."""
    images = folder / 'images'
    names = [f'{number:04d}.png' for number in range(settings.pairs)]
    _write_photographs(images, names, settings.size, progress)
    for side in _SIDES:
        _write_basicsr_lmdb(images / side, folder / 'basicsr' / f'{side}.lmdb', names)
    files = {f'{side}/{key_of(name)}': f'{images}/{side}/{name}' for side in _SIDES for name in names}
    pairs = [Pair(*(f'{side}/{key_of(name)}' for side in _SIDES)) for name in names]
    for codec in CODECS:
        (folder / codec).mkdir()
        write_lmdb(str(folder / codec / 'train.lmdb'), files, pairs, codec, workers=len(os.sched_getaffinity(0)))
    folders, databases = (
        dict(zip(('dataroot_lq', 'dataroot_gt'), (str(path / f'{side}{end}') for side in _SIDES), strict=True))
        for path, end in ((images, ''), (folder / 'basicsr', '.lmdb'))
    )
    disk, lmdb = {'io_backend': {'type': 'disk'}}, {'io_backend': {'type': 'lmdb'}}
    return [
        Reader('BasicSR, PNG folders', images, True, {**folders, **disk}),
        Reader('BasicSR, its own LMDB', folder / 'basicsr', True, {**databases, **lmdb}),
        Reader('ggkm_plugin, PNG folders', images, False, {**folders, **disk}),
        *(
            Reader(f'ggkm_plugin, LMDB {codec}', folder / codec, False, {'dataroot': str(folder / codec), **lmdb})
            for codec in CODECS
        ),
    ]


def _write_photographs(folder: Path, names: Sequence[str], size: tuple[int, int], progress: bool) -> None:
    photographs = [*builtin_photographs('train'), *builtin_photographs('val')]

    def write(number: int) -> None:
        for side, image in zip(_SIDES, _pair(photographs[number % len(photographs)], size, number), strict=True):
            write_image(str(folder / side / names[number]), image)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        done = pool.map(write, range(len(names)))
        list(tqdm(done, desc='photographs', total=len(names), unit='pair', disable=not progress))


def _pair(photograph: SharpPhotograph, size: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return blurred and sharp part of a photograph, scaled to the size: RGB uint16."""
    rng = np.random.default_rng(seed)
    image, _ = load_photograph(photograph)
    height, width = size
    scale = max(height / image.shape[0], width / image.shape[1])
    image = cv2.resize(image, (math.ceil(scale * image.shape[1]), math.ceil(scale * image.shape[0])))
    top, left = rng.integers(image.shape[0] - height + 1), rng.integers(image.shape[1] - width + 1)
    sharp = np.ascontiguousarray(image[top : top + height, left : left + width])
    return _exposed(cv2.GaussianBlur(sharp, (0, 0), 5), rng), _exposed(sharp, rng)


def _exposed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convert to 16 bits with sensor noise of 60 to 150 steps; without noise the PNGs would be far too small."""
    noise = rng.standard_normal(image.shape, np.float32) * np.sqrt(np.float32(1e-6) + np.float32(4e-6) * image)
    return ((image + noise).clip(0, 1) * 65535).round().astype(np.uint16)


def _write_basicsr_lmdb(images: Path, database: Path, names: Sequence[str]) -> None:
    """Write a database with BasicSR's function; its output is suppressed."""
    from ggkm_plugin.utils import registry  # noqa: F401  (the import shims come before basicsr)

    from basicsr.utils.lmdb_util import make_lmdb_from_imgs  # isort: skip

    database.parent.mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        make_lmdb_from_imgs(str(images), str(database), list(names), [key_of(name) for name in names])


def _rows(readers: Sequence[Reader], settings: ReaderSettings, progress: bool) -> list[ReaderRow]:
    pairs = [(workers, reader) for workers in WORKERS for reader in readers]
    return [
        _measured(reader, workers, settings)
        for workers, reader in tqdm(pairs, 'readers', unit='row', disable=not progress)
    ]


def _measured(reader: Reader, workers: int, settings: ReaderSettings) -> ReaderRow:
    """Measure a reader. Raises DataError if one of this package fails."""
    try:
        numbers = in_new_process(read, reader, workers, settings.pairs, settings.seconds)
    except Failed as failure:
        if not reader.is_basicsr:
            raise DataError(f'{reader.name}, {workers} workers: {failure}') from failure
        return ReaderRow(reader.name, workers, failed=str(failure))
    return ReaderRow(reader.name, workers, *numbers)


def read(reader: Reader, workers: int, pairs: int, seconds: float) -> tuple[float, float]:
    """Return samples per second and CPU time per sample over at least so many seconds.

    A warm-up before also brings the files into the page cache.
    """
    logging.disable(logging.INFO)
    batches = iter(_loader(reader, workers, _FASTEST * (seconds + 1) / pairs))
    warm_up = max(_WARM_UP, math.ceil(pairs / BATCH))
    count = 0
    for _ in islice(batches, warm_up):
        pass
    began, cpu = time.monotonic(), time.process_time()
    for _ in batches:
        count += BATCH
        if count >= _LEAST_BATCHES * BATCH and time.monotonic() - began >= seconds:
            break
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    before = os.times()
    del batches  # ends the workers, whose whole time then counts as that of children
    after = os.times()
    children = after.children_user + after.children_system - before.children_user - before.children_system
    share = count / (count + warm_up * BATCH)
    return count / wall, (cpu + children * share) / count


def _loader(reader: Reader, workers: int, ratio: float) -> Iterable[Any]:
    """Return the loader of one epoch with `ratio` times as many samples as pairs."""
    opt = {
        'name': reader.name,
        'phase': 'train',
        'scale': 1,
        'gt_size': CROP,
        'use_hflip': True,
        'use_rot': True,
        'num_worker_per_gpu': workers,
        'batch_size_per_gpu': BATCH,
        'dataset_enlarge_ratio': ratio,
    }
    from ggkm_plugin.training import registrations  # noqa: F401

    if reader.is_basicsr:
        from basicsr.data import build_dataloader, build_dataset
        from basicsr.data.data_sampler import EnlargedSampler

        opt |= reader.options
        dataset = build_dataset({**opt, 'type': 'PairedImageDataset'})
        return build_dataloader(dataset, opt, num_gpu=0, sampler=EnlargedSampler(dataset, 1, 0, ratio), seed=0)
    from ggkm_plugin.basicsr_patches.data_loading import train_loader

    whole = {'manual_seed': 0, 'world_size': 1, 'rank': 0, 'num_gpu': 0, 'dist': False}
    # BasicSR's `use_rot` includes vertical flips.
    return train_loader(whole, {**opt, 'type': 'PairedDefocusDataset', 'use_vflip': True, **reader.options})


def table(report: ReaderReport) -> str:
    """Return the terminal table, with what its numbers mean below it."""
    header = ('reader', 'workers', 'samples/s', 'ratio', 'CPU ms a sample', 'ratio')
    base = {row.workers: row for row in reversed(report.rows)}  # the first reader
    rows = [
        (
            row.reader,
            str(row.workers),
            fixed(row.samples_per_second, 1),
            fixed(_ratio(row.samples_per_second, base[row.workers].samples_per_second), 2),
            fixed(row.cpu_per_sample, 2, 1e-3),
            fixed(_ratio(base[row.workers].cpu_per_sample, row.cpu_per_sample), 2),
        )
        for row in report.rows
    ]
    return write(Table(header, rows, notes=['', *_notes(report)]))


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _notes(report: ReaderReport) -> list[str]:
    settings = report.settings
    height, width = settings.size
    stored = ', '.join(f'{name} {size_text(size)}' for name, size in report.stored.items())
    return [
        f'sample: a pair of {CROP}x{CROP} crops, flipped and transposed at random, in batches of {BATCH}, out of '
        f'{settings.pairs} pairs of {height}x{width} at 16 bits. On the disk: {stored}.',
        'BasicSR: PairedImageDataset of 1.4.2, unchanged, which returns 8 of the 16 bits that it reads. ggkm_plugin: '
        'PairedDefocusDataset as `basicsr train` loads it, all 16 bits.',
        f'samples/s: at least {settings.seconds:g} s after a warm-up, files in the page cache. ratios: to BasicSR, PNG '
        'folders with as many workers.',
        *(f'{row.reader}, {row.workers} workers: {row.failed}' for row in report.rows if row.failed),
    ]
