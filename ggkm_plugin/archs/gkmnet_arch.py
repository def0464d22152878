"""GKMNet: a recurrent U-Net over scales that weighs 22 fixed Gaussian blurs of the image and of its last estimate.

Y. Quan, Z. Wu, H. Ji, "Gaussian Kernel Mixture Network for Single Image Defocus Deblurring", NeurIPS 2021.
Written from recorded facts about the released network (its code states no licence and was not used); module names are
the released checkpoints' keys, so `released.load_released` reads them. What the facts leave open says "not in the
facts".

t counts scales from coarse (1) to fine (3); images are RGB in [0,1], (B,3,H,W).
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.blocks import ConvLSTMCell, check_choice, conv3x3
from ggkm_plugin.archs.folding import inference_form
from ggkm_plugin.archs.ggkmnet_arch import SelfReconstruction
from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.ops.gaussian import gkm_taps
from ggkm_plugin.ops.pyramid import double, pyramid
from ggkm_plugin.utils.errors import CropSizeError
from ggkm_plugin.utils.registry import ARCH_REGISTRY

State = tuple[Tensor, Tensor]

NUM_SCALES = 3
NUM_KERNELS = 22
KERNEL_SIZE = 21
SIZE_MULTIPLE = 16  # two halvings of the pyramid, then two strides of the U-Net
BN_MODES = ('running', 'batch')
KERNEL_ORDERS = ('paper', 'released')


def released_pyramid(y: Tensor) -> list[Tensor]:
    """The released network's inputs, coarse to fine: Pillow's BILINEAR x1/4, x1/2 and x1 of y as an 8-bit image.

    Antialiased, horizontally first, rounded to whole 255ths (halves up) after each pass, as Pillow does. H and W are
    multiples of 4. Not in the facts: every level is made from the full image.
    """

    def rounded(x: Tensor) -> Tensor:
        return (x + 0.5).floor()

    def resized(x: Tensor, height: int, width: int) -> Tensor:
        return rounded(F.interpolate(x, (height, width), mode='bilinear', align_corners=False, antialias=True))

    image = rounded(255 * y.to(torch.promote_types(y.dtype, torch.float32)).clamp(0, 1))
    height, width = y.shape[-2:]
    levels = [resized(resized(image, height, width // n), height // n, width // n) for n in (4, 2)]
    return [(level / 255).to(y.dtype) for level in (*levels, image)]


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that, with mode 'batch', in evaluation too uses statistics of the data, the running ones
    being neither read nor written.

    Then each image of a batch is normalised by its own, so that results do not depend on its neighbours: what the
    released scripts do, one image at a time. Training is the same in both modes.
    """

    def __init__(self, num_features: int, mode: str, momentum: float = 0.1) -> None:
        super().__init__(num_features, momentum=momentum)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.mode == 'running':
            return super().forward(x)
        # Unlike F.instance_norm's, this form takes an image of one pixel, whose result is the bias.
        return torch.instance_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, False)


class Gate(nn.Module):
    """One gate of the triplet attention: x (B,C,H,W) -> x times a map (B,1,H,W) in (0, 1).

    The map sees the maximum and the mean over dimension 1.
    """

    def __init__(self, bn_mode: str) -> None:
        super().__init__()
        layers = OrderedDict(conv=nn.Conv2d(2, 1, 7, padding=3, bias=False), bn=BatchNorm2d(1, bn_mode, momentum=0.01))
        self.conv = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return x * self.conv(pooled).sigmoid()


class TripletAttention(nn.Module):
    """The mean of x (B,C,H,W) under three gates, over C, H and W; each is named by the axes of its map, in order.

    Not in the facts: which axis is a map's row. Read off the names, `cw` has C down and W across, `hc` H down and C
    across.
    """

    def __init__(self, bn_mode: str) -> None:
        super().__init__()
        self.cw, self.hc, self.hw = Gate(bn_mode), Gate(bn_mode), Gate(bn_mode)

    def forward(self, x: Tensor) -> Tensor:
        cw = self.cw(x.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)  # H pooled
        hc = self.hc(x.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)  # W pooled
        return (self.hw(x) + cw + hc) / 3


def conv_bn_relu(conv: nn.Module, channels: int, bn_mode: str) -> nn.Sequential:
    return nn.Sequential(conv, BatchNorm2d(channels, bn_mode), nn.ReLU(inplace=True))


class ResBlock(nn.Module):
    """y = x + f(x), then y + g(y), with f and g conv3-BN-ReLU: (B,C,H,W) -> the same shape."""

    def __init__(self, channels: int, bn_mode: str) -> None:
        super().__init__()
        self.conv = conv_bn_relu(conv3x3(channels, channels, bias=True), channels, bn_mode)
        self.conv1 = conv_bn_relu(conv3x3(channels, channels, bias=True), channels, bn_mode)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.conv(x)
        return y + self.conv1(y)


