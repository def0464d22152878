"""The tables of a comparison, from the content of its results.json: for terminals, Markdown, LaTeX and as CSV."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ggkm_plugin.report.tables import ranked

FORMATS = ('table', 'markdown', 'csv', 'latex')
_ARROWS = {'higher': '↑', 'lower': '↓'}
_PUBLISHED = 'published, protocol unknown'
_LOSS = 'loss: against the images without added noise, positive for worse'
_NOTHING = '-'

Results = dict[str, Any]


class Cell(NamedTuple):
    """Text, and 1 for the best or 2 for the second best of its column."""

    text: str
    rank: int = 0


@dataclass
class Table:
    """Groups of rows under a line of headings; a group with a label is set apart from those before it."""

    title: str
    header: list[str]
    groups: list[tuple[str, list[list[Cell]]]]
    notes: list[str] = field(default_factory=list)


def render(results: Results, form: str) -> str:
    """All tables, as one of FORMATS; ends in a line break."""
    if form == 'csv':
        return means_csv(results)
    tables = _tables(results)
    write: Callable[[Table], str] = {'table': _text, 'markdown': _markdown, 'latex': _latex}[form]
    return '\n\n'.join(write(table) for table in tables) + '\n'


def means_csv(results: Results) -> str:
    """One row a data set and method; `source` tells measured from published, `protocol` is empty where unknown."""
    metrics = [metric['name'] for metric in results['metrics']]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    settings = settings_words(results)
    writer.writerow(['dataset', 'method', 'source', 'protocol', *metrics, 'settings'])
    for dataset in results['datasets']:
        for method, means in dataset['means'].items():
            cells = ['inf' if means[metric] is None else repr(means[metric]) for metric in metrics]
            row = [dataset['name'], method, 'measured', results['protocol'], *cells, settings.get(method, '')]
            writer.writerow(row)
    for row in results['published']:
        cells = ['' if row.get(metric) is None else row[metric] for metric in metrics]
        row_words = f'published: {row["source"]}'
        writer.writerow([row['dataset'], _published_name(row), row_words, '', *cells, ''])
    return text.getvalue()


def settings_words(results: Mapping[str, Any]) -> dict[str, str]:
    """Of each model that has settings: those, in words."""
    return {
        model['name']: ', '.join(f'{key} {value}' for key, value in model['settings'].items())
        for model in results.get('models') or ()
        if model.get('settings')
    }


# --- what they say ----------------------------------------------------------------------------------------------------


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
    """Of a noisy data set with what the noise costs beside each score."""
    metrics, means = results['metrics'], dataset['means']
    ranks = {
        metric['name']: ranked(
            {name: _number(means[name][metric['name']]) for name in means if name != 'input'},
            metric['better'],
            metric['digits'],
        )
        for metric in metrics
    }

    def cells(name: str, metric: Results) -> list[Cell]:
        key, digits = metric['name'], metric['digits']
        score = Cell(_score(means[name][key], digits), ranks[key].get(name, 0))
        return [score, _loss(dataset, name, metric)] if 'clean' in dataset else [score]

    measured = [[Cell(_shown(name)), *(cell for metric in metrics for cell in cells(name, metric))] for name in means]
    headings = _headings(metrics)
    if 'clean' in dataset:
        headings = [word for heading in headings for word in (heading, 'loss')]
    absent = [model['name'] for model in results['models'] if model['name'] not in means]
    measured += [[Cell(name), *(Cell('failed') for _ in headings)] for name in absent]
    groups = [('', measured)]
    notes = [f'{results["protocol_words"]}; {_count(dataset)}']
    published = [row for row in results['published'] if row['dataset'] == dataset['benchmark']]
    notes += [f'{name}: {words}' for name, words in settings_words(results).items()]
    if published and 'clean' not in dataset:
        groups.append((_PUBLISHED, [_published(row, published, metrics) for row in published]))
        notes.append(f'{_PUBLISHED}: printed in {"; ".join(dict.fromkeys(row["source"] for row in published))}')
    if 'clean' in dataset:
        notes.append(_LOSS)
    return Table(_title(results, dataset), ['method', *headings], groups, notes)


def _published(row: Results, rows: list[Results], metrics: list[Results]) -> list[Cell]:
    """With as many digits as its source, one of those of `rows`, prints."""
    same = [other for other in rows if other['source'] == row['source']]
    cells = [Cell(_published_name(row))]
    for metric in metrics:
        printed = [str(other[metric['name']]) for other in same if other.get(metric['name']) is not None]
        digits = max((len(text.partition('.')[2]) for text in printed), default=0)
        score = row.get(metric['name'])
        cells.append(Cell(_NOTHING if score is None else f'{score:.{digits}f}'))
    return cells


def _published_name(row: Results) -> str:
    return f'{row["method"]} ({row["remark"]})' if row.get('remark') else row['method']


def _loss(noisy: Results, name: str, metric: Results) -> Cell:
    loss = noisy['drops'].get(name, {}).get(metric['name'])
    return Cell(_NOTHING if loss is None else f'{loss:.{metric["digits"]}f}')


def _differences(results: Results, dataset: Results) -> Table:
    rows = []
    for name, by_metric in dataset['differences'].items():
        cells = [Cell(name)]
        for metric in results['metrics']:
            found, digits = by_metric[metric['name']], metric['digits']
            cells.append(
                Cell(_NOTHING)
                if found is None
                else Cell(f'{found["mean"]:+.{digits}f} [{found["low"]:+.{digits}f}, {found["high"]:+.{digits}f}]')
            )
        rows.append(cells)
    samples = results['bootstrap']['samples']
    note = f'paired over {_count(dataset)}; 95 % percentile bootstrap intervals of {samples} resamples'
    if dataset['scenes'] < len(dataset['images']):
        note += ', which draw scenes, each with all of its images'
    title = f'{_title(results, dataset)}: difference from {results["difference_to"]}'
    return Table(title, ['method', *_headings(results['metrics'])], [('', rows)], [note])


def _drops(results: Results, clean: Results) -> Table:
    """What noise costs at each level, as in the paper's Tables 6 and 7."""
    metrics = results['metrics']
    rows, published = [], []
    for noisy in (other for other in results['datasets'] if other.get('clean') == clean['name']):
        std = noisy['noise_std']
        for name in noisy['drops']:
            rows.append([Cell(_shown(name)), Cell(f'{std:g}'), *(_loss(noisy, name, metric) for metric in metrics)])
        for row in results['published_drops']:
            if row['dataset'] == clean['benchmark'] and row['std'] == std:
                method, *cells = _published(row, results['published_drops'], metrics)
                published.append([method, Cell(f'{std:g}'), *cells])
    groups = [('', rows)]
    notes = [f'{_LOSS}; noise: standard deviation in 8-bit steps, unclipped']
    notes += [f'{name}: from {other}' for name, other in results['drop_from'].items()]
    if published:
        groups.append((_PUBLISHED, published))
        notes.append(
            f'{_PUBLISHED}: {results["published_drops"][0]["source"]}, from a network trained without noise to one '
            'trained with it'
        )
    headings = [metric['label'] for metric in metrics]
    return Table(f'{_title(results, clean)}: loss by noise', ['method', 'noise', *headings], groups, notes)


