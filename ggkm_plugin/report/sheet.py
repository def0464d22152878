"""Comparison sheet: held-out photographs in rows; input, result, ground truth and error maps in columns, as one PNG.

PSNR on the sheet: RGB, whole image, both clipped to [0, 1], as in the protocol `restormer`. An error map is the mean
over R, G, B of |image - ground truth|; all maps of a sheet share one color scale.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ggkm_plugin.report import figures
from ggkm_plugin.utils.files import printable

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

COLUMNS = ('input', 'result', 'ground truth', 'error of input', 'error of result')
_WIDTH = 1680  # of the sheet, in pixels
_TALLEST = 1.0  # height of a photograph, at most, in widths of its column
_CROP_ASPECT = 0.6
_LABELS = 100  # pixels of a row for name, titles and scores
_BETTER, _WORSE = '#16783c', '#b92828'


@dataclass(frozen=True, eq=False)
class SheetRow:
    """One photograph: three (H, W, 3) RGB float arrays of one size, nominally in [0, 1], clipped for display."""

    name: str
    input: np.ndarray
    result: np.ndarray
    gt: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.gt.shape[:2]

    @cached_property
    def images(self) -> tuple[np.ndarray, ...]:
        """Input, result and ground truth, clipped."""
        return tuple(np.clip(image, 0, 1).astype(np.float32) for image in (self.input, self.result, self.gt))

    @cached_property
    def errors(self) -> tuple[np.ndarray, ...]:
        """Error maps (H, W) of input and result."""
        return tuple(np.abs(image - self.images[2]).mean(axis=2) for image in self.images[:2])

    @property
    def psnrs(self) -> tuple[float, ...]:
        """PSNR of input and result."""
        mses = (np.square(image - self.images[2], dtype=np.float64).mean() for image in self.images[:2])
        return tuple(-10 * math.log10(mse) if mse else math.inf for mse in mses)


def comparison_sheet(rows: Sequence[SheetRow], path: str | Path) -> None:
    """Draw the sheet and write it to `path` as a PNG, atomically.

    Each row of photographs is followed by enlarged crops where the error decreased most.
    """
    column = (_WIDTH - 60) / len(COLUMNS)
    # Not zero for a sheet without errors.
    scale = max(1 / 255, float(np.percentile(np.concatenate([e.ravel() for row in rows for e in row.errors]), 99.5)))
    heights = [_heights(row, column) for row in rows]
    drawn = figures.figure(_WIDTH, sum(map(sum, heights)) + _LABELS * len(rows) + 90)
    shares = [*(sum(each) + _LABELS for each in heights), 90]
    *parts, footer = drawn.subfigures(len(shares), 1, height_ratios=shares, squeeze=False)[:, 0]
    for row, part, each in zip(rows, parts, heights, strict=True):
        _draw_row(part, row, each, column, scale)
    _draw_footer(footer, scale)
    figures.write_png(drawn, Path(path))


def _heights(row: SheetRow, column: float) -> tuple[float, float]:
    """Return the heights in pixels of the photographs and of the crops."""
    height, width = row.shape
    return column * min(_TALLEST, height / width), column * _CROP_ASPECT


def _crop(row: SheetRow, width: int, height: int) -> tuple[slice, slice]:
    """Find the window (rows, columns) of this size in which the error decreases most from input to result."""
    total = cv2.integral(row.errors[0] - row.errors[1], sdepth=cv2.CV_64F)
    fall = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = (int(index) for index in np.unravel_index(np.argmax(fall), fall.shape))
    return slice(top, top + height), slice(left, left + width)


def _draw_row(part: 'SubFigure', row: SheetRow, heights: tuple[float, float], column: float, scale: float) -> None:
    """Draw the name, five pictures with PSNRs and mean errors, and the crops."""
    part.suptitle(printable(row.name), x=0.01, ha='left', fontsize=12, color=figures.INK, parse_math=False)
    grid = part.subplots(2, len(COLUMNS), height_ratios=heights, squeeze=False)
    psnrs = row.psnrs
    gain = psnrs[1] - psnrs[0]
    labels = [f'{psnr:.2f} dB' if math.isfinite(psnr) else 'identical' for psnr in psnrs]
    labels[1] += f'  ({gain:+.2f})' if math.isfinite(gain) else ''
    labels += ['', *(f'mean {error.mean():.4f}' for error in row.errors)]
    pictures = (*row.images, *row.errors)
    for axes, title, picture, label in zip(grid[0], COLUMNS, pictures, labels, strict=True):
        figures.show(axes, picture, title, cmap='inferno', vmin=0, vmax=scale)
        axes.set_xlabel(label, fontsize=11, color=figures.INK)
    grid[0, 1].xaxis.label.set_color(_BETTER if gain > 0 else _WORSE if gain < 0 else figures.INK)
    _draw_crops(grid, row, column, scale)


def _draw_crops(grid: np.ndarray, row: SheetRow, column: float, scale: float) -> None:
    """Draw the crops, enlarged at least twice, and their places in the photographs."""
    from matplotlib.patches import Rectangle

    height, width = row.shape
    across = max(1, min(round(column / 2), width // 2))
    crop = ys, xs = _crop(row, across, max(1, min(height, round(_CROP_ASPECT * across))))
    for whole, axes, picture in zip(grid[0], grid[1], (*row.images, *row.errors), strict=True):
        corner, size = (xs.start - 0.5, ys.start - 0.5), (xs.stop - xs.start, ys.stop - ys.start)
        whole.add_patch(Rectangle(corner, *size, fill=False, edgecolor=figures.YELLOW, linewidth=1.5))
        smooth = 'lanczos' if picture.ndim == 3 else 'nearest'
        figures.show(axes, picture[crop], cmap='inferno', vmin=0, vmax=scale, interpolation=smooth)


def _draw_footer(part: 'SubFigure', scale: float) -> None:
    """Draw notes on scores and crops, and the color scale of the error maps."""
    notes = 'dB: PSNR, RGB, whole image, clipped to [0, 1]\ncrops: enlarged, where the error decreased most'
    part.text(0.01, 0.5, notes, va='center', fontsize=10, color=figures.FAINT)
    axes = part.add_axes((0.62, 0.55, 0.35, 0.2))
    axes.imshow(np.linspace(0, scale, 256)[None], cmap='inferno', aspect='auto', extent=(0, scale, 0, 1))
    axes.set(yticks=[], xlabel='mean |error| over RGB, in units of [0, 1]; brightest: this or more')
    axes.set_xticks([0, scale / 2, scale], ['0', f'{scale / 2:.3f}', f'{scale:.3f}'])
