"""Layers with TensorFlow's conventions, for DPDNet-S, MDP, KPAC, SRN, AttSRN and AIFNet."""

import math

import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """Convolution with SAME padding: stride 2 halves an even size.

    An odd number of zeros has one more on the right and at the bottom: kernel 2 pads (0, 1), kernel 3 with stride 2
    (0, 1), kernel 5 with stride 2 (1, 2).
    """

    def __init__(
        self, in_ch: int, out_ch: int, kernel_size: int, stride: int = 1, dilation: int = 1, bias: bool = True
    ) -> None:
        total = dilation * (kernel_size - 1) + 1 - stride
        self.margins = (total // 2, total - total // 2)
        even = self.margins[0] if total % 2 == 0 else 0
        super().__init__(in_ch, out_ch, kernel_size, stride, even, dilation, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        before, after = self.margins
        return super().forward(x if before == after else F.pad(x, (before, after, before, after)))


def double_legacy(x: Tensor) -> Tensor:
    """Upscale (B,C,H,W) by 2, first pixels aligned: out[2k] = x[k], out[2k+1] = (x[k] + x[k+1]) / 2, the last x[n-1].

    Downscaling by the same rule is subsampling.
    """
    height, width = x.shape[-2:]
    between = F.interpolate(x, (2 * height - 1, 2 * width - 1), mode='bilinear', align_corners=True)
    return F.pad(between, (0, 1, 0, 1), mode='replicate')


def he_init(net: nn.Module) -> None:
    """Initialize convolutions by Keras' he_normal (variance 2 / fan_in after truncation) and biases by zero."""
    truncated_std = 0.87962566103423978  # of a unit normal truncated at +-2
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            std = math.sqrt(2 / module.weight[0].numel()) / truncated_std
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
