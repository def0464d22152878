"""Pieces of the figures: maps in colours that everybody tells apart, and their bars; drawn with Pillow.

VIRIDIS and CIVIDIS are even in lightness and safe for colour-blind eyes; signs are blue and vermilion.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ggkm_plugin.utils.files import write_whole

PAPER, INK, FAINT, RULE = (255, 255, 255), (32, 33, 36), (105, 110, 118), (222, 225, 229)
COOL, WARM = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion
MAPS = {'viridis': cv2.COLORMAP_VIRIDIS, 'cividis': cv2.COLORMAP_CIVIDIS}


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def coloured(values: np.ndarray, low: float, high: float, colours: str = 'viridis') -> np.ndarray:
    """(H,W) values to (H,W,3) uint8 RGB; what is outside low..high takes the end's colour, NaN is grey."""
    share = np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12), 0, 1)
    picture = cv2.applyColorMap(np.rint(share * 255).astype(np.uint8), MAPS[colours])[..., ::-1].copy()
    picture[~np.isfinite(values)] = 160
    return picture


def diverging(values: np.ndarray, most: float, decades: int = 0) -> np.ndarray:
    """(...) signed values to RGB uint8: blue below zero, white at zero, vermilion above, full at `most`.

    With `decades` colours go with the logarithm of the size, over so many powers of ten below `most`.
    """
    share = np.clip(values / max(most, 1e-12), -1, 1)[..., None]
    if decades:
        share = np.sign(share) * np.maximum(0, 1 + np.log10(np.maximum(np.abs(share), 1e-30)) / decades)
    below, above = np.array(COOL, float), np.array(WARM, float)
    target = np.where(share < 0, below, above)
    return np.rint(255 + np.abs(share) * (target - 255)).astype(np.uint8)


def resized(picture: np.ndarray, width: int, height: int) -> Image.Image:
    """uint8 RGB at another size: averaged down, or its pixels repeated."""
    smaller = width < picture.shape[1]
    return Image.fromarray(
        cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)
    )


def photograph(image: np.ndarray) -> np.ndarray:
    """(H,W,3) float RGB, clipped to [0,1], as uint8."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def bar(width: int, low: float, high: float, label: str, paint: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """A horizontal colour bar with its ends, middle and unit written below, 56 pixels high; `paint` colours values."""
    image = Image.new('RGB', (width, 56), PAPER)
    pen = ImageDraw.Draw(image)
    image.paste(Image.fromarray(paint(np.broadcast_to(np.linspace(low, high, width), (12, width)))), (0, 0))
    for share, anchor in ((0, 'lt'), (0.5, 'mt'), (1, 'rt')):
        pen.text((share * (width - 1), 17), f'{low + share * (high - low):.3g}', FAINT, font(14), anchor=anchor)
    pen.text((width / 2, 37), label, FAINT, font(14), anchor='mt')
    return image


def tiled(pictures: Sequence[Image.Image], columns: int, gap: int = 16) -> Image.Image:
    """Pictures row by row on white, each at the top left of its cell."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    widths = [max(row[i].width for row in rows if i < len(row)) for i in range(min(columns, len(pictures)))]
    sheet = Image.new('RGB', (sum(widths) + gap * (len(widths) + 1), sum(heights) + gap * (len(rows) + 1)), PAPER)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        left = gap
        for picture, width in zip(row, widths, strict=False):
            sheet.paste(picture, (left, top))
            left += width + gap
        top += height + gap
    return sheet


def write_png(image: Image.Image, path: Path) -> None:
    """Complete or not at all, with its folder. Raises OSError."""
    content = io.BytesIO()
    image.save(content, format='PNG', optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
