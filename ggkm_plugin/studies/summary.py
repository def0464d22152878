"""Tables of a study: the paper's scores beside those measured, with mean and spread over seeds.

A row's difference is taken from the reference row of the same seed. The paper's ordering of a row and the reference is
confirmed if every seed has it, contradicted if every seed has the opposite, else open. Measured scores come from other
data and another budget than the paper's: only the signs of differences compare.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ggkm_plugin.report.tables import MISSING, Table, csv_text, fixed, write
from ggkm_plugin.studies.catalog import StudyRow
from ggkm_plugin.studies.plan import StudyPlan, StudySettings
from ggkm_plugin.studies.runs import StudyOutcome
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.files import write_whole, writing_into

_LABELS = {'psnr': 'PSNR', 'ssim': 'SSIM', 'lpips': 'LPIPS', 'mae': 'MAE'}
_DIGITS = {'psnr': 3, 'ssim': 4, 'lpips': 4, 'mae': 5}


@dataclass(frozen=True)
class StudyCell:
    """A metric of a row on a data set: values and differences by seed, the paper's value and difference."""

    values: list[float]
    differences: list[float]
    paper: float | None
    paper_difference: float | None

    @property
    def verdict(self) -> str:
        """Verdict on the paper's ordering; empty where the paper has none or nothing was measured."""
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


def cell(plan: StudyPlan, outcome: StudyOutcome, row: StudyRow, dataset: str, metric: str) -> StudyCell:
    """Return the cell of a row. metric: its name in the option file."""
    seeds = list(dict.fromkeys(job.seed for job in plan.jobs))
    reference = next(each for each in plan.study.rows if each.name == plan.study.reference)
    values, differences = [], []
    for seed in seeds:
        own = outcome.means.get((row.name, seed), {}).get(dataset)
        other = outcome.means.get((reference.name, seed), {}).get(dataset)
        if own and metric in own['result']:
            values.append(own['result'][metric])
            if other and metric in other['result'] and row is not reference:
                differences.append(own['result'][metric] - other['result'][metric])
    kind = _kind(plan, metric)
    paper = (row.paper or {}).get(kind)
    difference = (row.difference or {}).get(kind)
    if difference is None and paper is not None and kind in (reference.paper or {}) and row is not reference:
        difference = round(paper - (reference.paper or {})[kind], 6)
    return StudyCell(values, differences, paper, difference)


def _metrics(plan: StudyPlan) -> list[str]:
    return list(plan.jobs[0].test['val']['metrics'])


def _kind(plan: StudyPlan, metric: str) -> str:
    """Return the kind of a metric (psnr, ssim ...) by its name in the option file."""
    return str(plan.jobs[0].test['val']['metrics'][metric]['type']).removeprefix('defocus_')


def _datasets(plan: StudyPlan) -> list[str]:
    return [dataset['name'] for dataset in plan.jobs[0].test['datasets'].values()]


def _rows(plan: StudyPlan) -> list[StudyRow]:
    wanted = {job.row.name for job in plan.jobs}
    return [row for row in plan.study.rows if row.name in wanted]


def table(plan: StudyPlan, outcome: StudyOutcome, dataset: str) -> Table:
    """Return the table of one data set: four columns per metric, and the verdict on the first metric."""
    metrics = _metrics(plan)
    header = ['row']
    for metric in metrics:
        label = _LABELS.get(_kind(plan, metric), metric)
        header += [f'{label}, paper', f'{label}, here', 'difference: paper', 'here']
    header.append(f'order of {_LABELS.get(_kind(plan, metrics[0]), metrics[0])}')
    rows = []
    for row in _rows(plan):
        cells = [cell(plan, outcome, row, dataset, metric) for metric in metrics]
        line = [row.label]
        for metric, found in zip(metrics, cells, strict=True):
            digits = _DIGITS.get(_kind(plan, metric), 4)
            line += [
                fixed(found.paper, 3),
                _spread(found.values, digits)
                if found.values
                else (MISSING if _scored(outcome, row, dataset) else 'failed'),
                fixed(found.paper_difference, 3, sign='+'),
                _spread(found.differences, digits, sign='+') if found.differences else MISSING,
            ]
        rows.append([*line, cells[0].verdict])
    return Table(header, [_input_row(plan, outcome, dataset, metrics), *rows], title=dataset)


def _scored(outcome: StudyOutcome, row: StudyRow, dataset: str) -> bool:
    """Whether a row has scores, though not of every metric: LPIPS without its backbone is skipped."""
    return any(name == row.name and dataset in means for (name, _), means in outcome.means.items())


def _input_row(plan: StudyPlan, outcome: StudyOutcome, dataset: str, metrics: Sequence[str]) -> list[str]:
    """Return the scores of the blurred images, as measured with the reference row."""
    found: dict[str, float] = {}
    for (name, _), means in outcome.means.items():
        if name == plan.study.reference and dataset in means:
            found = means[dataset]['input']
    line = ['blurred input']
    for metric in metrics:
        line += [MISSING, fixed(found.get(metric), _DIGITS.get(_kind(plan, metric), 4)), MISSING, MISSING]
    return [*line, '']


