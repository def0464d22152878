"""KPAC: one shared kernel at five dilations, mixed per pixel, in place of inverse filters of many sizes.

H. Son, J. Lee, S. Cho, S. Lee, "Single Image Defocus Deblurring Using Kernel-Sharing Parallel Atrous Convolutions",
ICCV 2021. Written from published facts about the authors' TensorFlow network (AGPL; its code was not used);
`load_kpac` reads its weights. Modules have the names of its layers and are registered in the order of its graph.
"""

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.base import AnySizeNet
from ggkm_plugin.archs.tensorflow_layers import SameConv2d
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.utils.schema import Count

SLOPE = 0.2
DILATIONS = (1, 2, 3, 4, 5)


def leaky_relu(x: Tensor) -> Tensor:
    """Apply the activation."""
    return F.leaky_relu(x, SLOPE)


class KPACBlock(nn.Module):
    """Kernel-sharing parallel atrous convolutions; keeps the shape (B,C,H,W).

    Each branch is the shared kernel at its dilation, weighted by its own map (scale attention) and by one number per
    channel, equal in all branches (shape attention).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.shared = SameConv2d(channels, half, 5, bias=False)
        self.sca_dc1 = SameConv2d(channels, 32, 5, dilation=2)
        self.sca_dc2 = SameConv2d(32, 32, 5, dilation=2)
        self.sca_dc3 = SameConv2d(32, 16, 5, dilation=2)
        self.sca_dc4 = SameConv2d(16, 16, 5, dilation=2)
        self.sca_c2 = SameConv2d(16, len(DILATIONS), 5)
        self.sha_c1 = SameConv2d(channels, max(1, channels // 8), 1)
        self.sha_c2 = SameConv2d(max(1, channels // 8), half, 1)
        self.cf = SameConv2d(len(DILATIONS) * half, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = x
        for conv in (self.sca_dc1, self.sca_dc2, self.sca_dc3, self.sca_dc4):
            maps = leaky_relu(conv(maps))
        maps = self.sca_c2(maps).sigmoid()
        shape = self.sha_c2(leaky_relu(self.sha_c1(x.mean(dim=(-2, -1), keepdim=True)))).sigmoid()
        weight = self.shared.weight
        branches = [
            leaky_relu(F.conv2d(x, weight, padding=2 * dilation, dilation=dilation)) * maps[:, i : i + 1] * shape
            for i, dilation in enumerate(DILATIONS)
        ]
        return leaky_relu(self.cf(torch.cat(branches, dim=1)))


@ARCH_REGISTRY.register()
class KPAC(AnySizeNet):
    """KPAC: y (B,3,H,W) of any size -> the deblurred image, same shape, not clamped.

    The layers work in [-1,1]. 2,057,893 parameters with three levels, 1,578,277 with two. The shape attention uses the
    mean of the whole image.

    Args:
        levels: 3 halves the size three times, 2 twice.
        width: channels at full resolution; not in the paper: for small trials.

    Raises:
        ValueError: an invalid argument.
    """

    @checked
    def __init__(self, levels: Literal[2, 3] = 3, width: Count = 48) -> None:
        super().__init__()
        self.size_multiple = 2**levels
        ch, deep = width, 2 * width

        def up(in_ch: int, out_ch: int) -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(in_ch, out_ch, 4, stride=2, padding=1)

        self.c0, self.c0_2 = SameConv2d(3, ch, 5), SameConv2d(ch, ch, 3)
        self.c2, self.c2_2 = SameConv2d(ch, ch, 3, stride=2), SameConv2d(ch, ch, 3)
        self.c3, self.c3_2 = SameConv2d(ch, deep, 3, stride=2), SameConv2d(deep, deep, 3)
        self.c4 = SameConv2d(deep, deep, 3, stride=2) if levels == 3 else None
        self.c4_2 = SameConv2d(deep, deep, 3) if levels == 3 else None
        self.blocks = nn.ModuleList(KPACBlock(deep) for _ in range(2))
        self.cm_1, self.cm_2 = SameConv2d(3 * deep, deep, 3), SameConv2d(deep, deep, 3)
        self.d0 = up(deep, deep) if levels == 3 else None
        self.d0_2 = SameConv2d(2 * deep, deep, 3) if levels == 3 else None
        self.d1, self.d1_2 = up(deep, ch), SameConv2d(2 * ch, ch, 3)
        self.d2, self.d2_2 = up(ch, ch), SameConv2d(2 * ch, 3, 5)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.04)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def restore(self, y: Tensor) -> Tensor:
        y = 2 * y - 1
        f1 = leaky_relu(self.c0_2(leaky_relu(self.c0(y))))
        f2 = leaky_relu(self.c2_2(leaky_relu(self.c2(f1))))
        x = f3 = leaky_relu(self.c3_2(leaky_relu(self.c3(f2))))
        if self.c4 is not None:
            x = leaky_relu(cast(nn.Module, self.c4_2)(leaky_relu(self.c4(f3))))
        stack = [x]
        for block in self.blocks:
            stack.append(block(stack[-1]))
        x = leaky_relu(self.cm_2(leaky_relu(self.cm_1(torch.cat(stack, dim=1)))))
        if self.d0 is not None:
            x = leaky_relu(cast(nn.Module, self.d0_2)(torch.cat([leaky_relu(self.d0(x)), f3], dim=1)))
        x = leaky_relu(self.d1_2(torch.cat([leaky_relu(self.d1(x)), f2], dim=1)))
        x = self.d2_2(torch.cat([leaky_relu(self.d2(x)), f1], dim=1))
        return (y + x + 1) / 2
