"""Tables of a comparison, made from the content of its results.json."""

import math
from collections.abc import Mapping
from typing import Any

from ggkm_plugin.report.tables import MISSING, Cell, Table, TableRow, csv_text, fixed, ranked, write

FORMATS = ('table', 'markdown', 'csv', 'latex')
_ARROWS = {'higher': '↑', 'lower': '↓'}
_PUBLISHED = 'published, protocol unknown'
_ALIGNED = '_aligned'  # of the names of metrics, see `evaluation.alignment`
_ALIGNMENT = (
    'aligned: each image registered to its ground truth by one sub-pixel shift before it is scored, without the margin'
)
_LOSS = 'loss: difference from the images without added noise, positive for worse'

Results = dict[str, Any]


def render(results: Results, form: str) -> str:
    """Return all tables as one of FORMATS; ends in a line break."""
    if form == 'csv':
        return means_csv(results)
    return '\n\n'.join(write(table, form) for table in _tables(results)) + '\n'


def means_csv(results: Results) -> str:
    """Return one row per data set and method. `source` is measured or published; `protocol` is empty where unknown."""
    metrics = [metric['name'] for metric in results['metrics']]
    settings = settings_words(results)
    rows = [
        [
            dataset['name'], method, 'measured', results['protocol'],
            *(_number(means, metric) for metric in metrics), settings.get(method, ''),
        ]
        for dataset in results['datasets']
        for method, means in dataset['means'].items()
    ]  # fmt: skip
    rows += [
        [row['dataset'], _published_name(row), f'published: {row["source"]}', '', *map(row.get, metrics), '']
        for row in results['published']
    ]
    return csv_text(['dataset', 'method', 'source', 'protocol', *metrics, 'settings'], rows)


