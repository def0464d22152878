"""Strength of deblurring: blend a photograph y with its result x by the estimated blur.

    out = y + m g(S, w) (x - y),    g = S^(1/w) for S <= 1,    g = 1 + (S - 1) w for S > 1
    w = q^2 / (1 + q^2),    q = r / r0

S  strength in [0,2]: 0 is the photograph, 1 the result
r  mean over 15x15 pixels of the RMS radius of the estimated PSFs, r0 = 0.75 pixels; without an estimate that of
   |x - y|, the largest of the colors, r0 = 0.02 of white
m  mask in [0,1]

For S > 1 the output is clipped to the smallest and largest value that y and x have within 5x5 pixels.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ggkm_plugin.restoration.blur_estimate import BlurEstimate
from ggkm_plugin.utils.errors import DataError, OptionError

Image = TypeVar('Image', np.ndarray, Tensor)

LARGEST = 2.0
# What white is in integers; in floats it is 1.
WHITE = {torch.uint8: 255, torch.uint16: 65535}

_RADIUS, _DIFFERENCE = 0.75, 0.02
_RANGE_REACH, _MEAN_REACH = 2, 7
# Rows that are blended at once, for the memory.
_ROWS = 256


def check_strength(strength: float) -> None:
    """Raise OptionError unless it is a number in [0, LARGEST]."""
    if not 0 <= strength <= LARGEST:
        raise OptionError(f'strength: a number from 0 to {LARGEST:g}, not {strength}')


def blur_weight(ratio: Tensor) -> Tensor:
    """Compute w for q = r / r0: 0 where it is sharp, towards 1 for large blur."""
    square = ratio.square()
    return square / (1 + square)


def gain(strength: float, weight: Tensor) -> Tensor:
    """Compute g(S, w): the share of the result's change at each pixel."""
    return strength ** (1 / weight) if strength <= 1 else 1 + (strength - 1) * weight


def blended(y: Tensor, x: Tensor, strength: float, radius: Tensor | None, mask: Tensor | None = None) -> Tensor:
    """Blend float y and x (C,H,W) by radius (H,W) and mask (H,W); see the module."""
    measure, unit = ((x - y).abs().amax(0), _DIFFERENCE) if radius is None else (radius, _RADIUS)
    share = gain(strength, blur_weight(_mean_around(measure) / unit))
    out = torch.lerp(y, x, share if mask is None else share * mask)
    if strength > 1:
        out = out.clamp(-_largest_around(-torch.minimum(y, x)), _largest_around(torch.maximum(y, x)))
    return out


def _mean_around(values: Tensor) -> Tensor:
    size, reach = 2 * _MEAN_REACH + 1, _MEAN_REACH
    rows = F.avg_pool2d(values[None], (size, 1), 1, (reach, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, size), 1, (0, reach), count_include_pad=False)[0]


def _largest_around(image: Tensor) -> Tensor:
    size, reach = 2 * _RANGE_REACH + 1, _RANGE_REACH
    return F.max_pool2d(F.max_pool2d(image, (size, 1), 1, (reach, 0)), (1, size), 1, (0, reach))


def to_planes(image: np.ndarray | Tensor) -> Tensor:
    """Convert an image to (C,H,W) or (B,3,H,W), C = 1 or 3, of the same type; see `ImageRestorer`. Raises DataError."""
    if isinstance(image, Tensor):
        if image.ndim not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape:
            raise DataError(f'an image as a tensor is (3,H,W) or (B,3,H,W), not of shape {tuple(image.shape)}')
        planes = image
    elif isinstance(image, np.ndarray):
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)) or 0 in image.shape:
            raise DataError(f'an image as an array is (H,W,3), (H,W,1) or (H,W), not of shape {image.shape}')
        channels_first = np.moveaxis(np.atleast_3d(image), 2, 0)
        planes = torch.from_numpy(np.array(channels_first, image.dtype.newbyteorder('='), order='C'))
    else:
        raise DataError(f'an image is a numpy array or a tensor, not a {type(image).__name__}')
    if planes.dtype not in WHITE and not planes.is_floating_point():
        raise DataError(f'an image is of uint8, uint16 or floats, not {planes.dtype}')
    return planes


def from_planes(planes: Tensor, image: Image) -> Image:
    """Convert planes of the image's type to an image of its kind and shape."""
    if isinstance(image, Tensor):
        return planes.to(image.device)
    return np.ascontiguousarray(planes.movedim(0, 2).numpy().reshape(image.shape), image.dtype)


def to_type(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a float result, which is overwritten, to an image's type; integers are clipped and rounded."""
    white = WHITE.get(dtype)
    return (x.clamp_(0, 1).mul_(white).round_() if white else x).to(dtype)


@dataclass(frozen=True, eq=False)
class AdjustableResult(Generic[Image]):
    """A restored image whose strength can be chosen without another run of the network.

    Attributes:
        image: the photograph as it was given.
        result: (C,H,W) float32 on the CPU, C = 1 for gray.
        estimate: the network's estimate of blur, or None.
    """

    image: Image
    result: Tensor
    estimate: BlurEstimate | None

    @torch.inference_mode()
    def at(self, strength: float = 1.0, mask: np.ndarray | Tensor | None = None) -> Image:
        """Blend by strength in [0,2]; mask (H,W) in [0,1] limits the effect. Same kind, shape and type as the image.

        Raises OptionError for the strength, DataError for a mask of another size.
        """
        check_strength(strength)
        planes = to_planes(self.image).cpu()
        size = planes.shape[-2:]
        limit = None if mask is None else _checked_mask(mask, size)
        if strength == 0:
            return from_planes(planes.clone(), self.image)
        out = torch.empty_like(planes)
        for top in range(0, size[0], _ROWS):
            bottom = min(top + _ROWS, size[0])
            rows = slice(max(top - _MEAN_REACH, 0), bottom + _MEAN_REACH)
            core = slice(top - rows.start, bottom - rows.start)
            given, x = planes[:, rows], self.result[:, rows]
            part = None if limit is None else limit[rows]
            if strength == 1 and part is None:
                new = x.clone()
            else:
                y = given.float() / WHITE.get(given.dtype, 1)
                radius = None if self.estimate is None else self.estimate.radius[rows]
                new = blended(y, x, strength, radius, part)
            new = to_type(new, given.dtype)
            if part is not None:  # exact also in float64
                new = _where(part == 0, given, new)
            out[:, top:bottom] = new[:, core]
        return from_planes(out, self.image)


def _checked_mask(mask: np.ndarray | Tensor, size: torch.Size) -> Tensor:
    limit = torch.as_tensor(mask).to('cpu', torch.float32)
    if limit.shape != size:
        raise DataError(f'mask: its shape is {tuple(limit.shape)}, not that of the image, {tuple(size)}. Resize it')
    if not 0 <= limit.min() <= limit.max() <= 1:
        raise DataError(f'mask: values from {limit.min():g} to {limit.max():g}, not in [0, 1]. Divide it by white')
    return limit


def _where(condition: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Compute `torch.where`, also for uint16."""
    if first.dtype == torch.uint16:
        return torch.where(condition, first.int(), second.int()).to(torch.uint16)
    return torch.where(condition, first, second)
