"""An inspection as one picture: photograph, result, blur map, PSFs, estimates, coefficient maps, alphas."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ggkm_plugin.inspection.inspection import Inspection, Place, shown_reach
from ggkm_plugin.inspection.psf import effective_radius
from ggkm_plugin.report import drawing
from ggkm_plugin.report.drawing import FAINT, INK, PAPER, RULE, WARM, font

_WIDTH, _EDGE, _GAP = 1600, 28, 14
_MARK = (255, 196, 0)
DECADES = 5  # of the logarithmic colours of PSFs
LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
UNTRAINED = 'UNTRAINED: the weights are random, and nothing below says anything about this photograph'


def full_scale(values: Tensor) -> float:
    """What a map shows in its brightest colour: all but its highest half per cent stays below."""
    return max(float(np.percentile(values.numpy(), 99.5)), 1e-3)


def sheet(seen: Inspection, name: str, places: Sequence[Place], note: str = '') -> Image.Image:
    """The whole sheet, 1600 pixels wide; `places` are marked with letters, in order. `note` goes below the title."""
    strips = [
        _title(seen, name, note),
        _photographs(seen, places),
        _psfs(seen, places),
        _estimates(seen),
        _coefficients(seen),
        _alphas(seen),
        _footer(seen),
    ]
    return _stacked(strips)


def _stacked(strips: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new('RGB', (_WIDTH, sum(strip.height for strip in strips)), PAPER)
    top = 0
    for strip in strips:
        whole.paste(strip, (0, top))
        top += strip.height
    return whole


def _strip(heading: str, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty strip with its heading; content starts 44 pixels below its top."""
    strip = Image.new('RGB', (_WIDTH, height), PAPER)
    pen = ImageDraw.Draw(strip)
    pen.line((_EDGE, 2, _WIDTH - _EDGE, 2), RULE)
    pen.text((_EDGE, 14), heading, INK, font(18))
    return strip, pen


def _array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def _column(columns: int, number: int) -> tuple[int, int]:
    """Left edge and width of one of so many columns."""
    width = (_WIDTH - 2 * _EDGE - (columns - 1) * _GAP) // columns
    return _EDGE + number * (width + _GAP), width


