"""An inspection as one picture: photograph, result, blur map, PSFs, estimates, coefficient maps, alphas."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ggkm_plugin.inspection.inspection import Inspection, Place, shown_reach
from ggkm_plugin.report import figures
from ggkm_plugin.restoration.psf import effective_radius

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_WIDTH = 1600
DECADES = 5  # of the logarithmic colors of PSFs
LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
UNTRAINED = 'UNTRAINED: the weights are random, so the results below are meaningless'

Draw = Callable[['Axes'], Any]  # returns what a color bar describes


@dataclass(frozen=True)
class SheetSection:
    """Tiles of one shape in rows under a heading. bars: labels of color bars, one per column; shape: (H,W)."""

    heading: str
    tiles: Sequence[tuple[Draw, str]]
    columns: int
    shape: tuple[int, ...]
    bars: Sequence[str] = ()

    @property
    def rows(self) -> int:
        return -(-len(self.tiles) // self.columns)

    @property
    def height(self) -> float:
        """Pixels; a tall picture is at most twice as high as its column is wide."""
        column = (_WIDTH - 40) / self.columns - 12
        tile = column * min(2, self.shape[0] / self.shape[1])
        return 44 + self.rows * (tile + 26) + 70 * bool(self.bars)

    def draw(self, part: 'SubFigure') -> None:
        part.suptitle(self.heading, x=0.01, ha='left', fontsize=12, color=figures.INK)
        grid = part.subplots(self.rows, self.columns, squeeze=False)
        drawn = {}
        for number, axes in enumerate(grid.flat):
            if number >= len(self.tiles):
                axes.set_axis_off()
                continue
            tile, caption = self.tiles[number]
            drawn[number] = tile(axes)
            axes.set_title(caption, fontsize=9)
        for column, label in enumerate(self.bars):
            bar = part.colorbar(drawn[column], ax=grid[:, column], location='bottom', aspect=40, pad=0.02)
            bar.set_label(label, fontsize=9)


def full_scale(values: Tensor) -> float:
    """Return the value of a map's brightest color: 99.5 % of the map is below it."""
    return max(float(np.percentile(values.numpy(), 99.5)), 1e-3)


def sheet(inspection: Inspection, name: str, places: Sequence[Place], note: str = '') -> 'Figure':
    """Return the sheet, 1600 pixels wide. `places` are marked with letters; `note` is printed below the title."""
    sections = list(_sections(inspection, places))
    lines = [name, f'{inspection.subject.name}: {inspection.subject.source}', *([note] if note else [])]
    warning = '' if inspection.subject.trained else UNTRAINED
    alphas = 50 + len(inspection.estimates) * (24 * inspection.estimates[-1].alpha.shape[1] + 40)
    heights = [section.height for section in sections]
    drawn = figures.figure(_WIDTH, sum(heights) + alphas + 22 * len(lines) + 80, '\n'.join(lines), warning)
    shares = [*heights, alphas]
    *parts, last = drawn.subfigures(len(shares), 1, height_ratios=shares, squeeze=False)[:, 0]
    for section, part in zip(sections, parts, strict=True):
        section.draw(part)
    _draw_alphas(inspection, last)
    return drawn


