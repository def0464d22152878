"""Networks of GGKMNet's ablation study: Sec. 6.1 and Tables 8 and 10 of the paper that `ggkmnet_arch` implements.

Each is a GGKMNet with other parts, chosen by class attributes. From one seed, the parameters shared with GGKMNet start
from the same values. All of them evaluate, train and give `coefficients` as GGKMNet does, under the same loss.
They take its options except those that only a replaced part reads. The other rows of Tables 8, 10 and 11 are options of
GGKMNet and of its loss: `variants` in train_GGKMNet_DPDD.yml. The paper defines each network in a sentence.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.ggkmnet_arch import IGGCM, GGKMNet, GGKMNetConfig, detail_path, modulated
from ggkm_plugin.archs.ggkmnet_state import State
from ggkm_plugin.ops import gaussian_bank
from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.ops.gaussian import gkm_taps
from ggkm_plugin.ops.precision import full_precision, pointwise
from ggkm_plugin.utils.registry import ARCH_REGISTRY


class LinearAlphaPredictor(nn.Module):
    """alpha-APU with linear layers in place of the LSTMs: F1 -> alpha (B,P,Q)."""

    def __init__(self, config: GGKMNetConfig) -> None:
        super().__init__()
        self.shape = (config.num_groups, config.kernels_per_group)
        self.layers = nn.Sequential(
            nn.Linear(4 * config.width, config.width),
            nn.ReLU(inplace=True),
            nn.Linear(config.width, math.prod(self.shape)),
        )

    def forward(self, f1: Tensor, states: Sequence[State | None]) -> tuple[Tensor, list[State | None]]:
        logits = self.layers(f1.mean(dim=(-2, -1)))
        return logits.view(-1, *self.shape).softmax(dim=-1), [None, None]


class ConvBetaPredictor(nn.Module):
    """beta-APU with a convolution in place of the ConvLSTM: F2 -> beta (B,M,H,W)."""

    def __init__(self, config: GGKMNetConfig) -> None:
        super().__init__()
        self.path1 = nn.Conv2d(config.width, config.num_maps, 5, padding=2)
        self.path2 = detail_path(config)

    def forward(self, f2: Tensor, state: State | None) -> tuple[Tensor, None]:
        return modulated(self.path1(F.avg_pool2d(f2, 2)), self.path2(f2)), None


class UnitAlpha(nn.Module):
    """Replacement for the alpha-APU with one kernel per group: alpha (B,P,1) is 1."""

    def __init__(self, config: GGKMNetConfig) -> None:
        super().__init__()
        self.num_groups = config.num_groups

    def forward(self, f1: Tensor, states: Sequence[State | None]) -> tuple[Tensor, list[State | None]]:
        return f1.new_ones(f1.shape[0], self.num_groups, 1), [None, None]


class EmptyAlpha(UnitAlpha):
    """Replacement for the alpha-APU without groups: alpha is (B,0,1)."""

    def __init__(self, config: GGKMNetConfig) -> None:
        super().__init__(config)
        self.num_groups = 0


class ImageHead(nn.Module):
    """Replacement for the IGGCM: an image in (0, 1) from beta alone, by a 1x1 convolution and a sigmoid."""

    def __init__(self, config: GGKMNetConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(config.num_maps, config.in_ch, 1)

    def forward(self, u: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        return self.conv(beta).sigmoid()


class UngroupedIGGCM(IGGCM):
    """IGGCM with groups of one kernel: the 21 of GKMNet, or the 84 of GGKMNet."""

    def make_bank(self) -> Tensor:
        c = self.config
        return gkm_bank() if c.num_groups == 21 else ungrouped_bank(c.sigma_denom, c.sigma_conv, c.sigma_q0)


def gkm_bank() -> Tensor:
    """Compute the 21 Gaussians of GKMNet (NeurIPS 2021) in the layout of `gaussian_bank`: (21,1,43), float64."""
    return F.pad(gkm_taps()[1:], (11, 11)).unsqueeze(1)


def ungrouped_bank(sigma_denom: str = 'PQ', sigma_conv: str = '2s2', sigma_q0: int = 0) -> Tensor:
    """Compute the 84 kernels of GGKMNet's bank in 84 groups of one: (84,1,169), float64."""
    bank = gaussian_bank(21, 4, sigma_denom, sigma_conv, sigma_q0)
    return F.pad(bank.flatten(0, 1), (63, 63)).unsqueeze(1)


