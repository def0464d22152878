"""Runs every network on every image, shared out over processes, and goes on where an earlier run ended."""

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ggkm_plugin import __version__, preflight
from ggkm_plugin.compare.cache import Cache, file_digest, tensor_digest
from ggkm_plugin.compare.contestants import Contestant, Tell
from ggkm_plugin.compare.methods import MethodContestant
from ggkm_plugin.compare.networks import NetworkContestant, chosen_device
from ggkm_plugin.compare.options import Comparison, Entry, Images, MethodEntry, Metric
from ggkm_plugin.compare.sizing import scored, shown, sized
from ggkm_plugin.complexity import PAPER_SIZE, device_name
from ggkm_plugin.data.decoding import write_image
from ggkm_plugin.errors import UserError
from ggkm_plugin.host.processes import from_first, gathered, rank_and_size
from ggkm_plugin.host.registries import METRIC_REGISTRY
from ggkm_plugin.metrics.perceptual import find_trunk
from ggkm_plugin.models.pictures import to_uint8

Scores = dict[str, float]

# Timed runs of a network at 1280x720, which takes a minute on some processors.
_REPEATS = {'cuda': 5, 'cpu': 1}


@dataclass
class Seen:
    """What came of one image. Names are those of the models, and `input` for the blurred image itself.

    files: pictures, below the results' folder; where there is nothing to score, also `NAME blur map`.
    faults: why a model has no result here.
    """

    index: int
    name: str
    size: tuple[int, int]  # (H,W) of the pictures
    files: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


@dataclass
class DatasetSeen:
    """The images of a data set in their order; `faults` are of images that could not be read."""

    images: Images
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


