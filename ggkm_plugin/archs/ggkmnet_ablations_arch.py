"""The networks of GGKMNet's ablation study, Sec. 6.1 and Tables 8 and 10 of the paper that `ggkmnet_arch` implements.

Each is a GGKMNet in which parts are replaced once it is built: from one seed, what it shares with GGKMNet starts from
the same numbers, where their sizes agree. They evaluate, train and give `coefficients` as GGKMNet does, under the same
loss, and take its options but for those that only a replaced part reads.
The other rows of Tables 8, 10 and 11 are options of GGKMNet and of its loss: `variants` in train_GGKMNet_DPDD.yml.
The paper defines these networks in a sentence each.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.blocks import xavier_init
from ggkm_plugin.archs.ggkmnet_arch import (
    NEARLY_NOTHING,
    AlphaPredictor,
    BetaPredictor,
    FixedPointStep,
    GGKMNet,
    GroupGaussianBlur,
    State,
)
from ggkm_plugin.ops import gaussian_bank
from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.ops.gaussian import gkm_taps
from ggkm_plugin.ops.precision import color_mix, full_precision
from ggkm_plugin.utils.registry import ARCH_REGISTRY


def _steps(net: GGKMNet) -> Iterator[FixedPointStep]:
    """All steps; `register_module` puts another part in the place of one."""
    return (cast(FixedPointStep, step) for step in net.steps)


def _refuse(net: GGKMNet, options: dict[str, Any], *names: str) -> None:
    """ValueError for options that would reach nothing."""
    for name in names:
        if name in options:
            raise ValueError(f'{type(net).__name__} has no option {name}: it has not the part that reads it')


class AlphaWithoutMemory(nn.Module):
    """The alpha-APU with linear layers for its LSTMs: F1 -> alpha (B,P,Q)."""

    def __init__(self, recurrent: AlphaPredictor) -> None:
        super().__init__()
        self.shape, hidden = recurrent.shape, recurrent.lstm.hidden_size
        self.layers = nn.Sequential(
            nn.Linear(recurrent.lstm.input_size, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, math.prod(self.shape)),
        )
        xavier_init(self)

    def forward(self, f1: Tensor, states: Sequence[State | None]) -> tuple[Tensor, list[State | None]]:
        logits = self.layers(f1.mean(dim=(-2, -1)))
        return logits.view(-1, *self.shape).softmax(dim=-1), [None, None]


class BetaWithoutMemory(nn.Module):
    """The beta-APU with a convolution for its ConvLSTM: F2 -> beta (B,M,H,W); b1 starts nearly `constant` if given."""

    def __init__(self, recurrent: BetaPredictor, constant: float | None = None) -> None:
        super().__init__()
        num_maps = recurrent.lstm.hidden
        channels = recurrent.lstm.conv.in_channels - num_maps
        self.path1 = nn.Conv2d(channels, num_maps, 5, padding=2)
        xavier_init(self)
        if constant is not None:
            with torch.no_grad():
                self.path1.weight.mul_(NEARLY_NOTHING)
                cast(Tensor, self.path1.bias).fill_(constant)
        self.path2 = recurrent.path2

    def forward(self, f2: Tensor, state: State | None) -> tuple[Tensor, None]:
        b1 = F.interpolate(self.path1(F.avg_pool2d(f2, 2)), scale_factor=2, mode='nearest')
        b2 = self.path2(f2)
        return torch.addcmul(b1, b1, b2).contiguous().tanh(), None


class NoAlpha(nn.Module):
    """No alpha-APU: groups of one kernel, each with the coefficient 1; alpha is (B,P,1)."""

    def __init__(self, num_groups: int) -> None:
        super().__init__()
        self.num_groups = num_groups

    def forward(self, f1: Tensor, states: Sequence[State | None]) -> tuple[Tensor, list[State | None]]:
        return f1.new_ones(f1.shape[0], self.num_groups, 1), [None, None]


class ImageHead(nn.Module):
    """In the place of the blur: an image in (0, 1) from beta alone, by a 1x1 convolution and a sigmoid."""

    def __init__(self, num_maps: int, in_ch: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_maps, in_ch, 1)
        xavier_init(self)

    def forward(self, u: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        return self.conv(beta).sigmoid()


class LearnedGroupBlur(nn.Module):
    """IGGCM with every g_{p,q} of Eq. (16) a free (2p-1)x(2p-1) parameter, neither symmetric nor of a fixed sum.

    `kernels[p-2]` (Q,2p-1,2p-1) starts from the Gaussians, or at random. Not in the paper: random means uniform in
    [0, 1) divided by its sum, because a chain of 21 kernels of any other sum vanishes or explodes. Each step is one
    product of spectra; it runs in float32 at least, whatever the network's dtype.
    """

    def __init__(self, fixed: GroupGaussianBlur, kernel_init: str) -> None:
        super().__init__()
        self.boundary, self.include_identity, self.iterative = fixed.boundary, fixed.include_identity, fixed.iterative
        self.mix = fixed.mix
        bank = fixed.make_bank()
        self.kernels = nn.ParameterList()
        for j in range(bank.shape[0]):
            taps = bank[j, :, bank.shape[0] - j - 1 : bank.shape[0] + j + 2]
            kernels = torch.einsum('qm,qn->qmn', taps, taps).float()
            if kernel_init == 'random':
                kernels = torch.rand_like(kernels)
                kernels = kernels / kernels.sum(dim=(-2, -1), keepdim=True)
            self.kernels.append(nn.Parameter(kernels))

    def forward(self, u: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        with full_precision(u):
            dtype = torch.promote_types(torch.promote_types(u.dtype, alpha.dtype), torch.float32)
            u, alpha, beta = u.to(dtype), alpha.to(dtype), beta.to(dtype)
            z, outputs = u, [u] if self.include_identity else []
            for j, kernels in enumerate(self.kernels):
                kernel = torch.einsum('bq,qmn->bmn', alpha[:, j], kernels.to(dtype))  # gbar_p, Eq. (16)
                z = self._convolved(z if self.iterative else u, kernel)  # Eq. (13)
                outputs.append(z)
            weighted = beta.unsqueeze(2) * torch.stack(outputs, dim=1)
            bias = cast(Tensor, self.mix.bias).to(dtype).view(1, -1, 1, 1)
            return color_mix(weighted.flatten(1, 2), self.mix.weight.to(dtype)) + bias

    def _convolved(self, x: Tensor, kernel: Tensor) -> Tensor:
        """x (B,C,H,W) convolved with kernel (B,k,k), the same for every colour; of x continued beyond its edges."""
        reach = kernel.shape[-1] // 2
        source = pad(x, reach, reach, reach, reach, self.boundary)
        size = source.shape[-2:]
        spectrum = torch.fft.rfft2(source) * torch.fft.rfft2(kernel, s=size).unsqueeze(1)
        return torch.fft.irfft2(spectrum, s=size)[..., 2 * reach :, 2 * reach :]


@ARCH_REGISTRY.register()
class GGKMNetNoLSTM(GGKMNet):
    """'w/o LSTM', Table 8: (S) `shared`, or (N) not shared over the scales. Only x goes from scale to scale.

    Not in the paper, which speaks of the new layers: with (N) every scale has a whole step (and SRM) of its own,
    chosen because only this fits its parameter count.
    """

    def __init__(
        self, shared: bool = True, num_scales: int = 3, num_iters: int = 1, init: str = 'xavier', **options: Any
    ) -> None:
        _refuse(self, options, 'alpha_head')
        iterations = num_iters * (1 if shared else num_scales)
        super().__init__(num_scales=num_scales, num_iters=iterations, init=init, **options)
        self.num_iters, self.shared = num_iters, shared
        for step in _steps(self):
            step.register_module('alpha_apu', AlphaWithoutMemory(step.alpha_apu))
            constant = step.beta_apu.start_constant() if init == 'identity' else None
            step.register_module('beta_apu', BetaWithoutMemory(step.beta_apu, constant))

    def steps_of_scale(self, t: int) -> nn.ModuleList:
        return self.steps if self.shared else self.steps[(t - 1) * self.num_iters : t * self.num_iters]


@ARCH_REGISTRY.register()
class MCPNet(GGKMNet):
    """'MCP-Net', Table 8: the coefficient predictor as the whole network, x^(t) = sigmoid(conv1x1(beta)) of y^(t).

    Nothing goes from scale to scale; the coarser ones are computed, as the paper counts them. Not in the paper beyond
    "the alpha-APU is removed and the beta-APU is attached with a 1x1 Conv layer": no ConvLSTM, as only this fits its
    counts, and the SRM, which has all its inputs here. `num_groups` is M-1; `coefficients` gives an alpha of 0 groups.
    """

    def __init__(
        self,
        in_ch: int = 3,
        num_groups: int = 21,
        num_scales: int = 3,
        width: int = 32,
        enc_blocks: Sequence[int] = (1, 1, 1),
        bottleneck_blocks: int = 1,
        dec_blocks: Sequence[int] = (1, 1, 1),
        beta_path2: str = 'c3c1',
        beta_norm: str = 'none',
        self_reconstruction: bool = True,
    ) -> None:
        super().__init__(
            in_ch=in_ch,
            num_groups=num_groups,
            num_scales=num_scales,
            width=width,
            enc_blocks=enc_blocks,
            bottleneck_blocks=bottleneck_blocks,
            dec_blocks=dec_blocks,
            beta_path2=beta_path2,
            beta_norm=beta_norm,
            residual='none',
            self_reconstruction=self_reconstruction,
        )
        for step in _steps(self):
            step.register_module('alpha_apu', NoAlpha(0))
            step.register_module('beta_apu', BetaWithoutMemory(step.beta_apu))
            step.register_module('fuse', None)
            step.register_module('blur', ImageHead(num_groups + 1, in_ch))


def gkm_bank() -> Tensor:
    """The 21 Gaussians of GKMNet (NeurIPS 2021), as `gaussian_bank` lays out 21 groups of one: (21,1,43), float64."""
    return F.pad(gkm_taps()[1:], (11, 11)).unsqueeze(1)


def ungrouped_bank(**sigma: Any) -> Tensor:
    """The 84 kernels of GGKMNet's bank in 84 groups of one: (84,1,169), float64."""
    return F.pad(gaussian_bank(21, 4, **sigma).flatten(0, 1), (63, 63)).unsqueeze(1)