def _models(results: Results) -> Table:
    rows = [
        [
            Cell(model['name']),
            Cell(model['arch'] or _NOTHING),
            _scaled(model['parameters'], 1e6, 3),
            _scaled(model['macs_true'], 1e9, 1),
            _scaled(model['macs_paper'], 1e9, 1),
            _scaled(model['seconds'], 1, 3),
            _scaled(model['memory_bytes'], 2**20, 0),
            Cell((model['sha256'] or _NOTHING)[:8]),
            Cell(model['status']),
        ]
        for model in results['models']
    ]
    header = [
        'method', 'arch', 'params M', 'true GMAC', 'paper GMAC', 'time s', 'memory MiB', 'weights', 'status',
    ]  # fmt: skip
    known = {row['method']: row for row in results['published'] if row['parameters'] is not None}
    published = [
        [
            Cell(method),
            Cell(_NOTHING),
            _scaled(row['parameters'], 1e6, 2),
            Cell(_NOTHING),
            _scaled(row['macs_paper'], 1e9, 1),
            *(Cell(_NOTHING) for _ in header[5:]),
        ]
        for method, row in known.items()
    ]
    notes = [
        f'MACs, time and peak memory: one image of {results["measured_at"]}. paper GMAC: the convention of the GGKMNet '
        f'paper, thop / 2. time: median, float32, {results["machine"]["device"]}. memory: {results["memory_source"]}. '
        'weights: sha256'
    ]
    groups = [('', rows), *([('published', published)] if published else [])]
    return Table('Models', header, groups, notes)


def _title(results: Results, dataset: Results) -> str:
    noise = f', noise {dataset["noise_std"]:g}' if 'clean' in dataset else ''
    return f'{dataset.get("clean") or dataset["name"]}{noise}, protocol {results["protocol"]}'


