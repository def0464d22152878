"""Plots of curves and points, drawn with Pillow: two kinds, for the studies' figures.

Colours are Okabe and Ito's, which colour-blind eyes tell apart; curves also differ in dashes, points in form.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ggkm_plugin.report.drawing import COOL, FAINT, INK, PAPER, RULE, WARM, font

COLOURS = (COOL, WARM, (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (0, 0, 0), (140, 120, 0))
DASHES: tuple[tuple[int, ...], ...] = ((), (12, 6), (3, 5), (16, 5, 3, 5))
_FINER = 2  # drawn so many times larger and averaged down: smooth edges


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers in low..high: multiples of 1, 2 or 5 times a power of ten, at most about `most`."""
    span = max(high - low, 1e-12)
    rough = span / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten in low..high; powers of ten alone over more than two decades."""
    factors = (1, 2, 5) if high / low < 200 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p * (1 + 1e-9) <= high * (1 + 1e-9)]


@dataclass(frozen=True, eq=False)
class Series:
    """Points (x, y) under one name: joined by a line, or as marks."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def plot(
    series: Sequence[Series],
    title: str,
    x_label: str,
    y_label: str,
    size: tuple[int, int] = (560, 420),
    log_x: bool = False,
    marks: bool = False,
    styles: Sequence[int] | None = None,
) -> Image.Image:
    """Lines, or marks of different form with `marks`, on axes fitted to them; a legend below names more than one.

    `styles` gives each series its number in COLOURS, where plots side by side must agree. Values that are not finite
    are left out.
    """
    styles = range(len(series)) if styles is None else styles
    finite = [[(x, y) for x, y in zip(s.x, s.y, strict=True) if math.isfinite(x) and math.isfinite(y)] for s in series]
    xs, ys = [x for points in finite for x, _ in points] or [1.0], [y for points in finite for _, y in points] or [0.0]
    x_low, x_high = min(xs), max(xs)
    y_margin = 0.05 * (max(ys) - min(ys) or 1)
    y_low, y_high = min(ys) - y_margin, max(ys) + y_margin
    if marks:
        x_low, x_high = x_low - 0.05 * (x_high - x_low or 1), x_high + 0.05 * (x_high - x_low or 1)
    if x_high <= x_low:
        x_high = 2 * x_low if log_x else x_low + 1

    width, height = size
    rows = _legend_rows([s.name for s in series], width) if len(series) > 1 else []
    box = (70, 40, width - 18, height - 58)
    image = Image.new('RGB', (_FINER * width, _FINER * (height + 22 * len(rows))), PAPER)
    pen = ImageDraw.Draw(image)

    def across(x: float) -> float:
        share = math.log(x / x_low) / math.log(x_high / x_low) if log_x else (x - x_low) / (x_high - x_low)
        return _FINER * (box[0] + share * (box[2] - box[0]))

    def down(y: float) -> float:
        return _FINER * (box[3] - (y - y_low) / (y_high - y_low) * (box[3] - box[1]))

    def text(x: float, y: float, words: str, size: int, colour: tuple[int, int, int], anchor: str) -> None:
        pen.text((x, y), words, colour, font(_FINER * size), anchor=anchor)

    for y in ticks(y_low, y_high):
        pen.line([(_FINER * box[0], down(y)), (_FINER * box[2], down(y))], RULE, _FINER)
        text(_FINER * (box[0] - 8), down(y), f'{y:g}', 13, FAINT, 'rm')
    for x in decades(x_low, x_high) if log_x else ticks(x_low, x_high):
        pen.line([(across(x), _FINER * box[3]), (across(x), _FINER * (box[3] + 5))], FAINT, _FINER)
        text(across(x), _FINER * (box[3] + 9), f'{x:g}', 13, FAINT, 'mt')
    pen.line([(_FINER * box[0], _FINER * box[3]), (_FINER * box[2], _FINER * box[3])], FAINT, _FINER)
    text(_FINER * box[0], _FINER * 22, title, 16, INK, 'ls')
    text(_FINER * (box[0] + box[2]) / 2, _FINER * (box[3] + 32), x_label, 13, INK, 'mt')
    _upright(image, y_label, _FINER * 16, _FINER * (box[1] + box[3]) // 2)
    for number, points in zip(styles, finite, strict=True):
        placed = [(across(x), down(y)) for x, y in points]
        if marks:
            for at in placed:
                _mark(pen, at, number, 4.5 * _FINER)
        else:
            _line(pen, placed, number)
    for row, names in enumerate(rows):
        for left, index in names:
            middle = _FINER * (height + 22 * row + 4)
            number = styles[index]
            if marks:
                _mark(pen, (_FINER * (left + 14), middle), number, 4.5 * _FINER)
            else:
                _line(pen, [(_FINER * left, middle), (_FINER * (left + 28), middle)], number)
            text(_FINER * (left + 36), middle, series[index].name, 13, INK, 'lm')
    return image.resize((image.width // _FINER, image.height // _FINER), Image.Resampling.BOX)


def _legend_rows(names: Sequence[str], width: int) -> list[list[tuple[float, int]]]:
    """Rows of (left edge, index of the series), as many in a row as fit."""
    rows: list[list[tuple[float, int]]] = [[]]
    left = 24.0
    for index, name in enumerate(names):
        needed = 36 + font(13).getlength(name) + 22
        if rows[-1] and left + needed > width:
            rows.append([])
            left = 24.0
        rows[-1].append((left, index))
        left += needed
    return rows


def _upright(image: Image.Image, words: str, x: int, y: int) -> None:
    """Words from below to above, centred at (x, y)."""
    size = 13 * _FINER
    label = Image.new('RGB', (int(font(size).getlength(words)) + 4, size + 8), PAPER)
    ImageDraw.Draw(label).text((2, 2), words, INK, font(size))
    label = label.rotate(90, expand=True)
    image.paste(label, (x - label.width // 2, y - label.height // 2))


def _line(pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], number: int) -> None:
    colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    if not dashes:
        pen.line(list(points), colour, 2 * _FINER, joint='curve')
        return
    along, dash = 0.0, 0
    for start, end in itertools.pairwise(points):
        length, done = math.dist(start, end), 0.0
        while done < length:
            step = min(length - done, _FINER * dashes[dash] - along)
            ends = [
                tuple(a + (b - a) * at / length for a, b in zip(start, end, strict=True)) for at in (done, done + step)
            ]
            if dash % 2 == 0:
                pen.line([(ends[0][0], ends[0][1]), (ends[1][0], ends[1][1])], colour, 2 * _FINER)
            done, along = done + step, along + step
            if along >= _FINER * dashes[dash] - 1e-9:
                dash, along = (dash + 1) % len(dashes), 0.0


def _mark(pen: ImageDraw.ImageDraw, at: tuple[float, float], number: int, radius: float) -> None:
    """A disk, square, triangle or diamond."""
    x, y = at
    colour = COLOURS[number % len(COLOURS)]
    kind = number % 4
    if kind == 0:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    elif kind == 1:
        pen.rectangle((x - 0.85 * radius, y - 0.85 * radius, x + 0.85 * radius, y + 0.85 * radius), colour)
    elif kind == 2:
        pen.polygon([(x, y - 1.1 * radius), (x + radius, y + 0.8 * radius), (x - radius, y + 0.8 * radius)], colour)
    else:
        pen.polygon([(x, y - 1.2 * radius), (x + radius, y), (x, y + 1.2 * radius), (x - radius, y)], colour)
