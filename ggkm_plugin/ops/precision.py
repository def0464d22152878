"""Helpers for the precision of arithmetic: float32 inside a network of lower precision, float64 where it exists."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

_FLOAT64 = ('cpu', 'cuda', 'meta')


def full_precision(like: Tensor) -> AbstractContextManager:
    """Return a context without autocast on the tensor's device. TF32 stays the caller's choice."""
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def widest(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that may lack it (MPS, XPU)."""
    return torch.float64 if device.type in _FLOAT64 else torch.float32


def exact(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on the CPU if its device may lack that."""
    return (tensor if tensor.device.type in _FLOAT64 else tensor.cpu()).double()


def color_mix(image: Tensor, weight: Tensor) -> Tensor:
    """Apply a 1x1 convolution (C',C,1,1) to (B,C,H,W) as a matrix product; as a convolution cuDNN might use TF32."""
    height, width = image.shape[-2:]
    return torch.matmul(weight.flatten(1), image.flatten(2)).unflatten(-1, (height, width))


def pointwise(conv: nn.Conv2d, image: Tensor) -> Tensor:
    """Apply a 1x1 convolution with bias to (B,C,H,W) in the image's dtype, as `color_mix` does."""
    assert conv.bias is not None
    return color_mix(image, conv.weight.to(image.dtype)) + conv.bias.to(image.dtype).view(1, -1, 1, 1)