def _headings(metrics: list[Results]) -> list[str]:
    return [f'{metric["label"]} {_ARROWS[metric["better"]]}' for metric in metrics]


def _shown(name: str) -> str:
    return 'Input' if name == 'input' else name


def _count(dataset: Results) -> str:
    """How many images, and of how many scenes where several share one."""
    images, scenes = len(dataset['images']), dataset['scenes']
    return f'{images} images' if scenes in (0, images) else f'{images} images of {scenes} scenes'


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _score(value: float | None, digits: int) -> str:
    return f'{_number(value):.{digits}f}'


def _scaled(value: float | None, unit: float, digits: int) -> Cell:
    return Cell(_NOTHING if value is None else f'{value / unit:.{digits}f}')


# --- how they look ----------------------------------------------------------------------------------------------------


def _text(table: Table) -> str:
    """Best marked with two stars, second best with one; decimal points below one another."""
    marked = any(cell.rank for _, rows in table.groups for row in rows for cell in row)
    stars = {1: ' **', 2: ' * ', 0: '   ' if marked else ''}
    columns = zip(*(row for _, rows in table.groups for row in rows), strict=True)
    decimals = [max(_decimals(cell.text) for cell in column) for column in columns]

    def shown(cell: Cell, column: int) -> str:
        own = _decimals(cell.text)
        return cell.text + ' ' * (decimals[column] - own if own else 0) + stars[cell.rank] * (column > 0)

    groups = [
        (label, [[shown(cell, column) for column, cell in enumerate(row)] for row in rows])
        for label, rows in table.groups
    ]
    header = [name + stars[0] * (i > 0) for i, name in enumerate(table.header)]
    lines = [header, *(row for _, rows in groups for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        return '  '.join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]).rstrip()

    rule = '-' * (sum(widths) + 2 * len(widths) - 2)
    out = [table.title, rule, line(header)]
    for label, rows in groups:
        out += [rule if not label else f'{rule}\n({label})', *map(line, rows)]
    notes = [*table.notes, *(['** best, * second best'] if marked else [])]
    return '\n'.join([*out, rule, *notes])


def _decimals(text: str) -> int:
    """Of a number; 0 for anything else."""
    whole, _, fraction = text.partition('.')
    return len(fraction) if fraction.isdecimal() and whole.lstrip('-').isdecimal() else 0


def _markdown(table: Table) -> str:
    forms = {0: '{}', 1: '**{}**', 2: '<u>{}</u>'}
    out = [f'### {_escaped(table.title, _MARKDOWN)}', '']
    for label, rows in table.groups:
        out += [f'\n*{label}*\n'] if label else []
        out.append(f'| {" | ".join(_escaped(name, _MARKDOWN) for name in table.header)} |')
        out.append(f'| --- |{" ---: |" * (len(table.header) - 1)}')
        for row in rows:
            out.append(f'| {" | ".join(forms[cell.rank].format(_escaped(cell.text, _MARKDOWN)) for cell in row)} |')
    return '\n'.join([*out, '', *(f'{_escaped(note, _MARKDOWN)}.' for note in table.notes)])


def _latex(table: Table) -> str:
    """A tabular with booktabs' rules; best bold, second best underlined."""
    forms = {0: '{}', 1: r'\textbf{{{}}}', 2: r'\underline{{{}}}'}
    width = len(table.header)
    out = [
        f'% {table.title}',
        *(f'% {note}' for note in table.notes),
        r'\begin{table}',
        r'\centering',
        rf'\caption{{{_escaped(table.title, _LATEX)}}}',
        rf'\begin{{tabular}}{{l{"r" * (width - 1)}}}',
        r'\toprule',
        ' & '.join(_escaped(name, _LATEX) for name in table.header) + r' \\',
    ]
    for label, rows in table.groups:
        out.append(r'\midrule')
        out += [rf'\multicolumn{{{width}}}{{l}}{{\emph{{{_escaped(label, _LATEX)}}}}} \\'] if label else []
        out += [
            ' & '.join(forms[cell.rank].format(_escaped(cell.text, _LATEX)) for cell in row) + r' \\' for row in rows
        ]
    return '\n'.join([*out, r'\bottomrule', r'\end{tabular}', r'\end{table}'])


_MARKDOWN = {char: f'\\{char}' for char in '\\|*_`<>#'}
_LATEX = {
    **{char: f'\\{char}' for char in '&%$#_{}'},
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '↑': r'$\uparrow$',
    '↓': r'$\downarrow$',
}


def _escaped(text: str, table: dict[str, str]) -> str:
    return ''.join(table.get(char, char) for char in text)
