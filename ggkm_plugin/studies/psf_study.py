"""The study of PSF models of Sec. 6.2, Table 9: how near does B_theta x come to y, for each model's best theta?

The paper minimises |y - B_theta x| without saying over which coefficients, with which optimiser and for how long. Here
each model is fitted on the simplex, where the number measures the model, and the mixtures also without constraint, by
an optimiser with a fixed number of steps and in closed form, where it measures the optimiser (`mixture_fit`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
from PIL import Image, ImageDraw

from ggkm_plugin.report import drawing, tables
from ggkm_plugin.report.plots import Series, plot
from ggkm_plugin.studies.mixture_fit import (
    fit_adam,
    fit_closed_form,
    fit_ggkm_on_simplex,
    fit_gkm_on_simplex,
    ggkm,
    gkm,
)
from ggkm_plugin.studies.parametric_fit import fit_parametric
from ggkm_plugin.studies.psf_fitting import MARGIN, Fit, StudyPair
from ggkm_plugin.utils.files import write_whole, writing_into

PAPER = {'Gaussian': 34.832, 'generalised Gaussian': 35.617, 'GKM': 91.680, 'GGKM': 100.256}


@dataclass(frozen=True)
class Budget:
    """Steps of the fits that have no end of their own."""

    newton: int = 20
    alpha: int = 15
    adam: int = 200

    def times(self, factor: float) -> 'Budget':
        """At least one step each."""
        return Budget(*(max(1, round(factor * steps)) for steps in (self.newton, self.alpha, self.adam)))


@dataclass(frozen=True)
class Method:
    """A model of the PSF, what its coefficients may be, and how it is fitted."""

    model: str
    coefficients: str
    fit: Callable[[StudyPair], Fit]

    @property
    def name(self) -> str:
        return f'{self.model}, {self.coefficients}'


@dataclass(frozen=True, eq=False)
class Result:
    method: Method
    pair: StudyPair
    fit: Fit

    @property
    def radius_error(self) -> float | None:
        """Median over the pixels of the fitted radius's distance from the true one, in pixels."""
        return None if self.pair.radius is None else (self.fit.radius - self.pair.radius).abs().median().item()


def methods(budget: Budget, identity: bool = True) -> list[Method]:
    """All rows of the study; `identity` gives the mixtures the identity kernel that both networks have."""
    banks = {'GKM': gkm(identity), 'GGKM': ggkm(identity)}
    return [
        Method('Gaussian', 'unit sum', lambda pair: fit_parametric(pair, False, budget.newton)[0]),
        Method('generalised Gaussian', 'unit sum', lambda pair: fit_parametric(pair, True, budget.newton)[0]),
        Method('GKM', 'simplex', partial(fit_gkm_on_simplex, model=banks['GKM'])),
        Method('GGKM', 'simplex', partial(fit_ggkm_on_simplex, model=banks['GGKM'], steps=budget.alpha)),
        *(
            Method(name, f'any, {budget.adam} steps of Adam', partial(fit_adam, model=bank, steps=budget.adam))
            for name, bank in banks.items()
        ),
        *(Method(name, 'any, closed form', partial(fit_closed_form, model=bank)) for name, bank in banks.items()),
    ]


def study(pairs: Iterable[StudyPair], rows: Sequence[Method], tell: Callable[[str], object]) -> list[Result]:
    """Every method on every pair; `tell` is given a line a fit."""
    results = []
    for pair in pairs:
        for method in rows:
            fit = method.fit(pair)
            results.append(Result(method, pair, fit))
            tell(f'{pair.name}: {method.name}: {fit.psnr:.3f} dB in {fit.seconds:.1f} s')
    return results


# --- what is written --------------------------------------------------------------------------------------------------


