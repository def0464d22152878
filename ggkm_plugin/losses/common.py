"""Parts of the multi-scale losses: weights, Fourier term, scales of an output, check of training crops."""

import math
from typing import Any

import torch
from torch import Tensor

from ggkm_plugin.utils.errors import CropSizeError

SSIM_WINDOW = 11


def checked_weights(loss: str, weights: dict[str, float]) -> dict[str, float]:
    """The weights of the terms l_*. Raises ValueError for one that is no number of at least 0, or if all are 0."""
    for name, weight in weights.items():
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f'{name[2:]}_weight is a number of at least 0, not {weight!r}')
    if not any(weights.values()):
        raise ValueError(f'all weights of {loss} are 0: nothing is left to train on')
    return weights


def fourier_l1(x: Tensor, gt: Tensor) -> Tensor:
    """Mean |FFT(x) - FFT(gt)| over images, channels, frequencies and {real, imaginary}; norm backward. Eq. (19)."""
    return torch.view_as_real(torch.fft.fft2(x - gt)).abs().mean()


def check_crop(gt: Tensor, num_scales: int, with_ssim: bool) -> None:
    """Raises CropSizeError where gt (B,C,H,W) fits neither the pyramid nor, where it is needed, SSIM's window."""
    height, width = gt.shape[-2:]
    shrink = 2 ** (num_scales - 1)
    if height % shrink or width % shrink:
        raise CropSizeError(
            f'a training crop of {height}x{width} cannot be halved {num_scales - 1} times: '
            f'set datasets.train.gt_size to a multiple of {shrink}'
        )
    if with_ssim and min(height, width) // shrink < SSIM_WINDOW:
        raise CropSizeError(
            f'a training crop of {height}x{width} is {min(height, width) // shrink} pixels wide at the coarsest of '
            f'{num_scales} scales, smaller than the SSIM window of {SSIM_WINDOW}: set datasets.train.gt_size to '
            f'{SSIM_WINDOW * shrink} or more, or train.pixel_opt.ssim_weight: 0'
        )


def scales_of(output: dict[str, Any] | Tensor) -> list[Tensor]:
    """The images to supervise, one a scale. Raises ValueError for a network of several iterations a scale."""
    if isinstance(output, Tensor):
        return [output]
    if len(output['scales']) != len(output['inputs']):
        raise ValueError(
            f'{len(output["scales"])} estimates of {len(output["inputs"])} scales: this loss takes one a scale; '
            'set network_g.num_iters: 1 or train.pixel_opt.type: GGKMLoss'
        )
    return output['scales']
