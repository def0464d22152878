"""Padding of images of any size, from 1x1, by any number of pixels."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

BOUNDARIES: tuple[str, ...] = ('reflect', 'zeros', 'replicate')


def reflect_index(n: int, before: int, after: int, device: torch.device | None = None) -> Tensor:
    """Return the positions in 0..n-1 that a line of n pixels shows at -before..n-1+after under whole-sample reflection.

    The edge pixel is not repeated: ``... 2 1 0 1 2 ...``, folded as often as needed (period 2(n-1); n = 1 is constant).
    """
    period = torch.sym_max(2 * (n - 1), 1)
    index = torch.arange(-before, n + after, device=device).remainder(period)
    return torch.minimum(index, cast(Tensor, period - index))


def pad(x: Tensor, left: int, right: int, top: int, bottom: int, boundary: str = 'reflect') -> Tensor:
    """Extend (..., H, W) by these numbers of pixels. Unlike in `F.pad`, `reflect` takes margins of any size."""
    if boundary == 'zeros':
        return F.pad(x, (left, right, top, bottom))
    if boundary == 'replicate':
        return F.pad(x, (left, right, top, bottom), mode='replicate')
    if boundary != 'reflect':
        raise ValueError(f'boundary is one of {", ".join(BOUNDARIES)}, not {boundary!r}')
    height, width = x.shape[-2:]
    always = torch.compiler.is_exporting()  # a symbolic margin may be zero for some sizes only
    if always or left or right:
        x = x.index_select(-1, reflect_index(width, left, right, x.device))
    if always or top or bottom:
        x = x.index_select(-2, reflect_index(height, top, bottom, x.device))
    return x


def padded_size(height: int, width: int, multiple: int, smallest: int = 0) -> tuple[int, int]:
    """Return the size that `pad_to_multiple` gives an image."""
    height, width = (side if side >= smallest else smallest for side in (height, width))
    return (height + multiple - 1) // multiple * multiple, (width + multiple - 1) // multiple * multiple


def pad_to_multiple(x: Tensor, multiple: int, smallest: int = 0, boundary: str = 'reflect') -> Tensor:
    """Extend (..., H, W) on the right and at the bottom until both sides are multiples, and at least `smallest`.

    `crop_to` undoes it.
    """
    height, width = x.shape[-2:]
    rows, columns = padded_size(height, width, multiple, smallest)
    return pad(x, 0, columns - width, 0, rows - height, boundary)


def crop_to(x: Tensor, height: int, width: int, scale: int = 1) -> Tensor:
    """Crop (..., H', W') to the top left part that shows an image of this size, downscaled `scale` times.

    Sides of the result are rounded up.
    """
    return x[..., : -(-height // scale), : -(-width // scale)]


def pad_adjoint(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Apply the adjoint of `pad` with `reflect`: add the margins to the pixels that they mirror."""
    height, width = x.shape[-2] - top - bottom, x.shape[-1] - left - right
    lines = x.new_zeros(*x.shape[:-1], width).index_add_(-1, reflect_index(width, left, right, x.device), x)
    return x.new_zeros(*x.shape[:-2], height, width).index_add_(-2, reflect_index(height, top, bottom, x.device), lines)
