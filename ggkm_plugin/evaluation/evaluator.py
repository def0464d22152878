"""Runs every network on every image, shared out over processes, and goes on where an earlier run ended."""

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ggkm_plugin import __version__
from ggkm_plugin.basicsr_patches.distributed import from_first, gathered, rank_and_size
from ggkm_plugin.data.layouts import mask_of
from ggkm_plugin.evaluation.cache import Cache, ResultsError, check_writable, write_picture
from ggkm_plugin.evaluation.compare_config import BLUR_MAP, BLUR_MASK, Comparison, Entry, Images, MethodEntry, Metric
from ggkm_plugin.evaluation.complexity import PAPER_SIZE
from ggkm_plugin.evaluation.contestants import Contestant, Tell
from ggkm_plugin.evaluation.methods import MethodContestant
from ggkm_plugin.evaluation.networks import NetworkContestant, chosen_device
from ggkm_plugin.evaluation.sizing import scored, shown, sized
from ggkm_plugin.metrics.perceptual import find_trunk
from ggkm_plugin.report.pictures import to_uint8
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.devices import device_name
from ggkm_plugin.utils.errors import DataError, UserError
from ggkm_plugin.utils.hashing import code_digest, file_digest, tensor_digest
from ggkm_plugin.utils.image_decoding import decode_image, read_bytes
from ggkm_plugin.utils.registry import METRIC_REGISTRY

Scores = dict[str, float]

# Timed runs of a network at 1280x720, which takes a minute on some processors.
_REPEATS = {'cuda': 5, 'cpu': 1}


@dataclass
class Seen:
    """What came of one image. Names are those of the models, and `input` for the blurred image itself.

    scene: the same for images of one ground truth. files: pictures, below the results' folder; where there is nothing
    to score, also `NAME blur map` and, if the data set has one, `blur mask`. faults: why a model has no result here.
    """

    index: int
    name: str
    size: tuple[int, int]  # (H,W) of the pictures
    scene: str
    files: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


@dataclass
class DatasetSeen:
    """The images of a data set in their order; `faults` are of images that could not be read or scored.

    benchmark: the name that published numbers go by.
    """

    images: Images
    benchmark: str
    has_gt: bool
    seen: list[Seen]
    faults: list[str]


@dataclass(frozen=True)
class Costs:
    """Of one image of 1280x720, padded to the network's multiple."""

    macs_true: int
    macs_paper: int
    seconds: float | None
    memory_bytes: int | None


@dataclass
class Outcome:
    """All that a comparison found. faults: by model or data set, why it could not be compared at all."""

    contestants: dict[str, Contestant]
    datasets: list[DatasetSeen]
    costs: dict[str, Costs]
    model_faults: dict[str, str]
    dataset_faults: dict[str, str]
    cost_faults: dict[str, str]


@dataclass(frozen=True)
class _Pair:
    """An image at hand: sized as the protocol wants it, and what its results depend on besides the model."""

    lq: Tensor
    gt: Tensor | None
    benchmark: str
    depends: dict[str, Any]


