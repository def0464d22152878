"""DPDNet-S: a plain U-Net, the single-image form of the network that DPDD was published with.

A. Abuolaim, M. S. Brown, "Defocus Deblurring Using Dual-Pixel Data", ECCV 2020. Written from recorded facts about the
authors' Keras network; `released.load_keras` reads its weights. Layers are registered in Keras' order of creation.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import check_width
from ggkm_plugin.archs.base import AnySizeNet
from ggkm_plugin.archs.tensorflow_layers import SameConv2d, he_init
from ggkm_plugin.utils.registry import ARCH_REGISTRY


def conv_relu(in_ch: int, out_ch: int, kernel_size: int = 3) -> nn.Sequential:
    return nn.Sequential(SameConv2d(in_ch, out_ch, kernel_size), nn.ReLU(inplace=True))


def convs(*channels: int) -> nn.Sequential:
    """3x3 convolutions with ReLU from each number of channels to the next."""
    return nn.Sequential(*(conv_relu(a, b) for a, b in pairwise(channels)))


class Up(nn.Module):
    """Nearest x2, then a 2x2 convolution with ReLU that sees the pixels to the right and below."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.conv = conv_relu(in_ch, out_ch, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode='nearest'))


class Output(nn.Module):
    """Features -> an image in (0, 1): 3x3 convolution and ReLU, then 1x1 and sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = conv_relu(channels, 3)
        self.image = SameConv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.image(self.features(x)).sigmoid()


class Decoder(nn.Module):
    """One level up: (x, skip) -> features of half the channels at the skip's size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = Up(2 * channels, channels)
        self.convs = convs(2 * channels, channels, channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.convs(torch.cat([skip, self.up(x)], dim=1))


def keras_init(net: nn.Module) -> None:
    """he_normal weights, zero biases; Glorot in the outputs' last layers."""
    he_init(net)
    for module in net.modules():
        if isinstance(module, Output):
            nn.init.xavier_uniform_(module.image.weight)


@ARCH_REGISTRY.register()
class DPDNetS(AnySizeNet):
    """y (B,3,H,W) of any size -> the deblurred image, same shape, in (0, 1); 31,033,423 parameters. BGR inside.

    Args:
        width: channels at full resolution, doubled four times below; not in the paper: for small trials.
        dropout: in training, after the second convolution at 1/8 and at 1/16.

    Raises:
        ValueError: an argument that cannot be.
    """

    size_multiple = 16

    def __init__(self, width: int = 64, dropout: float = 0.4) -> None:
        super().__init__()
        check_width(width)
        levels = [width * 2**i for i in range(5)]
        self.encoder = nn.ModuleList(convs(a, b, b) for a, b in zip([3, *levels[:-1]], levels, strict=True))
        self.decoder = nn.ModuleList(Decoder(channels) for channels in levels[-2::-1])
        self.output = Output(width)
        self.dropout = nn.Dropout(dropout)
        keras_init(self)

    def restore(self, y: Tensor) -> Tensor:
        x, skips = y.flip(1), []
        for level, stage in enumerate(self.encoder):
            x = stage(F.max_pool2d(x, 2) if level else x)
            if level >= 3:
                x = self.dropout(x)
            skips.append(x)
        for stage, skip in zip(self.decoder, skips[-2::-1], strict=True):
            x = stage(x, skip)
        return self.output(x).flip(1)
