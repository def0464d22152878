"""Losses of SRN (squared error over the scales) and AttSRN (plus gradients of the finest scale)."""

from typing import Any

import torch
from torch import Tensor

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.losses.common import WeightedTerms, estimates, num_scales_of
from ggkm_plugin.ops.pyramid import pyramid
from ggkm_plugin.utils.registry import LOSS_REGISTRY
from ggkm_plugin.utils.schema import NonNegative

_LUMA = (0.299, 0.587, 0.114)  # BT.601


@LOSS_REGISTRY.register()
class SRNLoss(WeightedTerms):
    """Sum over the scales of the mean squared error, + gradient_weight * gradient term of the finest scale.

    forward(output, gt (B,3,H,W)) -> scalar. `output` is a network's training dict (`scales`, `inputs`, and SRN's
    `pyramid`, which is then applied to the ground truth; see `SRN`) or a plain image (one scale). After it, `terms`
    holds each term before its weight, detached.

        l_mse       mean squared error, scales of equal weight
        l_gradient  mean squared error of horizontal and of vertical differences of the gray image

    AttSRN's `gradient_weight` is 2.5. Not published: BT.601 for gray; images in [0,1].

    Raises:
        ValueError: a negative weight; a network with self-reconstruction, for which this loss has no term.
    """

    @checked
    def __init__(self, gradient_weight: NonNegative = 0.0, loss_weight: float = 1.0) -> None:
        super().__init__({'l_mse': 1.0, 'l_gradient': gradient_weight}, loss_weight)

    def forward(self, output: dict[str, Any] | Tensor, gt: Tensor) -> Tensor:
        images = estimates(self, output)
        own_pyramid = output.get('pyramid') if isinstance(output, dict) else None
        targets = own_pyramid(gt) if own_pyramid else pyramid(gt, num_scales_of(output))
        terms = self.image_terms(images, targets)
        if self.weights['l_gradient']:
            error = _gray(images[-1] - targets[-1])
            terms['l_gradient'] = error.diff(dim=-1).square().mean() + error.diff(dim=-2).square().mean()
        return self.weighted(terms)


def _gray(image: Tensor) -> Tensor:
    """Convert (B,3,H,W) RGB to luma (B,H,W)."""
    return torch.einsum('c,bchw->bhw', image.new_tensor(_LUMA), image)
