"""GGKMNet: an unrolled fixed-point iteration with a grouped Gaussian kernel mixture as its blur model.

Y. Quan, Z. Wu, R. Xu, H. Ji, "Deep Single Image Defocus Deblurring via Gaussian Kernel Mixture Learning", TPAMI 2024.
Its authors released no code: this is written from the paper, equation numbers at the lines. Where the paper is silent,
the choice is a named option that says so; the defaults were calibrated on the paper's parameter and MAC counts.

P groups of Q kernels, M = P+1 coefficient maps (map 0 weighs the identity kernel), T scales, R iterations a scale.
t counts scales from coarse (1) to fine (T); images are RGB in [0,1], (B,3,H,W).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.blocks import ConvLSTMCell, conv3x3, res_blocks, xavier_init
from ggkm_plugin.archs.folding import inference_form
from ggkm_plugin.ops import gaussian_bank, ggkm_blur
from ggkm_plugin.ops.boundary import BOUNDARIES, pad
from ggkm_plugin.ops.ggkm import FORMS
from ggkm_plugin.ops.ggkm.spectral import widest_margin
from ggkm_plugin.ops.precision import color_mix, full_precision
from ggkm_plugin.ops.pyramid import double, pyramid
from ggkm_plugin.utils.errors import CropSizeError
from ggkm_plugin.utils.registry import ARCH_REGISTRY

State = tuple[Tensor, Tensor]
Edges = tuple[int, int, int, int]  # pixels at the top, the bottom, the left and the right

NEARLY_NOTHING = 0.01  # of Xavier's weights, where `init: identity` starts from biases


class BlurFeatureExtractor(nn.Module):
    """BFE, Sec. 4.2: y (B,3,H,W) -> F1 (B,4c,H/4,W/4) from the bottleneck and F2 (B,c,H,W) from the last decoder.

    A U-Net with additive skips, without biases or normalisation. H and W are multiples of 4.
    """

    def __init__(
        self, in_ch: int, width: int, enc_blocks: Sequence[int], bottleneck_blocks: int, dec_blocks: Sequence[int]
    ) -> None:
        super().__init__()
        c1, c2, c3 = width, 2 * width, 4 * width

        def encoder(conv: nn.Module, channels: int, blocks: int) -> nn.Sequential:
            return nn.Sequential(conv, nn.ReLU(inplace=True), res_blocks(channels, blocks))

        def upscale(in_channels: int, out_channels: int) -> nn.Sequential:
            conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
            return nn.Sequential(conv, nn.ReLU(inplace=True))

        self.enc1 = encoder(conv3x3(in_ch, c1), c1, enc_blocks[0])
        self.enc2 = encoder(conv3x3(c1, c2, stride=2), c2, enc_blocks[1])
        self.enc3 = encoder(conv3x3(c2, c3, stride=2), c3, enc_blocks[2])
        self.bottleneck = encoder(conv3x3(c3, c3), c3, bottleneck_blocks)
        self.dec1, self.up1 = res_blocks(c3, dec_blocks[0]), upscale(c3, c2)
        self.dec2, self.up2 = res_blocks(c2, dec_blocks[1]), upscale(c2, c1)
        self.dec3 = res_blocks(c1, dec_blocks[2])

    def reach(self) -> int:
        """How far into F2 the zeros around an image are felt, in pixels; an edge at a multiple of 4. F1 feels less."""
        pixels = 0
        for strided, stage in enumerate((self.enc1, self.enc2, self.enc3, self.bottleneck)):
            blocks = cast(nn.Sequential, stage[2])
            halved = -(-(pixels + 1) // 2) if strided in (1, 2) else pixels + 1
            pixels = halved + 2 * len(blocks)
        return self._felt(pixels, 0)

    def _felt(self, pixels: int, stage: int) -> int:
        """How far into F2 it is felt that so many pixels at an edge are wrong before this stage of the decoder."""
        for place, blocks in enumerate((self.dec1, self.dec2, self.dec3)[stage:]):
            pixels = (2 * pixels + 1 if place else pixels) + 2 * len(cast(nn.Sequential, blocks))
        return pixels

    def _cuts(self, spare: Edges) -> list[Edges]:
        """What nothing that is wanted depends on before each stage of the decoder, and after the last."""
        cuts, gone = [], [0, 0, 0, 0]
        for stage, size in enumerate((4, 2, 1, 1)):
            felt = self._felt(0, stage)
            cut = [max(edge - felt - before, 0) // size for edge, before in zip(spare, gone, strict=True)]
            gone = [before + size * pixels for before, pixels in zip(gone, cut, strict=True)]
            cuts.append(cast(Edges, tuple(cut)))
        return cuts

    def forward(self, y: Tensor, spare: Edges = (0, 0, 0, 0)) -> tuple[Tensor, Tensor]:
        """spare: edges that are not wanted of F2, which comes without them and takes less time; F1 is whole."""
        e1 = self.enc1(y)
        e2 = self.enc2(e1)
        e3 = self.enc3(e2)
        f1 = self.bottleneck(e3)
        first, second, third, last = self._cuts(spare)
        d = self.up1(self.dec1(_without(first, f1 + e3)))
        d = self.up2(self.dec2(_without(second, d + _without(first, e2, 2))))
        d = self.dec3(_without(third, d + _without(second, _without(first, e1, 4), 2)))
        return f1, _without(last, d)


def _without(edges: Edges, image: Tensor, scale: int = 1) -> Tensor:
    if not any(edges):
        return image
    (top, bottom, left, right), (height, width) = (scale * edge for edge in edges), image.shape[-2:]
    return image[..., top : height - bottom, left : width - right]


class AlphaPredictor(nn.Module):
    """alpha-APU, Sec. 4.2: F1 -> alpha (B,P,Q), each group's coefficients positive with sum 1.

    `head='lstm_fc'` is not in the paper, which has two LSTM layers: a linear layer in place of the second explains
    its parameter count to the digit.
    """

    def __init__(self, channels: int, num_groups: int, kernels_per_group: int, head: str) -> None:
        super().__init__()
        hidden = channels // 4
        self.shape = (num_groups, kernels_per_group)
        self.lstm = nn.LSTMCell(channels, hidden)
        out = num_groups * kernels_per_group
        self.head = nn.LSTMCell(hidden, out) if head == 'lstm2' else nn.Linear(hidden, out)

    def forward(self, f1: Tensor, states: Sequence[State | None]) -> tuple[Tensor, list[State | None]]:
        first = self.lstm(f1.mean(dim=(-2, -1)), states[0])
        hidden = first[0].relu()
        second = None
        if isinstance(self.head, nn.LSTMCell):
            second = self.head(hidden, states[1])
            logits = second[0]
        else:
            logits = self.head(hidden)
        return logits.view(-1, *self.shape).softmax(dim=-1), [first, second]


class BetaPredictor(nn.Module):
    """beta-APU, Sec. 4.2: F2 (B,c,H,W) -> beta (B,M,H,W) in (-1, 1).

    Path 1 sees half the resolution and remembers the coarser scales; path 2 keeps the details. Not in the paper:
    kernel sizes, bias and `norm` of path 2, chosen because they reproduce its MAC counts ("two Conv layers").
    """

    def __init__(self, channels: int, num_maps: int, path2: str, norm: str) -> None:
        super().__init__()
        self.lstm = ConvLSTMCell(channels, num_maps, kernel_size=5)
        layers: list[nn.Module] = [conv3x3(channels, num_maps, bias=norm == 'none')]
        if norm == 'bn':
            layers.append(nn.BatchNorm2d(num_maps))
        layers.append(nn.ReLU(inplace=True))
        if path2 == 'c3c1':
            layers.append(nn.Conv2d(num_maps, num_maps, 1))
        elif path2 == 'c3c3':
            layers.append(conv3x3(num_maps, num_maps, bias=True))
        self.path2 = nn.Sequential(*layers)

    def forward(self, f2: Tensor, state: State | None) -> tuple[Tensor, State]:
        state = self.lstm(F.avg_pool2d(f2, 2), state)
        b1 = F.interpolate(state[0], scale_factor=2, mode='nearest')
        b2 = self.path2(f2)
        # The blur reads map by map, which in channels_last would be a byte here and there.
        return torch.addcmul(b1, b1, b2).contiguous().tanh(), state

    def start_constant(self) -> float:
        """Start with a b1 that is nearly constant, by saturated gates; that constant."""
        saturated = torch.tensor(4.0)
        with torch.no_grad():
            self.lstm.conv.weight.mul_(NEARLY_NOTHING)
            i, f, o, g = cast(Tensor, self.lstm.conv.bias).chunk(4)
            for gate, value in ((i, saturated), (f, -saturated), (o, saturated), (g, saturated)):
                gate.fill_(value)
        return float(saturated.sigmoid() * torch.tanh(saturated.sigmoid() * saturated.tanh()))


class GroupGaussianBlur(nn.Module):
    """IGGCM and the sum of Eq. (14): (u, alpha, beta) -> the blurred image B o u (B,3,H,W).

    The sum over p is a learned 1x1 convolution `mix` of the M*3 weighted channels (Sec. 4.1). The chain runs in
    float32 whatever the network's dtype.
    """

    bank: Tensor

    def __init__(
        self,
        in_ch: int,
        make_bank: Callable[[], Tensor],
        num_maps: int,
        boundary: str,
        include_identity: bool,
        iterative: bool,
        form: str = 'auto',
    ) -> None:
        super().__init__()
        self.boundary, self.include_identity, self.iterative, self.form = boundary, include_identity, iterative, form
        self.use_bank(make_bank)
        self.mix = nn.Conv2d(num_maps * in_ch, in_ch, 1)

    def use_bank(self, make_bank: Callable[[], Tensor]) -> None:
        """Blur with these kernels, (P,Q,2P+1) in float64."""
        bank = make_bank()
        self.make_bank = make_bank
        self.margin = widest_margin(bank, self.iterative)
        self.register_buffer('bank', bank.float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'GroupGaussianBlur':
        super()._apply(fn, recurse)
        # `.half()` must not round the taps.
        self.bank = self.make_bank().to(self.bank.device, torch.promote_types(self.bank.dtype, torch.float32))
        return self

    def forward(self, u: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        weight, bias = self.mix.weight, cast(Tensor, self.mix.bias)
        blurred = ggkm_blur(
            u,
            alpha,
            beta,
            self.bank,
            weight,
            self.boundary,
            self.include_identity,
            self.iterative,
            self.form,
            self.margin if u.is_cuda and self.bank.dtype == torch.float32 else None,
        )
        return blurred + bias.to(blurred.dtype).view(1, -1, 1, 1)


class SelfReconstruction(nn.Module):
    """SRM, Sec. 4.4: (F1, beta, x) -> the defocused image again, (B,3,H,W) in (0, 1). Used in training only.

    Not in the paper: 32 channels in its two hidden layers, and F1 brought to full size bilinearly.
    """

    def __init__(self, feature_ch: int, num_maps: int, in_ch: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv3x3(feature_ch + num_maps + in_ch, width, bias=True),
            nn.ReLU(inplace=True),
            conv3x3(width, width, bias=True),
            nn.ReLU(inplace=True),
            conv3x3(width, in_ch, bias=True),
            nn.Sigmoid(),
        )

    def forward(self, f1: Tensor, beta: Tensor, x: Tensor) -> Tensor:
        f1 = F.interpolate(f1, size=x.shape[-2:], mode='bilinear', align_corners=False)
        return self.layers(torch.cat([f1, beta, x.to(beta.dtype)], dim=1))


class Coefficients(NamedTuple):
    """alpha (B,P,Q) and beta (B,M,H_t,W_t) of one scale."""

    alpha: Tensor
    beta: Tensor


class Memory(NamedTuple):
    """What an iteration remembers from the coarser scales: the states of the alpha LSTMs and of the ConvLSTM."""

    alpha: list[State | None]
    beta: State | None

    def doubled(self) -> 'Memory':
        """For the next scale: the ConvLSTM's maps are enlarged, the alpha states have no size."""
        return self._replace(beta=None if self.beta is None else (double(self.beta[0]), double(self.beta[1])))


