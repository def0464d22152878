"""Image pyramid of Sec. 4.1: bilinear halving and doubling (align_corners=False)."""

import torch.nn.functional as F
from torch import Tensor


def half(x: Tensor) -> Tensor:
    """Downscale (B,C,H,W) with even H and W by 2, bilinearly: the mean of each 2x2 block."""
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Upscale (B,C,H,W) by 2, bilinearly."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)


def pyramid(y: Tensor, num_scales: int) -> list[Tensor]:
    """Build y^(1), ..., y^(T), coarse to fine; y^(T) is y. H and W must be multiples of 2^(T-1)."""
    levels = [y]
    for _ in range(num_scales - 1):
        levels.append(half(levels[-1]))
    return levels[::-1]
