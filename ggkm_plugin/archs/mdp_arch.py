"""MDP: a multi-task U-Net that predicts the sharp image and the two dual-pixel views.

A. Abuolaim, M. Afifi, M. S. Brown, "Improving Single-Image Defocus Deblurring: How Dual-Pixel Images Help Through
Multi-Task Learning", WACV 2022. Written from published facts about the authors' Keras network; `load_keras`
reads its weights. Layers are registered in Keras' order of creation.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.base import AnySizeNet
from ggkm_plugin.archs.dpdnets_arch import Output, Up, convs, keras_init
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.utils.schema import Count


class EarlyBranch(nn.Module):
    """Decoder branch from 1/16 to 1/2 of the size, with twice the channels of full resolution there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        c2, c3, c4, c5 = (width * 2**i for i in range(1, 5))
        self.bottom = convs(c4, c5)
        self.up6 = Up(c5, c4)
        self.conv6 = convs(2 * c4, c4)
        self.up7 = Up(c4, c3)
        self.conv7 = convs(2 * c3, c3, c3)
        self.up8 = Up(c3, c2)

    def forward(self, x: Tensor, skip3: Tensor, skip4: Tensor) -> Tensor:
        x = self.conv6(torch.cat([skip4, self.up6(self.bottom(x))], dim=1))
        return self.up8(self.conv7(torch.cat([skip3, self.up7(x)], dim=1)))


class LateBranch(nn.Module):
    """Decoder branch from the common features (8 w channels at 1/2 of the size) to one of the three images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv8 = convs(8 * width, 2 * width, 2 * width)
        self.up9 = Up(2 * width, width)
        self.conv9 = convs(2 * width, width, width)
        self.output = Output(width)

    def forward(self, common: Tensor, skip1: Tensor) -> Tensor:
        x = self.up9(self.conv8(common))
        return self.output(self.conv9(torch.cat([skip1, x], dim=1)))


@ARCH_REGISTRY.register()
class MDP(AnySizeNet):
    """MDP: y (B,3,H,W) of any size -> the deblurred image, same shape, in (0, 1); 46,860,397 parameters.

    The layers work in BGR.

    In training with `views` it returns a dict: `scales`, the one image, `inputs`, `reconstructions` (empty), and
    `views`, the predicted left and right dual-pixel view.

    Args:
        views: predict the views, as the original does. False (45,094,735 parameters, two thirds of the cost) gives the
            same image, for data sets without views.
        width: channels at full resolution; not in the paper: for small trials.

    Raises:
        ValueError: an invalid argument.
    """

    size_multiple = 16
    optional = ('late_left', 'late_right')

    @checked
    def __init__(self, views: bool = True, width: Count = 64) -> None:
        super().__init__()
        c1, c2, c3, c4 = (width * 2**i for i in range(4))
        self.encoder = nn.ModuleList([convs(3, c1, c1), convs(c1, c2, c2), convs(c2, c3, c3), convs(c3, c4)])
        self.early_left, self.early_right, self.early_sharp = (EarlyBranch(width) for _ in range(3))
        self.late_left = LateBranch(width) if views else None
        self.late_right = LateBranch(width) if views else None
        self.late_sharp = LateBranch(width)
        keras_init(self)

    def images(self, y: Tensor) -> list[Tensor]:
        """Return [left, right, sharp], or [sharp] without views, for y (B,3,H,W), H and W multiples of 16."""
        x, skips = y.flip(1), []
        for level, stage in enumerate(self.encoder):
            x = stage(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        x = F.max_pool2d(x, 2)
        c1, c2, c3, c4 = skips
        early = [branch(x, c3, c4) for branch in (self.early_left, self.early_right, self.early_sharp)]
        common = torch.cat([c2, *early], dim=1)
        late = (self.late_left, self.late_right, self.late_sharp)
        return [branch(common, c1).flip(1) for branch in late if branch is not None]

    def restore(self, y: Tensor) -> Tensor | dict[str, Any]:
        *views, sharp = self.images(y)
        if self.training and views:
            return {'scales': [sharp], 'inputs': [y], 'reconstructions': [], 'views': views}
        return sharp
