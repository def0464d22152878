"""Results of `basicsr compare` (results.json) and `basicsr test` (scores_SET.json), and the tables made of them.

Both files have one format, plain JSON values:

format           FORMAT, a number; other files are of other versions
name, protocol   of the comparison or test; the metrics' protocol, or `METRIC: protocol, ...` if they differ
machine          what ran it, with the versions of the packages
metrics          [{name, label, better, digits, type, protocol, options}]
models           [{name, arch, parameters, weights, sha256, settings, status, error, ...}]; of a test one, `result`
datasets         [{name, benchmark, has_gt, scenes, images, means, parts, faults, ...}]
  images         [{name, path, size, bits, files, scores: {MODEL: {metric: value}}, faults: {MODEL: reason}}]
  means          {MODEL: {metric: value}} of the models that have a result for every image
  parts          {part: {images: count, means}}, such as indoor and outdoor scenes of DPDD
  faults         images that could not be read or scored
failures         all that failed, a line each

MODEL is a model's name, or `input` for the blurred image. A score of null is infinite: result and ground truth are
equal. A metric without a score was not computed: its file is missing, or it needs a ground truth. `name` of an image
is its path inside the data set, without suffix.

A comparison adds: protocol_words; parameters, MACs, time and memory of each model; `differences` of a data set, paired
(model - `difference_to`, the first model that did not fail); `clean`, `noise_std` and `drops` of a noisy data set: by
how much each model's means are worse than on the clean one, or than those of the model that its option drop_from names,
null where that is not finite; published rows. A test adds to its model: network, param_key, iteration, and the digests
of the options of its training and of the test.
"""

import copy
import dataclasses
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ggkm_plugin.evaluation import paper, statistics
from ggkm_plugin.evaluation.cache import write_result
from ggkm_plugin.evaluation.compare_config import BLUR_MAP, BLUR_MASK, Comparison, Entry, Images, MethodEntry
from ggkm_plugin.evaluation.complexity import MEMORY_SOURCES, PAPER_SIZE
from ggkm_plugin.evaluation.evaluator import INPUT, RESULT, DatasetRecord, ImageRecord, Scores
from ggkm_plugin.evaluation.sizing import protocol_words
from ggkm_plugin.metrics.selection import better_of
from ggkm_plugin.report import comparison_tables
from ggkm_plugin.report.tables import csv_text
from ggkm_plugin.utils.checkpoint import read_checkpoint, weights_key
from ggkm_plugin.utils.devices import device_name, machine
from ggkm_plugin.utils.hashing import file_digest
from ggkm_plugin.utils.registry import METRIC_REGISTRY
from ggkm_plugin.weights import checkpoint_path

FORMAT = 2

Results = dict[str, Any]

_NOTES = {
    BLUR_MAP: 'A blur map is dark where its model sees little blur and bright where it sees much; that of a network '
    'shows which Gaussians it mixes, narrow or wide, scaled to the range of one photograph.',
    BLUR_MASK: "The blur mask is the data set's own, white where it is blurred.",
}
# Faults of one data set that are listed one by one.
_MOST_FAULTS = 5


# --- both


def _head(name: str, protocol: str, device: torch.device) -> Results:
    cuda = {'cuda': torch.version.cuda} if device.type == 'cuda' else {}
    used = {**machine(), 'basicsr': version('basicsr'), 'device': device_name(device), **cuda}
    return {'format': FORMAT, 'name': name, 'protocol': protocol, 'machine': used}


def _metric(name: str, label: str, better: str, digits: int, options: Mapping[str, Any]) -> Results:
    """Describe a metric. `options` has type and protocol."""
    rest = {key: value for key, value in options.items() if key not in ('type', 'protocol', 'better')}
    own = {'type': options['type'], 'protocol': _protocol(options), 'options': rest}
    return {'name': name, 'label': label, 'better': better, 'digits': digits, **own}


def _protocol(metric: Mapping[str, Any]) -> str:
    """Return the given protocol, else the metric's default; `basicsr` for BasicSR's metrics, which have none."""
    default = inspect.signature(METRIC_REGISTRY.get(metric['type'])).parameters.get('protocol')
    return str(metric.get('protocol') or default.default) if default else 'basicsr'


def dataset_results(record: DatasetRecord) -> Results:
    """Return the results of a data set, see above."""
    return {
        'name': record.name,
        'benchmark': record.benchmark,
        'has_gt': record.has_gt,
        'scenes': len({image.scene or image.name for image in record.images}),
        'images': [_image(image) for image in record.images],
        'means': _plain_means(record.means()),
        'parts': {
            part: {
                'images': sum(image.name in names for image in record.images),
                'means': _plain_means(record.means(part)),
            }
            for part, names in record.parts.items()
        },
        'faults': record.faults,
    }


