"""Study of PSF models (Sec. 6.2, Table 9): PSNR between y and B_theta x for each model's best theta.

The paper minimizes |y - B_theta x| and names neither the constraint on the coefficients, nor the optimizer, nor its
number of steps. Here each model is fitted on the simplex, where the PSNR measures the model. The mixtures are also
fitted without constraint, in closed form and by an optimizer, where the PSNR measures the optimizer (`mixture_fit`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
import torch

from ggkm_plugin.evaluation.paper import TABLE_9
from ggkm_plugin.report import figures, tables
from ggkm_plugin.report.tables import Table, fixed
from ggkm_plugin.studies.mixture_fit import fit_adam, fit_closed_form, fit_on_simplex, ggkm, gkm
from ggkm_plugin.studies.parametric_fit import fit_parametric
from ggkm_plugin.studies.psf_fitting import MARGIN, Fit, StudyPair
from ggkm_plugin.utils.files import write_whole, writing_into

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Budget:
    """Steps of the iterative fits."""

    newton: int = 20
    alpha: int = 15
    adam: int = 200

    def times(self, factor: float) -> 'Budget':
        """Return the budget multiplied by `factor`, at least one step each."""
        return Budget(*(max(1, round(factor * steps)) for steps in (self.newton, self.alpha, self.adam)))


@dataclass(frozen=True)
class FitMethod:
    """A model of the PSF, the constraint on its coefficients, and its fit."""

    model: str
    coefficients: str
    fit: Callable[[StudyPair], Fit]

    @property
    def name(self) -> str:
        return f'{self.model}, {self.coefficients}'


@dataclass(frozen=True, eq=False)
class FitResult:
    method: FitMethod
    pair: StudyPair
    fit: Fit

    @property
    def radius_error(self) -> float | None:
        """Median error of the fitted radius in pixels; None where the true one is unknown."""
        return None if self.pair.radius is None else (self.fit.radius - self.pair.radius).abs().median().item()


def methods(budget: Budget, identity: bool = True) -> list[FitMethod]:
    """Return all rows of the study. identity: add the identity kernel, which both networks have, to the mixtures."""
    banks = {'GKM': gkm(identity), 'GGKM': ggkm(identity)}
    return [
        FitMethod('Gaussian', 'unit sum', lambda pair: fit_parametric(pair, False, budget.newton)[0]),
        FitMethod('generalized Gaussian', 'unit sum', lambda pair: fit_parametric(pair, True, budget.newton)[0]),
        FitMethod('GKM', 'simplex', partial(fit_on_simplex, model=banks['GKM'], steps=0)),
        FitMethod('GGKM', 'simplex', partial(fit_on_simplex, model=banks['GGKM'], steps=budget.alpha)),
        *(
            FitMethod(name, f'any, {budget.adam} steps of Adam', partial(fit_adam, model=bank, steps=budget.adam))
            for name, bank in banks.items()
        ),
        *(FitMethod(name, 'any, closed form', partial(fit_closed_form, model=bank)) for name, bank in banks.items()),
    ]


def study(pairs: Iterable[StudyPair], rows: Sequence[FitMethod], tell: Callable[[str], object]) -> list[FitResult]:
    """Fit every method to every pair; `tell` receives a line per fit."""
    results = []
    for pair in pairs:
        for method in rows:
            fit = method.fit(pair)
            results.append(FitResult(method, pair, fit))
            tell(f'{pair.name}: {method.name}: {fit.psnr:.3f} dB in {fit.seconds:.1f} s')
    return results


def _by_method(results: Sequence[FitResult]) -> dict[str, list[FitResult]]:
    found: dict[str, list[FitResult]] = {}
    for result in results:
        found.setdefault(result.method.name, []).append(result)
    return found


def psnr_table(results: Sequence[FitResult]) -> Table:
    """Return PSNR in dB by pair, its mean, and the mean time."""
    groups = _by_method(results)
    names = [result.pair.name for result in next(iter(groups.values()))]
    rows = [
        [
            name,
            *(fixed(result.fit.psnr, 3) for result in group),
            fixed(mean(result.fit.psnr for result in group), 3),
            fixed(mean(result.fit.seconds for result in group), 1),
            fixed(TABLE_9[group[0].method.model], 3),
        ]
        for name, group in groups.items()
    ]
    title = 'PSNR of y against B_theta x, dB (RGB, whole crop, not clipped)'
    return Table(['model, coefficients', *names, 'mean', 'seconds', 'paper, RTF'], rows, title=title)


def radius_table(results: Sequence[FitResult]) -> Table:
    """Return the median error of the effective radius in pixels, for pairs with known PSFs."""
    groups = _by_method([result for result in results if result.radius_error is not None])
    names = [result.pair.name for result in next(iter(groups.values()))] if groups else []
    rows = [[name, *(fixed(result.radius_error, 3) for result in group)] for name, group in groups.items()]
    return Table(['model, coefficients', *names], rows, title='Median error of the effective radius, pixels')


def report(results: Sequence[FitResult], form: str = 'table') -> str:
    """Return both tables and their reading in a format of `report.tables`."""
    parts = [tables.write(table, form) for table in (psnr_table(results), radius_table(results)) if table.rows]
    parts.append(
        'unit sum, simplex: these measure the model. any: 3 equations per pixel for 21 or more coefficients; the '
        'closed form solves them to rounding, and the error of Adam is that of the optimizer. The paper names neither '
        'constraint nor optimizer, and its pairs are of another data set.'
    )
    return '\n\n'.join(parts) + '\n'


def write(results: Sequence[FitResult], folder: Path) -> list[Path]:
    """Write psf_study.md, psf_study.csv, curves.csv, curves.png and radius.png. Raises DataError."""

    def about(result: FitResult) -> list[str]:
        return [result.pair.name, result.method.model, result.method.coefficients]

    summary = [
        [
            *about(result),
            result.fit.psnr,
            result.fit.curve[-1].step,
            result.fit.seconds,
            result.radius_error,
            TABLE_9[result.method.model],
        ]
        for result in results
    ]
    curves = [
        [*about(result), point.step, point.seconds, point.psnr] for result in results for point in result.fit.curve
    ]
    first = ['pair', 'model', 'coefficients']
    texts = {
        'psf_study.md': report(results, 'markdown'),
        'psf_study.csv': tables.csv_text(
            [*first, 'psnr', 'steps', 'seconds', 'radius_error', 'paper_psnr_rtf'], summary
        ),
        'curves.csv': tables.csv_text([*first, 'step', 'seconds', 'psnr'], curves),
    }
    pictures = {'curves.png': curves_picture(results), 'radius.png': radius_picture(results)}
    with writing_into(folder, '-o'):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in texts.items():
            write_whole(folder / name, content)
        for name, picture in pictures.items():
            figures.write_png(picture, folder / name)
    return [folder / name for name in (*texts, *pictures)]


def curves_picture(results: Sequence[FitResult]) -> 'Figure':
    """Draw PSNR against steps, one plot per pair. Fits of one step are only in the legend."""
    groups = _by_method(results)
    pairs = list(dict.fromkeys(result.pair.name for result in results))
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    drawn = figures.figure(560 * columns, 620 * rows)
    for index, name in enumerate(pairs):
        axes = drawn.add_subplot(rows, columns, index + 1)
        for number, (method, group) in enumerate(groups.items()):
            curve = group[index].fit.curve
            color = figures.COLORS[number % len(figures.COLORS)]
            if len(curve) > 1:
                dashes = figures.DASHES[number % len(figures.DASHES)]
                steps, values = [point.step + 1 for point in curve], [point.psnr for point in curve]
                axes.semilogx(steps, values, dashes, label=method, color=color)
            else:
                axes.plot([], [], linestyle='none', label=f'{method}: {curve[0].psnr:.1f} dB')
        axes.set(title=name, xlabel='step (1: before any)', ylabel='PSNR of y against B x, dB')
        axes.xaxis.set_major_formatter('{x:g}')
        axes.grid(color=figures.RULE)
        axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.14), fontsize=9, frameon=False)
    return drawn


def radius_picture(results: Sequence[FitResult]) -> 'Figure':
    """Draw each pair and maps of its effective radius: the true one if it is known, and the fitted ones."""
    shown = [group for group in _by_method(results).values() if 'closed form' not in group[0].method.coefficients]
    pairs = [result.pair for result in shown[0]]
    known = any(pair.radius is not None for pair in pairs)
    columns = ['sharp', 'blurred', *(['true radius'] if known else []), *(group[0].method.name for group in shown)]
    drawn = figures.figure(210 * len(columns) + 90, 220 * len(pairs) + 50)
    grid = drawn.subplots(len(pairs), len(columns), squeeze=False)
    for row, pair in enumerate(pairs):
        maps = [group[row].fit.radius for group in shown]
        high = float(np.percentile((maps[0] if pair.radius is None else pair.radius).numpy(), 99))
        if known:
            maps.insert(0, torch.full_like(maps[0], torch.nan) if pair.radius is None else pair.radius)
        for axes, image in zip(grid[row], (pair.sharp[:, MARGIN:-MARGIN, MARGIN:-MARGIN], pair.blurred), strict=False):
            figures.show(axes, image.permute(1, 2, 0).numpy())
        for axes, radius in zip(grid[row, 2:], maps, strict=True):
            drawn_map = figures.show(axes, radius.numpy(), vmin=0, vmax=max(high, 1e-3))
        grid[row, 0].set_ylabel(pair.name, fontsize=11)
        bar = drawn.colorbar(drawn_map, ax=grid[row], location='right', shrink=0.9, pad=0.01)
        bar.set_label('effective radius, pixels')
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title.replace(', ', '\n', 1), fontsize=10)
    return drawn
