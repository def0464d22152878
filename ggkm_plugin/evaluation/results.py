"""What a comparison leaves in its folder: `results.json`, from which all else is made, and the files made of it.

results.json: name, protocol and its words, machine, metrics, models, data sets with the scores of each image, means
and paired differences (model - `difference_to`, the first model that did not fail), published rows, and failures. A
score of null is infinite: result and ground truth are equal. A model that has no result for some image of a data set
has no mean there. A noisy data set has `drops`: by how much each model's means are worse than on the clean one, or than
those of the model that its option drop_from names; null where that is no finite number. `settings` are those of a model
that is no network; all its scores were made with them.
"""

import copy
import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import torch

from ggkm_plugin.evaluation import paper, statistics
from ggkm_plugin.evaluation.cache import write_result
from ggkm_plugin.evaluation.compare_config import BLUR_MAP, BLUR_MASK, Comparison, Entry, MethodEntry
from ggkm_plugin.evaluation.complexity import MEMORY_SOURCES, PAPER_SIZE
from ggkm_plugin.evaluation.evaluator import DatasetSeen, Engine, Outcome, Seen
from ggkm_plugin.evaluation.sizing import protocol_words
from ggkm_plugin.report import comparison_tables
from ggkm_plugin.utils.devices import device_name, machine

Results = dict[str, Any]

_NOTES = {
    BLUR_MAP: 'A blur map is dark where its model sees little blur and bright where it sees much; that of a network '
    'shows which Gaussians it mixes, narrow or wide, stretched over what there is in one photograph.',
    BLUR_MASK: "The blur mask is the data set's own, white where it is blurred.",
}
# Images of a data set whose faults are told one by one.
_MOST_FAULTS = 5


def record(plan: Comparison, engine: Engine, outcome: Outcome) -> Results:
    """The content of results.json, plain values only."""
    models = [_model(entry, outcome) for entry in plan.models]
    reference = next((model['name'] for model in models if not model['error']), plan.models[0].name)
    datasets = [_dataset(plan, reference, data) for data in outcome.datasets]
    _add_drops(plan, datasets)
    net = next((metric.options.get('net', 'alex') for metric in plan.metrics if metric.name == 'lpips'), None)
    seen = {(data.benchmark, data.images.noise_std) for data in outcome.datasets if plan.published}
    results: Results = {
        'name': plan.name,
        'protocol': plan.protocol,
        'protocol_words': protocol_words(plan.protocol, lpips=net is not None),
        'machine': {
            **machine(),
            'device': device_name(engine.device),
            **({'cuda': torch.version.cuda} if engine.device.type == 'cuda' else {}),
        },
        'metrics': [
            {'name': metric.name, 'label': metric.label, 'better': metric.better, 'digits': metric.digits}
            for metric in plan.metrics
        ],
        'difference_to': reference,
        'drop_from': {
            entry.name: entry.drop_from for entry in plan.models if isinstance(entry, Entry) and entry.drop_from
        },
        'bootstrap': {'samples': plan.bootstrap_samples, 'seed': plan.bootstrap_seed},
        'measured_at': f'{PAPER_SIZE[1]}x{PAPER_SIZE[0]}',
        'memory_source': MEMORY_SOURCES[engine.device.type],
        'models': models,
        'datasets': datasets,
        'published': [paper.record(row, net == 'alex') for row in paper.PUBLISHED if (row.dataset, None) in seen],
        'published_drops': [
            paper.record(row, net == 'alex') for row in paper.PUBLISHED_DROPS if (row.dataset, row.std) in seen
        ],
    }
    failures = [f'model {model["name"]}: {model["error"]}' for model in models if model['error']]
    failures += [f'model {name}, costs: {fault}' for name, fault in outcome.cost_faults.items()]
    failures += [f'data set {name}: {fault}' for name, fault in outcome.dataset_faults.items()]
    for data in outcome.datasets:
        shown = data.faults[:_MOST_FAULTS]
        failures += [f'data set {data.images.name}: {fault}' for fault in shown]
        if len(data.faults) > len(shown):
            failures.append(f'data set {data.images.name}: and {len(data.faults) - len(shown)} more images')
    return {**results, 'failures': failures}


def _model(entry: Entry | MethodEntry, outcome: Outcome) -> Results:
    name = entry.name
    contestant, costs = outcome.contestants.get(name), outcome.costs.get(name)
    error = outcome.model_faults.get(name)
    faults = [
        f'{data.images.name}/{seen.name}: {seen.faults[name]}'
        for data in outcome.datasets
        for seen in data.seen
        if name in seen.faults
    ]
    if faults:
        error = faults[0] + (f' (and {len(faults) - 1} more images)' if len(faults) > 1 else '')
    return {
        'name': name,
        'arch': contestant.arch if contestant else None,
        'parameters': contestant.parameters if contestant else None,
        'macs_true': costs.macs_true if costs else None,
        'macs_paper': costs.macs_paper if costs else None,
        'seconds': costs.seconds if costs else None,
        'memory_bytes': costs.memory_bytes if costs else None,
        'weights': entry.weights if isinstance(entry, Entry) else None,
        'sha256': contestant.sha256 if contestant else None,
        'settings': contestant.settings if contestant else None,
        'status': 'failed' if error else 'ok',
        'error': error,
    }