def _sections(inspection: Inspection, places: Sequence[Place]) -> Iterator[SheetSection]:
    height, width = shape = tuple(inspection.radius.shape)

    def photograph(image: Tensor, marked: bool = False) -> Draw:
        def draw(axes: 'Axes') -> Any:
            drawn = figures.show(axes, image.permute(1, 2, 0).numpy())
            if marked:
                _mark(axes, places)
            return drawn

        return draw

    def marked_map(values: Tensor) -> Draw:
        def draw(axes: 'Axes') -> Any:
            drawn = figures.show(axes, values.numpy(), vmin=0, vmax=full_scale(values))
            _mark(axes, places)
            return drawn

        return draw

    def signed(values: np.ndarray, most: float) -> Draw:
        return lambda axes: figures.show_signed(axes, values, most)

    yield SheetSection(
        'Photograph',
        [
            (photograph(inspection.photograph, True), f'photograph, {width}x{height}'),
            (photograph(inspection.result), 'result'),
        ],
        2,
        shape,
    )
    yield SheetSection(
        'Last step',
        [
            (marked_map(inspection.radius), 'blur map: effective radius of the PSFs'),
            (marked_map(inspection.strength), 'strength: sum of |b - delta|, 0 where no blur is removed'),
        ],
        2,
        shape,
        ['pixels', 'no unit'],
    )
    psfs = [inspection.psf_at(place) for place in places]
    middle, reach = inspection.kernels.shape[-1] // 2, shown_reach(psfs)
    window = slice(middle - reach, middle + reach + 1)
    means = [psf.mean(dim=0)[window, window].numpy() for psf in psfs]
    captions = [
        f'{letter} {place}: radius {_radius(psf):.2f} px, sum {psf.mean(dim=0).sum().item():.2f}'
        for letter, place, psf in zip(LETTERS, places, psfs, strict=False)
    ]
    colors = (
        'mean over the colors, with the output layer' if inspection.weight is not None else 'without the output layer'
    )
    yield SheetSection(
        f'PSFs of the last step, {2 * reach + 1} pixels wide, {colors}; vermilion positive, blue negative',
        [(signed(psf, float(np.abs(psf).max())), words) for psf, words in zip(means, captions, strict=True)],
        6,
        (1, 1),
    )
    yield SheetSection(
        f'The same PSFs by the logarithm of their size; white: {10.0**-DECADES:g} of the largest value, or less',
        [(signed(figures.signed_log(psf, DECADES), 1), '') for psf in means],
        6,
        (1, 1),
    )
    scales, rounds = inspection.estimates[-1].scale, max(estimate.iteration for estimate in inspection.estimates)
    yield SheetSection(
        'Estimates, coarse to fine',
        [
            (
                photograph(estimate.x),
                f'scale {estimate.scale} of {scales}'
                + (f', iteration {estimate.iteration} of {rounds}' if rounds > 1 else '')
                + f', {estimate.x.shape[-1]}x{estimate.x.shape[-2]}',
            )
            for estimate in inspection.estimates
        ],
        max(3, min(4, len(inspection.estimates))),
        shape,
    )
    beta, radii = inspection.estimates[-1].beta.numpy(), inspection.kernel_radii
    most = float(np.abs(beta).max())
    yield SheetSection(
        'Coefficient maps beta_p of the last step, by the size of their kernels',
        [
            (signed(beta[p], most), f'p = {p + 1}: {"identity" if radii[p] < 1e-3 else f"radius {radii[p]:.2f} px"}')
            for p in np.argsort(radii, kind='stable')
        ],
        6,
        shape,
        ['beta'],
    )


def _mark(axes: 'Axes', places: Sequence[Place]) -> None:
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2.5, foreground=figures.INK)]
    for letter, place in zip(LETTERS, places, strict=False):
        axes.plot(*place, 'o', color=figures.YELLOW, markersize=5, markeredgecolor=figures.INK)
        axes.annotate(
            letter,
            place,
            (5, 0),
            textcoords='offset points',
            va='center',
            color=figures.YELLOW,
            weight='bold',
            path_effects=outline,
        )


def _radius(psf: Tensor) -> float:
    """Compute the effective radius over all colors, as in the blur map."""
    return effective_radius(psf.abs().sum(dim=0)).item()


def _draw_alphas(inspection: Inspection, part: 'SubFigure') -> None:
    """Draw the alphas of each estimate: groups from left to right, the kernels of a group from top to bottom."""
    part.suptitle(
        'Alpha: shares of the kernels within each group; columns are groups p, rows kernels q',
        x=0.01,
        ha='left',
        fontsize=12,
        color=figures.INK,
    )
    grid = part.subplots(len(inspection.estimates), 1, squeeze=False)
    groups, kernels = inspection.estimates[-1].alpha.shape
    for axes, estimate in zip(grid[:, 0], inspection.estimates, strict=True):
        drawn = axes.imshow(estimate.alpha.T.numpy(), cmap='cividis', vmin=0, vmax=1, aspect='auto')
        axes.set_ylabel(f'scale {estimate.scale}\niteration {estimate.iteration}', fontsize=9)
        axes.set_xticks(range(groups), range(2, groups + 2), fontsize=8)
        axes.set_yticks(range(kernels), range(kernels), fontsize=8)
    part.colorbar(drawn, ax=grid[:, 0], label='alpha', fraction=0.02, pad=0.01)
    output = '' if inspection.weight is None else "the output layer's weight on its color diagonal, "
    part.supxlabel(
        f"PSF b = sum over p of beta_p, {output}and the chain's cumulative kernel K_p; it acts on the step's input u. "
        'Effective radius = sqrt(sum r^2 |b| / sum |b|), over the three\ncolors together; a disk of radius R has '
        'R / sqrt(2), a Gaussian sqrt(2) sigma. Strength: mean over the colors.',
        fontsize=9,
        color=figures.FAINT,
    )
