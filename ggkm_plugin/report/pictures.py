"""Pictures as arrays: images side by side, maps in colors, coefficient maps."""

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

# Width of a column, in pixels.
_WIDEST = 480
# Percentiles of a map with its darkest and brightest color.
_STRETCH = (1, 99)


def strip(*images: Tensor) -> np.ndarray:
    """Return (3,H,W) RGB images in [0,1] side by side, reduced to a readable size: (H',W',3) uint8."""
    return np.concatenate([preview(to_uint8(image)) for image in images], axis=1)


@torch.no_grad()
def coefficient_map(net: Any, lq: Tensor, stretched: bool = False) -> np.ndarray | None:
    """Return the Gaussians mixed at each pixel of lq (1,3,H,W), dark for narrow, bright for wide: (H',W',3) uint8.

    The value is the mean index of the group, weighted by |beta|, at the finest scale. Colors have the same meaning in
    all pictures; `stretched` spreads them over the range of this one. None for a network without coefficients.
    """
    if not hasattr(net, 'coefficients'):
        return None
    beta = net.coefficients(lq)[-1].beta[0].float().abs()
    numbers = torch.arange(len(beta), device=beta.device).view(-1, 1, 1)
    mean = (beta * numbers).sum(0) / beta.sum(0).clamp(min=1e-12) / max(1, len(beta) - 1)
    values = mean.cpu().numpy()
    if stretched:
        low, high = np.percentile(values, _STRETCH)
        values = ((values - low) / max(high - low, 1e-12)).clip(0, 1)
    return preview(colored(values))


def colored(values: np.ndarray, low: float = 0, high: float = 1) -> np.ndarray:
    """Return (H,W) values as (H,W,3) uint8 RGB, dark at `low` and bright at `high` (viridis); NaN is gray."""
    share = np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12), 0, 1)
    picture = _mapped(np.rint(share * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    picture[~np.isfinite(values)] = 160
    return picture


def color_stops(colormap: int, count: int = 33) -> list[str]:
    """Return hexadecimal colors from zero to full scale of one of OpenCV's color maps; linear in between."""
    levels = np.linspace(0, 255, count).round().astype(np.uint8)[None]
    return ['#{:02x}{:02x}{:02x}'.format(*color) for color in _mapped(levels, colormap)[0]]


def _mapped(levels: np.ndarray, colormap: int) -> np.ndarray:
    return cv2.cvtColor(cv2.applyColorMap(levels, colormap), cv2.COLOR_BGR2RGB)


def to_uint8(image: Tensor) -> np.ndarray:
    """Return (3,H,W) float RGB as (H,W,3) uint8, clipped and rounded."""
    return image.detach().float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()


def preview(image: np.ndarray) -> np.ndarray:
    """Reduce a picture (H,W,3) to a readable width."""
    height, width = image.shape[:2]
    if width <= _WIDEST:
        return image
    return cv2.resize(image, (_WIDEST, max(1, round(height * _WIDEST / width))), interpolation=cv2.INTER_AREA)