class Block(nn.Module):
    """A block of the U-Net: convolution (with BN and ReLU unless `bare`), residual block, triplet attention."""

    def __init__(self, conv: nn.Module, channels: int, bn_mode: str, bare: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv) if bare else conv_bn_relu(conv, channels, bn_mode)
        self.res_block = ResBlock(channels, bn_mode)
        self.ta = TripletAttention(bn_mode)

    def forward(self, x: Tensor) -> Tensor:
        return self.ta(self.res_block(self.conv(x)))


class WeightPredictor(nn.Module):
    """APU: features (B,32,H,W) -> weights (B,44,H,W) in (-1, 1): 22 for the blurred input, 22 for the estimate."""

    def __init__(self, bn_mode: str) -> None:
        super().__init__()
        channels, maps = 32, 2 * NUM_KERNELS
        self.conv = nn.Sequential(
            OrderedDict(conv=conv_bn_relu(conv3x3(channels, maps, bias=True), maps, bn_mode)),
        )
        self.conv_atten = ConvLSTMCell(channels, maps, 5)  # not in the facts: the convolution sees [x; h]

    def forward(self, features: Tensor, state: State | None) -> tuple[Tensor, State]:
        b2 = self.conv(features)
        state = self.conv_atten(F.avg_pool2d(features, 2), state)
        b1 = F.interpolate(state[0], scale_factor=2, mode='nearest')
        return (b1 * b2 + b1).sigmoid() * 2 - 1, state