def _fitted(room: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """Width and height of a picture in a column this wide; a tall one is twice as high as the column is wide."""
    height, width = shape[:2]
    scale = min(room / width, 2 * room / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _tiles(
    heading: str,
    pictures: Sequence[np.ndarray],
    captions: Sequence[str],
    columns: int,
    bars: Sequence[Callable[[int], Image.Image]] = (),
) -> Image.Image:
    """Pictures of one shape row by row, each with its caption below; then a bar, of a given width, for each column."""
    room = _column(columns, 0)[1]
    width, height = _fitted(room, pictures[0].shape)
    rows = -(-len(pictures) // columns)
    strip, pen = _strip(heading, 44 + rows * (height + 30) + (70 if bars else 8))
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, place = divmod(number, columns)
        left, top = _column(columns, place)[0] + (room - width) // 2, 44 + row * (height + 30)
        strip.paste(drawing.resized(picture, width, height), (left, top))
        pen.rectangle((left, top, left + width - 1, top + height - 1), outline=RULE)
        pen.text((left + width / 2, top + height + 5), caption, INK, font(14), anchor='mt')
    for number, bar in enumerate(bars):
        strip.paste(bar(room), (_column(columns, number)[0], strip.height - 64))
    return strip


def _title(seen: Inspection, name: str, note: str) -> Image.Image:
    words = [f'{seen.subject.name}: {seen.subject.source}', *([note] if note else [])]
    warned = not seen.subject.trained
    strip = Image.new('RGB', (_WIDTH, 62 + 22 * len(words) + 36 * warned), PAPER)
    pen = ImageDraw.Draw(strip)
    pen.text((_EDGE, 18), name, INK, font(26))
    for row, line in enumerate(words):
        pen.text((_EDGE, 54 + 22 * row), line, FAINT, font(16))
    if warned:
        pen.text((_EDGE, strip.height - 36), UNTRAINED, WARM, font(20))
    return strip


def _photographs(seen: Inspection, places: Sequence[Place]) -> Image.Image:
    """Photograph and result; below, the two maps with their bars. Places are marked in the photograph and the maps."""
    height, width = seen.radius.shape
    photographs = [drawing.photograph(_array(image)) for image in (seen.photograph, seen.result)]
    above = _tiles('The photograph', photographs, [f'photograph, {width}x{height}', 'result'], 2)
    maps = [(seen.radius, 'pixels'), (seen.strength, 'no unit')]
    highs = [full_scale(values) for values, _ in maps]
    paints: list[Callable[[np.ndarray], np.ndarray]] = [partial(drawing.coloured, low=0, high=high) for high in highs]
    below = _tiles(
        'What the last step sees',
        [paint(values.numpy()) for paint, (values, _) in zip(paints, maps, strict=True)],
        ['blur map: effective radius of the PSFs', 'strength: sum of |b - delta|, 0 where nothing is taken for blur'],
        2,
        [
            partial(drawing.bar, low=0, high=high, label=unit, paint=paint)
            for high, paint, (_, unit) in zip(highs, paints, maps, strict=True)
        ],
    )
    for strip, columns in ((above, (0,)), (below, (0, 1))):
        for column in columns:
            left, room = _column(2, column)
            shown = _fitted(room, (height, width))[0]
            _mark(ImageDraw.Draw(strip), places, left + (room - shown) // 2, shown, width)
    return _stacked([above, below])


def _mark(pen: ImageDraw.ImageDraw, places: Sequence[Place], left: int, shown: int, width: int) -> None:
    """A dot and a letter for each place, in a picture `shown` wide of an image of this width."""
    for letter, (x, y) in zip(LETTERS, places, strict=False):
        at = left + (x + 0.5) * shown / width, 44 + (y + 0.5) * shown / width
        pen.ellipse((at[0] - 4, at[1] - 4, at[0] + 4, at[1] + 4), _MARK, INK)
        right = at[0] < left + shown - 24
        beside = at[0] + (7 if right else -7), at[1]
        anchor = 'lm' if right else 'rm'
        pen.text(beside, letter, _MARK, font(17), anchor=anchor, stroke_width=2, stroke_fill=INK)


def _psfs(seen: Inspection, places: Sequence[Place]) -> Image.Image:
    """Of all places, as wide as the widest needs: colours by the values, and below by their logarithms."""
    psfs = [seen.psf_at(place) for place in places]
    middle, reach = seen.kernels.shape[-1] // 2, shown_reach(psfs)
    window = slice(middle - reach, middle + reach + 1)
    shown = [psf.mean(dim=0)[window, window].numpy() for psf in psfs]
    words = [
        f'{letter} {place}: radius {_radius(psf):.2f} px, sum {psf.mean(dim=0).sum().item():.2f}'
        for letter, place, psf in zip(LETTERS, places, psfs, strict=False)
    ]
    colours = 'mean of the colours, with the output layer' if seen.weight is not None else 'without the output layer'
    headings = (
        f'PSFs of the last step, {2 * reach + 1} pixels wide, {colours}; vermilion positive, blue negative',
        f'The same by the logarithm of their size: white is {10.0**-DECADES:g} of the largest, or less',
    )
    rows = []
    for heading, decades in zip(headings, (0, DECADES), strict=True):
        pictures = [drawing.diverging(psf, float(np.abs(psf).max()), decades) for psf in shown]
        rows.append(_tiles(heading, pictures, words if not decades else ['' for _ in words], 6))
    return _stacked(rows)


def _radius(psf: Tensor) -> float:
    """Over the colours together, as in the blur map."""
    sizes = psf.abs().sum(dim=0)
    return effective_radius(sizes).item()


def _estimates(seen: Inspection) -> Image.Image:
    scales = seen.estimates[-1].scale
    rounds = max(estimate.iteration for estimate in seen.estimates)
    pictures, captions = [], []
    for estimate in seen.estimates:
        pictures.append(drawing.photograph(_array(estimate.x)))
        rows, columns = estimate.x.shape[-2:]
        again = f', iteration {estimate.iteration} of {rounds}' if rounds > 1 else ''
        captions.append(f'scale {estimate.scale} of {scales}{again}, {columns}x{rows}')
    return _tiles('Estimates, coarse to fine', pictures, captions, max(3, min(4, len(pictures))))


def _coefficients(seen: Inspection) -> Image.Image:
    beta = seen.estimates[-1].beta.numpy()
    most = float(np.abs(beta).max())
    radii = seen.kernel_radii
    order = np.argsort(radii, kind='stable')
    pictures = [drawing.diverging(beta[p], most) for p in order]
    captions = [f'p = {p + 1}: {"identity" if radii[p] < 1e-3 else f"radius {radii[p]:.2f} px"}' for p in order]
    return _tiles(
        'Coefficient maps beta_p of the last step, by the size of their kernels',
        pictures,
        captions,
        6,
        [lambda room: drawing.bar(2 * room, -most, most, 'beta', partial(drawing.diverging, most=most))],
    )


def _alphas(seen: Inspection) -> Image.Image:
    """A block for each estimate: groups from left to right, the kernels of a group from top to bottom."""
    groups, kernels = seen.estimates[-1].alpha.shape
    several = max(estimate.iteration for estimate in seen.estimates) > 1
    left, line = _EDGE + 190, 18
    cell, block = min(64, (_WIDTH - _EDGE - left) // groups), kernels * line + 14
    strip, pen = _strip(
        'Alpha: shares of the kernels within each group; columns are groups p, rows kernels q',
        50 + len(seen.estimates) * block + 90,
    )
    top = 50
    for estimate in seen.estimates:
        again = f', iteration {estimate.iteration}' if several else ''
        pen.text((_EDGE, top + kernels * line / 2), f'scale {estimate.scale}{again}', INK, font(14), anchor='lm')
        picture = drawing.coloured(estimate.alpha.T.numpy(), 0, 1, 'cividis')
        strip.paste(drawing.resized(picture, groups * cell, kernels * line), (left, top))
        for q in range(kernels):
            pen.text((left - 8, top + line * (q + 0.5)), f'q = {q}', FAINT, font(12), anchor='rm')
        top += block
    for p in range(groups):
        pen.text((left + (p + 0.5) * cell, top - 8), str(p + 2), FAINT, font(12), anchor='mt')
    paint = partial(drawing.coloured, low=0, high=1, colours='cividis')
    strip.paste(drawing.bar(420, 0, 1, 'alpha', paint), (left, strip.height - 64))
    return strip


def _footer(seen: Inspection) -> Image.Image:
    weighed = '' if seen.weight is None else "the output layer's weight on its colour diagonal, "
    lines = [
        f'PSF b = sum over p of beta_p, {weighed}and the chain\'s cumulative kernel K_p; it acts on the step\'s '
        'input u.',
        'Effective radius = sqrt(sum r^2 |b| / sum |b|), over the three colours together; a disk of radius R has '
        'R / sqrt(2), a Gaussian sqrt(2) sigma. Strength: mean over the colours.',
    ]  # fmt: skip
    strip = Image.new('RGB', (_WIDTH, 30 + 22 * len(lines)), PAPER)
    pen = ImageDraw.Draw(strip)
    pen.line((_EDGE, 2, _WIDTH - _EDGE, 2), RULE)
    for row, line in enumerate(lines):
        pen.text((_EDGE, 14 + 22 * row), line, FAINT, font(15))
    return strip
