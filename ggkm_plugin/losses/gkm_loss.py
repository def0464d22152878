"""Loss of GKMNet as released: squared error over the scales, later alternating with SSIM."""

from typing import Any

import torch
from torch import Tensor

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.losses.common import WeightedTerms, check_ssim_crop, estimates, num_scales_of
from ggkm_plugin.ops.pyramid import pyramid
from ggkm_plugin.utils.registry import LOSS_REGISTRY
from ggkm_plugin.utils.schema import Count, Natural

_FIRST_EPOCH, _PERIOD, _TURN = 1000, 200, 100


@LOSS_REGISTRY.register()
class GKMLoss(WeightedTerms):
    """Sum over the scales, with equal weights, of the mean squared error, or alternately of 1 - SSIM.

    Iterations of one scale share its weight, as in GGKMLoss.

    forward(output, gt (B,3,H,W)) -> scalar. `output` is a network's training dict (`scales`, `inputs`,
    `reconstructions`; see `GKMNet`) or a plain image (one scale). After it, `terms` holds the term in use, detached:
    l_mse or l_ssim. The ground truth's pyramid is bilinear.

    The authors use 1 - SSIM instead from epoch 1000 on while (epoch % 1000) % 200 < 100. A loss does not know the
    epoch: with `iters_per_epoch` it counts its training calls in the buffer `iteration`; without, it is always the
    squared error. A resumed training that does not restore the state of the loss sets `first_iteration`.

    Args:
        iters_per_epoch: iterations per epoch: images divided by the batch size of all processes; None for no SSIM.
        first_iteration: start of the count.
        loss_weight: factor of the loss.

    Raises:
        ValueError: a wrong `iters_per_epoch` or `first_iteration`; a network with self-reconstruction, for which this
            loss has no term.
        CropSizeError: with SSIM, the coarsest level of gt is smaller than the SSIM window.
    """

    iteration: Tensor

    @checked
    def __init__(
        self, iters_per_epoch: Count | None = None, first_iteration: Natural = 0, loss_weight: float = 1.0
    ) -> None:
        super().__init__({'l_mse': 1.0}, loss_weight)
        self.iters_per_epoch = iters_per_epoch
        self.register_buffer('iteration', torch.tensor(first_iteration))

    @property
    def structural(self) -> bool:
        """Whether the next call uses 1 - SSIM."""
        if self.iters_per_epoch is None:
            return False
        epoch = int(self.iteration) // self.iters_per_epoch
        return epoch >= _FIRST_EPOCH and (epoch % 1000) % _PERIOD < _TURN

    def forward(self, output: dict[str, Any] | Tensor, gt: Tensor) -> Tensor:
        images, num_scales = estimates(self, output), num_scales_of(output)
        if self.iters_per_epoch is not None:
            check_ssim_crop(gt, num_scales)
        self.weights = {'l_ssim': 1.0} if self.structural else {'l_mse': 1.0}
        if self.training:
            self.iteration += 1
        return self.weighted(self.image_terms(images, pyramid(gt, num_scales)))