def _image(image: ImageRecord) -> Results:
    values = dataclasses.asdict(image) | {'size': list(image.size), 'scores': _plain_means(image.scores)}
    return {key: value for key, value in values.items() if key not in ('index', 'scene')}


def _plain_means(by_model: Mapping[str, Scores]) -> dict[str, dict[str, float | None]]:
    """Replace infinite means, which JSON lacks, by None."""
    return {
        name: {metric: value if math.isfinite(value) else None for metric, value in scores.items()}
        for name, scores in by_model.items()
    }


def failures_of(record: DatasetRecord, models: Sequence[str] = ()) -> list[str]:
    """List the failures of a data set and of models on it, a line each, with the first few of many images."""
    faults = {name: model_fault(name, [record]) for name in models}
    of_models = [f'model {name}: {fault}' for name, fault in faults.items() if fault]
    lines = [f'data set {record.name}: {fault}' for fault in record.faults[:_MOST_FAULTS]]
    more = len(record.faults) - len(lines)
    return [*of_models, *lines, *([f'data set {record.name}: and {more} more images'] if more else [])]


def model_fault(name: str, records: list[DatasetRecord]) -> str | None:
    """Return the reason why a model lacks the result of an image, None if it has all."""
    faults = [
        f'{record.name}/{image.name}: {image.faults[name]}'
        for record in records
        for image in record.images
        if name in image.faults
    ]
    more = f' (and {len(faults) - 1} more images)' if len(faults) > 1 else ''
    return faults[0] + more if faults else None


def with_infinities(results: Results) -> Results:
    """Return the results with infinite scores, which are null in the files."""
    results = copy.deepcopy(results)
    for dataset in results['datasets']:
        parts = [part['means'] for part in dataset.get('parts', {}).values()]
        for by_model in (dataset['means'], *parts, *(image['scores'] for image in dataset['images'])):
            for scores in by_model.values():
                scores.update({metric: math.inf for metric, value in scores.items() if value is None})
    return results


def scores_csv(results: Results) -> str:
    """Return CSV with a row for each model, data set and image; the input is a model, too."""
    metrics = [metric['name'] for metric in results['metrics']]
    protocol, settings = results['protocol'], comparison_tables.settings_words(results)
    rows = [
        [dataset['name'], image['name'], model, protocol, *map(scores.get, metrics), settings.get(model, '')]
        for dataset in with_infinities(results)['datasets']
        for image in dataset['images']
        for model, scores in image['scores'].items()
    ]
    return csv_text(['dataset', 'image', 'model', 'protocol', *metrics, 'settings'], rows)


def _json(results: Results) -> str:
    return json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False, default=str) + '\n'


# --- test


def write_test(
    folder: Path,
    record: DatasetRecord,
    opt: dict[str, Any],
    option_digest: str,
    device: torch.device,
    failures: list[str],
) -> None:
    """Write scores_SET.json and .csv of a test into `folder`.

    `opt`: the options of the test, whose digest is `option_digest`. Raises ResultsError if a file cannot be written.
    """
    metrics = [_metric(name, name, better_of(metric), 4, metric) for name, metric in opt['val']['metrics'].items()]
    protocols = {metric['name']: metric['protocol'] for metric in metrics}
    same = len(set(protocols.values())) == 1
    protocol = metrics[0]['protocol'] if same else ', '.join(f'{name}: {used}' for name, used in protocols.items())
    path = checkpoint_path(opt['path']['pretrain_network_g'])
    content = read_checkpoint(path)
    description = content.get('description', {})
    error = model_fault(RESULT, [record])
    model = {
        'name': RESULT,
        'arch': opt['network_g']['type'],
        'network': opt['network_g'],
        'weights': path,
        'sha256': file_digest(path),
        'param_key': weights_key(content, path, opt['path'].get('param_key_g')),
        'iteration': description.get('iteration'),
        'training_digest': description.get('option_digest'),
        'option_digest': option_digest,
        'settings': None,
        'status': 'failed' if error else 'ok',
        'error': error,
    }
    results = {
        **_head(opt['name'], protocol, device),
        'metrics': metrics,
        'models': [model],
        'datasets': [dataset_results(record)],
        'failures': failures,
    }
    write_result(folder / f'scores_{record.name}.json', _json(results))
    write_result(folder / f'scores_{record.name}.csv', scores_csv(results))


# --- compare


