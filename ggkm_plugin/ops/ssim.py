"""Differentiable SSIM, used by the training losses and the metrics.

Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", 2004:

    SSIM = (2 ux uy + C1) (2 vxy + C2) / ((ux^2 + uy^2 + C1) (vx + vy + C2)),  C1 = (0.01 L)^2,  C2 = (0.03 L)^2

with ux, uy the windowed means, vx, vy the windowed variances, vxy the covariance, L the data range. Correlation with a
symmetric window of unit sum; only windows inside the image count (no padding).

Two windows are in use. Their values differ by several thousandths on the same pair of images:

==========  ======================  =======================  ===================================================
window      taps                    covariance               same as
==========  ======================  =======================  ===================================================
gaussian    11x11, sigma 1.5        population               pytorch-msssim, basicsr `calculate_ssim`
uniform     7x7, all equal          sample, N / (N - 1)      scikit-image `structural_similarity` by default
==========  ======================  =======================  ===================================================
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ggkm_plugin.ops.precision import full_precision

Window = Literal['gaussian', 'uniform']


def _taps(window: Window, like: Tensor) -> tuple[Tensor, float]:
    """Return one axis of the separable window (unit sum) and the factor from its variance to that of SSIM."""
    if window == 'gaussian':
        offset = torch.arange(-5, 6, dtype=like.dtype, device=like.device)
        taps = torch.exp(-offset.square() / (2 * 1.5**2))
        return taps / taps.sum(), 1.0
    if window == 'uniform':
        return torch.full((7,), 1 / 7, dtype=like.dtype, device=like.device), 49 / 48
    raise ValueError(f"SSIM window {window!r} is unknown: use 'gaussian' or 'uniform'")


def ssim(x: Tensor, y: Tensor, window: Window = 'gaussian') -> Tensor:
    """Compute SSIM of each image pair, (B,) in [-1, 1]: the mean over channels and all valid window positions.

    x, y: (B, C, H, W), floats in [0, 1]. Half precision is computed in float32, because the variances are
    differences of nearly equal numbers. Raises ValueError for unequal shapes, an unknown window, or images smaller than
    the window.
    """
    if x.shape != y.shape or x.dim() != 4:
        raise ValueError(f'SSIM takes two (B, C, H, W) tensors of one shape, got {tuple(x.shape)} and {tuple(y.shape)}')
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    with full_precision(x):
        x, y = x.to(dtype), y.to(dtype)
        taps, covariance_norm = _taps(window, x)
        size = len(taps)
        batch, _, height, width = x.shape
        if min(height, width) < size:
            raise ValueError(
                f'SSIM with the {window} window needs images of at least {size}x{size} pixels, got {height}x{width}'
            )
        # Only the sum of vx and vy is needed. A depthwise convolution is fast on a CPU and, on CUDA, never uses TF32.
        planes = torch.stack((x, y, x * x + y * y, x * y)).reshape(1, -1, height, width)
        groups = planes.shape[1]
        planes = F.conv2d(planes, taps.view(1, 1, 1, size).repeat(groups, 1, 1, 1), groups=groups)
        planes = F.conv2d(planes, taps.view(1, 1, size, 1).repeat(groups, 1, 1, 1), groups=groups)
        mean_x, mean_y, mean_squares, mean_xy = planes.view(4, batch, -1).unbind()

        c1, c2 = 0.01**2, 0.03**2
        product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
        covariance = covariance_norm * (mean_xy - product)
        variances = covariance_norm * (mean_squares - squares)
        ratio = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
        return ratio.mean(dim=1)
