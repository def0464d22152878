"""GGKMNet: single-image defocus deblurring by an unrolled fixed-point iteration over grouped Gaussian kernel mixtures.

Y. Quan, Z. Wu, R. Xu, H. Ji, "Deep Single Image Defocus Deblurring via Gaussian Kernel Mixture Learning", TPAMI 2024.
The authors released no code. This file follows the paper, with equation numbers at the lines. Where the paper is
silent, the choice is a named option marked "not in the paper"; the defaults reproduce its parameter and MAC counts.

P groups of Q kernels, M = P+1 coefficient maps (map 0 weights the identity kernel), T scales, R iterations per scale.
Scales t = 1..T run from coarse to fine. Images are RGB in [0,1], (B,3,H,W).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import check_arguments, takes_fields_of
from ggkm_plugin.archs.base import RestorationNet
from ggkm_plugin.archs.blocks import ConvLSTMCell, FixedKernels, conv3x3, conv_stack, encoder, res_blocks, upconv
from ggkm_plugin.archs.ggkmnet_init import initialize
from ggkm_plugin.archs.ggkmnet_state import Coefficients, Memory, State, StepOutput
from ggkm_plugin.ops import gaussian_bank, ggkm_blur
from ggkm_plugin.ops.ggkm import check_form, chosen_form
from ggkm_plugin.ops.ggkm.spectral import widest_margin
from ggkm_plugin.ops.precision import full_precision, pointwise
from ggkm_plugin.ops.pyramid import double, pyramid
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.utils.schema import Count, Natural

Blocks = Annotated[Sequence[Natural], Field(min_length=3, max_length=3)]


@dataclass(frozen=True)
class GGKMNetConfig:
    """Options of GGKMNet; those marked * are not in the paper. Raises ValueError naming a wrong one."""

    in_ch: Count = 3  # image channels
    num_groups: Count = 21  # P
    kernels_per_group: Count = 4  # Q
    num_scales: Count = 3  # T
    num_iters: Count = 1  # R, each iteration with its own weights
    width: Count = 32  # channels at full resolution; F1 has four times as many
    enc_blocks: Blocks = (1, 1, 1)  # residual blocks per level; (12, 12, 12) is GGKMNet-dagger
    bottleneck_blocks: Natural = 1
    dec_blocks: Blocks = (1, 1, 1)
    alpha_head: Literal['lstm2', 'lstm_fc'] = 'lstm2'  # two LSTMs; *a linear layer last explains the paper's count
    beta_path2: Literal['c3c1', 'c3', 'c3c3'] = 'c3c1'  # *kernel sizes of the beta-APU's path 2
    beta_norm: Literal['none', 'bn'] = 'none'  # *norm of path 2; bn makes results depend on the batch
    fuse: Literal['conv1x1', 'none', 'add'] = 'conv1x1'  # *u: a 1x1 convolution of [y; xu], xu, or their mean
    sigma_denom: Literal['PQ', 'P'] = 'PQ'  # see ops.gaussian, also for the next two
    sigma_conv: Literal['2s2', 's2'] = '2s2'
    sigma_q0: Literal[0, 1] = 0
    first_size: Literal[1, 3] = 3  # *of group 1's kernels; Sec. 4.3 literally: 1, with include_identity: false
    boundary: Literal['reflect', 'zeros', 'replicate'] = 'reflect'  # *zeros darken the borders
    include_identity: bool = True  # *map 0 weights u itself: 22 maps explain the paper's counts
    iterative: bool = True  # Eq. (16); False applies every composite kernel to u itself
    residual: Literal['explicit', 'none'] = 'explicit'  # Eq. (14); or *the weighted sum is the image
    self_reconstruction: bool = True  # build the SRM, which only training uses
    init: Literal['xavier', 'identity'] = 'xavier'  # *identity starts near x = y, for short trainings
    blur_form: Literal['auto', 'dct', 'fft', 'fused', 'separable', 'reference'] = 'auto'  # default, see ops.ggkm

    def __post_init__(self) -> None:
        check_arguments(type(self), vars(self))
        if self.init == 'identity' and (self.residual != 'explicit' or not self.include_identity):
            raise ValueError('init: identity needs residual: explicit and include_identity: true')
        check_form(chosen_form(self.blur_form), self.boundary)

    @property
    def num_maps(self) -> int:
        """M."""
        return self.num_groups + self.include_identity


class BlurFeatureExtractor(nn.Module):
    """BFE, Sec. 4.2: y (B,3,H,W) -> F1 (B,4c,H/4,W/4) from the bottleneck and F2 (B,c,H,W) from the last decoder block.

    A U-Net with additive skips, without biases and normalization. H and W are multiples of 4.
    """

    def __init__(self, config: GGKMNetConfig) -> None:
        super().__init__()
        c1, c2, c3 = config.width, 2 * config.width, 4 * config.width
        self.enc1 = encoder(conv3x3(config.in_ch, c1), c1, config.enc_blocks[0])
        self.enc2 = encoder(conv3x3(c1, c2, stride=2), c2, config.enc_blocks[1])
        self.enc3 = encoder(conv3x3(c2, c3, stride=2), c3, config.enc_blocks[2])
        self.bottleneck = encoder(conv3x3(c3, c3), c3, config.bottleneck_blocks)
        self.dec1, self.up1 = res_blocks(c3, config.dec_blocks[0]), upconv(c3, c2)
        self.dec2, self.up2 = res_blocks(c2, config.dec_blocks[1]), upconv(c2, c1)
        self.dec3 = res_blocks(c1, config.dec_blocks[2])

    def encode(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the features of the three encoder blocks, and F1."""
        e1 = self.enc1(y)
        e2 = self.enc2(e1)
        e3 = self.enc3(e2)
        return e1, e2, e3, self.bottleneck(e3)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        e1, e2, e3, f1 = self.encode(y)
        d = self.up1(self.dec1(f1 + e3))
        d = self.up2(self.dec2(d + e2))
        return f1, self.dec3(d + e1)


