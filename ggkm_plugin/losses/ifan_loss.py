"""Loss of IFAN for single images: squared error, and of the ground truth reblurred by the predicted filters."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.losses.common import WeightedTerms
from ggkm_plugin.utils.registry import LOSS_REGISTRY
from ggkm_plugin.utils.schema import Positive


@LOSS_REGISTRY.register()
class IFANLoss(WeightedTerms):
    """Mean squared error + reblur_weight * that of the reblurred ground truth against the input, both at 1/8.

    forward(output, gt (B,3,H,W)) -> scalar. `output` is IFAN's training dict with `reblur_eighth` (`reblur: true`; see
    `IFAN`). After it, `terms` holds l_mse and l_reblur before their weights, detached. The authors' third term, the
    disparity of dual-pixel views, is omitted, as in the GGKMNet paper on LFDOF.

    Raises:
        ValueError: a weight that is not above 0, or a network that does not reblur.
    """

    @checked
    def __init__(self, reblur_weight: Positive = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__({'l_mse': 1.0, 'l_reblur': reblur_weight}, loss_weight)

    def forward(self, output: dict[str, Any] | Tensor, gt: Tensor) -> Tensor:
        if not isinstance(output, dict) or 'reblur_eighth' not in output:
            raise ValueError('IFANLoss needs a network that reblurs: network_g: {type: IFAN, reblur: true}')
        terms = self.image_terms(output['scales'], [gt])
        terms['l_reblur'] = F.mse_loss(*output['reblur_eighth'](gt))
        return self.weighted(terms)
