"""IFAN: features of the image are filtered by a chain of predicted kernels, one per pixel and channel.

J. Lee, H. Son, J. Rim, S. Cho, S. Lee, "Iterative Filter Adaptive Network for Single Image Defocus Deblurring", CVPR
2021 (IFANet in the GGKMNet paper). Written from published facts about the authors' network (AGPL; its code was not
used); module names are the released checkpoints' keys, which `load_ifan` reads.
"""

from functools import partial
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.base import AnySizeNet
from ggkm_plugin.archs.blocks import PixelFilter
from ggkm_plugin.archs.ifan_blocks import (
    ResStack,
    add_encoder,
    add_upscales,
    conv_lk,
    decode_level,
    encode,
    leaky,
)
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.utils.schema import Count

TAPS = 3
SCALE = 8  # features are filtered at 1/8 of the image's size


class IterativeFilter(nn.Module):
    """IAC: `count` predicted filters on t (B,C,h,w), t <- LeakyReLU(horizontal(vertical(t)) + bias), edge-padded.

    `weights` (B, count * 7 C, h, w) holds all kernels, then all biases. A step has 6 C kernel channels: K1, with the
    taps (top to bottom, left to right) of each channel in turn, then K2. `second_pass` selects K1 or K2 for the
    horizontal pass. With `activate_last` false there is no LeakyReLU after the last step.
    """

    def __init__(self, count: int, channels: int, activate_last: bool) -> None:
        super().__init__()
        self.count, self.channels, self.activate_last = count, channels, activate_last
        self.vertical, self.horizontal, self.act = PixelFilter(TAPS, 1), PixelFilter(1, TAPS), leaky()

    @property
    def num_weights(self) -> int:
        return self.count * self.channels * (2 * TAPS + 1)

    def forward(self, t: Tensor, weights: Tensor, second_pass: str) -> Tensor:
        kernels, biases = weights.split([self.count * self.channels * 2 * TAPS, self.count * self.channels], dim=1)
        steps = zip(kernels.chunk(self.count, dim=1), biases.chunk(self.count, dim=1), strict=True)
        for i, (kernel, bias) in enumerate(steps):
            first, second = (k.unflatten(1, (self.channels, TAPS)) for k in kernel.chunk(2, dim=1))
            t = self.horizontal(self.vertical(t, first), second if second_pass == 'K2' else first) + bias
            if self.activate_last or i < self.count - 1:
                t = self.act(t)
        return t


@ARCH_REGISTRY.register()
class IFAN(AnySizeNet):
    """IFAN: y (B,3,H,W) of any size -> the deblurred image, same shape; evaluation clips it to [0,1].

    10,476,996 parameters. The original supervises the disparity map by dual-pixel views; here it has no supervision.

    In training with `reblur` it returns a dict: `scales`, the one image, `inputs`, `reconstructions` (empty), and
    `reblur_eighth`, a function from the ground truth to its reblurred version and the target, y, both at 1/8 size.

    Args:
        second_pass: kernels of the horizontal passes: K2, predicted for them; or K1, those of the vertical passes, with
            which the released weights were trained (their K2 is unused).
        reblur: add the training-only reblurring network (19,139,685 parameters), for `IFANLoss`.
        num_filters: N, steps of the filter. width: channels at full resolution; for small trials, not in the paper.

    Raises:
        ValueError: an invalid argument.
    """

    size_multiple = SCALE
    training_only = ('reblurNet',)

    @checked
    def __init__(
        self, second_pass: Literal['K2', 'K1'] = 'K2', reblur: bool = False, num_filters: Count = 17, width: Count = 32
    ) -> None:
        super().__init__()
        self.second_pass = second_pass
        channels = (width, 2 * width, 4 * width, 4 * width)
        deep = channels[-1]

        def head(in_ch: int, last: nn.Module) -> nn.Sequential:
            stacks = (ResStack(deep, 2, activated=True) for _ in range(2))
            return nn.Sequential(conv_lk(in_ch, deep), *stacks, last)

        self.IAC = IterativeFilter(num_filters, deep, activate_last=True)
        add_encoder(self, 'conv', channels)
        add_encoder(self, 'kconv', channels)
        self.DME = head(deep, nn.Conv2d(deep, 1, 3, padding=1))
        self.conv_DME = conv_lk(1, deep)
        self.conv4_4 = head(2 * deep, conv_lk(deep, deep))
        self.F = head(deep, nn.Conv2d(deep, self.IAC.num_weights, 1))
        self.conv_res = nn.Sequential(conv_lk(deep, deep), ResStack(deep, 3, activated=True), conv_lk(deep, deep))
        add_upscales(self, channels, activated=True)
        self.out_res = conv_lk(width, 3)
        self.reblur_filter = IterativeFilter(num_filters, 3, activate_last=False)
        reblur_last = nn.Conv2d(deep, self.reblur_filter.num_weights, 3, padding=1)
        self.reblurNet = head(self.IAC.num_weights, reblur_last) if reblur else None
        self._initialize()

    def _initialize(self) -> None:
        """Initialize by Xavier's rule with gain 1 (1.5 in F) and biases 0."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight, gain=1.5 if name.startswith('F.') else 1.0)
                nn.init.zeros_(cast(Tensor, module.bias))

    def filters(self, y: Tensor) -> Tensor:
        """Predict kernels and biases (B,15232,H/8,W/8) for y (B,3,H,W), H and W multiples of 8."""
        e = encode(self, 'kconv', 4, y)[-1]
        return self.F(self.conv4_4(torch.cat([e, self.conv_DME(self.DME(e))], dim=1)))

    def restore(self, y: Tensor) -> Tensor | dict[str, Any]:
        f1, f2, f3, t = encode(self, 'conv', 4, y)
        weights = self.filters(y)
        t = self.conv_res(self.IAC(t, weights, self.second_pass))
        for level, skip in ((3, f3), (2, f2), (1, f1)):
            t = decode_level(self, level, t, skip)
        x = self.out_res(t) + y
        if not self.training:
            return x.clamp(0, 1)
        if self.reblurNet is None:
            return x
        reblur = partial(self._reblur, y, self.reblurNet(weights))
        return {'scales': [x], 'inputs': [y], 'reconstructions': [], 'reblur_eighth': reblur}

    def _reblur(self, y: Tensor, weights: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
        small = self.padded(gt)[..., ::SCALE, ::SCALE]
        return small + self.reblur_filter(small, weights, self.second_pass), F.avg_pool2d(y, SCALE)