class Estimate(NamedTuple):
    """The result of one iteration: x (B,3,H_t,W_t), its coefficients, and F1."""

    x: Tensor
    coefficients: Coefficients
    f1: Tensor


class FixedPointStep(nn.Module):
    """One iteration x <- y + xu - B o fuse(y, xu), Eqs. (11) and (14), with its coefficient predictor (MCP)."""

    # Pixels around one of beta from which F2 is felt: a 5x5 convolution at half the resolution, or a few of 3x3.
    BETA_REACH = 4

    def __init__(
        self,
        bfe: BlurFeatureExtractor,
        alpha_apu: AlphaPredictor,
        beta_apu: BetaPredictor,
        blur: GroupGaussianBlur,
        in_ch: int,
        fuse: str,
        residual: str,
    ) -> None:
        super().__init__()
        self.bfe, self.alpha_apu, self.beta_apu, self.blur = bfe, alpha_apu, beta_apu, blur
        self.fuse_mode, self.residual = fuse, residual
        self.fuse = nn.Conv2d(2 * in_ch, in_ch, 1) if fuse == 'conv1x1' else None

    def fused(self, y: Tensor, xu: Tensor) -> Tensor:
        """The IGGCM's input u. Not in the paper beyond "fuses": 1x1 convolution, none (xu alone) or the mean."""
        if self.fuse is not None:
            weight, bias = self.fuse.weight, cast(Tensor, self.fuse.bias)
            with full_precision(y):  # what is rounded here is rounded in the image
                both = torch.cat([y, xu], dim=1)
                return color_mix(both, weight.to(both.dtype)) + bias.to(both.dtype).view(1, -1, 1, 1)
        return (y + xu) / 2 if self.fuse_mode == 'add' else xu

    def pass_xu_through(self) -> None:
        """Start with u = xu. Not in the paper: so that Eq. (14) holds from the start."""
        if self.fuse is not None:
            colours = self.fuse.out_channels
            with torch.no_grad():
                self.fuse.weight.zero_()
                self.fuse.weight[:, colours:, 0, 0] = torch.eye(colours)

    def start_near_identity(self) -> None:
        """Start near x = y. Not in the paper: chosen because from Xavier's start a short training spends its first
        thousand steps learning to return its input.

        Path 1 starts with a nearly constant b1, path 2 near b2 = 0, so every beta is nearly tanh(b1), and `mix` divides
        the first kernel's map by it.
        """
        b1 = self.beta_apu.start_constant()
        mix = self.blur.mix.weight
        last = [layer for layer in self.beta_apu.path2 if isinstance(layer, nn.Conv2d)][-1]
        with torch.no_grad():
            for weight in (last.weight, mix):
                weight.mul_(NEARLY_NOTHING)
            colours = mix.shape[0]
            mix[:, :colours, 0, 0] += torch.eye(colours) / math.tanh(b1)

    def reach(self) -> int:
        """How far into beta the zeros around an image are felt, in pixels: a multiple of 4, as edges have to be."""
        features = self.bfe.reach()
        return -(-features // 4) * 4 + self.BETA_REACH

    def updated(self, y: Tensor, xu: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """x, Eq. (14), from the coefficients."""
        blurred = self.blur(self.fused(y, xu), alpha, beta)
        return y + xu - blurred if self.residual == 'explicit' else blurred

    def forward(self, y: Tensor, xu: Tensor, memory: Memory) -> tuple[Estimate, Memory]:
        f1, f2 = self.bfe(y)
        alpha, alpha_states = self.alpha_apu(f1, memory.alpha)
        beta, beta_state = self.beta_apu(f2, memory.beta)
        x = self.updated(y, xu, alpha, beta)
        return Estimate(x, Coefficients(alpha, beta), f1), Memory(alpha_states, beta_state)


@ARCH_REGISTRY.register()
class GGKMNet(nn.Module):
    """The network: y (B,3,H,W) of any size -> the deblurred image, same shape, not clamped.

    In training it returns a dict: `scales`, the estimates coarse to fine (T, or T*R with the R of a scale adjacent),
    `inputs`, the pyramid of y, and `reconstructions`, the SRM's images beside `scales` (empty without it). Training
    crops are multiples of 2^(T+1), else CropSizeError; in evaluation any image is padded by reflection and cut back.

    Args:
        in_ch: image channels.
        num_groups: P. kernels_per_group: Q. num_scales: T. num_iters: R, each with its own weights.
        width: channels at full resolution; F1 has four times as many.
        enc_blocks, bottleneck_blocks, dec_blocks: residual blocks of the feature extractor; (12, 12, 12), 1, (1, 1, 1)
            is GGKMNet-dagger.
        alpha_head: lstm2, or lstm_fc (see `AlphaPredictor`).
        beta_path2: c3c1, c3 or c3c3. beta_norm: none, or bn, which ties results to the batch (see `BetaPredictor`).
        fuse: conv1x1, none or add (see `FixedPointStep.fused`).
        sigma_denom: PQ or P. sigma_conv: 2s2 or s2. sigma_q0: 0 or 1 (see `ops.gaussian`).
        boundary: reflect, zeros or replicate. Not in the paper: reflect because zeros darken the borders.
        include_identity: map 0 weighs the image itself. Not in the paper: 22 maps explain its counts.
        iterative: Eq. (16); False applies every composite kernel to the image itself.
        residual: explicit, Eq. (14), or none: the weighted sum is the image.
        self_reconstruction: build the SRM, which only training uses.
        init: xavier, the paper's; or identity (not in the paper): starts near x = y, for short trainings.
        blur_form: how the blur is evaluated, which changes nothing but time and memory: auto, the fastest; separable,
            plain passes; reference, as the equations read; dct, fft or fused (see `ops.mixture`).

    Raises:
        ValueError: an argument that is none of the above, naming it.
    """

    training_only = ('srm',)
    CHOICES = {  # noqa: RUF012
        'alpha_head': ('lstm2', 'lstm_fc'),
        'beta_path2': ('c3c1', 'c3', 'c3c3'),
        'beta_norm': ('none', 'bn'),
        'fuse': ('conv1x1', 'none', 'add'),
        'sigma_denom': ('PQ', 'P'),
        'sigma_conv': ('2s2', 's2'),
        'sigma_q0': (0, 1),
        'boundary': BOUNDARIES,
        'residual': ('explicit', 'none'),
        'init': ('xavier', 'identity'),
        'blur_form': FORMS,
    }

    def __init__(
        self,
        in_ch: int = 3,
        num_groups: int = 21,
        kernels_per_group: int = 4,
        num_scales: int = 3,
        num_iters: int = 1,
        width: int = 32,
        enc_blocks: Sequence[int] = (1, 1, 1),
        bottleneck_blocks: int = 1,
        dec_blocks: Sequence[int] = (1, 1, 1),
        alpha_head: str = 'lstm2',
        beta_path2: str = 'c3c1',
        beta_norm: str = 'none',
        fuse: str = 'conv1x1',
        sigma_denom: str = 'PQ',
        sigma_conv: str = '2s2',
        sigma_q0: int = 0,
        boundary: str = 'reflect',
        include_identity: bool = True,
        iterative: bool = True,
        residual: str = 'explicit',
        self_reconstruction: bool = True,
        init: str = 'xavier',
        blur_form: str = 'auto',
    ) -> None:
        super().__init__()
        given = locals()
        for name, allowed in self.CHOICES.items():
            if given[name] not in allowed:
                raise ValueError(f'{name} is one of {", ".join(map(str, allowed))}, not {given[name]!r}')
        for name in ('in_ch', 'num_groups', 'kernels_per_group', 'num_scales', 'num_iters', 'width'):
            if type(given[name]) is not int or given[name] < 1:
                raise ValueError(f'{name} is a whole number of at least 1, not {given[name]!r}')
        for name in ('enc_blocks', 'dec_blocks'):
            blocks = given[name]
            if (
                not isinstance(blocks, Sequence)
                or len(blocks) != 3
                or not all(type(n) is int and n >= 0 for n in blocks)
            ):
                raise ValueError(f'{name} has three numbers of at least 0, one a level, not {blocks!r}')
        if type(bottleneck_blocks) is not int or bottleneck_blocks < 0:
            raise ValueError(f'bottleneck_blocks is a whole number of at least 0, not {bottleneck_blocks!r}')
        for name in ('include_identity', 'iterative', 'self_reconstruction'):
            if not isinstance(given[name], bool):
                raise ValueError(f'{name} is true or false, not {given[name]!r}')

        self.num_scales, self.num_iters = num_scales, num_iters
        num_maps = num_groups + include_identity

        if blur_form in ('dct', 'fft', 'fused') and boundary != 'reflect':
            raise ValueError(f'blur_form: {blur_form} needs boundary: reflect, not {boundary}')
        if init == 'identity' and (residual != 'explicit' or not include_identity):
            raise ValueError('init: identity needs residual: explicit and include_identity: true')
        make_bank = partial(gaussian_bank, num_groups, kernels_per_group, sigma_denom, sigma_conv, sigma_q0)

        steps = [
            FixedPointStep(
                BlurFeatureExtractor(in_ch, width, enc_blocks, bottleneck_blocks, dec_blocks),
                AlphaPredictor(4 * width, num_groups, kernels_per_group, alpha_head),
                BetaPredictor(width, num_maps, beta_path2, beta_norm),
                GroupGaussianBlur(in_ch, make_bank, num_maps, boundary, include_identity, iterative, blur_form),
                in_ch,
                fuse,
                residual,
            )
            for _ in range(num_iters)
        ]
        self.steps = nn.ModuleList(steps)
        self.srm = nn.ModuleList(
            SelfReconstruction(4 * width, num_maps, in_ch, 32) for _ in range(num_iters if self_reconstruction else 0)
        )
        self.register_load_state_dict_pre_hook(_drop_unused_srm)
        # DDP broadcasts buffers in every forward, also where one rank validates alone and the others wait elsewhere.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers() if name.endswith('.bank')]
        xavier_init(self)
        for step in steps:
            step.pass_xu_through()
            if init == 'identity':
                step.start_near_identity()

    @property
    def size_multiple(self) -> int:
        """H and W are brought to multiples of this: T-1 halvings of the pyramid, then two strides of the BFE."""
        return 2 ** (self.num_scales + 1)

    def steps_of_scale(self, t: int) -> nn.ModuleList:
        """The R iterations of scale t = 1..T: the same at every scale."""
        return self.steps

    def unroll(self, y: Tensor) -> list[Estimate]:
        """All iterations, coarse to fine, on y (B,3,H,W) with H and W multiples of `size_multiple`; Eq. (12)."""
        estimates: list[Estimate] = []
        memories = [Memory([None, None], None)] * self.num_iters
        x = None
        for t, y_t in enumerate(pyramid(y, self.num_scales), start=1):
            if x is None:
                x = y_t
            else:
                x, memories = double(x), [memory.doubled() for memory in memories]
            for r, step in enumerate(self.steps_of_scale(t)):
                estimate, memories[r] = step(y_t, x, memories[r])
                x = estimate.x
                estimates.append(estimate)
        return estimates

    def forward(self, y: Tensor) -> Tensor | dict[str, list[Tensor]]:
        if not self.training:
            height, width = y.shape[-2:]
            return self.unroll(self.padded(y))[-1].x[..., :height, :width].to(y.dtype)
        if y.shape[-2] % self.size_multiple or y.shape[-1] % self.size_multiple:
            raise CropSizeError(
                f'a training crop of {y.shape[-2]}x{y.shape[-1]} does not fit num_scales={self.num_scales}: '
                f'set datasets.train.gt_size to a multiple of {self.size_multiple}'
            )
        estimates = self.unroll(y)
        reconstructions = [
            self.srm[i % len(self.srm)](e.f1, e.coefficients.beta, e.x) for i, e in enumerate(estimates) if self.srm
        ]
        inputs = pyramid(y, self.num_scales)
        return {'scales': [e.x for e in estimates], 'inputs': inputs, 'reconstructions': reconstructions}

    def coefficients(self, y: Tensor) -> list[Coefficients]:
        """alpha and beta of every scale, coarse to fine (every iteration of it), for y (B,3,H,W) of any size.

        H_t = ceil(H / 2^(T-t)), likewise W_t.
        """
        coefficients = []
        for i, estimate in enumerate(self.unroll(self.padded(y))):
            shrink = 2 ** (self.num_scales - 1 - i // self.num_iters)
            height, width = -(-y.shape[-2] // shrink), -(-y.shape[-1] // shrink)
            alpha, beta = estimate.coefficients
            coefficients.append(Coefficients(alpha, beta[..., :height, :width]))
        return coefficients

    def prepare_inference(self) -> 'GGKMNet':
        """A copy that evaluates to the same, faster: see `folding.inference_form`; the SRM is left out."""
        net = inference_form(self)
        net.srm = nn.ModuleList()
        return net

    def padded(self, y: Tensor) -> Tensor:
        """y continued by reflection, to the right and below, to multiples of `size_multiple`."""
        height, width = y.shape[-2:]
        return pad(y, 0, -width % self.size_multiple, 0, -height % self.size_multiple)


def _drop_unused_srm(net: GGKMNet, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """A training checkpoint loads strictly into a network built without the SRM."""
    if not net.srm:
        for key in [key for key in state_dict if key.startswith(f'{prefix}srm.')]:
            del state_dict[key]