def _dataset(plan: Comparison, reference: str, data: DatasetSeen) -> Results:
    names = ['input', *(entry.name for entry in plan.models)]
    files = {name for seen in data.seen for name in seen.files}
    scored = [name for name in names if data.seen and all(name in seen.scores for seen in data.seen)]
    columns = {
        name: {metric.name: [seen.scores[name][metric.name] for seen in data.seen] for metric in plan.metrics}
        for name in scored
    }
    scenes = [seen.scene for seen in data.seen]
    differences: dict[str, dict[str, Any]] = {}
    for name in columns if reference in columns else ():
        for metric in plan.metrics if name not in ('input', reference) else ():
            found = statistics.difference(
                columns[name][metric.name],
                columns[reference][metric.name],
                plan.bootstrap_samples,
                plan.bootstrap_seed,
                scenes,
            )
            interval = dict(zip(('mean', 'low', 'high'), found, strict=True)) if found else None
            differences.setdefault(name, {})[metric.name] = interval
    return {
        'name': data.images.name,
        'has_gt': data.has_gt,
        **({'clean': data.images.clean, 'noise_std': data.images.noise_std} if data.images.clean else {}),
        'benchmark': data.benchmark,
        'note': ' '.join(_NOTES[kind] for kind in _NOTES if any(name.endswith(kind) for name in files)),
        'scenes': len(set(scenes)),
        'images': [_image(seen) for seen in data.seen],
        'means': {
            name: _plain({metric: statistics.mean(scores) for metric, scores in by_metric.items()})
            for name, by_metric in columns.items()
        },
        'differences': differences,
    }


def _image(seen: Seen) -> Results:
    return {
        'name': seen.name,
        'size': list(seen.size),
        'files': seen.files,
        'scores': {name: _plain(scores) for name, scores in seen.scores.items()},
    }


def _add_drops(plan: Comparison, datasets: list[Results]) -> None:
    """What noise costs, positive for a loss in every metric."""
    drop_from = {entry.name: entry.drop_from for entry in plan.models if isinstance(entry, Entry) and entry.drop_from}
    clean = {dataset['name']: dataset['means'] for dataset in datasets}
    for dataset in datasets:
        if 'clean' not in dataset:
            continue
        drops = dataset['drops'] = {}
        for name, after in dataset['means'].items():
            before = clean.get(dataset['clean'], {}).get(drop_from.get(name, name))
            if before is not None:
                drops[name] = {
                    metric.name: _loss(before[metric.name], after[metric.name], metric.better)
                    for metric in plan.metrics
                }


def _loss(before: float | None, after: float | None, better: str) -> float | None:
    """None: one of them is infinite, or both."""
    if before is None or after is None:
        return None
    return before - after if better == 'higher' else after - before


def _plain(scores: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity."""
    return {metric: value if math.isfinite(value) else None for metric, value in scores.items()}


def with_infinities(results: Results) -> Results:
    """The results with the infinite scores that `results.json` has as null, for the report."""
    results = copy.deepcopy(results)
    for dataset in results['datasets']:
        for by_model in (dataset['means'], *(image['scores'] for image in dataset['images'])):
            for scores in by_model.values():
                scores.update({metric: math.inf for metric, value in scores.items() if value is None})
    return results


def write(folder: Path, results: Results) -> None:
    """results.json, scores.csv, table.md and table.tex, each whole or not at all. Raises ResultsError."""
    write_result(folder / 'results.json', json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + '\n')
    write_result(folder / 'scores.csv', scores_csv(results))
    write_result(folder / 'table.md', comparison_tables.render(results, 'markdown'))
    write_result(folder / 'table.tex', comparison_tables.render(results, 'latex'))


def scores_csv(results: Results) -> str:
    """One row a model, data set and image; the input is a model too."""
    metrics = [metric['name'] for metric in results['metrics']]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    settings = comparison_tables.settings_words(results)
    writer.writerow(['dataset', 'image', 'model', 'protocol', *metrics, 'settings'])
    for dataset in results['datasets']:
        for image in dataset['images']:
            for model, scores in image['scores'].items():
                cells = ['inf' if scores[metric] is None else repr(scores[metric]) for metric in metrics]
                row = [dataset['name'], image['name'], model, results['protocol'], *cells, settings.get(model, '')]
                writer.writerow(row)
    return text.getvalue()
