"""Pairs of `SyntheticDefocusDataset`, written as folders of PNG or as raw LMDB by several processes.

Every pair depends on (seed, scene, photograph) only, not on the number of processes.
"""

import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from ggkm_plugin.basicsr_patches.sampler import SampleIndex
from ggkm_plugin.data import layouts
from ggkm_plugin.data.lmdb_store import write_lmdb
from ggkm_plugin.data.real_scenes import Optics
from ggkm_plugin.data.synthetic_defocus_dataset import SyntheticDefocusDataset
from ggkm_plugin.utils.errors import DataError, OptionError, listed
from ggkm_plugin.utils.files import new_folder, writing_into
from ggkm_plugin.utils.image_decoding import write_image

FORMATS = ('folder', 'raw')
SIDES = ('input', 'ground_truth')

# A process takes seconds to start, so each must have at least this many pairs.
_PAIRS_PER_PROCESS = 64
_CHUNK = 8


@dataclass(frozen=True)
class Job:
    """Options of a set of pairs.

    scenes, optics, max_blur_radius, noise_std, photos, builtin, leave_out: see `SyntheticDefocusDataset` (photos:
    dataroot_gt).
    count: scenes of each photograph. crop: side of the random part of it that a scene shows; None for all of it.
    hold_out: names of photographs for a separate split `val`, `val_count` scenes each: whole ones, or
        random parts of side `val_crop`, never entirely in focus.
    format: folder, two folders of PNG in OUT, or in OUT/train and OUT/val where some are held out; or raw, a database
        for each split, OUT/train.lmdb and OUT/val.lmdb.

    Raises OptionError for values out of range.
    """

    out: str
    photos: tuple[str, ...] | None = None
    builtin: bool = False
    leave_out: tuple[str, ...] = ()
    hold_out: tuple[str, ...] = ()
    scenes: str = 'plain'
    optics: Optics | None = None
    count: int = 1
    val_count: int = 1
    crop: int | None = None
    val_crop: int | None = None
    max_blur_radius: float = 4.0
    noise_std: float = 0.0
    seed: int = 0
    format: str = 'folder'

    def __post_init__(self) -> None:
        for option, value, least in (
            ('count', self.count, 1),
            ('val-count', self.val_count, 1),
            ('seed', self.seed, 0),
            ('crop', self.crop, 16),
            ('val-crop', self.val_crop, 16),
        ):
            if value is not None and value < least:
                raise OptionError(f'--{option} must be at least {least}, not {value}')
        if self.photos is None and (self.hold_out or self.leave_out):
            raise OptionError('--hold-out and --leave-out need --photos FOLDER')

    @property
    def splits(self) -> list[str]:
        return ['train', 'val'] if self.hold_out else ['train']

    def dataset(self, split: str, scene: int) -> SyntheticDefocusDataset:
        """Return the data set whose samples are the pairs of one scene number. Raises as that does."""
        held_out = split == 'val'
        crop, optics = (self.val_crop if held_out else self.crop), self.optics
        if held_out and self.scenes == 'real':  # the PSNR of an input that is in focus has no upper bound
            optics = replace(optics or Optics(), sharp_prob=0.0)
        options: dict[str, Any] = {
            'phase': 'train' if crop else 'test',
            'dataroot_gt': None if self.photos is None else list(self.photos),
            'builtin': self.builtin,
            'leave_out': [] if held_out else [*self.leave_out, *self.hold_out],
            'photographs': list(self.hold_out) if held_out else None,
            'scenes': self.scenes,
            'optics': None if optics is None else asdict(optics),
            'gt_size': crop,
            'max_blur_radius': self.max_blur_radius,
            'noise_std': self.noise_std,
            'noise_clip': True,
            # not seed + scene: sets with adjacent seeds would share scenes
            'seed': int(np.random.default_rng([self.seed, scene]).integers(2**62)),
        }
        return SyntheticDefocusDataset(options)


class _Place(NamedTuple):
    """A pair to render."""

    split: str
    scene: int
    photograph: int  # its index in the split
    name: str


def places(job: Job) -> list[_Place]:
    """List the pairs of a job and check its options. Raises OptionError or DataError."""
    found = []
    for split in job.splits:
        names = [photo.name for photo in job.dataset(split, 0).photographs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise DataError(f'--photos: several photographs of one name: {listed(repeated)}. Rename all but one')
        scenes = job.val_count if split == 'val' else job.count
        found += [
            _Place(split, scene, index, f'{name}_{scene:03d}')
            for index, name in enumerate(names)
            for scene in range(scenes)
        ]
    return found


def check_free(out: str) -> None:
    """Raise DataError if the output folder exists and is not empty."""
    path = Path(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f'{out}: exists. Name a new folder')


def synthesize(job: Job, workers: int = 1, progress: bool = False) -> int:
    """Write the pairs and return their number. The folder appears when it is complete.

    Raises OptionError or DataError; then nothing is left behind.
    """
    check_free(job.out)
    todo = places(job)
    with writing_into(job.out, 'OUT'), new_folder(job.out) as folder:
        for _ in tqdm(_made(job, folder, todo, workers), total=len(todo), unit='pair', disable=not progress):
            pass
        if job.format == 'raw':
            for split in job.splits:
                _convert(job, folder, [place for place in todo if place.split == split], workers, progress)
    return len(todo)


def _file(job: Job, folder: Path, place: _Place, side: str) -> Path:
    folder = folder / place.split if job.hold_out or job.format == 'raw' else folder
    return folder / side / f'{place.name}.png'


def _made(job: Job, folder: Path, todo: list[_Place], workers: int) -> Iterator[None]:
    """Yield once for each pair that is written."""
    workers = min(workers, len(todo) // _PAIRS_PER_PROCESS)
    if workers < 2:
        for place in todo:
            _make(job, folder, place)
            yield
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _one_thread) as pool:
        count = len(todo)
        try:
            yield from pool.map(_make, [job] * count, [folder] * count, todo, chunksize=_CHUNK)
        finally:
            pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    cv2.setNumThreads(1)  # one process per core


# Pairs are ordered by photograph, and each scene number has a data set.
_dataset = lru_cache(maxsize=4096)(Job.dataset)


def _make(job: Job, folder: Path, place: _Place) -> None:
    sample: dict[str, Any] = _dataset(job, place.split, place.scene)[SampleIndex(place.photograph, 0, place.photograph)]
    for side, key in zip(SIDES, ('lq', 'gt'), strict=True):
        image = (sample[key].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
        write_image(str(_file(job, folder, place, side)), image)


def _convert(job: Job, folder: Path, todo: list[_Place], workers: int, progress: bool) -> None:
    """Replace the folders of a split by a database."""
    split = folder / todo[0].split
    files = {f'{side}/{place.name}': str(_file(job, folder, place, side)) for place in todo for side in SIDES}
    pairs = [layouts.Pair(*(f'{side}/{place.name}' for side in SIDES)) for place in todo]
    about = {'synthetic': {key: value for key, value in asdict(job).items() if key not in ('out', 'photos')}}
    write_lmdb(f'{split}.lmdb', files, pairs, 'raw', workers=workers, progress=progress, about=about)
    shutil.rmtree(split)
