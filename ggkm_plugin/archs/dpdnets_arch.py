"""DPDNet-S: a plain U-Net, the single-image form of the network published with the DPDD data set.

A. Abuolaim, M. S. Brown, "Defocus Deblurring Using Dual-Pixel Data", ECCV 2020. Written from published facts about the
authors' Keras network; `load_keras` reads its weights. Layers are registered in Keras' order of creation.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.base import AnySizeNet
from ggkm_plugin.archs.tensorflow_layers import SameConv2d, he_init
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.utils.schema import Count, Share


def conv_relu(in_ch: int, out_ch: int, kernel_size: int = 3) -> nn.Sequential:
    """Build convolution and ReLU."""
    return nn.Sequential(SameConv2d(in_ch, out_ch, kernel_size), nn.ReLU(inplace=True))


def convs(*channels: int) -> nn.Sequential:
    """Build 3x3 convolutions with ReLU from each number of channels to the next."""
    return nn.Sequential(*(conv_relu(a, b) for a, b in pairwise(channels)))


class Up(nn.Module):
    """Nearest x2 upscaling, then a 2x2 convolution over the pixels to the right and below, with ReLU."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.conv = conv_relu(in_ch, out_ch, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode='nearest'))


class Output(nn.Module):
    """Output layers, features -> an image in (0, 1): 3x3 convolution, ReLU, 1x1 convolution, sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = conv_relu(channels, 3)
        self.image = SameConv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.image(self.features(x)).sigmoid()


class Decoder(nn.Module):
    """Decoder level: (x, skip) -> features with half the channels at the skip's size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = Up(2 * channels, channels)
        self.convs = convs(2 * channels, channels, channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.convs(torch.cat([skip, self.up(x)], dim=1))


def keras_init(net: nn.Module) -> None:
    """Initialize as Keras does: he_normal weights, zero biases, Glorot in the last layers of the outputs."""
    he_init(net)
    for module in net.modules():
        if isinstance(module, Output):
            nn.init.xavier_uniform_(module.image.weight)


@ARCH_REGISTRY.register()
class DPDNetS(AnySizeNet):
    """DPDNet-S: y (B,3,H,W) of any size -> the deblurred image, same shape, in (0, 1); 31,033,423 parameters.

    The layers work in BGR.

    Args:
        width: channels at full resolution, doubled four times; not in the paper: for small trials.
        dropout: rate in training, after the second convolution at 1/8 and at 1/16.

    Raises:
        ValueError: an invalid argument.
    """

    size_multiple = 16

    @checked
    def __init__(self, width: Count = 64, dropout: Share = 0.4) -> None:
        super().__init__()
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