class LearnedIGGCM(nn.Module):
    """IGGCM whose kernels g_{p,q} of Eq. (16) are parameters, neither symmetric nor of a fixed sum.

    `kernels[p-2]` (Q,2p-1,2p-1) starts from the Gaussians, or at random (`randomize`). Each step is one product of
    spectra. It runs in float32 or wider, in any network dtype.
    """

    def __init__(self, config: GGKMNetConfig) -> None:
        super().__init__()
        c = config
        self.boundary, self.include_identity, self.iterative = c.boundary, c.include_identity, c.iterative
        self.mix = nn.Conv2d(c.num_maps * c.in_ch, c.in_ch, 1)
        self.kernels = nn.ParameterList()
        bank = gaussian_bank(c.num_groups, c.kernels_per_group, c.sigma_denom, c.sigma_conv, c.sigma_q0, c.first_size)
        for j in range(c.num_groups):
            reach = j + c.first_size // 2
            taps = bank[j, :, c.num_groups - reach : c.num_groups + reach + 1]
            self.kernels.append(nn.Parameter(torch.einsum('qm,qn->qmn', taps, taps).float()))

    def randomize(self) -> None:
        """Start from random kernels.

        Not in the paper: uniform in [0, 1) divided by the sum, because a chain of 21 kernels of any other sum vanishes
        or explodes.
        """
        with torch.no_grad():
            for kernels in self.kernels:
                kernels.uniform_().div_(kernels.sum(dim=(-2, -1), keepdim=True))

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
            return pointwise(self.mix, weighted.flatten(1, 2))

    def _convolved(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve x (B,C,H,W), extended beyond its edges, with kernel (B,k,k), the same for every color."""
        reach = kernel.shape[-1] // 2
        source = pad(x, reach, reach, reach, reach, self.boundary)
        size = source.shape[-2:]
        spectrum = torch.fft.rfft2(source) * torch.fft.rfft2(kernel, s=size).unsqueeze(1)
        return torch.fft.irfft2(spectrum, s=size)[..., 2 * reach :, 2 * reach :]


class GGKMNetAblation(GGKMNet):
    """Base of the ablations."""

    options_of = GGKMNet  # what **options may hold, for the check of option files

    def __init__(self, like: GGKMNet, **options: Any) -> None:
        """Build from GGKMNet's options; parameters of equal name and shape start from those of `like`."""
        super().__init__(**options)
        own, shared = self.state_dict(), like.state_dict()
        own.update({key: value for key, value in shared.items() if key in own and own[key].shape == value.shape})
        self.load_state_dict(own)

    def refuse(self, options: dict[str, Any], *names: str) -> None:
        """Raise ValueError for options without effect."""
        for name in names:
            if name in options:
                raise ValueError(f'{type(self).__name__} has no option {name}: the part that reads it is replaced')


@ARCH_REGISTRY.register()
class GGKMNetNoLSTM(GGKMNetAblation):
    """'w/o LSTM', Table 8: (S) `shared`, or (N) not shared over the scales. Only x passes from scale to scale.

    Not in the paper, which speaks of the new layers: with (N) every scale has a whole step (and SRM) of its own,
    chosen because only this fits its parameter count.
    """

    alpha_predictor_class = LinearAlphaPredictor
    beta_predictor_class = ConvBetaPredictor

    def __init__(self, shared: bool = True, num_scales: int = 3, num_iters: int = 1, **options: Any) -> None:
        self.refuse(options, 'alpha_head')
        options |= {'num_scales': num_scales, 'num_iters': num_iters * (1 if shared else num_scales)}
        super().__init__(GGKMNet(**options), **options)
        self.num_iters, self.shared = num_iters, shared

    def steps_of_scale(self, t: int) -> nn.ModuleList:
        return self.steps if self.shared else self.steps[(t - 1) * self.num_iters : t * self.num_iters]


@ARCH_REGISTRY.register()
class MCPNet(GGKMNetAblation):
    """'MCP-Net', Table 8: the coefficient predictor as the whole network, x^(t) = sigmoid(conv1x1(beta)) of y^(t).

    Nothing passes from scale to scale; the coarser scales are computed, as the paper counts them. Not in the paper
    beyond "the alpha-APU is removed and the beta-APU is attached with a 1x1 Conv layer": no ConvLSTM, as only this fits
    its counts, and the SRM, which has all its inputs. `num_groups` is M-1; `coefficients` gives an alpha of 0 groups.
    """

    alpha_predictor_class = EmptyAlpha
    beta_predictor_class = ConvBetaPredictor
    iggcm_class = ImageHead

    def __init__(self, **options: Any) -> None:
        self.refuse(options, 'kernels_per_group', 'num_iters', 'alpha_head', 'fuse', 'residual', 'init', 'blur_form')
        self.refuse(options, 'sigma_denom', 'sigma_conv', 'sigma_q0', 'first_size')
        self.refuse(options, 'boundary', 'include_identity', 'iterative')
        super().__init__(GGKMNet(**options), **options, fuse='none', residual='none')


@ARCH_REGISTRY.register()
class GGKMNetNoGroup(GGKMNetAblation):
    """'w/o Group (K)', Table 8: no alpha-APU and K Gaussians, each applied to u: GKMNet's 21, or GGKMNet's own 84.

    Not in the paper, which names the kernels alone: the identity kernel stays, so that there are K+1 coefficient maps.
    """

    alpha_predictor_class = UnitAlpha
    iggcm_class = UngroupedIGGCM

    @checked
    def __init__(self, num_kernels: Literal[21, 84] = 21, **options: Any) -> None:
        self.refuse(options, 'num_groups', 'kernels_per_group', 'iterative', 'alpha_head')
        if num_kernels == 21:
            self.refuse(options, 'sigma_denom', 'sigma_conv', 'sigma_q0')
        options |= {'num_groups': num_kernels, 'iterative': False}
        super().__init__(GGKMNet(**options), **options)


@ARCH_REGISTRY.register()
class GGKMNetFullyLearned(GGKMNetAblation):
    """'Fully-Learned', Table 8: the kernels are parameters that start as Gaussians (G) or at random (R), `kernel_init`.

    There are 56,756 of them by default. The paper prints GGKMNet's own count for this network: counters that look at
    layers miss them.
    """

    iggcm_class = LearnedIGGCM

    @checked
    def __init__(self, kernel_init: Literal['gaussian', 'random'] = 'gaussian', **options: Any) -> None:
        super().__init__(GGKMNet(**options), **options)
        if kernel_init == 'random':
            for step in self.steps:
                cast(LearnedIGGCM, step.blur).randomize()
