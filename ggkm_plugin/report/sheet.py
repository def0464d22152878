"""The comparison sheet: held-out photographs in rows, input, result, ground truth and the errors in columns, one PNG.

PSNR on the sheet: RGB, whole image, both clipped to [0, 1] (the PSNR of the `restormer` preset). An error map is the
mean over R, G, B of |image - ground truth|; all maps of a sheet share one colour scale, which a bar names.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ggkm_plugin.utils.files import write_whole

COLUMNS = ('input', 'result', 'ground truth', 'error of input', 'error of result')

_MARGIN, _GAP = 28, 10
_MIN_COLUMN = 180  # pixels: the narrowest column whose labels stay apart
_TALLEST = 1.0  # photographs higher than this times the column are shrunk
_CROP_ASPECT = 0.6
_PAPER, _INK, _FAINT, _RULE = (255, 255, 255), (32, 33, 36), (105, 110, 118), (222, 225, 229)
_BETTER, _WORSE, _MARK = (22, 120, 60), (185, 40, 40), (255, 196, 0)


@dataclass(frozen=True, eq=False)
class SheetRow:
    """One photograph: three (H, W, 3) RGB float arrays of one size, nominally in [0, 1], clipped for display."""

    name: str
    input: np.ndarray
    result: np.ndarray
    gt: np.ndarray


@dataclass(frozen=True, eq=False)
class _Pictures:
    """What a row draws: input, result and ground truth in [0, 1], the errors (H, W) and the PSNRs of the first two."""

    name: str
    images: tuple[np.ndarray, ...]
    errors: tuple[np.ndarray, ...]
    psnrs: tuple[float, ...]


def comparison_sheet(rows: Sequence[SheetRow], path: str | Path, max_width: int = 1680, zoom: bool = True) -> None:
    """Draw the sheet, at most `max_width` pixels wide, and write it to `path` as a PNG, atomically.

    Photographs wider than their column are averaged down; smaller ones are shown at an integer enlargement. With `zoom`
    each row is followed by a crop from where the error fell most: native pixels enlarged 2x (Lanczos), or twice as much
    as the row itself where that is enlarged.
    Raises ValueError without rows, on a `max_width` too small for five columns, and on a row whose images are not
    RGB floats, not finite or not of one size.
    """
    room = (max_width - 2 * _MARGIN - 4 * _GAP) // 5
    if not rows or room < _MIN_COLUMN:
        needed = 5 * _MIN_COLUMN + 2 * _MARGIN + 4 * _GAP
        raise ValueError(f'A comparison sheet needs a row and {needed} pixels, got {len(rows)} and {max_width}.')
    pictures = [_pictures(row) for row in rows]
    column = max(_MIN_COLUMN, *(_shown_size(row, room)[0] for row in pictures))
    scale = float(np.percentile(np.concatenate([error.ravel() for row in pictures for error in row.errors]), 99.5))
    scale = max(scale, 1 / 255)  # a sheet without errors has a scale too
    strips = [_header(column), *(_row(row, column, scale, zoom) for row in pictures), _footer(column, scale, zoom)]
    _write_png(Image.fromarray(np.concatenate([np.asarray(strip) for strip in strips])), Path(path))


def _pictures(row: SheetRow) -> _Pictures:
    """Check a row, clip its images and measure them at full size."""
    for name, image in (('input', row.input), ('result', row.result), ('gt', row.gt)):
        if image.ndim != 3 or image.shape[2] != 3 or image.shape != row.gt.shape or image.dtype.kind != 'f':
            raise ValueError(
                f'Row {row.name!r}: {name} must be a float array (H, W, 3) of the size of gt {row.gt.shape}, '
                f'got {image.dtype} {image.shape}.'
            )
        if not np.isfinite(image).all():
            raise ValueError(f'Row {row.name!r}: {name} has values that are not finite.')
    images = tuple(np.clip(image, 0, 1).astype(np.float32) for image in (row.input, row.result, row.gt))
    differences = [image - images[2] for image in images[:2]]
    errors = tuple(np.abs(difference).mean(axis=2) for difference in differences)
    mses = (float(np.square(difference, dtype=np.float64).mean()) for difference in differences)
    return _Pictures(row.name, images, errors, tuple(-10 * math.log10(mse) if mse else math.inf for mse in mses))


def _shown_size(row: _Pictures, column: int) -> tuple[int, int]:
    """Width and height of a row's photographs on the sheet: reduced to fit the column, or a whole number of times."""
    height, width = row.errors[0].shape
    fit = min(column / width, _TALLEST * column / height)
    fit = math.floor(fit) if fit >= 1 else fit
    return max(1, round(width * fit)), max(1, round(height * fit))


