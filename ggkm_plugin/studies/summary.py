"""A study as the paper's table with ours beside it: mean and spread over seeds, and which orderings hold.

A row's difference is taken from the reference under the same seed, so that what the seeds share cancels. The paper's
ordering of a row and the reference is confirmed if every seed has it, contradicted if every seed has its opposite, else
it is open. Numbers of ours are of other data and another budget than the paper's: only differences compare.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from ggkm_plugin.report import tables
from ggkm_plugin.studies.catalog import Row
from ggkm_plugin.studies.plan import Plan, Settings
from ggkm_plugin.studies.runs import Outcome
from ggkm_plugin.utils.files import write_whole, writing_into
from ggkm_plugin.utils.hashing import digest

_LABELS = {'psnr': 'PSNR', 'ssim': 'SSIM', 'lpips': 'LPIPS', 'mae': 'MAE'}
_DIGITS = {'psnr': 3, 'ssim': 4, 'lpips': 4, 'mae': 5}
_NOTHING = '-'


@dataclass(frozen=True)
class Cell:
    """A metric of a row on a data set: the seeds' values and differences, the paper's value and difference."""

    values: list[float]
    differences: list[float]
    paper: float | None
    paper_difference: float | None

    @property
    def verdict(self) -> str:
        """Of the paper's ordering against the reference; empty where it has none or nothing was measured."""
        if not self.paper_difference or not self.differences:
            return ''
        same = [value * self.paper_difference for value in self.differences]
        if all(value > 0 for value in same):
            word = 'confirmed'
        elif all(value < 0 for value in same):
            word = 'contradicted'
        else:
            return 'open'
        return word if len(same) > 1 else f'{word} (one seed)'


def cell(plan: Plan, outcome: Outcome, row: Row, dataset: str, metric: str) -> Cell:
    """`metric` as the option file names it."""
    seeds = list(dict.fromkeys(job.seed for job in plan.jobs))
    reference = next(each for each in plan.study.rows if each.name == plan.study.reference)
    values, differences = [], []
    for seed in seeds:
        own = outcome.means.get((row.name, seed), {}).get(dataset)
        other = outcome.means.get((reference.name, seed), {}).get(dataset)
        if own:
            values.append(own['result'][metric])
            if other and row is not reference:
                differences.append(own['result'][metric] - other['result'][metric])
    kind = _kind(plan, metric)
    paper = (row.paper or {}).get(kind)
    difference = (row.difference or {}).get(kind)
    if difference is None and paper is not None and kind in (reference.paper or {}) and row is not reference:
        difference = round(paper - (reference.paper or {})[kind], 6)
    return Cell(values, differences, paper, difference)


def _metrics(plan: Plan) -> list[str]:
    return list(plan.jobs[0].test['val']['metrics'])


def _kind(plan: Plan, metric: str) -> str:
    """psnr, ssim ... whatever the option file calls it."""
    return str(plan.jobs[0].test['val']['metrics'][metric]['type']).removeprefix('defocus_')


def _datasets(plan: Plan) -> list[str]:
    return [dataset['name'] for dataset in plan.jobs[0].test['datasets'].values()]


def _rows(plan: Plan) -> list[Row]:
    wanted = {job.row.name for job in plan.jobs}
    return [row for row in plan.study.rows if row.name in wanted]


