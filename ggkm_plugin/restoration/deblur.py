"""`basicsr deblur`: from the command line's request to the results."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from ggkm_plugin.restoration import batch, tiling
from ggkm_plugin.restoration.batch import Make, Outcome, Restore, Tell
from ggkm_plugin.restoration.jobs import BEFORE_AFTER, DeblurJob, Skipped, plan
from ggkm_plugin.restoration.load import load_network, parse_network
from ggkm_plugin.restoration.onnx_restorer import OnnxRestorer, is_onnx
from ggkm_plugin.restoration.restorer import ImageRestorer, Restorer
from ggkm_plugin.restoration.strength import LARGEST
from ggkm_plugin.utils import plugins
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.devices import find_device
from ggkm_plugin.utils.errors import OptionError, UserError, listed
from ggkm_plugin.utils.memory import free_bytes
from ggkm_plugin.weights import NOTICE, checkpoint_path

SUFFIX = '_deblurred'

# Seconds between lines about one photograph where there is no terminal.
_LINE_SECONDS = 60

# Of a CPU: more threads than this gain little on one photograph, which takes up to this many bytes.
_THREADS, _BYTES = 4, 6 << 30


@dataclass(frozen=True)
class DeblurRequest:
    """Arguments of `basicsr deblur`, see its help."""

    inputs: Sequence[str]
    out: str | None = None
    weights: str | None = None
    method: str | None = None
    tile: str = 'auto'
    half: bool = False
    device: str = 'auto'
    jobs: int | None = None
    suffix: str = SUFFIX
    recursive: bool = False
    overwrite: bool = False
    compare: bool = False
    skip_existing: bool = False
    plugins: Sequence[str] = ()
    arch: str | None = None
    strength: float = 1.0
    mask: str | None = None
    blur_map: bool = False


@dataclass(frozen=True)
class Deblurred:
    """Outcomes of a batch in the order in which they came, files left out, and the folder of --compare."""

    outcomes: list[Outcome]
    skipped: list[Skipped]
    folder: Path | None = None

    @property
    def faults(self) -> list[str]:
        """Messages of the jobs that failed."""
        return [outcome.fault for outcome in self.outcomes if outcome.fault]

    @property
    def done(self) -> list[DeblurJob]:
        """Jobs with a result."""
        return [outcome.job for outcome in self.outcomes if not outcome.fault and not outcome.skipped]

    @property
    def pairs(self) -> list[tuple[str, str, str]]:
        """Name, picture before and picture after of each result, for the page of --compare."""
        jobs = self.done
        top = os.path.commonpath([Path(job.source).absolute().parent for job in jobs]) if jobs else ''
        pairs = [(os.path.relpath(job.source, top), *job.pictures) for job in jobs if job.pictures]
        return sorted(pairs, key=lambda pair: pair[1])

    def summary(self) -> list[str]:
        """Return lines with the numbers of results, skipped files with the reasons, and failures."""
        skipped = self.skipped + [Skipped(out.job.source, out.skipped) for out in self.outcomes if out.skipped]
        reasons: dict[str, list[str]] = {}
        for item in skipped:
            reasons.setdefault(item.reason, []).append(item.source)
        return [
            f'{len(self.done)} done, {len(skipped)} skipped, {len(self.faults)} failed',
            *(f'  skipped {listed(names)}: {reason}' for reason, names in reasons.items()),
        ]


class DeblurError(UserError):
    """Some photographs could not be deblurred; the others have results."""


def deblur(request: DeblurRequest) -> Deblurred:
    """Deblur, with results on stdout, progress and a summary on stderr. Plugins are loaded.

    Raises OptionError or CheckpointError before anything is written; what fails later is in the outcomes.
    """
    if request.skip_existing and request.overwrite:
        raise OptionError('--skip-existing and --overwrite: use one of them')
    if not 0 <= request.strength <= LARGEST:
        raise OptionError(f'--strength {request.strength:g}: a number from 0 to {LARGEST:g}')
    adjusted = request.strength, request.mask, request.blur_map
    jobs, skipped = plan(request.inputs, request.out, request.suffix, request.recursive, *adjusted)
    make = _maker(request)
    if request.skip_existing:
        jobs = [replace(job, kept=tuple(filter(os.path.lexists, job.results))) for job in jobs]
        skipped += [Skipped(job.source, 'its result exists') for job in jobs if len(job.kept) == len(job.results)]
        jobs = [job for job in jobs if len(job.kept) < len(job.results)]
    deblurred = _run(request, jobs, skipped, make) if jobs else Deblurred([], skipped)
    if len(deblurred.outcomes) + len(skipped) > 1:
        for line in deblurred.summary():
            print(line if line.startswith(' ') else f'basicsr deblur: {line}', file=sys.stderr)
    return deblurred


def _run(request: DeblurRequest, jobs: list[DeblurJob], skipped: list[Skipped], make: Make) -> Deblurred:
    devices = _devices(request, len(jobs))
    folder = _folder_of_pictures(request, jobs) if request.compare else None
    if request.weights is None and request.method is None:
        print(f'basicsr deblur: {NOTICE}', file=sys.stderr)
    if folder:
        jobs = [replace(job, pictures=_pictures(folder, index)) for index, job in enumerate(jobs, start=1)]
    if len(devices) > 1 and request.method is None:  # else each process would find it out for itself
        load_network(request.weights, _network(request))
    threads = max(1, torch.get_num_threads() // len(devices))
    outcomes = []
    with _Progress([job.source for job in jobs], tiles=len(devices) == 1) as progress:
        work = batch.run(jobs, make, devices, threads, request.overwrite, progress.tell)
        with closing(work):  # type: ignore[type-var]
            for outcome in work:
                outcomes.append(outcome)
                progress.done(outcome)
    return Deblurred(outcomes, skipped, folder)


def check(deblurred: Deblurred) -> None:
    """Raise DeblurError that lists the failures, if there are any."""
    faults = deblurred.faults
    if faults:
        several = f'{len(faults)} of {len(deblurred.outcomes)} photographs were not deblurred:'
        raise DeblurError(faults[0] if len(deblurred.outcomes) == 1 else '\n  '.join([several, *faults]))


def _maker(request: DeblurRequest) -> Make:
    """Return what makes a Restore in each process.

    Raises OptionError or CheckpointError for what no process could use.
    """
    method, onnx = request.method is not None, is_onnx(request.weights)
    for_networks = {
        '--weights': method and request.weights is not None,
        '--arch': request.arch is not None,
        '--tile': request.tile not in ('auto', 'none'),
        '--half': request.half,
        '--blur-map': request.blur_map,
    }
    if method or onnx:
        instead = f'--method {request.method}' if method else request.weights
        for argument, given in for_networks.items():
            if given:
                raise OptionError(f'{argument} is for PyTorch networks; leave it out, or leave out {instead}')
    if request.method is not None:
        from ggkm_plugin.restoration.classical import chosen_method  # imports SciPy, which takes time

        chosen_method(request.method)
    elif onnx:
        OnnxRestorer(str(request.weights), request.device)
    else:
        _tile(request.tile)
        find_device(request.device)
        checkpoint_path(request.weights)
        _network(request)
    return partial(_restorer, request)


def _network(request: DeblurRequest) -> Options | None:
    return parse_network(request.arch) if request.arch else None


def _restorer(request: DeblurRequest, device: str, tell: Tell) -> Restore:
    restorer: ImageRestorer
    if request.method is not None:
        from ggkm_plugin.restoration.classical import MethodRestorer, chosen_method

        restorer = MethodRestorer(chosen_method(request.method), tell)
    elif is_onnx(request.weights):
        restorer = OnnxRestorer(str(request.weights), request.device)
    else:
        plugins.load_local(list(request.plugins))
        dtype = _half(find_device(device)) if request.half else torch.float32
        tile, network = _tile(request.tile), _network(request)
        restorer = Restorer(checkpoint_path(request.weights), device, tile, dtype, tell, network, progress=tell)
        if request.blur_map and not restorer.estimates_blur:
            raise OptionError(f'--blur-map: {restorer.name} estimates no blur radius. Leave it out')
    if request.strength not in (0, 1) and not restorer.estimates_blur:
        tell(f'{restorer.name} estimates no blur radius: --strength depends on the change of each pixel')
    return restorer


def _half(device: torch.device) -> torch.dtype:
    """Choose bfloat16, which cannot overflow, or float16 on GPUs without it."""
    old = device.type == 'cuda' and torch.cuda.get_device_capability(device) < (8, 0)
    return torch.float16 if old else torch.bfloat16


def _tile(text: str) -> tiling.Tile:
    try:
        return tiling.parse_tile(text)
    except OptionError:
        raise OptionError(f'--tile {text}: auto, none, or a whole number of pixels from {tiling.SMALLEST} on') from None


def _devices(request: DeblurRequest, photographs: int) -> list[str]:
    """Choose a device for each process: one per GPU; on a CPU as many as threads and memory allow."""
    if request.jobs is not None and request.jobs < 1:
        raise OptionError(f'--jobs {request.jobs}: at least 1')
    whole = request.method is not None or is_onnx(request.weights)
    device = find_device('cpu' if whole else request.device)
    if whole:
        there, count = ['cpu'], 1  # which works on all processors
    elif device.type != 'cpu':
        every = request.device in ('auto', 'cuda')
        there = [f'cuda:{index}' for index in range(torch.cuda.device_count())] if every else [request.device]
        count = len(there)
    else:
        there = ['cpu']
        free = free_bytes(device)
        count = min(torch.get_num_threads() // _THREADS, photographs if free is None else free // _BYTES)
    count = max(1, min(request.jobs or count, photographs))
    return [there[index % len(there)] for index in range(count)]


def _folder_of_pictures(request: DeblurRequest, jobs: Sequence[DeblurJob]) -> Path:
    """Choose the folder of --compare, beside the results. Raises OptionError if it must not be written."""
    if request.out is not None and len(jobs) > 1:
        parent = Path(request.out)
    else:
        parent = Path(os.path.commonpath([Path(job.output).absolute().parent for job in jobs]))
    folder = parent / (f'{Path(jobs[0].output).stem}_{BEFORE_AFTER}' if len(jobs) == 1 else BEFORE_AFTER)
    if (folder / 'index.html').exists() and not request.overwrite:  # without it, it is of a run that was interrupted
        raise OptionError(f'{folder}: exists already. Use --overwrite')
    inside = folder.resolve()
    for job in jobs:
        if inside in Path(job.source).resolve().parents:
            raise OptionError(f'{job.source}: lies in {folder}, which --compare writes; choose another --out')
    return folder


def _pictures(folder: Path, index: int) -> tuple[str, str]:
    return str(folder / f'images/{index:04d}_before.jpg'), str(folder / f'images/{index:04d}_after.jpg')


class _Progress:
    """Progress on stderr: a bar on a terminal; elsewhere a line a minute, and one for each photograph.

    tiles: whether to show the tiles of the photograph at work, which is known if there is one at a time.
    """

    def __init__(self, names: list[str], tiles: bool) -> None:
        self._names, self._tiles, self._count = names, tiles, 0
        self._bar = tqdm(
            total=len(names), dynamic_ncols=True, disable=None, delay=0.5, leave=len(names) > 1, smoothing=0,
            bar_format='{l_bar}{bar}| [{elapsed}<{remaining}]',
        )  # fmt: skip
        self._start = self._last = time.monotonic()

    def __enter__(self) -> '_Progress':
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def tell(self, message: str | tiling.TileProgress) -> None:
        if isinstance(message, str):
            tqdm.write(f'basicsr deblur: {message}', file=sys.stderr)
        elif self._tiles:
            self._show_tiles(message)

    def _show_tiles(self, progress: tiling.TileProgress) -> None:
        name, now = self._names[self._count], time.monotonic()
        tile = f', tile {progress.done} of {progress.total}' if progress.total > 1 else ''
        self._bar.set_description(f'{Path(name).name}{tile}', refresh=False)
        self._bar.update(self._count + progress.share - self._bar.n)
        if progress.done == 0:
            self._start = self._last = now
        elif self._bar.disable and progress.share < 1 and now - self._last >= _LINE_SECONDS:
            self._last = now
            left = tqdm.format_interval((now - self._start) * (1 / progress.share - 1))
            self.tell(f'{name}: {progress.share:.0%}{tile}, {left} left')

    def done(self, outcome: Outcome) -> None:
        self._count += 1
        self._bar.update(self._count - self._bar.n)
        job, total = outcome.job, len(self._names)
        where = '' if total == 1 else f'{self._count} of {total}: '
        if outcome.fault:
            if total > 1:  # else it is the last line, which the command prints
                tqdm.write(f'{where}{outcome.fault}', file=sys.stderr)
        elif outcome.skipped:
            tqdm.write(f'{where}{job.source}: skipped, {outcome.skipped}', file=sys.stderr)
        else:
            height, width = outcome.size
            tqdm.write(f'{where}{job.output} ({width}x{height}, {outcome.seconds:.1f} s)', file=sys.stdout)
            if outcome.lost:
                tqdm.write(f'{job.output}: without {", ".join(outcome.lost)}', file=sys.stderr)