def comparison_results(
    plan: Comparison,
    device: torch.device,
    records: list[DatasetRecord],
    models: Mapping[str, Results],
    dataset_faults: Mapping[str, str],
    cost_faults: Mapping[str, str],
) -> Results:
    """Return the content of results.json. `models` has the facts about each, or the `error` of one that cannot run."""
    rows = [_model(entry, models[entry.name], records) for entry in plan.models]
    reference = next((row['name'] for row in rows if not row['error']), rows[0]['name'] if rows else '')
    images = {images.name: images for images in plan.datasets}
    datasets = [_comparison_dataset(plan, reference, images[record.name], record) for record in records]
    drop_from = {entry.name: entry.drop_from for entry in plan.models if isinstance(entry, Entry) and entry.drop_from}
    _add_drops(plan, drop_from, datasets)
    net = next((metric.options.get('net', 'alex') for metric in plan.metrics if metric.name == 'lpips'), None)
    evaluated = {(record.benchmark, images[record.name].noise_std) for record in records if plan.file.published}
    failures = [f'model {row["name"]}: {row["error"]}' for row in rows if row['error']]
    failures += [f'model {name}, costs: {fault}' for name, fault in cost_faults.items()]
    failures += [f'data set {name}: {fault}' for name, fault in dataset_faults.items()]
    failures += [line for record in records for line in failures_of(record)]
    return {
        **_head(plan.file.name, plan.file.protocol, device),
        'protocol_words': protocol_words(plan.file.protocol, lpips=net is not None),
        'metrics': [
            _metric(metric.name, metric.label, metric.better, metric.digits, metric.as_option(plan.file.protocol))
            for metric in plan.metrics
        ],
        'difference_to': reference,
        'drop_from': drop_from,
        'bootstrap': plan.bootstrap.model_dump(),
        'measured_at': f'{PAPER_SIZE[1]}x{PAPER_SIZE[0]}',
        'memory_source': MEMORY_SOURCES[device.type],
        'models': rows,
        'datasets': datasets,
        'published': [paper.record(row, net == 'alex') for row in paper.PUBLISHED if (row.dataset, None) in evaluated],
        'published_drops': [
            paper.record(row, net == 'alex') for row in paper.PUBLISHED_DROPS if (row.dataset, row.std) in evaluated
        ],
        'failures': failures,
    }


def _model(entry: Entry | MethodEntry, known: Results, records: list[DatasetRecord]) -> Results:
    keys = ('arch', 'parameters', 'macs_true', 'macs_paper', 'seconds', 'memory_bytes', 'weights', 'sha256', 'settings')
    error = known.get('error') or model_fault(entry.name, records)
    return {'name': entry.name, **dict.fromkeys(keys), **known, 'status': 'failed' if error else 'ok', 'error': error}


def _comparison_dataset(plan: Comparison, reference: str, images: Images, record: DatasetRecord) -> Results:
    results = dataset_results(record)
    files = {name for image in record.images for name in image.files}
    compared = [name for name in results['means'] if name not in (INPUT, reference)]
    return {
        **results,
        **({'clean': images.clean, 'noise_std': images.noise_std} if images.clean else {}),
        'note': ' '.join(_NOTES[kind] for kind in _NOTES if any(name.endswith(kind) for name in files)),
        'differences': {
            name: {metric.name: _difference(plan, record, name, reference, metric.name) for metric in plan.metrics}
            for name in (compared if reference in results['means'] else ())
        },
    }


def _difference(
    plan: Comparison, record: DatasetRecord, name: str, reference: str, metric: str
) -> dict[str, float] | None:
    """Return mean and interval of a model's scores less those of the reference, None for a metric without scores."""
    if not all(metric in image.scores[each] for image in record.images for each in (name, reference)):
        return None
    scores, others = ([image.scores[each][metric] for image in record.images] for each in (name, reference))
    scenes = [image.scene or image.name for image in record.images]
    found = statistics.difference(scores, others, plan.bootstrap.samples, plan.bootstrap.seed, scenes)
    return dict(zip(('mean', 'low', 'high'), found, strict=True)) if found else None


def _add_drops(plan: Comparison, drop_from: Mapping[str, str], datasets: list[Results]) -> None:
    """Add the loss by noise, positive for a worse score in every metric."""
    clean = {dataset['name']: dataset['means'] for dataset in datasets}
    for dataset in datasets:
        if 'clean' not in dataset:
            continue
        drops = dataset['drops'] = {}
        for name, after in dataset['means'].items():
            before = clean.get(dataset['clean'], {}).get(drop_from.get(name, name))
            if before is not None:
                drops[name] = {
                    metric.name: _loss(before.get(metric.name), after.get(metric.name), metric.better)
                    for metric in plan.metrics
                }


def _loss(before: float | None, after: float | None, better: str) -> float | None:
    """Return the loss, None if a score is infinite or missing."""
    if before is None or after is None:
        return None
    return before - after if better == 'higher' else after - before


def write_comparison(folder: Path, results: Results) -> None:
    """Write results.json, scores.csv, table.md and table.tex, each atomically. Raises ResultsError."""
    write_result(folder / 'results.json', _json(results))
    write_result(folder / 'scores.csv', scores_csv(results))
    write_result(folder / 'table.md', comparison_tables.render(results, 'markdown'))
    write_result(folder / 'table.tex', comparison_tables.render(results, 'latex'))