def table(plan: Plan, outcome: Outcome, dataset: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows for one data set; three columns a metric, and the verdict on the first."""
    metrics = _metrics(plan)
    header = ['row']
    for metric in metrics:
        label = _LABELS.get(_kind(plan, metric), metric)
        header += [f'{label}, paper', f'{label}, ours', 'difference: paper', 'ours']
    header.append(f'order of {_LABELS.get(_kind(plan, metrics[0]), metrics[0])}')
    rows = []
    for row in _rows(plan):
        cells = [cell(plan, outcome, row, dataset, metric) for metric in metrics]
        line = [row.label]
        for metric, found in zip(metrics, cells, strict=True):
            digits = _DIGITS.get(_kind(plan, metric), 4)
            line += [
                _NOTHING if found.paper is None else f'{found.paper:.3f}',
                _spread(found.values, digits, signed=False) if found.values else 'failed',
                _NOTHING if found.paper_difference is None else f'{found.paper_difference:+.3f}',
                _spread(found.differences, digits, signed=True) if found.differences else _NOTHING,
            ]
        rows.append([*line, cells[0].verdict])
    return header, [_input_row(plan, outcome, dataset, metrics), *rows]


def _input_row(plan: Plan, outcome: Outcome, dataset: str, metrics: Sequence[str]) -> list[str]:
    """The blurred images themselves, as the reference saw them."""
    for (name, _), means in outcome.means.items():
        if name == plan.study.reference and dataset in means:
            found = means[dataset]['input']
            line = ['blurred input']
            for metric in metrics:
                line += [_NOTHING, f'{found[metric]:.{_DIGITS.get(_kind(plan, metric), 4)}f}', _NOTHING, _NOTHING]
            return [*line, '']
    return ['blurred input', *[_NOTHING] * (4 * len(metrics)), '']


def _spread(values: Sequence[float], digits: int, signed: bool) -> str:
    """Mean and sample standard deviation over seeds."""
    sign = '+' if signed else ''
    middle = f'{mean(values):{sign}.{digits}f}'
    return f'{middle} ± {stdev(values):.{digits}f}' if len(values) > 1 else middle


def report(plan: Plan, outcome: Outcome, settings: Settings, markdown: bool) -> str:
    """All tables, the budget and what failed; ends in a line break."""
    write = tables.markdown if markdown else tables.text
    parts = [f'{"# " if markdown else ""}Study {plan.name}: {plan.study.title}']
    for dataset in _datasets(plan):
        parts += [f'{"## " if markdown else ""}{dataset}', write(*table(plan, outcome, dataset))]
    parts.append('\n'.join(f'{"- " if markdown else ""}{line}' for line in _notes(plan, outcome, settings)))
    return '\n\n'.join(parts) + '\n'


def _notes(plan: Plan, outcome: Outcome, settings: Settings) -> list[str]:
    base, train = plan.base, plan.base['datasets']['train']
    seeds = list(dict.fromkeys(job.seed for job in plan.jobs))
    protocols = {metric.get('protocol', 'restormer') for metric in plan.jobs[0].test['val']['metrics'].values()}
    changed = [f'{key} {value}' for key, value in base['network_g'].items() if key != 'type']
    where = settings.opt or 'the built-in option file'
    if plan.study.own_networks:
        network = 'of every row its own'
    else:
        network = f'{base["network_g"]["type"]}, {_listed(changed) or "its defaults"}, where the row changes nothing'
    agreement = 'one seed says nothing of an order'
    if len(seeds) > 1:
        chance = f'{2.0 ** (1 - len(seeds)):.0%}'
        agreement = (
            f'confirmed, contradicted: all seeds agree; two equal rows would do either in {chance} of such studies'
        )
    lines = [
        f'ours: {where}, {base["train"]["total_iter"]} iterations of {train["batch_size_per_gpu"]} crops of '
        f'{train["gt_size"]} for every row, seeds {_listed(seeds)}; protocol {_listed(sorted(protocols))}',
        f'network: {network}',
        f'mean ± standard deviation over seeds; differences from {_label(plan, plan.study.reference)}, seed by seed',
        agreement,
        "paper: DPDD, 435k iterations, protocol not stated; its scores and ours are of other data, only the order's "
        'sign compares',
    ]
    if plan.study.note:
        lines.append(plan.study.note)
    lines.append(f'table {_table(plan)}')
    failed = [f'{_label(plan, name)}, seed {seed}: {why}' for (name, seed), why in outcome.failures.items()]
    return [*lines, *(f'failed: {line}' for line in failed)]


def _listed(values: Sequence[object]) -> str:
    return ', '.join(map(str, values))


def _label(plan: Plan, name: str) -> str:
    return next(row.label for row in plan.study.rows if row.name == name)


def to_csv(plan: Plan, outcome: Outcome) -> str:
    """A line for each data set, row, seed and metric, with the paper's numbers."""
    lines = []
    for dataset in _datasets(plan):
        for row in _rows(plan):
            for job in plan.jobs:
                means = outcome.means.get((row.name, job.seed), {}).get(dataset)
                if job.row is not row or means is None:
                    continue
                for metric in _metrics(plan):
                    found = cell(plan, outcome, row, dataset, metric)
                    lines.append(
                        [
                            plan.name, dataset, row.name, job.seed, metric, means['result'][metric],
                            means['input'][metric], _blank(found.paper), _blank(found.paper_difference), job.name,
                        ]
                    )  # fmt: skip
    header = ['study', 'dataset', 'row', 'seed', 'metric', 'value', 'input', 'paper', 'paper_difference', 'experiment']
    return tables.csv_text(header, lines)


def _blank(value: float | None) -> float | str:
    return '' if value is None or not math.isfinite(value) else value


def _table(plan: Plan) -> str:
    """What a table is of, as a number: rows, seeds, and all options."""
    return digest([(job.row.name, job.seed, job.test_name) for job in plan.jobs])[:8]


def _put_aside(report: Path, table: str) -> None:
    """Rename an earlier report of another table, and its CSV. Raises OSError."""
    if not report.is_file():
        return
    content = report.read_text(encoding='utf-8', errors='replace')
    found = re.search(r'^- table ([0-9a-f]{8})$', content, re.MULTILINE)
    earlier = found[1] if found else 'earlier'
    if earlier != table:
        for path in (report, report.with_suffix('.csv')):
            if path.is_file():
                path.replace(path.with_stem(f'{path.stem}_{earlier}'))


def write_files(plan: Plan, outcome: Outcome, settings: Settings, folder: Path) -> list[Path]:
    """NAME.md and NAME.csv in `folder`; those of other rows, budgets or data keep their number. Raises DataError."""
    contents = {
        folder / f'{plan.name}.md': report(plan, outcome, settings, markdown=True),
        folder / f'{plan.name}.csv': to_csv(plan, outcome),
    }
    with writing_into(folder, '--root'):
        folder.mkdir(parents=True, exist_ok=True)
        _put_aside(folder / f'{plan.name}.md', _table(plan))
        for path, content in contents.items():
            write_whole(path, content)
    return list(contents)
