"""Small pictures for TensorBoard: what a validation image became, and where the network sees how much blur."""

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

# Pixels: of a column of the strip.
_WIDEST = 480
# Percentiles of a map that take its darkest and its brightest colour.
_STRETCH = (1, 99)


def strip(*images: Tensor) -> np.ndarray:
    """(3,H,W) RGB images in [0,1] side by side, reduced to a readable size: (H',W',3) uint8."""
    return np.concatenate([_reduced(to_uint8(image)) for image in images], axis=1)


@torch.no_grad()
def coefficient_map(net: Any, lq: Tensor, stretched: bool = False) -> np.ndarray | None:
    """Which Gaussians a network mixes at each pixel of lq (1,3,H,W), dark for narrow, bright for wide: (H',W',3) uint8.

    The mean of the group's number, weighted by |beta|, at the finest scale. Colours stand for the same values in all
    pictures, or `stretched` for what there is in this one, since a network may use a narrow range. None for a network
    without coefficients.
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
    return coloured(values)


def coloured(values: np.ndarray) -> np.ndarray:
    """(H,W) in [0,1] as a picture, dark for 0, bright for 1, reduced to a readable size: (H',W',3) uint8."""
    grey = (values * 255).round().astype(np.uint8)
    return _reduced(cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB))


def to_uint8(image: Tensor) -> np.ndarray:
    """(3,H,W) float RGB to (H,W,3) uint8, clipped and rounded."""
    return image.detach().float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()


def _reduced(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if width <= _WIDEST:
        return image
    return cv2.resize(image, (_WIDEST, max(1, round(height * _WIDEST / width))), interpolation=cv2.INTER_AREA)
