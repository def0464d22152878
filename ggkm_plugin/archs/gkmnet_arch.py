"""GKMNet: single-image defocus deblurring by a scale-recurrent U-Net that weights 22 fixed Gaussian blurs.

Y. Quan, Z. Wu, H. Ji, "Gaussian Kernel Mixture Network for Single Image Defocus Deblurring", NeurIPS 2021.
Written from published facts about the released network (its code has no license and was not used). Module names are the
released checkpoints' keys. Choices without a source are marked "assumed".

Scales t = 1..S (S = 3) run from coarse to fine. Images are RGB in [0,1], (B,3,H,W).
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.base import RestorationNet
from ggkm_plugin.archs.blocks import ConvLSTMCell, FixedKernels, State, conv3x3, doubled
from ggkm_plugin.archs.ggkmnet_arch import SelfReconstruction
from ggkm_plugin.ops.gaussian import gkm_taps
from ggkm_plugin.ops.pyramid import double, pyramid
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.utils.schema import Count

NUM_SCALES = 3
NUM_KERNELS = 22
KERNEL_SIZE = 21
BNMode = Literal['running', 'batch']
KernelOrder = Literal['paper', 'released']


def released_pyramid(y: Tensor, num_scales: int = NUM_SCALES) -> list[Tensor]:
    """Build the released network's inputs, coarse to fine: Pillow's BILINEAR x1/4, x1/2 and x1 of y as an 8-bit image.

    Each level is resized from the next larger one. H and W are multiples of 4. Equal to Pillow's, bit for bit:
    antialiased, horizontal pass first (Pillow 13: not for tall images), rounded after each pass, halves up.
    """

    def rounded(x: Tensor) -> Tensor:
        return (x + 0.5).floor()

    def resized(x: Tensor, height: int, width: int) -> Tensor:
        return rounded(F.interpolate(x, (height, width), mode='bilinear', align_corners=False, antialias=True))

    levels = [rounded(255 * y.to(torch.promote_types(y.dtype, torch.float32)).clamp(0, 1))]
    for _ in range(num_scales - 1):
        height, width = levels[0].shape[-2:]
        levels.insert(0, resized(resized(levels[0], height, width // 2), height // 2, width // 2))
    return [(level / 255).to(y.dtype) for level in levels]


class ModeBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that can use the image's own statistics in evaluation (mode `batch`) instead of the running ones.

    Each image of a batch is then normalized by itself, as in the released scripts, which run one image at a time.
    Training is the same in both modes.
    """

    def __init__(self, num_features: int, mode: str, momentum: float = 0.1) -> None:
        super().__init__(num_features, momentum=momentum)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.mode == 'running':
            return super().forward(x)
        # Unlike F.instance_norm, this takes an image of one pixel; the result is the bias.
        return torch.instance_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, False)


class AttentionGate(nn.Module):
    """Gate of the triplet attention: x (B,C,H,W) times a map (B,1,H,W) in (0, 1) of its maximum and mean over C."""

    def __init__(self, bn_mode: str) -> None:
        super().__init__()
        layers = OrderedDict(
            conv=nn.Conv2d(2, 1, 7, padding=3, bias=False), bn=ModeBatchNorm2d(1, bn_mode, momentum=0.01)
        )
        self.conv = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return x * self.conv(pooled).sigmoid()


