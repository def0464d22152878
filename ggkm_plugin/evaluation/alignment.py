"""Registration of results to their ground truth by one sub-pixel shift, for additional scores."""

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ggkm_plugin.data.registration import registration

SUFFIX = '_aligned'  # of the names of metrics that are computed after it
# Correlation below which the two do not show the same scene, and no shift is applied.
_LEAST_SIMILARITY = 0.6


def aligned(image: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
    """Shift a (3,H,W) float image onto its ground truth; both without the margin that the shift leaves undefined.

    The shift is that of `basicsr verify`, to 1/20 pixel, applied by cubic splines. Both are returned as they are where
    it is zero, and where none is found: in images with a side below 256 pixels, without detail or of different scenes.
    """
    found = registration(_sixteen_bits(image), _sixteen_bits(gt))
    if found is None or found.likeness < _LEAST_SIMILARITY or found.distance == 0:
        return image, gt
    top, left = (math.ceil(abs(shift)) for shift in (found.rows, found.columns))
    moved = ndimage.shift(
        image.detach().double().cpu().numpy(), (0, -found.rows, -found.columns), order=3, mode='mirror'
    )
    height, width = gt.shape[-2:]
    both = (torch.from_numpy(moved).to(image), gt)
    one, two = (whole[..., top : height - top, left : width - left] for whole in both)
    return one, two


def _sixteen_bits(image: Tensor) -> np.ndarray:
    scaled = image.detach().float().clamp(0, 1).mul(65535).round()
    return scaled.permute(1, 2, 0).cpu().numpy().astype(np.uint16)