def _by_method(results: Sequence[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.method.name, []).append(result)
    return found


def psnr_table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: PSNR in dB of each pair, their mean, and the mean time."""
    groups = _by_method(results)
    names = [result.pair.name for result in next(iter(groups.values()))]
    rows = [
        [
            name,
            *(f'{result.fit.psnr:.3f}' for result in group),
            f'{mean(result.fit.psnr for result in group):.3f}',
            f'{mean(result.fit.seconds for result in group):.1f}',
            f'{PAPER[group[0].method.model]:.3f}',
        ]
        for name, group in groups.items()
    ]
    return ['model, coefficients', *names, 'mean', 'seconds', 'paper, RTF'], rows


def radius_table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the median error of the effective radius in pixels, on pairs with known PSFs."""
    known = [result for result in results if result.radius_error is not None]
    groups = _by_method(known)
    names = [result.pair.name for result in next(iter(groups.values()))] if groups else []
    rows = [[name, *(f'{result.radius_error:.3f}' for result in group)] for name, group in groups.items()]
    return ['model, coefficients', *names], rows


def report(results: Sequence[Result], markdown: bool = False) -> str:
    """Both tables and what they mean."""
    write = tables.markdown if markdown else tables.text
    parts = ['PSNR of y against B_theta x, dB (RGB, whole crop, not clipped)', write(*psnr_table(results))]
    header, rows = radius_table(results)
    if rows:
        parts += ['Median error of the effective radius, pixels', write(header, rows)]
    parts.append(
        'unit sum, simplex: these measure the model. any: 3 equations for 21 coefficients or more a pixel; the closed '
        'form meets them to rounding, and what Adam leaves measures Adam. The paper names neither constraint nor '
        'optimiser, and its pairs are of another data set.'
    )
    return '\n\n'.join(parts) + '\n'


def write(results: Sequence[Result], folder: Path) -> list[Path]:
    """psf_study.md, .csv, curves.csv, curves.png and radius.png in `folder`. Raises DataError."""

    def about(result: Result) -> list[str]:
        return [result.pair.name, result.method.model, result.method.coefficients]

    summary = [
        [
            *about(result),
            result.fit.psnr,
            result.fit.curve[-1].step,
            result.fit.seconds,
            '' if result.radius_error is None else result.radius_error,
            PAPER[result.method.model],
        ]
        for result in results
    ]
    curves = [
        [*about(result), point.step, point.seconds, point.psnr] for result in results for point in result.fit.curve
    ]
    first = ['pair', 'model', 'coefficients']
    texts = {
        'psf_study.md': report(results, markdown=True),
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
            drawing.write_png(picture, folder / name)
    return [folder / name for name in (*texts, *pictures)]


def curves_picture(results: Sequence[Result]) -> Image.Image:
    """PSNR against steps, a plot a pair; the closed forms are one step and are written into the legend."""
    groups = _by_method(results)
    pairs = list(dict.fromkeys(result.pair.name for result in results))
    plots = []
    for number, name in enumerate(pairs):
        series = []
        for method, group in groups.items():
            curve = group[number].fit.curve
            label = method if len(curve) > 1 else f'{method}: {curve[0].psnr:.1f} dB'
            shown = curve if len(curve) > 1 else []
            series.append(Series(label, [point.step + 1 for point in shown], [point.psnr for point in shown]))
        plots.append(plot(series, name, 'step (the first: before any)', 'PSNR of y against B x, dB', log_x=True))
    return drawing.tiled(plots, columns=min(3, len(plots)))


def radius_picture(results: Sequence[Result]) -> Image.Image:
    """Each pair's photographs and the maps of the effective radius: the true one where it is known, and the fitted."""
    side, above, gap = 220, 44, 12
    shown = [group for group in _by_method(results).values() if len(group[0].fit.curve) > 1]
    pairs = [result.pair for result in shown[0]]
    known = any(pair.radius is not None for pair in pairs)
    columns = ['sharp', 'blurred', *(['true radius'] if known else []), *(group[0].method.name for group in shown)]
    sheet = Image.new('RGB', (gap + len(columns) * (side + gap), above + len(pairs) * (side + 86) + gap), drawing.PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(columns):
        left = gap + column * (side + gap)
        model, _, rest = title.partition(', ')
        pen.text((left, 6), model, drawing.INK, drawing.font(15))
        pen.text((left, 25), rest, drawing.FAINT, drawing.font(13))
    for row, pair in enumerate(pairs):
        top = above + row * (side + 86)
        fitted = [group[row].fit.radius.numpy() for group in shown]
        high = float(np.percentile(pair.radius.numpy() if pair.radius is not None else fitted[0], 99))
        sharp = pair.sharp[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        maps = [drawing.photograph(image.permute(1, 2, 0).numpy()) for image in (sharp, pair.blurred)]
        if known:
            truth = np.full(pair.blurred.shape[1:], np.nan) if pair.radius is None else pair.radius.numpy()
            maps.append(drawing.coloured(truth, 0, high))
        maps += [drawing.coloured(radius, 0, high) for radius in fitted]
        for column, picture in enumerate(maps):
            scale = side / max(picture.shape[:2])
            width, height = (max(1, round(length * scale)) for length in (picture.shape[1], picture.shape[0]))
            sheet.paste(drawing.resized(picture, width, height), (gap + column * (side + gap), top))
        pen.text((gap, top + side + 4), pair.name, drawing.INK, drawing.font(14))
        bar = drawing.bar(2 * side, 0, high, 'effective radius, pixels', partial(drawing.coloured, low=0, high=high))
        sheet.paste(bar, (gap + 2 * (side + gap), top + side + 8))
    return sheet