def _spread(values: Sequence[float], digits: int, sign: str = '') -> str:
    """Format mean and sample standard deviation over seeds."""
    middle = fixed(mean(values), digits, sign=sign)
    return f'{middle} ± {stdev(values):.{digits}f}' if len(values) > 1 else middle


def report(plan: StudyPlan, outcome: StudyOutcome, settings: StudySettings, form: str = 'table') -> str:
    """Return all tables, the budget and the failures in a format of `report.tables`; ends in a line break."""
    heading, bullet = ('# ', '- ') if form == 'markdown' else ('', '')
    parts = [f'{heading}Study {plan.name}: {plan.study.title}']
    parts += [write(table(plan, outcome, dataset), form) for dataset in _datasets(plan)]
    parts.append('\n'.join(f'{bullet}{line}' for line in _notes(plan, outcome, settings)))
    return '\n\n'.join(parts) + '\n'


def _notes(plan: StudyPlan, outcome: StudyOutcome, settings: StudySettings) -> list[str]:
    base, train = plan.base, plan.base['datasets']['train']
    seeds = list(dict.fromkeys(job.seed for job in plan.jobs))
    protocols = {metric.get('protocol', 'restormer') for metric in plan.jobs[0].test['val']['metrics'].values()}
    changed = [f'{key} {value}' for key, value in base['network_g'].items() if key != 'type']
    where = settings.opt or plan.study.opt
    loss = [f'{key} {value}' for key, value in _loss_arguments(base['train']['pixel_opt']).items()]
    if plan.study.own_networks:
        network = 'each row its own'
    else:
        network = f'{base["network_g"]["type"]}, {_listed(changed) or "its defaults"}, unless the row changes it'
    agreement = 'one seed is too few for an order'
    if len(seeds) > 1:
        chance = f'{2.0 ** (1 - len(seeds)):.0%}'
        agreement = f'confirmed, contradicted: all seeds agree, which two equal rows do in {chance} of such studies'
    lines = [
        f'here: {where}, {base["train"]["total_iter"]} iterations of {train["batch_size_per_gpu"]} crops of '
        f'{train["gt_size"]} for every row, seeds {_listed(seeds)}; protocol {_listed(sorted(protocols))}',
        f'network: {network}',
        f'loss: {base["train"]["pixel_opt"]["type"]}, {_listed(loss)}, unless the row changes it',
        f'start: {_start(plan)}',
        f'mean ± standard deviation over seeds; differences from {_label(plan, plan.study.reference)}, seed by seed',
        agreement,
        'paper: DPDD, 435k iterations, protocol unknown; its data differ, so that only the signs of differences '
        'compare',
    ]
    if plan.study.note:
        lines.append(plan.study.note)
    failed = [f'{_label(plan, name)}, seed {seed}: {why}' for (name, seed), why in outcome.failures.items()]
    return [*lines, *(f'failed: {line}' for line in failed)]


def _loss_arguments(options: Options) -> dict[str, Any]:
    """Return the arguments of a loss: its defaults, and those of the option file."""
    parameters = inspect.signature(registry.registered('train.pixel_opt', 'losses', options)).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return {**defaults, **{key: value for key, value in options.items() if key != 'type'}}


def _start(plan: StudyPlan) -> str:
    """Describe the initialization of the networks."""
    weights = (plan.base.get('path') or {}).get('pretrain_network_g')
    if weights:
        return str(weights)
    own = "each network's own" if plan.study.own_networks else ''
    return own or f'init: {plan.base["network_g"].get("init", "xavier (the paper)")}, a seed for each training'


def _listed(values: Sequence[object]) -> str:
    return ', '.join(map(str, values))


def _label(plan: StudyPlan, name: str) -> str:
    return next(row.label for row in plan.study.rows if row.name == name)


def scores_csv(plan: StudyPlan, outcome: StudyOutcome) -> str:
    """Return one line per data set, row, seed and metric, with the paper's numbers."""
    lines = []
    for dataset in _datasets(plan):
        for job in plan.jobs:
            means = outcome.means.get((job.row.name, job.seed), {}).get(dataset)
            if means is None:
                continue
            for metric in _metrics(plan):
                found = cell(plan, outcome, job.row, dataset, metric)
                lines.append(
                    [
                        plan.name, dataset, job.row.name, job.seed, metric, means['result'].get(metric),
                        means['input'].get(metric), found.paper, found.paper_difference, job.name,
                    ]
                )  # fmt: skip
    header = ['study', 'dataset', 'row', 'seed', 'metric', 'value', 'input', 'paper', 'paper_difference', 'experiment']
    return csv_text(header, lines)


def write_files(plan: StudyPlan, outcome: StudyOutcome, settings: StudySettings, folder: Path) -> list[Path]:
    """Write NAME.md and NAME.csv into `folder`. Raises DataError."""
    contents = {
        folder / f'{plan.name}.md': report(plan, outcome, settings, 'markdown'),
        folder / f'{plan.name}.csv': scores_csv(plan, outcome),
    }
    with writing_into(folder, '--root'):
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            write_whole(path, content)
    return list(contents)