def settings_words(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of each model that has some, as text."""
    return {
        model['name']: ', '.join(f'{key} {value}' for key, value in model['settings'].items())
        for model in results.get('models') or ()
        if model.get('settings')
    }


def _tables(results: Results) -> list[Table]:
    tables = []
    for dataset in results['datasets']:
        if dataset['means'] and results['metrics']:
            tables.append(_means(results, dataset))
        if dataset['differences']:
            tables.append(_differences(results, dataset))
    for dataset in results['datasets']:
        if any(other.get('clean') == dataset['name'] and other['drops'] for other in results['datasets']):
            tables.append(_drops(results, dataset))
    tables.append(_models(results))
    return tables


def _means(results: Results, dataset: Results) -> Table:
    """Build the table of mean scores; for a noisy data set each score is followed by its loss."""
    metrics, means = results['metrics'], dataset['means']
    ranks = {
        metric['name']: ranked(
            {
                name: number
                for name, row in means.items()
                if name != 'input' and (number := _number(row, metric['name'])) is not None
            },
            metric['better'],
            metric['digits'],
        )
        for metric in metrics
    }

    def cells(name: str, metric: Results) -> list[Cell | str]:
        key, digits = metric['name'], metric['digits']
        score = Cell(fixed(_number(means[name], key), digits), ranks[key].get(name, 0))
        return [score, _loss(dataset, name, metric)] if 'clean' in dataset else [score]

    measured: list[TableRow] = [
        [_shown(name), *(cell for metric in metrics for cell in cells(name, metric))] for name in means
    ]
    headings = _headings(metrics)
    if 'clean' in dataset:
        headings = [word for heading in headings for word in (heading, 'loss')]
    absent = [model['name'] for model in results['models'] if model['name'] not in means]
    measured += [[name, *('failed' for _ in headings)] for name in absent]
    groups = []
    notes = [f'{results["protocol_words"]}; {_count(dataset)}']
    published = [row for row in results['published'] if row['dataset'] == dataset['benchmark']]
    notes += [_ALIGNMENT] if any(metric['name'].endswith(_ALIGNED) for metric in metrics) else []
    notes += [f'{name}: {words}' for name, words in settings_words(results).items()]
    if published and 'clean' not in dataset:
        groups.append((_PUBLISHED, [_published(row, published, metrics) for row in published]))
        notes.append(f'{_PUBLISHED}: printed in {"; ".join(dict.fromkeys(row["source"] for row in published))}')
    if 'clean' in dataset:
        notes.append(_LOSS)
    return Table(['method', *headings], measured, groups, _title(results, dataset), notes)


def _published(row: Results, rows: list[Results], metrics: list[Results]) -> list[Cell | str]:
    """Build a published row with the digits that its source prints. rows: those of all sources."""
    same = [other for other in rows if other['source'] == row['source']]
    cells: list[Cell | str] = [Cell(_published_name(row), footnote=row.get('footnote') or '')]
    for metric in metrics:
        printed = [str(other[metric['name']]) for other in same if other.get(metric['name']) is not None]
        digits = max((len(text.partition('.')[2]) for text in printed), default=0)
        cells.append(fixed(row.get(metric['name']), digits))
    return cells


def _published_name(row: Results) -> str:
    return f'{row["method"]} ({row["remark"]})' if row.get('remark') else row['method']


def _loss(noisy: Results, name: str, metric: Results) -> str:
    return fixed(noisy['drops'].get(name, {}).get(metric['name']), metric['digits'])


def _differences(results: Results, dataset: Results) -> Table:
    rows = []
    for name, by_metric in dataset['differences'].items():
        cells = [name]
        for metric in results['metrics']:
            found = by_metric[metric['name']]
            if found is None:
                cells.append(MISSING)
            else:
                mean, low, high = (fixed(found[key], metric['digits'], sign='+') for key in ('mean', 'low', 'high'))
                cells.append(f'{mean} [{low}, {high}]')
        rows.append(cells)
    samples = results['bootstrap']['samples']
    note = f'paired over {_count(dataset)}; 95 % percentile bootstrap intervals of {samples} resamples'
    if dataset['scenes'] < len(dataset['images']):
        note += ', drawn by scene'
    title = f'{_title(results, dataset)}: difference from {results["difference_to"]}'
    return Table(['method', *_headings(results['metrics'])], rows, title=title, notes=[note])


def _drops(results: Results, clean: Results) -> Table:
    """Build the table of losses by noise level, as the paper's Tables 6 and 7."""
    metrics = results['metrics']
    rows, published = [], []
    for noisy in (other for other in results['datasets'] if other.get('clean') == clean['name']):
        std = noisy['noise_std']
        for name in noisy['drops']:
            rows.append([_shown(name), f'{std:g}', *(_loss(noisy, name, metric) for metric in metrics)])
        for row in results['published_drops']:
            if row['dataset'] == clean['benchmark'] and row['std'] == std:
                method, *cells = _published(row, results['published_drops'], metrics)
                published.append([method, f'{std:g}', *cells])
    notes = [f'{_LOSS}; noise: standard deviation in 8-bit steps, unclipped']
    notes += [f'{name}: from {other}' for name, other in results['drop_from'].items()]
    if published:
        notes.append(
            f'{_PUBLISHED}: {results["published_drops"][0]["source"]}, from a network trained without noise to one '
            'trained with it'
        )
    headings = ['method', 'noise', *(metric['label'] for metric in metrics)]
    return Table(headings, rows, [(_PUBLISHED, published)], f'{_title(results, clean)}: loss by noise', notes)


def _models(results: Results) -> Table:
    rows = [
        [
            model['name'],
            model['arch'] or MISSING,
            fixed(model['parameters'], 3, 1e6),
            fixed(model['macs_true'], 1, 1e9),
            fixed(model['macs_paper'], 1, 1e9),
            fixed(model['seconds'], 3),
            fixed(model['memory_bytes'], 0, 2**20),
            (model['sha256'] or MISSING)[:8],
            model['status'],
        ]
        for model in results['models']
    ]
    header = [
        'method', 'arch', 'params M', 'true GMAC', 'paper GMAC', 'time s', 'memory MiB', 'weights', 'status',
    ]  # fmt: skip
    known = {row['method']: row for row in results['published'] if row['parameters'] is not None}
    published = [
        [
            method,
            MISSING,
            fixed(row['parameters'], 2, 1e6),
            MISSING,
            fixed(row['macs_paper'], 1, 1e9),
            *(MISSING for _ in header[5:]),
        ]
        for method, row in known.items()
    ]
    note = (
        f'MACs, time and peak memory: one image of {results["measured_at"]}. paper GMAC: the convention of the GGKMNet '
        f'paper, thop / 2. time: median, float32, {results["machine"]["device"]}. memory: {results["memory_source"]}. '
        'weights: sha256'
    )
    return Table(header, rows, [('published', published)], 'Models', [note])


def _title(results: Results, dataset: Results) -> str:
    noise = f', noise {dataset["noise_std"]:g}' if 'clean' in dataset else ''
    return f'{dataset.get("clean") or dataset["name"]}{noise}, protocol {results["protocol"]}'


def _headings(metrics: list[Results]) -> list[str]:
    return [f'{metric["label"]} {_ARROWS[metric["better"]]}' for metric in metrics]


def _shown(name: str) -> str:
    return 'Input' if name == 'input' else name


def _count(dataset: Results) -> str:
    """Return the number of images, and of scenes if some images share one."""
    images, scenes = len(dataset['images']), dataset['scenes']
    return f'{images} images' if scenes in (0, images) else f'{images} images of {scenes} scenes'


def _number(means: Mapping[str, float | None], metric: str) -> float | None:
    """Return a score of results.json, where null is infinite; None for a metric that was not computed."""
    return math.inf if metric in means and means[metric] is None else means.get(metric)
