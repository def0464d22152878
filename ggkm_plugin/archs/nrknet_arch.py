"""NRKNet: single-image defocus deblurring by an unrolled Neumann series; the blur mixes 22 learned, nested blurs.

Y. Quan, Z. Wu, H. Ji, "Neumann Network with Recursive Kernels for Single Image Defocus Deblurring", CVPR 2023.
Written from published facts about the released (MIT) network. Module names are the released checkpoints' keys.
Choices without a source are marked "assumed".

B_i is the blur of scale i = 0, 1, 2 (coarse to fine). If y_i = B_i x_i, then x_i = sum over k of (I - B_i)^k y_i.
Images are RGB in [0,1], (B,3,H,W); the layers work in BGR.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.base import RestorationNet
from ggkm_plugin.archs.blocks import ConvLSTMCell, State, doubled
from ggkm_plugin.archs.gkmnet_arch import NUM_SCALES, BNMode, ModeBatchNorm2d
from ggkm_plugin.ops.pyramid import double
from ggkm_plugin.utils.registry import ARCH_REGISTRY

NUM_IMAGES = 22


def nearest_pyramid(y: Tensor) -> list[Tensor]:
    """Build y at x1/4, x1/2 and x1, coarse to fine, by nearest interpolation: every n-th pixel from the first."""
    return [y[..., ::4, ::4], y[..., ::2, ::2], y]


class ConvBlock(nn.Module):
    """Convolution (`main.0`), norm if given, and ReLU unless `relu` is false."""

    def __init__(self, conv: nn.Module, norm: nn.Module | None = None, relu: bool = True) -> None:
        super().__init__()
        layers = [conv] if norm is None else [conv, norm]
        self.main = nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


def reflect_conv3x3(in_ch: int, out_ch: int, stride: int = 1) -> nn.Conv2d:
    """Build a 3x3 convolution without bias, padded by reflection."""
    return nn.Conv2d(in_ch, out_ch, 3, stride, 1, bias=False, padding_mode='reflect')


class ReflectResBlock(nn.Module):
    """Residual block x + conv3(ReLU(conv3(x))), padded by reflection; keeps the shape (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            ConvBlock(reflect_conv3x3(channels, channels)), ConvBlock(reflect_conv3x3(channels, channels), relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


def stage(channels: int) -> nn.Sequential:
    """Build the residual block of a level, with the key `layers.0`."""
    return nn.Sequential(OrderedDict(layers=nn.Sequential(ReflectResBlock(channels))))


class MapPredictor(nn.Module):
    """APU: features (B,64,H,W) -> unbounded coefficient maps (B,22,H,W)."""

    def __init__(self, bn_mode: str) -> None:
        super().__init__()
        self.conv = ConvBlock(reflect_conv3x3(64, NUM_IMAGES), ModeBatchNorm2d(NUM_IMAGES, bn_mode))
        self.conv_atten = ConvLSTMCell(64, NUM_IMAGES, 5)

    def forward(self, features: Tensor, state: State | None) -> tuple[Tensor, State]:
        b2 = self.conv(features)
        state = self.conv_atten(F.avg_pool2d(features, 2), state)
        b1 = F.interpolate(state[0], scale_factor=2, mode='nearest')
        return b1 * b2 + b1, state


class RecursiveKernels(nn.Module):
    """GCM: v (B,3,H,W) -> (B,66,H,W): v, and 21 images, each blurred from the one before; channel 3 m + c.

    Each step has a 3-tap kernel per color, applied horizontally, then vertically, under reflection. Its taps are the
    softmax of [k0, k1, k0]: of the two learned numbers the second is the center. Assumed: step m owns the rows
    3 m .. 3 m + 2 of `kernels`, and they start at 0, the mean of three pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Parameter(torch.zeros(3 * (NUM_IMAGES - 1), 1, 1, 2))

    def taps(self) -> Tensor:
        """Compute the taps (63,1,1,3), positive, with sum 1 per kernel."""
        side, center = self.kernels.split(1, dim=-1)
        return torch.cat([side, center, side], dim=-1).softmax(dim=-1)

    def forward(self, v: Tensor) -> Tensor:
        images = [v]
        for taps in self.taps().split(3):
            v = F.conv2d(F.pad(v, (1, 1, 1, 1), mode='reflect'), taps, groups=3)
            v = F.conv2d(v, taps.transpose(-1, -2), groups=3)
            images.append(v)
        return torch.cat(images, dim=1)


@ARCH_REGISTRY.register()
class NRKNet(RestorationNet):
    """NRKNet: y (B,3,H,W) of any size -> the deblurred image, same shape, not clamped; 6,094,107 parameters.

    In training it returns a dict of RGB images, coarse to fine: `scales`, each scale's deblurred image, `inputs`, the
    pyramid of y (nearest), `reconstructions` (empty), and `reblur`, a function that applies B_i to the i-th of a list
    of three images, for example of the ground truth's (nearest) pyramid. In evaluation the scales form one image:

        y + v_2 + double(v_1) + quadruple(v_0),   v_i = (I - B_i)^(3-i) y_i

    while scale i is y_i plus (I - B_i)^k y_i, k = 1 .. 3-i. Training crops are multiples of 16 and at least 32, else
    CropSizeError.

    Assumed: a ReLU after the strided and the bottleneck's convolution, as in GGKMNet; PyTorch's default
    initialization.

    Args:
        bn_mode: `running`, or `batch`, as in the released test script (see `ModeBatchNorm2d`).

    Raises:
        ValueError: an unknown bn_mode.
    """

    size_multiple = 16  # two halvings of the pyramid, then two strides of the features
    smallest_side = 32  # reflection by one needs two pixels per side of the coarsest features

    @checked
    def __init__(self, bn_mode: BNMode = 'running') -> None:
        super().__init__()

        def upscale(in_ch: int, out_ch: int) -> ConvBlock:
            return ConvBlock(nn.ConvTranspose2d(in_ch, out_ch, 4, stride=2, padding=1, bias=False))

        self.feat_extract = nn.ModuleList(
            [
                ConvBlock(reflect_conv3x3(3, 64)),
                ConvBlock(reflect_conv3x3(64, 128, stride=2)),
                ConvBlock(reflect_conv3x3(128, 256, stride=2)),
                upscale(256, 128),
                upscale(128, 64),
            ]
        )
        self.Encoder = nn.ModuleList(stage(channels) for channels in (64, 128, 256))
        self.bottleneck = nn.Sequential(ConvBlock(reflect_conv3x3(256, 256)), stage(256))
        self.Decoder = nn.ModuleList(stage(channels) for channels in (256, 128, 64))
        self.APU = MapPredictor(bn_mode)
        self.GCM = RecursiveKernels()
        self.SummationLayer = nn.Sequential(OrderedDict(conv=nn.Conv2d(3 * NUM_IMAGES, 3, 1)))

    def features(self, y: Tensor) -> Tensor:
        """Compute the decoder's features (B,64,H,W)."""
        e1 = self.Encoder[0](self.feat_extract[0](y))
        e2 = self.Encoder[1](self.feat_extract[1](e1))
        e3 = self.Encoder[2](self.feat_extract[2](e2))
        d = self.feat_extract[3](self.Decoder[0](self.bottleneck(e3) + e3))
        d = self.feat_extract[4](self.Decoder[1](d + e2))
        return self.Decoder[2](d + e1)

    def blur(self, v: Tensor, maps: Tensor) -> Tensor:
        """Apply B to v (B,3,H,W), BGR, with the coefficient maps (B,22,H,W) of its scale."""
        return self.SummationLayer(self.GCM(v) * maps.repeat_interleave(3, dim=1))

    def maps(self, ys: list[Tensor]) -> list[Tensor]:
        """Compute the coefficient maps of each scale of a BGR pyramid."""
        all_maps: list[Tensor] = []
        state: State | None = None
        for y in ys:
            maps, state = self.APU(self.features(y), doubled(state))
            all_maps.append(maps)
        return all_maps

    def forward(self, y: Tensor) -> Tensor | dict[str, Any]:
        if self.training:
            self.check_crop(y)
        ys = nearest_pyramid(self.padded(y).flip(1))
        all_maps = self.maps(ys)
        series = []  # (I - B)^k y of each scale, k = 1 .. 3-i
        for i, (y_i, maps) in enumerate(zip(ys, all_maps, strict=True)):
            v, powers = y_i, []
            for _ in range(NUM_SCALES - i):
                v = v - self.blur(v, maps)
                powers.append(v)
            series.append(powers)
        if self.training:
            reblur: Callable[[list[Tensor]], list[Tensor]] = partial(self._reblur, all_maps)
            scales = [torch.stack([y_i, *powers]).sum(0).flip(1) for y_i, powers in zip(ys, series, strict=True)]
            return {'scales': scales, 'inputs': nearest_pyramid(y), 'reconstructions': [], 'reblur': reblur}
        v_0, v_1, v_2 = (powers[-1] for powers in series)
        quadruple = F.interpolate(v_0, scale_factor=4, mode='bilinear', align_corners=False)
        return self.cropped((ys[-1] + v_2 + double(v_1) + quadruple).flip(1), y)

    def _reblur(self, all_maps: list[Tensor], images: list[Tensor]) -> list[Tensor]:
        return [self.blur(image.flip(1), maps).flip(1) for image, maps in zip(images, all_maps, strict=True)]
