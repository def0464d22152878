"""Where float32 is kept while the network around runs in less."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager:
    """A context without autocast on the tensor's device. Matmul precision (TF32) stays the caller's choice."""
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def colour_mix(image: Tensor, weight: Tensor) -> Tensor:
    """A 1x1 convolution (C',C,1,1) of (B,C,H,W) as a matrix product: as a convolution cuDNN would round it to TF32."""
    height, width = image.shape[-2:]
    return torch.matmul(weight.flatten(1), image.flatten(2)).unflatten(-1, (height, width))