class AlphaPredictor(nn.Module):
    """alpha-APU, Sec. 4.2: F1 -> alpha (B,P,Q), positive coefficients with sum 1 in each group."""

    def __init__(self, config: GGKMNetConfig) -> None:
        super().__init__()
        self.shape = (config.num_groups, config.kernels_per_group)
        hidden, out = config.width, config.num_groups * config.kernels_per_group
        self.lstm = nn.LSTMCell(4 * config.width, hidden)
        self.head = nn.LSTMCell(hidden, out) if config.alpha_head == 'lstm2' else nn.Linear(hidden, out)

    def forward(self, f1: Tensor, states: Sequence[State | None]) -> tuple[Tensor, list[State | None]]:
        first = self.lstm(f1.mean(dim=(-2, -1)), states[0])
        hidden = first[0].relu()
        second = self.head(hidden, states[1]) if isinstance(self.head, nn.LSTMCell) else None
        logits = self.head(hidden) if second is None else second[0]
        return logits.view(-1, *self.shape).softmax(dim=-1), [first, second]


class BetaPredictor(nn.Module):
    """beta-APU, Sec. 4.2: F2 (B,c,H,W) -> beta (B,M,H,W) in (-1, 1).

    Path 1 works at half the resolution and remembers the coarser scales; path 2 keeps the details.
    """

    def __init__(self, config: GGKMNetConfig) -> None:
        super().__init__()
        self.lstm = ConvLSTMCell(config.width, config.num_maps, kernel_size=5)
        self.path2 = detail_path(config)

    def forward(self, f2: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        state = self.lstm(F.avg_pool2d(f2, 2), state)
        return modulated(state[0], self.path2(f2)), state


def detail_path(config: GGKMNetConfig) -> nn.Sequential:
    """Build path 2 of the beta-APU. Not in the paper beyond "two Conv layers": sizes and bias fit its MAC counts."""
    maps, bn = config.num_maps, config.beta_norm == 'bn'
    layers: list[nn.Module] = [conv3x3(config.width, maps, bias=not bn)]
    layers += [nn.BatchNorm2d(maps), nn.ReLU(inplace=True)] if bn else [nn.ReLU(inplace=True)]
    if config.beta_path2 != 'c3':
        layers.append(nn.Conv2d(maps, maps, 1) if config.beta_path2 == 'c3c1' else conv3x3(maps, maps, bias=True))
    return nn.Sequential(*layers)


def modulated(b1: Tensor, b2: Tensor) -> Tensor:
    """Compute beta = tanh(b1 * b2 + b1), b1 upscaled by 2."""
    b1 = F.interpolate(b1, scale_factor=2, mode='nearest')
    return torch.addcmul(b1, b1, b2).contiguous().tanh()  # the blur reads map by map: slow in channels_last


class IGGCM(FixedKernels):
    """IGGCM, Sec. 4.3, and the sum of Eq. (14): (u, alpha, beta) -> the blurred image B o u (B,3,H,W).

    The sum over p is a learned 1x1 convolution `mix` of the 3M weighted channels (Sec. 4.1). The chain runs in float32
    in any network dtype.
    """

    def __init__(self, config: GGKMNetConfig) -> None:
        super().__init__()
        self.config = c = config
        self.boundary, self.include_identity, self.iterative = c.boundary, c.include_identity, c.iterative
        self.register_bank()
        self.margin = widest_margin(self.make_bank(), self.iterative)
        self.mix = nn.Conv2d(c.num_maps * c.in_ch, c.in_ch, 1)

    def make_bank(self) -> Tensor:
        """Compute the taps of all g_{p,q}, (P,Q,2P+1)."""
        c = self.config
        return gaussian_bank(c.num_groups, c.kernels_per_group, c.sigma_denom, c.sigma_conv, c.sigma_q0, c.first_size)

    def forward(self, u: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        margin = self.margin if u.device.type != 'cpu' and self.bank.dtype == torch.float32 else None
        options = (self.boundary, self.include_identity, self.iterative, chosen_form(self.config.blur_form), margin)
        blurred = ggkm_blur(u, alpha, beta, self.bank, self.mix.weight, *options)  # Eqs. (13), (16)
        return blurred + cast(Tensor, self.mix.bias).to(blurred.dtype).view(1, -1, 1, 1)


class SelfReconstruction(nn.Module):
    """SRM, Sec. 4.4: (F1, beta, x) -> the defocused image again, (B,3,H,W) in (0, 1). Used in training only.

    Not in the paper: 32 channels in the two hidden layers, and bilinear upscaling of F1.
    """

    def __init__(self, feature_ch: int, num_maps: int, in_ch: int, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(*conv_stack(feature_ch + num_maps + in_ch, width, width, in_ch), nn.Sigmoid())

    def forward(self, f1: Tensor, beta: Tensor, x: Tensor) -> Tensor:
        f1 = F.interpolate(f1, size=x.shape[-2:], mode='bilinear', align_corners=False)
        return self.layers(torch.cat([f1, beta, x.to(beta.dtype)], dim=1))


class MCP(nn.Module):
    """Mixing coefficient predictor, Sec. 4.2: the feature extractor and the two attentive prediction units."""

    def __init__(self, bfe: BlurFeatureExtractor, alpha_apu: AlphaPredictor, beta_apu: BetaPredictor) -> None:
        super().__init__()
        self.bfe, self.alpha_apu, self.beta_apu = bfe, alpha_apu, beta_apu

    def predict(self, y: Tensor, memory: Memory) -> tuple[Coefficients, Tensor, Memory]:
        """Return the coefficients, F1, and the memory for the next scale."""
        f1, f2 = self.bfe(y)
        alpha, alpha_states = self.alpha_apu(f1, memory.alpha)
        beta, beta_state = self.beta_apu(f2, memory.beta)
        return Coefficients(alpha, beta), f1, Memory(alpha_states, beta_state)


class FixedPointStep(MCP):
    """One iteration x <- y + xu - B o u, Eqs. (11), (14): an IGGCM and an MCP, inherited for the checkpoint keys."""

    def __init__(self, config: GGKMNetConfig, blur: IGGCM, *predictor: Any) -> None:
        super().__init__(*predictor)
        self.blur, self.fuse_mode, self.residual = blur, config.fuse, config.residual
        self.fuse = nn.Conv2d(2 * config.in_ch, config.in_ch, 1) if config.fuse == 'conv1x1' else None

    def fused(self, y: Tensor, xu: Tensor) -> Tensor:
        """Compute u, the input of the IGGCM. Not in the paper beyond "fuses"."""
        if self.fuse is None:
            return (y + xu) / 2 if self.fuse_mode == 'add' else xu
        with full_precision(y):  # rounding u would round the image
            return pointwise(self.fuse, torch.cat([y, xu], dim=1))

    def updated(self, y: Tensor, xu: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """Compute x from the coefficients, Eq. (14)."""
        blurred = self.blur(self.fused(y, xu), alpha, beta)
        return y + xu - blurred if self.residual == 'explicit' else blurred

    def forward(self, y: Tensor, xu: Tensor, memory: Memory) -> tuple[StepOutput, Memory]:
        coefficients, f1, memory = self.predict(y, memory)
        return StepOutput(self.updated(y, xu, *coefficients), coefficients, f1), memory


@ARCH_REGISTRY.register()
class GGKMNet(RestorationNet):
    """GGKMNet: y (B,3,H,W) of any size -> the deblurred image, same shape, not clamped. Options: see GGKMNetConfig.

    In training it returns a dict: `scales`, the estimates coarse to fine (T, or T*R with the R of a scale adjacent),
    `inputs`, the pyramid of y, and `reconstructions`, the SRM's image of each estimate (empty without the SRM).
    Training crops are multiples of 2^(T+1), else CropSizeError. Ablations replace parts through class attributes.
    """

    training_only = ('srm',)
    alpha_predictor_class: type = AlphaPredictor
    beta_predictor_class: type = BetaPredictor
    iggcm_class: type = IGGCM

    @takes_fields_of(GGKMNetConfig)
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__()
        self.config = config = GGKMNetConfig(*args, **options)
        self.num_scales, self.num_iters = config.num_scales, config.num_iters
        self.size_multiple = 2 ** (config.num_scales + 1)  # T-1 halvings of the pyramid, two strides of the BFE
        parts = (self.iggcm_class, BlurFeatureExtractor, self.alpha_predictor_class, self.beta_predictor_class)
        steps = [FixedPointStep(config, *(part(config) for part in parts)) for _ in range(config.num_iters)]
        self.steps, self.srm = nn.ModuleList(steps), None
        if config.self_reconstruction:
            sizes = 4 * config.width, config.num_maps, config.in_ch
            self.srm = nn.ModuleList(SelfReconstruction(*sizes) for _ in steps)
        # DDP broadcasts buffers in every forward pass, also where one rank validates and the others do not.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers() if name.endswith('.bank')]
        initialize(self, config.init)

    def steps_of_scale(self, t: int) -> nn.ModuleList:
        """Return the R iterations of scale t = 1..T; all scales share them."""
        return self.steps

    def unroll(self, y: Tensor) -> list[StepOutput]:
        """Run all iterations, coarse to fine, Eq. (12); H and W of y are multiples of `size_multiple`."""
        estimates: list[StepOutput] = []
        memories = [Memory()] * self.num_iters
        levels = pyramid(y, self.num_scales)
        x = levels[0]  # x^(0) = y^(1), not upscaled
        for t, y_t in enumerate(levels, start=1):
            if t > 1:
                x, memories = double(x), [memory.doubled() for memory in memories]
            for r, step in enumerate(self.steps_of_scale(t)):
                estimate, memories[r] = step(y_t, x, memories[r])
                x = estimate.x
                estimates.append(estimate)
        return estimates

    def forward(self, y: Tensor) -> Tensor | dict[str, list[Tensor]]:
        if not self.training:
            return self.cropped(self.unroll(self.padded(y))[-1].x, y)
        self.check_crop(y)
        estimates = self.unroll(y)
        srms = list(self.srm or ()) * self.num_scales
        reconstructions = [srm(e.f1, e.coefficients.beta, e.x) for srm, e in zip(srms, estimates, strict=False)]
        scales, inputs = [e.x for e in estimates], pyramid(y, self.num_scales)
        return {'scales': scales, 'inputs': inputs, 'reconstructions': reconstructions}

    def coefficients(self, y: Tensor) -> list[Coefficients]:
        """Return alpha and beta of all iterations, coarse to fine, for y of any size; H_t = ceil(H / 2^(T-t))."""
        found = [estimate.coefficients for estimate in self.unroll(self.padded(y))]
        return [Coefficients(alpha, self.cropped(beta, y)) for alpha, beta in found]
