"""Shared parts of the multi-scale losses: weights, Fourier term, scales, check of training crops."""

import math
from typing import Any

import torch
from torch import Tensor

from ggkm_plugin.utils.errors import CropSizeError

SSIM_WINDOW = 11


def loss_input(loss: Any, output: Any) -> Any:
    """Return the part of a training output that a loss takes.

    That is the whole training dict (see `GGKMNet`) if the loss declares `takes_scales`, otherwise the finest image.
    """
    return output['scales'][-1] if isinstance(output, dict) and not getattr(loss, 'takes_scales', False) else output


def checked_weights(loss: str, weights: dict[str, float]) -> dict[str, float]:
    """Return the weights of the terms l_*. Raises ValueError for a wrong one, or if all are 0."""
    for name, weight in weights.items():
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f'{name[2:]}_weight must be a number of at least 0, not {weight!r}')
    if not any(weights.values()):
        raise ValueError(f'all weights of {loss} are 0. Set one above 0')
    return weights


def fourier_l1(x: Tensor, gt: Tensor) -> Tensor:
    """Return mean |FFT(x) - FFT(gt)| of real and imaginary parts; norm backward. Eq. (19)."""
    return torch.view_as_real(torch.fft.fft2(x - gt)).abs().mean()


def check_crop(gt: Tensor, num_scales: int, with_ssim: bool) -> None:
    """Raise CropSizeError if gt (B,C,H,W) does not fit the pyramid or, if used, the SSIM window."""
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
    """Return the images to supervise, one per scale. Raises ValueError for a network with several per scale."""
    if isinstance(output, Tensor):
        return [output]
    if len(output['scales']) != len(output['inputs']):
        raise ValueError(
            f'{len(output["scales"])} estimates of {len(output["inputs"])} scales: this loss takes one per scale; '
            'set network_g.num_iters: 1 or train.pixel_opt.type: GGKMLoss'
        )
    return output['scales']
