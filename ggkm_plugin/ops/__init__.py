"""Pure mathematics on tensors: torch only. Each fast form stands beside its `_ref`."""

from ggkm_plugin.ops.gaussian import gaussian_bank
from ggkm_plugin.ops.mixture import ggkm_blur, ggkm_blur_ref, iterative_group_conv, iterative_group_conv_ref

__all__ = ['gaussian_bank', 'ggkm_blur', 'ggkm_blur_ref', 'iterative_group_conv', 'iterative_group_conv_ref']
