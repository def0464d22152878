"""NRKNet: an unrolled Neumann series whose blur model mixes 22 learned, nested blurs of the image.

Y. Quan, Z. Wu, H. Ji, "Neumann Network with Recursive Kernels for Single Image Defocus Deblurring", CVPR 2023.
Written from recorded facts about the released (MIT) network; module names are the released checkpoints' keys, so
`released.load_released` reads them. What the facts leave open says "not in the facts".

B_i is the blur of scale i = 0, 1, 2 (coarse to fine). If y_i = B_i x_i, then x_i = sum over k of (I - B_i)^k y_i.
Images are RGB in [0,1], (B,3,H,W), outside; BGR inside.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.blocks import ConvLSTMCell, check_choice
from ggkm_plugin.archs.folding import inference_form
from ggkm_plugin.archs.gkmnet_arch import (
    BN_MODES,
    NUM_SCALES,
    SIZE_MULTIPLE,
    BatchNorm2d,
    State,
    check_crop,
)
from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.ops.pyramid import double
from ggkm_plugin.utils.registry import ARCH_REGISTRY

NUM_IMAGES = 22
SMALLEST = 2 * SIZE_MULTIPLE  # the coarsest features must have two pixels a side, which reflection by one needs


def nearest_pyramid(y: Tensor) -> list[Tensor]:
    """y at x1/4, x1/2 and x1, coarse to fine, by nearest interpolation: every n-th pixel from the first."""
    return [y[..., ::4, ::4], y[..., ::2, ::2], y]


class ConvBlock(nn.Module):
    """One convolution (`main.0`), then a norm if there is one, then ReLU unless `relu` is false."""

    def __init__(self, conv: nn.Module, norm: nn.Module | None = None, relu: bool = True) -> None:
        super().__init__()
        layers = [conv] if norm is None else [conv, norm]
        self.main = nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


def conv3x3(in_ch: int, out_ch: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias, padded by reflection."""
    return nn.Conv2d(in_ch, out_ch, 3, stride, 1, bias=False, padding_mode='reflect')


class ResBlock(nn.Module):
    """x + conv3(ReLU(conv3(x))): (B,C,H,W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            ConvBlock(conv3x3(channels, channels)), ConvBlock(conv3x3(channels, channels), relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


def stage(channels: int) -> nn.Sequential:
    """A level's residual block, under the key `layers.0`."""
    return nn.Sequential(OrderedDict(layers=nn.Sequential(ResBlock(channels))))


class MapPredictor(nn.Module):
    """APU: features (B,64,H,W) -> maps (B,22,H,W), unbounded."""

    def __init__(self, bn_mode: str) -> None:
        super().__init__()
        self.conv = ConvBlock(conv3x3(64, NUM_IMAGES), BatchNorm2d(NUM_IMAGES, bn_mode))
        self.conv_atten = ConvLSTMCell(64, NUM_IMAGES, 5)

    def forward(self, features: Tensor, state: State | None) -> tuple[Tensor, State]:
        b2 = self.conv(features)
        state = self.conv_atten(F.avg_pool2d(features, 2), state)
        b1 = F.interpolate(state[0], scale_factor=2, mode='nearest')
        return b1 * b2 + b1, state