class Engine:
    """A comparison in the folder of its results."""

    def __init__(self, plan: Comparison, folder: Path, tell: Tell) -> None:
        """Raises OptionError if the device is not there. `tell` is given lines about the progress."""
        self.plan, self.folder, self.tell = plan, folder, tell
        self.cache = Cache(folder / 'cache')
        self.device = chosen_device(plan.num_gpu)
        self.contestants: dict[str, Contestant] = {}
        self.model_faults: dict[str, str] = {}

    def run(self) -> Outcome:
        """The same on every process. What fails is recorded, and the rest goes on."""
        for entry in self.plan.models:
            try:
                self.contestants[entry.name] = _ready(entry, self.device)
            except Exception as error:  # an arch of someone else's may raise anything
                self.model_faults[entry.name] = worded(error)
        datasets, dataset_faults = [], {}
        for images in self.plan.datasets:
            try:
                dataset = preflight.build(f'datasets.{images.name}', 'datasets', images.options)
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
        has_gt = False
        for index in range(rank, len(dataset), processes):
            try:
                data = dataset[index]
            except UserError as error:
                faults.append((index, str(error)))
                continue
            has_gt = has_gt or 'gt' in data
            mine.append(self._see(images, index, data))
            self.tell(f'{images.name}: {index + 1} of {len(dataset)}, {mine[-1].name}')
        parts = gathered((mine, faults, has_gt))
        seen = sorted((item for part, _, _ in parts for item in part), key=lambda item: item.index)
        bad = [text for _, text in sorted(fault for _, part, _ in parts for fault in part)]
        names = [item.name for item in seen]
        twice = sorted({name for name in names if names.count(name) > 1})
        bad += [f'several images are called {name}, and their pictures are one' for name in twice]
        return DatasetSeen(images, any(part for _, _, part in parts), seen, bad)

    def _see(self, images: Images, index: int, data: dict[str, Any]) -> Seen:
        protocol = self.plan.protocol
        photograph = data['lq'].shape[-2:]
        lq = sized(data['lq'], protocol).to(self.device)
        gt = sized(data['gt'], protocol).to(self.device) if 'gt' in data else None
        name = Path(data['lq_path']).stem
        size = shown(lq, photograph).shape[-2:]
        seen = Seen(index, name, (size[0], size[1]))
        depends = {
            'images': tensor_digest(lq, *([] if gt is None else [gt])),
            'scored_as': images.benchmark,
            'photograph': list(photograph),
            'protocol': protocol,
            'metrics': [[metric.type, metric.options, _trunk_digest(metric)] for metric in self.plan.metrics],
            'versions': [__version__, version('basicsr'), str(torch.__version__)],
            'device': torch.cuda.get_device_name(self.device) if self.device.type == 'cuda' else 'cpu',
        }
        for who, contestant in {'input': None, **self.contestants}.items():
            try:
                self._see_one(seen, images, contestant, lq, gt, depends)
            except Exception as error:  # one network's failure, whatever it is, must not end the others
                seen.faults[who] = worded(error)
                if self.device.type == 'cuda':
                    torch.cuda.empty_cache()
        return seen

    def _see_one(
        self,
        seen: Seen,
        images: Images,
        contestant: Contestant | None,
        lq: Tensor,
        gt: Tensor | None,
        depends: dict[str, Any],
    ) -> None:
        """Score and draw one model's result, or the input for None, unless that was done before."""
        who = contestant.name if contestant else 'input'
        place = ('scores', images.name, seen.name, who)
        depends = {**depends, 'model': contestant.depends if contestant else None}
        pictures = {who: f'images/{images.name}/{seen.name}/{who}.png'}
        if not contestant and gt is not None:
            pictures['gt'] = f'images/{images.name}/{seen.name}/gt.png'
        blur_map = f'{who} blur map'
        if gt is None and contestant and contestant.sees_blur:
            pictures[blur_map] = f'maps/{images.name}/{seen.name}/{who}.png'
        if not self.plan.save_images:
            pictures = {}
        kept = self.cache.read(place, depends)
        if kept is None or not all((self.folder / file).is_file() for file in pictures.values()):
            self.cache.forget(place)
            result = contestant.restore(lq, self.tell) if contestant else lq
            kept = self._scores(images, result, gt, seen) if gt is not None else {}
            for kind, file in pictures.items():
                if kind == blur_map and contestant:
                    drawn = contestant.blur_map(lq)
                else:
                    drawn = to_uint8(shown(gt if kind == 'gt' and gt is not None else result, seen.size))
                write_image(str(self.folder / file), drawn)
            self.cache.write(place, depends, kept)
        seen.files.update(pictures)
        if gt is not None:
            seen.scores[who] = kept

    def _scores(self, images: Images, result: Tensor, gt: Tensor, seen: Seen) -> Scores:
        protocol = self.plan.protocol
        one, two = (scored(image, protocol, images.benchmark, seen.size) for image in (result, gt))
        return {
            metric.name: float(METRIC_REGISTRY.get(metric.type)(one, two, protocol=protocol, **metric.options))
            for metric in self.plan.metrics
        }

    def _costs(self) -> tuple[dict[str, Costs], dict[str, str]]:
        costs: dict[str, Costs] = {}
        faults: dict[str, str] = {}
        where = device_name(self.device)
        for name, contestant in self.contestants.items() if self.plan.complexity else ():
            depends = [contestant.structure, where, __version__, str(torch.__version__)]
            kept = self.cache.read(('costs', name), depends)
            if kept is None:
                try:
                    found = contestant.profile(PAPER_SIZE, str(self.device), _REPEATS[self.device.type], self.tell)
                except Exception as error:  # as for its images
                    faults[name] = worded(error)
                    continue
                if found is None:
                    continue
                kept = [found.macs, found.paper_macs, found.seconds, found.memory]
                self.cache.write(('costs', name), depends, kept)
            costs[name] = Costs(*kept)
        return costs, faults


def _ready(entry: Entry | MethodEntry, device: torch.device) -> Contestant:
    return MethodContestant(entry) if isinstance(entry, MethodEntry) else NetworkContestant(entry, device)


def worded(error: Exception) -> str:
    """An error in one line; one that is not meant for users with its class."""
    text = ' '.join(str(error).split())
    return text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'


def _trunk_digest(metric: Metric) -> str:
    if metric.name != 'lpips':
        return ''
    return file_digest(str(find_trunk(metric.options.get('net', 'alex'), metric.options.get('trunk'))))