def _shown(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`picture` (H, W) or (H, W, 3) at `size` (width, height): area-averaged down, or its pixels repeated."""
    reduced = size[0] < picture.shape[1] or size[1] < picture.shape[0]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if reduced else cv2.INTER_NEAREST)


def _photograph(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(image * 255).astype(np.uint8))


def _error_map(error: np.ndarray, scale: float) -> Image.Image:
    """Colours of an error (H, W): black at 0, pale yellow from `scale` on (INFERNO)."""
    levels = np.rint(np.minimum(error / scale, 1) * 255).astype(np.uint8)
    return Image.fromarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1])


def _crop(row: _Pictures, width: int, height: int) -> tuple[slice, slice]:
    """The window of that size in which the summed error falls most from input to result, as rows and columns."""
    total = cv2.integral(row.errors[0] - row.errors[1], sdepth=cv2.CV_64F)
    fall = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = (int(index) for index in np.unravel_index(np.argmax(fall), fall.shape))
    return slice(top, top + height), slice(left, left + width)


def _strip(column: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw, list[int]]:
    """An empty strip across the sheet, its pen, and the left edges of the five columns."""
    lefts = [_MARGIN + index * (column + _GAP) for index in range(5)]
    strip = Image.new('RGB', (lefts[-1] + column + _MARGIN, height), _PAPER)
    return strip, ImageDraw.Draw(strip), lefts


def _header(column: int) -> Image.Image:
    strip, pen, lefts = _strip(column, 58)
    for left, title in zip(lefts, COLUMNS, strict=True):
        pen.text((left + column / 2, 39), title, _INK, ImageFont.load_default(26), anchor='ms')
    return strip


def _row(row: _Pictures, column: int, scale: float, zoom: bool) -> Image.Image:
    """The name, five pictures with their figures below and, with `zoom`, the five crops."""
    above, below = 46, 38
    size = width, height = _shown_size(row, column)
    full_height, full_width = row.errors[0].shape
    enlarged = 2 * max(1, width // full_width)
    crop_width = min(full_width, column // enlarged)
    crop_height = min(full_height, round(_CROP_ASPECT * column) // enlarged)
    crops_height = crop_height * enlarged + 20 if zoom else 0
    strip, pen, lefts = _strip(column, above + height + below + crops_height)

    pen.line((_MARGIN, 2, strip.width - _MARGIN, 2), _RULE)
    pen.text((_MARGIN, 33), row.name, _INK, ImageFont.load_default(22), anchor='ls')
    pictures = [_photograph(_shown(image, size)) for image in row.images]
    pictures += [_error_map(_shown(error, size), scale) for error in row.errors]
    if zoom:
        crop = ys, xs = _crop(row, crop_width, crop_height)
        sides = (xs.start / full_width, ys.start / full_height, xs.stop / full_width, ys.stop / full_height)
        box = [round(side * extent) for side, extent in zip(sides, (width, height, width, height), strict=True)]
        for picture in pictures:
            ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=_MARK, width=2)
        crops = [_photograph(image[crop]) for image in row.images]
        crops += [_error_map(error[crop], scale) for error in row.errors]
        crop_size = crop_width * enlarged, crop_height * enlarged
        for left, picture in zip(lefts, crops, strict=True):
            corner = left + (column - crop_size[0]) // 2, above + height + below
            strip.paste(picture.resize(crop_size, Image.Resampling.LANCZOS), corner)
    for left, picture in zip(lefts, pictures, strict=True):
        strip.paste(picture, (left + (column - width) // 2, above))
    _labels(row, pen, [left + column / 2 for left in lefts], above + height + 26)
    return strip


def _labels(row: _Pictures, pen: ImageDraw.ImageDraw, centres: list[float], baseline: int) -> None:
    """PSNR under input and result, what the result gained, and the mean under the error maps."""
    font = ImageFont.load_default(21)
    scores = [f'{psnr:.2f} dB' if math.isfinite(psnr) else 'identical' for psnr in row.psnrs]
    gain = row.psnrs[1] - row.psnrs[0]
    change = f'  {gain:+.2f}' if math.isfinite(gain) else ''
    pen.text((centres[0], baseline), scores[0], _INK, font, anchor='ms')
    start = centres[1] - font.getlength(scores[1] + change) / 2
    pen.text((start, baseline), scores[1], _INK, font, anchor='ls')
    colour = _BETTER if gain > 0 else _WORSE
    pen.text((start + font.getlength(scores[1]), baseline), change, colour, font, anchor='ls')
    for centre, error in zip(centres[3:], row.errors, strict=True):
        pen.text((centre, baseline), f'mean {error.mean():.4f}', _FAINT, font, anchor='ms')


def _footer(column: int, scale: float, zoom: bool) -> Image.Image:
    """What the figures mean, and the colour bar under the error maps."""
    strip, pen, lefts = _strip(column, 92)
    font = ImageFont.load_default(18)
    pen.line((_MARGIN, 2, strip.width - _MARGIN, 2), _RULE)
    pen.text((_MARGIN, 34), 'dB: PSNR, RGB, whole image, clipped to [0, 1]', _FAINT, font, anchor='ls')
    if zoom:
        pen.text((_MARGIN, 60), 'Crops: enlarged, where the error fell most', _FAINT, font, anchor='ls')
    left, width = lefts[3], 2 * column + _GAP
    ramp = np.broadcast_to(np.linspace(0, scale, width, dtype=np.float32), (14, width))
    strip.paste(_error_map(ramp, scale), (left, 20))
    for share, anchor in ((0, 'ls'), (0.5, 'ms'), (1, 'rs')):
        text = f'{share * scale:.3f}' if share < 1 else f'{scale:.3f} and more'
        pen.text((left + share * width, 54), text, _FAINT, font, anchor=anchor)
    pen.text((left + width / 2, 77), 'mean |error| over RGB, units of [0, 1]', _FAINT, font, anchor='ms')
    return strip


def _write_png(image: Image.Image, path: Path) -> None:
    content = io.BytesIO()
    image.save(content, format='PNG', optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
