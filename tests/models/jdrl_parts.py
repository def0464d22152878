"""Plugin for the tests of JDRL: a flow network with a known shift, and a network of one number."""

import torch
from torch import Tensor, nn

from ggkm_plugin.models.flow import FLOW_REGISTRY, warp
from ggkm_plugin.utils.registry import ARCH_REGISTRY


@FLOW_REGISTRY.register()
class KnownShift(nn.Module):
    """The whole image moved by (right, down) pixels, there or back, whichever brings the two nearer to each other.

    `wrong` pixels at the left border get a flow that is far off.
    """

    def __init__(self, right: float, down: float, wrong: int = 0) -> None:
        super().__init__()
        self.shift, self.wrong = (right, down), wrong
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        flow = torch.tensor(self.shift, dtype=one.dtype, device=one.device).view(1, 2, 1, 1)
        flow = (self.weight * flow).expand(len(one), 2, *one.shape[-2:])
        errors = [(warp(two, sign * flow) - one).abs().mean() for sign in (1, -1)]
        flow = flow.clone() if errors[0] <= errors[1] else -flow
        flow[..., : self.wrong] = torch.tensor([40.0, -15.0]).view(1, 2, 1, 1)
        return flow


@ARCH_REGISTRY.register()
class OneNumber(nn.Module):
    """The image times one number, behind a BatchNorm whose statistics it keeps and does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.statistics = nn.BatchNorm2d(3, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x + 0 * self.statistics(x)
