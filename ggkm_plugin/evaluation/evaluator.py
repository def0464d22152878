"""Evaluation of image restorers on a data set: the one loop of `basicsr test`, `compare` and validation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ggkm_plugin.basicsr_patches.distributed import gathered, rank_and_size
from ggkm_plugin.data.layouts import scene_kinds
from ggkm_plugin.data.sources import FolderSource, LmdbSource, Source
from ggkm_plugin.evaluation.alignment import SUFFIX, aligned
from ggkm_plugin.evaluation.cache import ResultsError
from ggkm_plugin.evaluation.sizing import scored, shown, sized
from ggkm_plugin.evaluation.statistics import mean
from ggkm_plugin.metrics.selection import missing_metrics, needs_reference
from ggkm_plugin.restoration.restorer import ImageRestorer, RestorationError
from ggkm_plugin.utils.errors import UserError
from ggkm_plugin.utils.hashing import tensor_digest
from ggkm_plugin.utils.image_decoding import IMAGE_SUFFIXES
from ggkm_plugin.utils.image_header import read_header
from ggkm_plugin.utils.memory import release
from ggkm_plugin.utils.registry import METRIC_REGISTRY

from basicsr.metrics import calculate_metric  # isort: skip
from basicsr.utils import tensor2img  # isort: skip

# Name of the blurred image, beside the names of the restorers.
INPUT = 'input'
# The only restorer of a test or a validation.
RESULT = 'result'

Scores = dict[str, float]


class EvaluationError(UserError):
    """Some images were not evaluated; the scores of the others are written."""

    everywhere = True


@dataclass
class ImageRecord:
    """Scores of one image, by restorer and metric; `input` is the blurred image itself.

    name: path inside the data set without suffix. path: as the data set gives it. size: (H,W) of the pictures.
    bits: of the image file, 8 or 16. scene: equal for images of one ground truth, '' without ground truth.
    files: pictures, relative to the folder of the results. faults: why a restorer has no result.
    """

    index: int
    name: str
    path: str
    size: tuple[int, int]
    bits: int = 8
    scene: str = ''
    files: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


@dataclass
class DatasetRecord:
    """The evaluated images of a data set, in its order; `faults`: of images that could not be read or scored.

    benchmark: the name that published numbers are listed under. parts: names of images, by part of the data set.
    """

    name: str
    benchmark: str
    has_gt: bool
    images: list[ImageRecord]
    faults: list[str]
    parts: dict[str, set[str]] = field(default_factory=dict)

    def means(self, part: str | None = None) -> dict[str, Scores]:
        """Return the mean scores over all images or a part, of each restorer that has scores for all of them."""
        images = [image for image in self.images if part is None or image.name in self.parts[part]]
        names = [name for name in (images[0].scores if images else ()) if all(name in one.scores for one in images)]
        return {
            name: {metric: mean([image.scores[name][metric] for image in images]) for metric in images[0].scores[name]}
            for name in names
        }


@dataclass(frozen=True)
class Sample:
    """An image on the device, sized as the protocol says, with its record. lq and gt: (3,H,W) float RGB."""

    record: ImageRecord
    dataset: str
    benchmark: str
    lq: Tensor
    gt: Tensor | None
    photograph: tuple[int, int]


class Evaluator:
    """Evaluation loop: restore and score the images of data sets; each process takes a share of them.

    The records are equal on all processes and for any number of them.

    Args:
        restorers: by name.
        metrics: {name: options}, as `val.metrics` of an option file. Those whose name ends in `alignment.SUFFIX` are
            computed after registration to the ground truth. `missing` has the reasons for those that cannot be
            computed. Without ground truth only those that need none are computed.
        device: where images are scored.
        sizing: the protocol whose cropping or padding is applied to the images; default: none.
        save: called as ``save(sample, name, result)`` with each result and, for `input`, the blurred image.
        before_image: called by all processes together before each takes an image.
        in_training: raise all errors but RestorationError, and do not compute `scene`. By default errors become
            faults, and the other images are evaluated.
        tell: called with a line for each image.
    """

    def __init__(
        self,
        restorers: Mapping[str, ImageRestorer],
        metrics: Mapping[str, dict[str, Any]],
        device: torch.device,
        sizing: str = '',
        save: Callable[[Sample, str, Tensor], None] = lambda *_: None,
        before_image: Callable[[], None] = lambda: None,
        in_training: bool = False,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.missing = missing_metrics(metrics)
        self.metrics = {name: metric for name, metric in metrics.items() if name not in self.missing}
        self.restorers, self.device, self.sizing = restorers, device, sizing
        self.save, self.before_image, self.in_training, self.tell = save, before_image, in_training, tell

    def evaluate(self, dataset: Any, name: str, benchmark: str = '', with_input: bool = True) -> DatasetRecord:
        """Evaluate a data set; `with_input` also scores the blurred images.

        benchmark: of a data set whose source does not tell which it is.
        """
        benchmark = _benchmark_of(dataset, benchmark)
        rank, processes = rank_and_size()
        mine: list[ImageRecord] = []
        faults: list[tuple[int, str]] = []
        has_gt = False
        for first in range(0, len(dataset), processes):
            self.before_image()
            index = first + rank
            if index >= len(dataset):
                continue
            try:
                data = dataset[index]
                has_gt = has_gt or 'gt' in data
                sample = self._sample(dataset, index, data, name, benchmark)
                self.evaluate_image(sample, with_input)
            except Exception as error:  # a data set from elsewhere may raise anything
                self._reraise(error)
                faults.append((index, worded(error) if isinstance(error, UserError) else f'{index}: {worded(error)}'))
                continue
            mine.append(sample.record)
            self.tell(f'{name}: {index + 1} of {len(dataset)}, {sample.record.name}')
        gathered_parts = gathered((mine, faults, has_gt))
        images = sorted((image for part, _, _ in gathered_parts for image in part), key=lambda image: image.index)
        texts = [text for _, text in sorted(fault for _, part, _ in gathered_parts for fault in part)]
        names = [image.name for image in images]
        twice = sorted({name for name in names if names.count(name) > 1})
        texts += [f'several images are called {name}, and their pictures are one' for name in twice]
        record = DatasetRecord(name, benchmark, any(has for _, _, has in gathered_parts), images, texts)
        try:
            record.parts = _parts(dataset, benchmark)
        except UserError as error:  # damaged lists
            self._reraise(error)
            record.faults.append(str(error))
        return record

    def _sample(self, dataset: Any, index: int, data: dict[str, Any], name: str, benchmark: str) -> Sample:
        photograph = data['lq'].shape[-2:]
        lq = sized(data['lq'].float(), self.sizing).to(self.device)
        gt = sized(data['gt'].float(), self.sizing).to(self.device) if 'gt' in data else None
        height, width = shown(lq, photograph).shape[-2:]
        record = ImageRecord(
            index,
            _image_name(dataset, index, data['lq_path']),
            data['lq_path'],
            (height, width),
            _bits(dataset, data['lq_path']),
            '' if gt is None or self.in_training else tensor_digest(gt),
        )
        return Sample(record, name, benchmark, lq, gt, photograph)

    def evaluate_image(self, sample: Sample, with_input: bool) -> None:
        """Score the input and every restorer. Errors of a restorer become faults of the record; others are raised."""
        for name in (INPUT, *self.restorers) if with_input else self.restorers:
            try:
                scores = self.evaluate_one(sample, name)
            except Exception as error:  # a network from elsewhere may raise anything
                self._reraise(error)
                if name == INPUT:
                    raise
                sample.record.faults[name] = worded(error)
                release(self.device)
                continue
            if scores or sample.gt is not None:
                sample.record.scores[name] = scores

    def evaluate_one(self, sample: Sample, name: str) -> Scores:
        """Restore the image, unless `name` is `input`, score the result and save it."""
        result = sample.lq if name == INPUT else self.restorers[name].restore(sample.lq)
        image, gt = (
            None if one is None else scored(one, self.sizing, sample.benchmark, sample.record.size)
            for one in (result, sample.gt)
        )
        assert image is not None
        needed = any(metric.endswith(SUFFIX) for metric in self.metrics)
        registered = aligned(image, gt) if needed and gt is not None else (image, gt)
        scores = {
            metric: score(options, *(registered if metric.endswith(SUFFIX) else (image, gt)))
            for metric, options in self.metrics.items()
            if gt is not None or not (needs_reference(options) or metric.endswith(SUFFIX))
        }
        self.save(sample, name, result)
        return scores

    def _reraise(self, error: Exception) -> None:
        if isinstance(error, ResultsError) or (self.in_training and not isinstance(error, RestorationError)):
            raise error


def score(metric: dict[str, Any], image: Tensor, gt: Tensor | None) -> float:
    """Compute a metric of (3,H,W) float RGB images in [0,1].

    Metrics that declare `takes_float` get the images unclipped, others 8-bit BGR arrays as in BasicSR.
    """
    images = {'img': image} if gt is None or not needs_reference(metric) else {'img': image, 'img2': gt}
    if not getattr(METRIC_REGISTRY.get(metric['type']), 'takes_float', False):
        images = {name: tensor2img(one) for name, one in images.items()}
    return float(calculate_metric(images, metric))


def worded(error: Exception) -> str:
    """Return an error as one line, with its class unless it is a UserError."""
    text = ' '.join(str(error).split())
    return text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'


def _source(dataset: Any) -> Source | None:
    """Return the image source of a data set of this package, else None."""
    source = getattr(dataset, 'source', None)
    return source if isinstance(source, FolderSource | LmdbSource) else None


def _benchmark_of(dataset: Any, default: str) -> str:
    """Return the layout of a data set; '' for splits other than test, which have no published scores."""
    source = _source(dataset)
    if source is None or not source.layout:
        return default
    return source.layout if (dataset.opt.get('split') or dataset.opt['phase']) == 'test' else ''


def _parts(dataset: Any, benchmark: str) -> dict[str, set[str]]:
    """Return the indoor and outdoor image names of DPDD's test split, if its lists exist."""
    source = _source(dataset)
    if benchmark != 'DPDD' or source is None or source.layout != 'DPDD':
        return {}
    names = {Path(pair.lq).name: name for pair, name in zip(source.pairs, source.names, strict=True)}
    found = scene_kinds(dataset.opt['dataroot'], names) or {}
    return {kind: {names[name] for name in of_kind} for kind, of_kind in found.items()}


def _image_name(dataset: Any, index: int, path: str) -> str:
    """Return the name of an image: that of its source, else its path below `dataroot_lq`, or its LMDB key."""
    source, name, root = _source(dataset), Path(path), getattr(dataset, 'opt', {}).get('dataroot_lq')
    if source is not None:
        return str(source.names[index])
    if root and name.is_relative_to(root):
        name = name.relative_to(root)
    elif name.is_file():
        name = Path(name.name)
    name = name.with_suffix('') if name.suffix.lower() in IMAGE_SUFFIXES else name
    return Path(*(part for part in name.parts if part not in (name.anchor, '..'))).as_posix()


def _bits(dataset: Any, path: str) -> int:
    """Return the bit depth of an image, 8 if unknown."""
    source = _source(dataset)
    try:
        return 8 * (source.header(path) if source is not None else read_header(path)).itemsize
    except UserError:
        return 8
