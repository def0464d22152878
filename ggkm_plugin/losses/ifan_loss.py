"""Loss of IFAN for single images: squared error, and of the ground truth reblurred by the predicted filters."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.losses.common import checked_weights
from ggkm_plugin.utils.registry import LOSS_REGISTRY


@LOSS_REGISTRY.register()
class IFANLoss(nn.Module):
    """Mean squared error + reblur_weight * that of the reblurred ground truth against the input, both at 1/8.

    forward(output, gt (B,3,H,W)) -> scalar. `output` is IFAN's training dict with `reblur_eighth` (`reblur: true`; see
    `IFAN`). After it, `terms` holds l_mse and l_reblur before their weights, detached. The authors' third term, the
    disparity of dual-pixel views, is omitted, as in the GGKMNet paper on LFDOF.

    Raises:
        ValueError: a weight that is not above 0, or a network that does not reblur.
    """

    takes_scales = True

    def __init__(self, reblur_weight: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.weights = checked_weights('IFANLoss', {'l_mse': 1.0, 'l_reblur': reblur_weight})
        if not reblur_weight:
            raise ValueError('reblur_weight must be above 0. Without reblurring use MSELoss and reblur: false')
        self.loss_weight = loss_weight
        self.terms: dict[str, Tensor] = {}

    def forward(self, output: dict[str, Any] | Tensor, gt: Tensor) -> Tensor:
        if not isinstance(output, dict) or 'reblur_eighth' not in output:
            raise ValueError('IFANLoss needs a network that reblurs: network_g: {type: IFAN, reblur: true}')
        reblurred, small = output['reblur_eighth'](gt)
        terms = {'l_mse': F.mse_loss(output['scales'][-1], gt), 'l_reblur': F.mse_loss(reblurred, small)}
        self.terms = {name: term.detach() for name, term in terms.items()}
        return self.loss_weight * torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