class RecursiveKernels(nn.Module):
    """GCM: v (B,3,H,W) -> (B,66,H,W): v, and 21 images each blurred from the one before; channel 3 m + c.

    A step has one 3-tap kernel a colour, horizontal, then vertical, under reflection. Not in the facts: of the two
    learned numbers of a kernel the first is its centre, the second mirrored to both sides; step m owns the rows
    3 m .. 3 m + 2 of `kernels`; they start at 0, which is the mean of three pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Parameter(torch.zeros(3 * (NUM_IMAGES - 1), 1, 1, 2))

    def taps(self) -> Tensor:
        """(63,1,1,3), positive, each kernel with sum 1."""
        centre, side = self.kernels.split(1, dim=-1)
        return torch.cat([side, centre, side], dim=-1).softmax(dim=-1)

    def forward(self, v: Tensor) -> Tensor:
        images = [v]
        for taps in self.taps().split(3):
            v = F.conv2d(F.pad(v, (1, 1, 1, 1), mode='reflect'), taps, groups=3)
            v = F.conv2d(v, taps.transpose(-1, -2), groups=3)
            images.append(v)
        return torch.cat(images, dim=1)


@ARCH_REGISTRY.register()
class NRKNet(nn.Module):
    """The network: y (B,3,H,W) of any size -> the deblurred image, same shape, not clamped; 6,094,107 parameters.

    In training it returns a dict, all of it RGB and coarse to fine: `scales`, each scale's own deblurred image,
    `inputs`, the pyramid of y (nearest), `reconstructions` (empty), and `reblur`, which applies B_i to the i-th of a
    list of three images, say of the ground truth's (nearest) pyramid. In evaluation the scales make one image together:

        y + v_2 + double(v_1) + quadruple(v_0),   v_i = (I - B_i)^(3-i) y_i

    while scale i is y_i plus (I - B_i)^k y_i, k = 1 .. 3-i. Training crops are multiples of 16 and at least 32, else
    CropSizeError; in evaluation any image is padded by reflection and cut back.

    Not in the facts: a ReLU after the strided and the bottleneck's convolution, as in GGKMNet; PyTorch's own
    initialisation.

    Args:
        bn_mode: running, or batch, what the released script tests with (see `gkmnet_arch.BatchNorm2d`).

    Raises:
        ValueError: an unknown bn_mode.
    """

    def __init__(self, bn_mode: str = 'running') -> None:
        super().__init__()
        check_choice('bn_mode', bn_mode, BN_MODES)

        def upscale(in_ch: int, out_ch: int) -> ConvBlock:
            return ConvBlock(nn.ConvTranspose2d(in_ch, out_ch, 4, stride=2, padding=1, bias=False))

        self.feat_extract = nn.ModuleList(
            [
                ConvBlock(conv3x3(3, 64)),
                ConvBlock(conv3x3(64, 128, stride=2)),
                ConvBlock(conv3x3(128, 256, stride=2)),
                upscale(256, 128),
                upscale(128, 64),
            ]
        )
        self.Encoder = nn.ModuleList(stage(channels) for channels in (64, 128, 256))
        self.bottleneck = nn.Sequential(ConvBlock(conv3x3(256, 256)), stage(256))
        self.Decoder = nn.ModuleList(stage(channels) for channels in (256, 128, 64))
        self.APU = MapPredictor(bn_mode)
        self.GCM = RecursiveKernels()
        self.SummationLayer = nn.Sequential(OrderedDict(conv=nn.Conv2d(3 * NUM_IMAGES, 3, 1)))

    @property
    def size_multiple(self) -> int:
        """H and W are brought to multiples of this: two halvings of the pyramid, then two strides of the features."""
        return SIZE_MULTIPLE

    def prepare_inference(self) -> 'NRKNet':
        """A copy that evaluates to the same, faster: see `folding.inference_form`."""
        return inference_form(self)

    def features(self, y: Tensor) -> Tensor:
        """(B,3,H,W) -> (B,64,H,W)."""
        e1 = self.Encoder[0](self.feat_extract[0](y))
        e2 = self.Encoder[1](self.feat_extract[1](e1))
        e3 = self.Encoder[2](self.feat_extract[2](e2))
        d = self.feat_extract[3](self.Decoder[0](self.bottleneck(e3) + e3))
        d = self.feat_extract[4](self.Decoder[1](d + e2))
        return self.Decoder[2](d + e1)

    def blur(self, v: Tensor, maps: Tensor) -> Tensor:
        """B: v (B,3,H,W) BGR under the maps (B,22,H,W) of its scale."""
        return self.SummationLayer(self.GCM(v) * maps.repeat_interleave(3, dim=1))

    def maps(self, ys: list[Tensor]) -> list[Tensor]:
        """The coefficient maps of each scale of a BGR pyramid."""
        all_maps: list[Tensor] = []
        state: State | None = None
        for y in ys:
            if state is not None:
                state = double(state[0]), double(state[1])
            maps, state = self.APU(self.features(y), state)
            all_maps.append(maps)
        return all_maps

    def forward(self, y: Tensor) -> Tensor | dict[str, Any]:
        height, width = y.shape[-2:]
        if self.training:
            check_crop(y, SMALLEST)
        else:
            y = pad(y, 0, _margin(width), 0, _margin(height))
        ys = nearest_pyramid(y.flip(1))
        all_maps = self.maps(ys)
        series = []  # of each scale: (I - B)^k y, k = 1 .. 3-i
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
        return (ys[-1] + v_2 + double(v_1) + quadruple).flip(1)[..., :height, :width].to(y.dtype)

    def _reblur(self, all_maps: list[Tensor], images: list[Tensor]) -> list[Tensor]:
        return [self.blur(image.flip(1), maps).flip(1) for image, maps in zip(images, all_maps, strict=True)]


def _margin(side: int) -> int:
    """What is missing to a multiple of 16 that is at least `SMALLEST`."""
    return max(-side % SIZE_MULTIPLE, SMALLEST - side)