class Engine:
    """A comparison in the folder of its results."""

    def __init__(self, plan: Comparison, folder: Path, tell: Tell) -> None:
        """Raises OptionError if the device is not there, ResultsError if the folder cannot be written.

        `tell` is given lines about the progress.
        """
        self.plan, self.folder, self.tell = plan, folder, tell
        self.device = chosen_device(plan.num_gpu)
        self.cache = Cache(folder / 'cache')
        check_writable(folder, self.cache.folder, *([folder / 'images'] if plan.save_images else []))
        self.code = code_digest(scored, *(METRIC_REGISTRY.get(metric.type) for metric in plan.metrics))
        self.contestants: dict[str, Contestant] = {}
        self.model_faults: dict[str, str] = {}

    def run(self) -> Outcome:
        """The same on every process. What fails is recorded, and the rest goes on. Raises ResultsError."""
        for entry in self.plan.models:
            try:
                self.contestants[entry.name] = _ready(entry, self.device)
            except Exception as error:  # an arch of someone else's may raise anything
                self.model_faults[entry.name] = worded(error)
        datasets, dataset_faults = [], {}
        for images in self.plan.datasets:
            try:
                dataset = registry.build(f'datasets.{images.name}', 'datasets', images.options)
            except UserError as error:
                dataset_faults[images.name] = str(error)
                continue
            datasets.append(self._see_all(images, dataset))
        costs, cost_faults = from_first(self._costs() if rank_and_size()[0] == 0 else ({}, {}))
        return Outcome(self.contestants, datasets, costs, self.model_faults, dataset_faults, cost_faults)

    def _see_all(self, images: Images, dataset: Any) -> DatasetSeen:
        rank, processes = rank_and_size()
        mine: list[Seen] = []
        faults: list[tuple[int, str]] = []
        has_gt, benchmark = False, _benchmark(images, dataset)
        for index in range(rank, len(dataset), processes):
            try:
                data = dataset[index]
                has_gt = has_gt or 'gt' in data
                mine.append(self._see(images, benchmark, index, data))
            except ResultsError:
                raise
            except Exception as error:  # a data set of someone else's may raise anything too
                faults.append((index, worded(error) if isinstance(error, UserError) else f'{index}: {worded(error)}'))
                continue
            self.tell(f'{images.name}: {index + 1} of {len(dataset)}, {mine[-1].name}')
        parts = gathered((mine, faults, has_gt))
        seen = sorted((item for part, _, _ in parts for item in part), key=lambda item: item.index)
        bad = [text for _, text in sorted(fault for _, part, _ in parts for fault in part)]
        bad += [item.faults[BLUR_MASK] for item in seen if BLUR_MASK in item.faults]
        names = [item.name for item in seen]
        twice = sorted({name for name in names if names.count(name) > 1})
        bad += [f'several images are called {name}, and their pictures are one' for name in twice]
        return DatasetSeen(images, benchmark, any(part for _, _, part in parts), seen, bad)

    def _see(self, images: Images, benchmark: str, index: int, data: dict[str, Any]) -> Seen:
        """Raises what the input's own scores raise; a model's failure is in `faults`."""
        protocol = self.plan.protocol
        photograph = data['lq'].shape[-2:]
        lq = sized(data['lq'], protocol).to(self.device)
        gt = sized(data['gt'], protocol).to(self.device) if 'gt' in data else None
        size = shown(lq, photograph).shape[-2:]
        scene = '' if gt is None else tensor_digest(gt)
        seen = Seen(index, Path(data['lq_path']).stem, (size[0], size[1]), scene)
        depends = {
            'images': [tensor_digest(lq), scene],
            'scored_as': benchmark,
            'photograph': list(photograph),
            'protocol': protocol,
            'metrics': [[metric.type, metric.options, _trunk_digest(metric)] for metric in self.plan.metrics],
            'code': self.code,
            'versions': [__version__, version('basicsr'), str(torch.__version__)],
            'device': torch.cuda.get_device_name(self.device) if self.device.type == 'cuda' else 'cpu',
        }
        pair = _Pair(lq, gt, benchmark, depends)
        self._see_one(seen, images, pair, None)
        for name, contestant in self.contestants.items():
            try:
                self._see_one(seen, images, pair, contestant)
            except ResultsError:
                raise
            except Exception as error:  # one network's failure, whatever it is, must not end the others
                seen.faults[name] = worded(error)
                if self.device.type == 'cuda':
                    torch.cuda.empty_cache()
        mask = mask_of(data['lq_path'], benchmark) if gt is None and self.plan.save_images else None
        if mask:
            self._copy_mask(seen, images, str(mask))
        return seen

    def _copy_mask(self, seen: Seen, images: Images, mask: str) -> None:
        try:
            drawn = decode_image(read_bytes(mask), mask)[: seen.size[0], : seen.size[1]]
        except DataError as error:
            seen.faults[BLUR_MASK] = str(error)
            return
        seen.files[BLUR_MASK] = f'maps/{images.name}/{seen.name}/{BLUR_MASK}.png'
        write_picture(self.folder / seen.files[BLUR_MASK], drawn)

    def _see_one(self, seen: Seen, images: Images, pair: _Pair, contestant: Contestant | None) -> None:
        """Score and draw one model's result, or the input for None, unless that was done before."""
        who, lq, gt = contestant.name if contestant else 'input', pair.lq, pair.gt
        place = ('scores', images.name, seen.name, who)
        depends = {**pair.depends, 'model': contestant.depends if contestant else None}
        pictures = {who: f'images/{images.name}/{seen.name}/{who}.png'}
        if not contestant and gt is not None:
            pictures['gt'] = f'images/{images.name}/{seen.name}/gt.png'
        blur_map = f'{who}{BLUR_MAP}'
        if gt is None and contestant and contestant.sees_blur:
            pictures[blur_map] = f'maps/{images.name}/{seen.name}/{who}.png'
        if not self.plan.save_images:
            pictures = {}
        kept = self.cache.read(place, depends)
        if kept is None or not all((self.folder / file).is_file() for file in pictures.values()):
            self.cache.forget(place)
            result = contestant.restore(lq, self.tell) if contestant else lq
            kept = self._scores(pair, result, seen.size)
            for kind, file in pictures.items():
                if kind == blur_map and contestant:
                    drawn = contestant.blur_map(lq)
                else:
                    drawn = to_uint8(shown(gt if kind == 'gt' and gt is not None else result, seen.size))
                write_picture(self.folder / file, drawn)
            self.cache.write(place, depends, kept)
        seen.files.update(pictures)
        if gt is not None:
            seen.scores[who] = kept

    def _scores(self, pair: _Pair, result: Tensor, size: tuple[int, int]) -> Scores:
        """By metric; none where there is no ground truth."""
        if pair.gt is None:
            return {}
        protocol = self.plan.protocol
        one, two = (scored(image, protocol, pair.benchmark, size) for image in (result, pair.gt))
        return {
            metric.name: float(METRIC_REGISTRY.get(metric.type)(one, two, protocol=protocol, **metric.options))
            for metric in self.plan.metrics
        }

    def _costs(self) -> tuple[dict[str, Costs], dict[str, str]]:
        costs: dict[str, Costs] = {}
        faults: dict[str, str] = {}
        for name, contestant in self.contestants.items() if self.plan.complexity else ():
            try:
                found = self._cost(contestant)
            except ResultsError:
                raise
            except Exception as error:  # as for its images
                faults[name] = worded(error)
                continue
            if found is not None:
                costs[name] = found
        return costs, faults

    def _cost(self, contestant: Contestant) -> Costs | None:
        place = ('costs', contestant.name)
        depends = [contestant.structure, device_name(self.device), __version__, str(torch.__version__)]
        kept = self.cache.read(place, depends)
        if kept is None:
            found = contestant.profile(PAPER_SIZE, str(self.device), _REPEATS[self.device.type], self.tell)
            if found is None:
                return None
            kept = [found.macs, found.paper_macs, found.seconds, found.memory]
            self.cache.write(place, depends, kept)
        return Costs(*kept)


def _ready(entry: Entry | MethodEntry, device: torch.device) -> Contestant:
    return MethodContestant(entry) if isinstance(entry, MethodEntry) else NetworkContestant(entry, device)


def worded(error: Exception) -> str:
    """An error in one line; one that is not meant for users with its class."""
    text = ' '.join(str(error).split())
    return text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'


def _benchmark(images: Images, dataset: Any) -> str:
    """The layout that a data set was recognised as, else its name. Of other splits than test nothing is published."""
    layout = getattr(getattr(dataset, 'source', None), 'layout', '')
    if layout:
        return layout if images.options.get('split') in (None, 'test') else ''
    return images.clean or images.name


def _trunk_digest(metric: Metric) -> str:
    if metric.name != 'lpips':
        return ''
    return file_digest(str(find_trunk(metric.options.get('net', 'alex'), metric.options.get('trunk'))))