class TripletAttention(nn.Module):
    """Triplet attention: the mean of x (B,C,H,W) under three gates, which pool C, H and W.

    A gate is named by the axes of its map. Assumed: their order, read from the names: `cw` has rows C and
    columns W, `hc` has rows H and columns C.
    """

    def __init__(self, bn_mode: str) -> None:
        super().__init__()
        self.cw, self.hc, self.hw = (AttentionGate(bn_mode) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        cw = self.cw(x.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)  # H pooled
        hc = self.hc(x.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)  # W pooled
        return (self.hw(x) + cw + hc) / 3


def conv_bn_relu(conv: nn.Module, channels: int, bn_mode: str) -> nn.Sequential:
    """Build convolution, BatchNorm and ReLU."""
    return nn.Sequential(conv, ModeBatchNorm2d(channels, bn_mode), nn.ReLU(inplace=True))


class NormResBlock(nn.Module):
    """Residual block y = x + f(x), then y + g(y), with f and g conv3-BN-ReLU; keeps the shape (B,C,H,W)."""

    def __init__(self, channels: int, bn_mode: str) -> None:
        super().__init__()
        self.conv = conv_bn_relu(conv3x3(channels, channels, bias=True), channels, bn_mode)
        self.conv1 = conv_bn_relu(conv3x3(channels, channels, bias=True), channels, bn_mode)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.conv(x)
        return y + self.conv1(y)


class AttentionResBlock(nn.Module):
    """Block of the U-Net: convolution (with BN and ReLU unless `bare`), residual block, triplet attention."""

    def __init__(self, conv: nn.Module, channels: int, bn_mode: str, bare: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv) if bare else conv_bn_relu(conv, channels, bn_mode)
        self.res_block = NormResBlock(channels, bn_mode)
        self.ta = TripletAttention(bn_mode)

    def forward(self, x: Tensor) -> Tensor:
        return self.ta(self.res_block(self.conv(x)))


class GKMStepOutput(NamedTuple):
    """Output of an iteration: estimate (B,3,H,W), weights (B,44,H,W), bottleneck features (B,128,H/4,W/4)."""

    x: Tensor
    weights: Tensor
    bottleneck: Tensor


class WeightPredictor(nn.Module):
    """APU: features (B,32,H,W) -> weights (B,44,H,W) in (-1, 1), 22 for the blurred input and 22 for the estimate."""

    def __init__(self, bn_mode: str) -> None:
        super().__init__()
        channels, maps = 32, 2 * NUM_KERNELS
        self.conv = nn.Sequential(
            OrderedDict(conv=conv_bn_relu(conv3x3(channels, maps, bias=True), maps, bn_mode)),
        )
        self.conv_atten = ConvLSTMCell(channels, maps, 5)  # assumed: the convolution of [x; h]

    def forward(self, features: Tensor, state: State | None) -> tuple[Tensor, State]:
        b2 = self.conv(features)
        state = self.conv_atten(F.avg_pool2d(features, 2), state)
        b1 = F.interpolate(state[0], scale_factor=2, mode='nearest')
        return (b1 * b2 + b1).sigmoid() * 2 - 1, state


class GaussianMixture(FixedKernels):
    """GCM: x (B,3,H,W) -> (B,66,H,W), 22 blurs of each color, with zeros outside the image.

    `paper`: channel 22 c + k is color c under kernel k. `released`: the bank was written as k0, k0, k0, k1, ... but
    read color by color, so channel j is color j // 22 under kernel j // 3.
    """

    def __init__(self, kernel_order: str) -> None:
        super().__init__()
        self.kernel_order = kernel_order
        self.register_bank()

    def make_bank(self) -> Tensor:
        """Compute the taps of the 66 kernels, (66,21)."""
        taps = gkm_taps()
        return taps.repeat(3, 1) if self.kernel_order == 'paper' else taps.repeat_interleave(3, dim=0)

    def forward(self, x: Tensor) -> Tensor:
        taps, reach = self.bank.to(x.dtype), KERNEL_SIZE // 2
        x = F.conv2d(x, taps[:, None, None, :], padding=(0, reach), groups=3)
        return F.conv2d(x, taps[:, None, :, None], padding=(reach, 0), groups=3 * NUM_KERNELS)


class StepLayers(nn.Module):
    """Layers of one iteration: U-Net, weights and blurs. GKMNet has them itself, under the released keys."""

    def add_layers(self, kernel_order: str, bn_mode: str) -> None:
        """Create the layers."""

        def down(in_ch: int, out_ch: int, stride: int) -> AttentionResBlock:
            return AttentionResBlock(conv3x3(in_ch, out_ch, stride, bias=True), out_ch, bn_mode)

        def up(in_ch: int, out_ch: int) -> AttentionResBlock:
            return AttentionResBlock(nn.ConvTranspose2d(in_ch, out_ch, 2, stride=2), out_ch, bn_mode)

        self.in_block = AttentionResBlock(conv3x3(3, 32, bias=True), 32, bn_mode, bare=True)
        self.conv_block1_1 = down(32, 64, 2)
        self.conv_block2_1 = down(64, 128, 2)
        self.bottle_neck_1 = down(128, 128, 1)
        self.conv_block3_1 = up(128, 64)
        self.conv_block4_1 = up(64, 32)
        self.APU = WeightPredictor(bn_mode)
        self.GCM = GaussianMixture(kernel_order)
        self.SumLayer = nn.Sequential(OrderedDict(conv=nn.Conv2d(2 * 3 * NUM_KERNELS, 3, 1)))

    def features(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the bottleneck's features (B,128,H/4,W/4) and the decoder's (B,32,H,W)."""
        f1 = self.conv_block1_1(self.in_block(y))
        f2 = self.conv_block2_1(f1)
        bottleneck = self.bottle_neck_1(f2)
        f3 = self.conv_block3_1(bottleneck + f2)
        return bottleneck, self.conv_block4_1(f3 + f1)

    def step(self, y: Tensor, x: Tensor, state: State | None) -> tuple[GKMStepOutput, State]:
        """Run one iteration on a scale of the input and the estimate before it."""
        bottleneck, features = self.features(y)
        weights, state = self.APU(features, state)
        of_y, of_x = (maps.repeat(1, 3, 1, 1) for maps in weights.chunk(2, dim=1))
        x = self.SumLayer(torch.cat([of_y * self.GCM(y), of_x * self.GCM(x)], dim=1))
        return GKMStepOutput(x, weights, bottleneck), state


class GKMStep(StepLayers):
    """Another iteration, with separate weights."""

    def __init__(self, kernel_order: str, bn_mode: str) -> None:
        super().__init__()
        self.add_layers(kernel_order, bn_mode)


@ARCH_REGISTRY.register()
class GKMNet(RestorationNet, StepLayers):
    """GKMNet: y (B,3,H,W) of any size -> the deblurred image, same shape, not clamped; 1,409,131 parameters.

    In training it returns GGKMNet's dict: `scales`, the estimates coarse to fine, `inputs`, the pyramid of y, and
    `reconstructions` (empty without `self_reconstruction`). Training crops are multiples of 16 with three scales, else
    CropSizeError.

    Assumed: the first estimate is the coarsest image itself, as in GGKMNet; the channels of the blurred input
    precede those of the estimate; PyTorch's default initialization.

    Args:
        kernel_order: `paper`, every kernel on each color and GGKMNet's pyramid; or `released`, as the released weights
            were trained: a third of the kernels per color (`GaussianMixture`) and 8-bit images (`released_pyramid`).
        bn_mode: `running`; or `batch`, as in the released test scripts: BatchNorm uses the image's own statistics in
            evaluation too, so results depend on the tile.
        self_reconstruction: add GGKMNet's SRM (60,547 parameters, used in training only) on the bottleneck features
            and the weights, one for all iterations. With GGKMLoss this is the paper's GKMNet*.
        num_scales: S of the GGKMNet paper's Table 11.
        num_iters: R of Table 11, iterations per scale. As in GGKMNet each has weights and states of its own, and within
            a scale starts from the estimate of the one before: 4.227M parameters for R = 3 (the paper: 4.22M).

    Raises:
        ValueError: an argument is none of the above, or below 1.
    """

    training_only = ('srm',)

    @checked
    def __init__(
        self,
        kernel_order: KernelOrder = 'paper',
        bn_mode: BNMode = 'running',
        self_reconstruction: bool = False,
        num_scales: Count = NUM_SCALES,
        num_iters: Count = 1,
    ) -> None:
        super().__init__()
        self.kernel_order, self.num_scales = kernel_order, num_scales
        self.size_multiple = 2 ** (num_scales + 1)  # halvings of the pyramid, then two strides of the U-Net
        self.add_layers(kernel_order, bn_mode)
        self.steps = nn.ModuleList(GKMStep(kernel_order, bn_mode) for _ in range(num_iters - 1))
        self.srm = SelfReconstruction(128, 2 * NUM_KERNELS, 3) if self_reconstruction else None

    def pyramid(self, y: Tensor) -> list[Tensor]:
        """Build the scales of y, coarse to fine; H and W are multiples of `size_multiple`."""
        build = pyramid if self.kernel_order == 'paper' else released_pyramid
        return build(y, self.num_scales)

    def unroll(self, ys: list[Tensor]) -> list[GKMStepOutput]:
        """Run all iterations on all scales of a pyramid, coarse to fine."""
        outputs: list[GKMStepOutput] = []
        steps: list[StepLayers] = [self, *cast(Iterable[GKMStep], self.steps)]
        states: list[State | None] = [None] * len(steps)
        x = ys[0]
        for t, y in enumerate(ys):
            if t:
                x, states = double(x), [doubled(state) for state in states]
            for r, step in enumerate(steps):
                output, states[r] = step.step(y, x, states[r])
                x = output.x
                outputs.append(output)
        return outputs

    def forward(self, y: Tensor) -> Tensor | dict[str, list[Tensor]]:
        if not self.training:
            return self.cropped(self.unroll(self.pyramid(self.padded(y)))[-1].x, y)
        # BatchNorm needs more than one pixel per channel, and a single 16x16 image has one at the coarsest level.
        self.check_crop(y, self.size_multiple if len(y) > 1 else 2 * self.size_multiple)
        inputs = self.pyramid(y)
        outputs = self.unroll(inputs)
        reconstructions = [self.srm(output.bottleneck, output.weights, output.x) for output in outputs if self.srm]
        return {'scales': [output.x for output in outputs], 'inputs': inputs, 'reconstructions': reconstructions}