class GaussianMixture(nn.Module):
    """GCM: x (B,3,H,W) -> (B,66,H,W), 22 blurs of each colour, zeros outside the image.

    `paper`: channel 22 c + k is colour c under kernel k. `released`: the bank was written k0, k0, k0, k1, ... but read
    colour by colour, so channel j is colour j // 22 under kernel j // 3.
    """

    taps: Tensor

    def __init__(self, kernel_order: str) -> None:
        super().__init__()
        self.kernel_order = kernel_order
        self.register_buffer('taps', self._make_taps().float(), persistent=False)

    def _make_taps(self) -> Tensor:
        taps = gkm_taps()
        return taps.repeat(3, 1) if self.kernel_order == 'paper' else taps.repeat_interleave(3, dim=0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'GaussianMixture':
        super()._apply(fn, recurse)
        # `.half()` must not round the taps, nor `.double()` keep float32's.
        self.taps = self._make_taps().to(self.taps.device, torch.promote_types(self.taps.dtype, torch.float32))
        return self

    def forward(self, x: Tensor) -> Tensor:
        taps, reach = self.taps.to(x.dtype), KERNEL_SIZE // 2
        x = F.conv2d(x, taps[:, None, None, :], padding=(0, reach), groups=3)
        return F.conv2d(x, taps[:, None, :, None], padding=(reach, 0), groups=3 * NUM_KERNELS)


@ARCH_REGISTRY.register()
class GKMNet(nn.Module):
    """The network: y (B,3,H,W) of any size -> the deblurred image, same shape, not clamped; 1,409,131 parameters.

    In training it returns GGKMNet's dict: `scales`, the estimates coarse to fine, `inputs`, the pyramid of y, and
    `reconstructions` (empty without `self_reconstruction`). Training crops are multiples of 16, else CropSizeError;
    in evaluation any image is padded by reflection and cut back.

    Not in the facts: the coarsest estimate before the first is the coarsest image itself, as in GGKMNet; the blurred
    input's channels come before the estimate's; PyTorch's own initialisation.

    Args:
        kernel_order: paper, each colour under every kernel, on GGKMNet's pyramid; or released, what the released
            weights were trained with: a third of the kernels for each colour (see `GaussianMixture`), and a pyramid of
            8-bit images, clamped to [0,1] (see `released_pyramid`).
        bn_mode: running, or batch, what the released scripts test with: BatchNorm uses the image's own statistics in
            evaluation, too, so that results depend on the tile.
        self_reconstruction: add GGKMNet's SRM (60,547 parameters, used in training only) on the bottleneck features
            and the weights: with GGKMLoss, the paper's GKMNet*.

    Raises:
        ValueError: an argument that is none of the above, naming it.
    """

    training_only = ('srm',)
    CHOICES = {'kernel_order': KERNEL_ORDERS, 'bn_mode': BN_MODES}  # noqa: RUF012

    def __init__(
        self, kernel_order: str = 'paper', bn_mode: str = 'running', self_reconstruction: bool = False
    ) -> None:
        super().__init__()
        for name, value in (('kernel_order', kernel_order), ('bn_mode', bn_mode)):
            check_choice(name, value, self.CHOICES[name])
        self.kernel_order = kernel_order

        def down(in_ch: int, out_ch: int, stride: int) -> Block:
            return Block(conv3x3(in_ch, out_ch, stride, bias=True), out_ch, bn_mode)

        def up(in_ch: int, out_ch: int) -> Block:
            return Block(nn.ConvTranspose2d(in_ch, out_ch, 2, stride=2), out_ch, bn_mode)

        self.in_block = Block(conv3x3(3, 32, bias=True), 32, bn_mode, bare=True)
        self.conv_block1_1 = down(32, 64, 2)
        self.conv_block2_1 = down(64, 128, 2)
        self.bottle_neck_1 = down(128, 128, 1)
        self.conv_block3_1 = up(128, 64)
        self.conv_block4_1 = up(64, 32)
        self.APU = WeightPredictor(bn_mode)
        self.GCM = GaussianMixture(kernel_order)
        self.SumLayer = nn.Sequential(OrderedDict(conv=nn.Conv2d(2 * 3 * NUM_KERNELS, 3, 1)))
        self.srm = SelfReconstruction(128, 2 * NUM_KERNELS, 3, 32) if self_reconstruction else None
        self.register_load_state_dict_pre_hook(_drop_unused_srm)

    @property
    def size_multiple(self) -> int:
        """H and W are brought to multiples of this: two halvings of the pyramid, then two strides of the U-Net."""
        return SIZE_MULTIPLE

    def prepare_inference(self) -> 'GKMNet':
        """A copy that evaluates to the same, faster: see `folding.inference_form`."""
        net = inference_form(self)
        net.srm = None
        return net

    def pyramid(self, y: Tensor) -> list[Tensor]:
        """y at the three scales, coarse to fine; H and W multiples of 4."""
        return pyramid(y, NUM_SCALES) if self.kernel_order == 'paper' else released_pyramid(y)

    def features(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """(B,3,H,W) -> the bottleneck's (B,128,H/4,W/4) and the decoder's (B,32,H,W)."""
        f1 = self.conv_block1_1(self.in_block(y))
        f2 = self.conv_block2_1(f1)
        bottleneck = self.bottle_neck_1(f2)
        f3 = self.conv_block3_1(bottleneck + f2)
        return bottleneck, self.conv_block4_1(f3 + f1)

    def unroll(self, ys: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The estimates of all scales of a pyramid, coarse to fine, and the SRM's images in training."""
        estimates: list[Tensor] = []
        reconstructions: list[Tensor] = []
        state: State | None = None
        x = ys[0]
        for t, y in enumerate(ys):
            if t:
                x = double(x)
            if state is not None:
                state = double(state[0]), double(state[1])
            bottleneck, features = self.features(y)
            weights, state = self.APU(features, state)
            of_y, of_x = (maps.repeat(1, 3, 1, 1) for maps in weights.chunk(2, dim=1))
            x = self.SumLayer(torch.cat([of_y * self.GCM(y), of_x * self.GCM(x)], dim=1))
            estimates.append(x)
            if self.srm is not None and self.training:
                reconstructions.append(self.srm(bottleneck, weights, x))
        return estimates, reconstructions

    def forward(self, y: Tensor) -> Tensor | dict[str, list[Tensor]]:
        height, width = y.shape[-2:]
        if not self.training:
            padded = pad(y, 0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE)
            return self.unroll(self.pyramid(padded))[0][-1][..., :height, :width].to(y.dtype)
        check_crop(y, smallest=SIZE_MULTIPLE if len(y) > 1 else 2 * SIZE_MULTIPLE)
        inputs = self.pyramid(y)
        scales, reconstructions = self.unroll(inputs)
        return {'scales': scales, 'inputs': inputs, 'reconstructions': reconstructions}


def check_crop(y: Tensor, smallest: int) -> None:
    """Raises CropSizeError unless H and W are multiples of 16 from `smallest` on.

    BatchNorm needs more than the one pixel that the coarsest features of a single 16x16 image have.
    """
    height, width = y.shape[-2:]
    if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE or min(height, width) < smallest:
        raise CropSizeError(
            f'a training crop of {height}x{width} does not fit: set datasets.train.gt_size to a multiple of '
            f'{SIZE_MULTIPLE}, {smallest} or more'
        )


def _drop_unused_srm(net: GKMNet, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """A training checkpoint loads strictly into a network built without the SRM."""
    if net.srm is None:
        for key in [key for key in state_dict if key.startswith(f'{prefix}srm.')]:
            del state_dict[key]
