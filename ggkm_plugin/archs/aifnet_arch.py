"""AIFNet: a defocus map is predicted first; then the image is split into planes of similar defocus and deblurred.

L. Ruan, B. Chen, J. Li, M.-L. Lam, "AIFNet: All-in-Focus Image Restoration Network Using a Light Field-Based Dataset",
TCI 2021. Written from published facts about the authors' TensorFlow network.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.base import AnySizeNet
from ggkm_plugin.archs.tensorflow_layers import SameConv2d, double_legacy, he_init
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.utils.schema import Count

NUM_PLANES = 29
SLOPE = 0.2
BGR_MEANS = (103.939, 116.779, 123.68)  # of ImageNet, in 255ths
VGG19 = ((1, 1), (2, 2), (4, 4, 4, 4), (8, 8, 8, 8), (8, 8, 8, 8))  # channels in multiples of the first level's


class BiasNorm2d(nn.BatchNorm2d):
    """BatchNorm with a learned bias per channel and without a scale."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.weight = None  # type: ignore[assignment]


def edge_conv(in_ch: int, out_ch: int, kernel_size: int) -> nn.Conv2d:
    """Build a convolution that pads with the edge pixels."""
    return nn.Conv2d(in_ch, out_ch, kernel_size, padding=kernel_size // 2, padding_mode='replicate')


def cbl(in_ch: int, out_ch: int, kernel_size: int = 3) -> nn.Sequential:
    """Build convolution, BatchNorm and LeakyReLU."""
    return nn.Sequential(edge_conv(in_ch, out_ch, kernel_size), BiasNorm2d(out_ch), nn.LeakyReLU(SLOPE, inplace=True))


def cbls(in_ch: int, out_ch: int, count: int = 1) -> nn.Sequential:
    """Build a sequence of `cbl` layers."""
    return nn.Sequential(*(cbl(out_ch if i else in_ch, out_ch) for i in range(count)))


class ResUnit(nn.Module):
    """Sum of a 1x1 layer and two 3x3 layers, all activated before the sum; keeps the shape (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.short, self.long = cbl(channels, channels, 1), cbls(channels, channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.short(x) + self.long(x)


class DefocusMap(nn.Module):
    """Defocus map: y (B,3,H,W), RGB in [0,1] -> m (B,1,H,W) in (0, 1), and the features of five levels, coarse to fine.

    The layers are VGG-19's convolutions and a decoder.
    """

    means: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        stages, in_ch = [], 3
        for level in VGG19:
            convs: list[nn.Module] = []
            for multiple in level:
                convs += [edge_conv(in_ch, multiple * width, 3), nn.ReLU(inplace=True)]
                in_ch = multiple * width
            stages.append(nn.Sequential(*convs))
        self.vgg = nn.ModuleList(stages)
        self.u3 = cbls(16 * width, 4 * width, 3)
        self.u2 = cbls(8 * width, 2 * width, 3)
        self.u1 = cbls(4 * width, width, 3)
        self.u0 = cbls(2 * width, width)
        self.units = nn.Sequential(*(ResUnit(width) for _ in range(7)))
        self.last = nn.Sequential(
            cbl(width, width), cbl(width, max(1, width // 2)), edge_conv(max(1, width // 2), 1, 3), nn.Sigmoid()
        )
        self.register_buffer('means', torch.tensor(BGR_MEANS).view(1, 3, 1, 1), persistent=False)

    def forward(self, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = 255 * y.flip(1) - self.means.to(y.dtype)
        taps: list[Tensor] = []
        for stage in self.vgg:
            x = stage(F.max_pool2d(x, 2) if taps else x)
            taps.append(x)
        features = [x]
        for decoder, skip in zip((self.u3, self.u2, self.u1, self.u0), taps[-2::-1], strict=True):
            enlarged = F.interpolate(features[-1], scale_factor=2, mode='nearest')
            features.append(decoder(torch.cat([enlarged, skip], dim=1)))
        return self.last(self.units(features[-1])), features


class PlaneDeblur(nn.Module):
    """Deblurring network: planes (B,C,H,W) -> the image (B,3,H,W) in (0, 1), H and W multiples of 8.

    Assumed: LeakyReLU 0.2 after every layer but the last; no normalization.
    """

    def __init__(self, in_ch: int, width: int) -> None:
        super().__init__()
        c1, c2, c3, c4 = (width * 2**i for i in range(4))

        def layers(*specs: tuple[int, int, int, int]) -> nn.Sequential:
            modules: list[nn.Module] = []
            for a, b, stride, dilation in specs:
                modules += [SameConv2d(a, b, 3, stride, dilation), nn.LeakyReLU(SLOPE, inplace=True)]
            return nn.Sequential(*modules)

        self.a = layers((in_ch, c1, 1, 1), (c1, c2, 2, 1))
        self.b = layers((c2, c2, 1, 1), (c2, c2, 1, 1), (c2, c3, 2, 1))
        self.c = layers((c3, c3, 1, 1), (c3, c3, 1, 1), (c3, c4, 2, 1))
        self.dilated = layers(*[(c4, c4, 1, 2)] * 3)
        self.with_c = layers((2 * c4, c3, 1, 1))
        self.at_quarter = layers(*[(c3, c3, 1, 1)] * 2)
        self.with_b = layers((2 * c3, c2, 1, 1))
        self.at_half = layers((c2, c2, 1, 1))
        self.with_a = layers((2 * c2, c1, 1, 1))
        self.at_full = layers((c1, c1, 1, 1))
        self.image = SameConv2d(c1, 3, 3)

    def forward(self, planes: Tensor) -> Tensor:
        a = self.a(planes)
        b = self.b(a)
        c = self.c(b)
        x = self.with_c(torch.cat([self.dilated(c), c], dim=1))
        x = self.at_quarter(double_legacy(x))
        x = self.with_b(torch.cat([x, b], dim=1))
        x = self.at_half(double_legacy(x))
        x = self.with_a(torch.cat([x, a], dim=1))
        x = self.at_full(double_legacy(x))
        return self.image(x).sigmoid()


@ARCH_REGISTRY.register()
class AIFNet(AnySizeNet):
    """AIFNet: y (B,3,H,W) of any size -> the all-in-focus image, same shape, in (0, 1).

    In training with `map_heads` (41,557,358 parameters; 39,966,564 without) it returns a dict: `scales`, the one image,
    `inputs`, `reconstructions` (empty), and `maps`, the defocus map m and those of the five heads on the decoder,
    coarse to fine, each at its own size. Their supervision needs defocus maps. For data sets of image pairs, train with
    `map_heads: false`.

    Assumed: he_normal weights (VGG's are not pretrained) and zero biases; PyTorch's momentum and epsilon of
    BatchNorm; the deblurring network's activations.

    Args:
        map_heads: build the training-only heads.
        width: channels at full resolution; not in the paper: for small trials.

    Raises:
        ValueError: an invalid argument.
    """

    size_multiple = 16
    training_only = ('map_heads',)
    values: Tensor

    @checked
    def __init__(self, map_heads: bool = True, width: Count = 64) -> None:
        super().__init__()
        self.map = DefocusMap(width)
        self.deblur = PlaneDeblur(3 * NUM_PLANES, width)
        self.register_buffer('values', torch.linspace(0, 1, NUM_PLANES).view(1, -1, 1, 1), persistent=False)

        def head(in_ch: int, inside: int) -> nn.Sequential:
            return nn.Sequential(cbl(in_ch, inside), edge_conv(inside, 1, 3), BiasNorm2d(1), nn.Sigmoid())

        features = (8 * width, 4 * width, 2 * width, width, width)
        inside = (4 * width, 2 * width, width, max(1, width // 2), max(1, width // 2))
        heads = (head(*channels) for channels in zip(features, inside, strict=True))
        self.map_heads = nn.ModuleList(heads) if map_heads else None
        he_init(self)

    def planes(self, y: Tensor, m: Tensor) -> Tensor:
        """Weight y by how close its defocus is to each of 29 values: (B,87,H,W), channel 3 i + color."""
        nearness = 1 - (m - self.values.to(m.dtype)).abs()
        return (y[:, None] * nearness[:, :, None]).flatten(1, 2)

    def restore(self, y: Tensor) -> Tensor | dict[str, Any]:
        m, features = self.map(y)
        x = self.deblur(self.planes(y, m))
        if not self.training or self.map_heads is None:
            return x
        maps = [m, *(head(feature) for head, feature in zip(self.map_heads, features, strict=True))]
        return {'scales': [x], 'inputs': [y], 'reconstructions': [], 'maps': maps}
