"""Figures drawn with matplotlib: their colors, images and color bars, and PNG files written whole or not at all.

matplotlib is imported when a figure is made, and without pyplot: no window system, no global state. VIRIDIS is even in
lightness and, like Okabe and Ito's colors, safe for color-blind readers.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ggkm_plugin.utils.files import printable, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

INK, FAINT, RULE = '#202124', '#696e76', '#dee1e5'
BLUE, VERMILION, YELLOW = '#0072b2', '#d55e00', '#ffc400'  # negative, positive, marked
COLORS = (BLUE, VERMILION, '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000', '#8c7800')
DASHES = ('-', '--', ':', '-.')
MARKERS = ('o', 's', '^', 'D')
DPI = 100


def figure(width: float, height: float, title: str = '', warning: str = '') -> 'Figure':
    """Return an empty figure of so many pixels, with a title and, above it in vermilion, a warning."""
    from matplotlib.figure import Figure

    drawn = Figure((width / DPI, height / DPI), dpi=DPI, layout='constrained')
    if title or warning:
        text, color = (f'{warning}\n{title}', VERMILION) if warning else (title, INK)
        drawn.suptitle(printable(text), color=color, fontsize=12, parse_math=False)  # a file name may hold dollars
    return drawn


def diverging() -> 'Colormap':
    """Return the color map of signed values: blue below zero, white at zero, vermilion above."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list('diverging', [BLUE, 'white', VERMILION])


def show(axes: 'Axes', image: np.ndarray, title: str = '', **options: Any) -> Any:
    """Draw an image (H,W,3) in [0,1], or values (H,W) in colors, without ticks; NaN is gray.

    options: of `Axes.imshow`. Enlarged pixels stay squares, reduced ones are averaged.
    """
    shown = axes.imshow(np.clip(image, 0, 1) if image.ndim == 3 else image, **options)
    axes.set(xticks=[], yticks=[], facecolor='0.63')
    axes.set_title(title, fontsize=9)
    for side in axes.spines.values():
        side.set_color(RULE)
    return shown


def show_signed(axes: 'Axes', values: np.ndarray, most: float) -> Any:
    """Draw signed values (H,W) in diverging colors, full at `most`."""
    return show(axes, values, cmap=diverging(), vmin=-max(most, 1e-12), vmax=max(most, 1e-12))


def signed_log(values: np.ndarray, decades: int) -> np.ndarray:
    """Return the sign of `values` times the logarithm of their size: 1 for the largest, 0 from `decades` below it."""
    share = values / max(float(np.abs(values).max()), 1e-30)
    return np.sign(share) * np.maximum(0, 1 + np.log10(np.maximum(np.abs(share), 1e-30)) / decades)


def write_png(drawn: 'Figure', path: Path) -> None:
    """Write a figure and make its folder. Raises OSError."""
    content = io.BytesIO()
    drawn.savefig(content, format='png')
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
