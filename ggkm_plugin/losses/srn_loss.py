"""Losses of SRN (squared error over the scales) and AttSRN (plus gradients of the finest scale)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.losses.common import check_crop, checked_weights, scales_of
from ggkm_plugin.ops.pyramid import pyramid
from ggkm_plugin.utils.registry import LOSS_REGISTRY

_LUMA = (0.299, 0.587, 0.114)  # BT.601


@LOSS_REGISTRY.register()
class SRNLoss(nn.Module):
    """Sum over the scales of the mean squared error, + gradient_weight * gradient term of the finest scale.

    forward(output, gt (B,3,H,W)) -> scalar. `output` is a network's training dict (`scales`, `inputs`, and SRN's
    `pyramid`, which is then applied to the ground truth; see `SRN`) or a plain image (one scale). After it, `terms`
    holds each term before its weight, detached.

        l_mse       mean squared error, scales of equal weight
        l_gradient  mean squared error of horizontal and of vertical differences of the gray image

    AttSRN's `gradient_weight` is 2.5. Not published: BT.601 for gray; images in [0,1].

    Raises:
        ValueError: a weight that is not a number of at least 0; a network with several estimates per scale or
            self-reconstruction, for which this loss has no term.
        CropSizeError: gt does not fit the pyramid of a network that does not make its own.
    """

    takes_scales = True

    def __init__(self, gradient_weight: float = 0.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.weights = checked_weights('SRNLoss', {'l_mse': 1.0, 'l_gradient': gradient_weight})
        self.loss_weight = loss_weight
        self.terms: dict[str, Tensor] = {}

    def forward(self, output: dict[str, Any] | Tensor, gt: Tensor) -> Tensor:
        scales = scales_of(output)
        if isinstance(output, dict) and output['reconstructions']:
            raise ValueError(
                "SRNLoss has no term for the network's reconstructions: set network_g.self_reconstruction: false "
                'or train.pixel_opt.type: GGKMLoss'
            )
        if isinstance(output, dict) and 'pyramid' in output:
            targets = output['pyramid'](gt)
        else:
            check_crop(gt, len(scales), with_ssim=False)
            targets = pyramid(gt, len(scales))
        pairs = zip(scales, targets, strict=True)
        terms = {'l_mse': torch.stack([F.mse_loss(x, target) for x, target in pairs]).sum()}
        if self.weights['l_gradient']:
            error = _gray(scales[-1] - targets[-1])
            terms['l_gradient'] = error.diff(dim=-1).square().mean() + error.diff(dim=-2).square().mean()
        self.terms = {name: term.detach() for name, term in terms.items()}
        return self.loss_weight * torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()


def _gray(image: Tensor) -> Tensor:
    """Convert (B,3,H,W) RGB to luma (B,H,W)."""
    return torch.einsum('c,bchw->bhw', image.new_tensor(_LUMA), image)
