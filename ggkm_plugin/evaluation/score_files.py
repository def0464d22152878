"""What a test writes beside its pictures: every image's scores, as CSV and JSON, with all that they depend on."""

import csv
import inspect
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ggkm_plugin import __version__
from ggkm_plugin.data.layouts import scene_kinds
from ggkm_plugin.utils.checkpoint import read_checkpoint, weights_key
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.files import write_whole
from ggkm_plugin.utils.hashing import file_digest
from ggkm_plugin.utils.registry import METRIC_REGISTRY
from ggkm_plugin.weights import checkpoint_path


@dataclass(frozen=True)
class ImageScores:
    """One image's scores and those of its blurred input, by metric; `path` is where the input lies."""

    name: str
    path: str
    scores: dict[str, float]
    input_scores: dict[str, float]


def write_scores(
    folder: str, images: Sequence[ImageScores], opt: dict[str, Any], dataset: dict[str, Any], option_digest: str
) -> list[str]:
    """Write scores_NAME.csv and .json for a data set into `folder`; returns lines on its parts, indoor and outdoor.

    `opt`: the options of the test, `option_digest` theirs; `dataset`: those of the data set. In JSON an infinite score,
    of equal images, is null. Raises DataError if a file cannot be written.
    """
    parts = {kind: [item for item in images if item.name in names] for kind, names in _scenes(images, dataset).items()}
    protocols = {name: _protocol(metric) for name, metric in opt['val']['metrics'].items()}
    record = {
        'dataset': dataset['name'],
        'metrics': {name: {**metric, 'protocol': protocols[name]} for name, metric in opt['val']['metrics'].items()},
        'option_digest': option_digest,
        'network': opt['network_g'],
        'weights': _weights(opt),
        'versions': {'ggkm_plugin': __version__, 'basicsr': version('basicsr'), 'torch': str(torch.__version__)},
        'means': {
            kind: {who: _plain(scores) for who, scores in _means(part).items()}
            for kind, part in {'all': images, **parts}.items()
        },
        'images': [
            {'name': item.name, 'result': _plain(item.scores), 'input': _plain(item.input_scores)} for item in images
        ],
    }
    table = io.StringIO()
    writer = csv.writer(table, lineterminator='\n')
    metrics = list(images[0].scores)
    used = list(dict.fromkeys(protocols.values()))
    protocol = used[0] if len(used) == 1 else ', '.join(f'{name}: {protocols[name]}' for name in protocols)
    writer.writerow(['image', 'protocol', *metrics, *(f'input_{metric}' for metric in metrics)])
    for item in images:
        scores = [*item.scores.values(), *(item.input_scores[metric] for metric in metrics)]
        writer.writerow([item.name, protocol, *scores])
    stem = Path(folder) / f'scores_{dataset["name"]}'
    _write(stem.with_name(f'{stem.name}.csv'), table.getvalue())
    _write(stem.with_name(f'{stem.name}.json'), json.dumps(record, indent=1, default=str, allow_nan=False) + '\n')
    return [
        f'\t {kind}, {len(part)} images: '
        + ', '.join(f'{name} {value:.4f}' for name, value in _means(part)['result'].items())
        for kind, part in parts.items()
    ]


def _protocol(metric: dict[str, Any]) -> str:
    """As given, else the metric's default; of the host's metrics, which have none, `host`."""
    given = inspect.signature(METRIC_REGISTRY.get(metric['type'])).parameters.get('protocol')
    return str(metric.get('protocol') or given.default) if given else 'host'


def _plain(scores: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _scenes(images: Sequence[ImageScores], dataset: dict[str, Any]) -> dict[str, set[str]]:
    """DPDD's test images by kind of scene, where the lists lie beside them."""
    layout, split = dataset.get('layout') or 'auto', dataset.get('split') or 'test'
    if layout not in ('DPDD', 'auto') or split != 'test' or not dataset.get('dataroot'):
        return {}
    names = {Path(item.path).name: item.name for item in images}
    found = scene_kinds(dataset['dataroot'], names) or {}
    return {kind: {names[name] for name in of_kind} for kind, of_kind in found.items()}


def _means(images: Sequence[ImageScores]) -> dict[str, dict[str, float]]:
    return {
        'result': means([item.scores for item in images]),
        'input': means([item.input_scores for item in images]),
    }


def means(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each metric over images."""
    return {metric: float(np.mean([score[metric] for score in scores])) for metric in scores[0]}


def _weights(opt: dict[str, Any]) -> dict[str, Any]:
    path = checkpoint_path(opt['path']['pretrain_network_g'])
    content = read_checkpoint(path)
    description = content.get('description', {})
    return {
        'path': path,
        'sha256': file_digest(path),
        'param_key': weights_key(content, path, opt['path'].get('param_key_g')),
        'iteration': description.get('iteration'),
        'option_digest': description.get('option_digest'),
    }


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise DataError(f'{path}: cannot be written ({error.strerror or error})') from error