@ARCH_REGISTRY.register()
class GGKMNetNoGroup(GGKMNet):
    """'w/o Group (K)', Table 8: no alpha-APU and K Gaussians, each applied to u: GKMNet's 21, or GGKMNet's own 84.

    Not in the paper, which names the kernels alone: the identity kernel stays, so that there are K+1 coefficient maps.
    """

    def __init__(self, num_kernels: int = 21, **options: Any) -> None:
        if num_kernels not in (21, 84):
            raise ValueError(f'num_kernels is 21 or 84, not {num_kernels!r}')
        sigma = {name: value for name, value in options.items() if name.startswith('sigma_')}
        _refuse(self, options, 'num_groups', 'kernels_per_group', 'iterative', 'alpha_head')
        if num_kernels == 21:
            _refuse(self, options, *sigma)
        make_bank: Callable[[], Tensor] = gkm_bank if num_kernels == 21 else partial(ungrouped_bank, **sigma)
        super().__init__(num_groups=num_kernels, iterative=False, **options)
        for step in _steps(self):
            step.register_module('alpha_apu', NoAlpha(num_kernels))
            step.blur.use_bank(make_bank)


@ARCH_REGISTRY.register()
class GGKMNetFullyLearned(GGKMNet):
    """'Fully-Learned', Table 8: the kernels are parameters, from `kernel_init: gaussian` (G) or random (R).

    56,756 of them by default. The paper prints GGKMNet's own count beside it: counters that look at layers miss them.
    """

    def __init__(self, kernel_init: str = 'gaussian', **options: Any) -> None:
        if kernel_init not in ('gaussian', 'random'):
            raise ValueError(f'kernel_init is gaussian or random, not {kernel_init!r}')
        super().__init__(**options)
        for step in _steps(self):
            step.register_module('blur', LearnedGroupBlur(step.blur, kernel_init))
