"""Inference form of a network: equal results in evaluation with fewer operations."""

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Net = TypeVar('Net', bound=nn.Module)


def inference_form(net: Net) -> Net:
    """Return a copy in evaluation mode, without gradients, with equal results up to rounding.

    BatchNorm layers with running statistics are folded into the convolutions before them. Convolutions run in
    channels_last, the fastest layout on CPUs and on GPUs in half precision.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            _fold(module)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def _fold(layers: nn.Sequential) -> None:
    """Fold the BatchNorm layers of a sequence in place."""
    for (name, conv), (norm_name, norm) in pairwise(list(layers.named_children())):
        if not isinstance(norm, nn.BatchNorm2d) or getattr(norm, 'mode', 'running') != 'running':
            continue
        if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
            layers.register_module(name, fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d)))
            layers.register_module(norm_name, nn.Identity())
