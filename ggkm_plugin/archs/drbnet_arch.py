"""DRBNet: coarse-to-fine refinement over four scales by per-pixel 7x7 kernels and residuals.

L. Ruan, B. Chen, J. Li, M. Lam, "Learning to Deblur using Light Field Generated and Real Defocus Images", CVPR 2022.
Written from published facts about the authors' single-image network (AGPL; its code was not used); module names are the
released checkpoints' keys.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.base import AnySizeNet
from ggkm_plugin.archs.blocks import PixelFilter, xavier_init
from ggkm_plugin.archs.ifan_blocks import ResStack, add_encoder, add_upscales, conv_lk, decode_level, encode
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.utils.schema import Count

KERNEL_SIZE = 7


@ARCH_REGISTRY.register()
class DRBNet(AnySizeNet):
    """DRBNet: y (B,3,H,W) of any size -> the deblurred image, same shape; 11,689,616 parameters.

    The layers work in [-1,1]. Evaluation clips the image to [0,1]. Assumed: training does not clip; Xavier's
    initialization. The authors' training is not published.

    Args:
        residual_act: LeakyReLU also after the last layer of the residual's predictors, as in the released network; it
            scales a negative residual by 0.1. False omits it.
        width: channels at full resolution; not in the paper: for small trials.

    Raises:
        ValueError: an invalid argument.
    """

    size_multiple = 8

    @checked
    def __init__(self, residual_act: bool = True, width: Count = 32) -> None:
        super().__init__()
        self.residual_act = residual_act
        c1, c2, c3, c4 = channels = (width, 2 * width, 4 * width, 8 * width)
        add_encoder(self, 'conv', channels)
        self.conv4_4 = nn.Sequential(conv_lk(c4, c4), ResStack(c4), ResStack(c4), conv_lk(c4, c4))
        add_upscales(self, channels, activated=False)

        def chain(*widths: int) -> list[nn.Module]:
            return [conv_lk(a, b) for a, b in pairwise(widths)]

        # One head per scale, coarse to fine: number, input channels, hidden channels of its two predictors.
        # A head's number is one less than that of the `upconv` whose features it takes.
        heads = (
            (3, 2 * c4, (c4, c3), (c4, c2)),
            (2, 2 * c3, (c3, c3), (c3, c2)),
            (1, 2 * c2, (c2, c2), (c2, c2)),
            (0, c2, (c2, c2), (c2, c2)),
        )
        for number, in_ch, kernel_widths, residual_widths in heads:
            kernel = nn.Conv2d(kernel_widths[-1], KERNEL_SIZE**2, 1)
            self.add_module(f'upconv{number}_kernel', nn.Sequential(*chain(in_ch, *kernel_widths), kernel))
            residual = conv_lk(residual_widths[-1], 3, kernel_size=1)
            self.add_module(f'upconv{number}_res', nn.Sequential(*chain(in_ch, *residual_widths), residual))
        self.img_d8_feature = nn.Sequential(*chain(3, c2, c3, c4))
        self.img_d4_feature = nn.Sequential(*chain(3, c2, c3, c3))
        self.img_d2_feature = nn.Sequential(*chain(3, c2, c2, c2))
        self.img_d1_feature = nn.Sequential(*chain(3, c2, c2, c1))
        self.filter = PixelFilter(KERNEL_SIZE, KERNEL_SIZE)
        xavier_init(self)

    def refine(self, number: int, estimate: Tensor, features: Tensor) -> Tensor:
        """Refine the estimate (B,3,h,w) of one scale: add the estimate under predicted kernels, and a residual."""
        features = torch.cat([features, self.get_submodule(f'img_d{2**number}_feature')(estimate)], dim=1)
        kernels = self.get_submodule(f'upconv{number}_kernel')(features)
        first, second, last = self.get_submodule(f'upconv{number}_res').children()
        residual = second(first(features))
        residual = last(residual) if self.residual_act else last.get_submodule('0')(residual)
        return estimate + self.filter(estimate, kernels[:, None]) + residual

    def restore(self, y: Tensor) -> Tensor:
        y = 2 * y - 1
        f1, f2, f3, f = encode(self, 'conv', 4, y)
        f = self.conv4_4(f)
        estimate = self.refine(3, F.avg_pool2d(y, 8), f)
        for level, skip in ((3, f3), (2, f2), (1, f1)):
            f = decode_level(self, level, f, skip)
            estimate = self.refine(level - 1, F.interpolate(estimate, scale_factor=2, mode='nearest'), f)
        x = (estimate + 1) / 2
        return x if self.training else x.clamp(0, 1)
