"""Differentiable operators on tensors, in PyTorch only. Each fast form has a reference form (`_ref`)."""

from ggkm_plugin.ops.gaussian import gaussian_bank
from ggkm_plugin.ops.ggkm import (
    blur_form,
    ggkm_blur,
    ggkm_blur_ref,
    iterative_group_conv,
    iterative_group_conv_ref,
)

__all__ = [
    'blur_form',
    'gaussian_bank',
    'ggkm_blur',
    'ggkm_blur_ref',
    'iterative_group_conv',
    'iterative_group_conv_ref',
]
