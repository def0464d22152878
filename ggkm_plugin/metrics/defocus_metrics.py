"""PSNR, SSIM and MAE under a named protocol: RGB, per image, no image is ever resized or cropped.

Both images are numpy arrays (H, W, 3), uint8 or uint16, BGR, as BasicSR passes them; or both are float torch tensors
(3, H, W), RGB, unclipped, nominally in [0, 1]. What BasicSR passes to every metric (`better`, `crop_border` ...) is
accepted and ignored. All three raise ValueError on other shapes or types, OptionError on an unknown protocol.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ggkm_plugin.metrics.protocols import Protocol, find_protocol
from ggkm_plugin.ops.ssim import ssim
from ggkm_plugin.utils.registry import METRIC_REGISTRY

Image = np.ndarray | Tensor


def as_rgb(image: Image) -> Tensor:
    """Convert an image to a float64 tensor (3, H, W), RGB, nominally in [0, 1]; tensors stay on their device."""
    if isinstance(image, np.ndarray) and image.dtype in (np.uint8, np.uint16) and image.shape[2:] == (3,):
        rgb = image[..., ::-1].astype(np.float64) / np.iinfo(image.dtype).max
        return torch.from_numpy(rgb).permute(2, 0, 1)
    if isinstance(image, Tensor) and image.is_floating_point() and image.dim() == 3 and image.shape[0] == 3:
        return image.detach().double()
    raise ValueError(
        f'A metric takes uint8 or uint16 BGR arrays (H, W, 3) or float RGB tensors (3, H, W), got {_described(image)}.'
    )


def prepare(img: Image, img2: Image, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """Convert both images by `as_rgb`, then clip and round them by the protocol."""
    rgb, rgb2 = as_rgb(img), as_rgb(img2)
    same_kind = isinstance(img, Tensor) == isinstance(img2, Tensor) and (
        isinstance(img, Tensor) or img.dtype == img2.dtype
    )
    if not same_kind or rgb.shape != rgb2.shape:
        raise ValueError(
            f'A metric compares two images of one kind and size, got {_described(img)} and {_described(img2)}.'
        )
    if protocol.clip:
        rgb, rgb2 = rgb.clamp(0, 1), rgb2.clamp(0, 1)
    if protocol.quantize:
        rgb, rgb2 = rgb.mul(255).round() / 255, rgb2.mul(255).round() / 255
    return rgb, rgb2


def _described(image: Any) -> str:
    """Describe type, shape and dtype of an argument for an error message."""
    if isinstance(image, np.ndarray | Tensor):
        return f'{type(image).__name__} {tuple(image.shape)} {image.dtype}'
    return type(image).__name__


@METRIC_REGISTRY.register()
def defocus_psnr(img: Image, img2: Image, protocol: str = 'restormer', **kwargs: Any) -> float:
    """Compute PSNR in dB, 10 log10(1 / MSE), over all pixels and channels of [0, 1] RGB; inf for equal images."""
    rgb, rgb2 = prepare(img, img2, find_protocol(protocol))
    mse = (rgb - rgb2).square().mean().item()
    return -10 * math.log10(mse) if mse else math.inf


@METRIC_REGISTRY.register()
def defocus_ssim(img: Image, img2: Image, protocol: str = 'restormer', **kwargs: Any) -> float:
    """Compute SSIM in [-1, 1] with the protocol's window, data range 1: mean over channels and valid positions."""
    preset = find_protocol(protocol)
    rgb, rgb2 = prepare(img, img2, preset)
    return ssim(rgb[None], rgb2[None], preset.ssim_window).item()


@METRIC_REGISTRY.register()
def defocus_mae(img: Image, img2: Image, protocol: str = 'restormer', **kwargs: Any) -> float:
    """Compute the mean absolute difference over all pixels and channels, in units of [0, 1]."""
    rgb, rgb2 = prepare(img, img2, find_protocol(protocol))
    return (rgb - rgb2).abs().mean().item()


defocus_mae.better = 'lower'  # type: ignore[attr-defined]
for _metric in (defocus_psnr, defocus_ssim, defocus_mae):
    _metric.takes_float = True  # the Evaluator passes float tensors to such metrics, uint8 BGR arrays to others
