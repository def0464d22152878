"""Loss of GKMNet as released: squared error over the scales, later alternating with SSIM."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.losses.common import check_crop
from ggkm_plugin.ops.pyramid import pyramid
from ggkm_plugin.ops.ssim import ssim
from ggkm_plugin.utils.registry import LOSS_REGISTRY

_FIRST_EPOCH, _PERIOD, _TURN = 1000, 200, 100


@LOSS_REGISTRY.register()
class GKMLoss(nn.Module):
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
        CropSizeError: gt does not fit the pyramid, or, with SSIM, its coarsest level is smaller than the SSIM window.
    """

    takes_scales = True
    iteration: Tensor

    def __init__(self, iters_per_epoch: int | None = None, first_iteration: int = 0, loss_weight: float = 1.0) -> None:
        super().__init__()
        if iters_per_epoch is not None and (not isinstance(iters_per_epoch, int) or iters_per_epoch < 1):
            raise ValueError(f'iters_per_epoch must be a whole number of at least 1 or null, not {iters_per_epoch!r}')
        if not isinstance(first_iteration, int) or first_iteration < 0:
            raise ValueError(f'first_iteration must be a whole number of at least 0, not {first_iteration!r}')
        self.iters_per_epoch = iters_per_epoch
        self.loss_weight = loss_weight
        self.register_buffer('iteration', torch.tensor(first_iteration))
        self.terms: dict[str, Tensor] = {}

    @property
    def structural(self) -> bool:
        """Whether the next call uses 1 - SSIM."""
        if self.iters_per_epoch is None:
            return False
        epoch = int(self.iteration) // self.iters_per_epoch
        return epoch >= _FIRST_EPOCH and (epoch % 1000) % _PERIOD < _TURN

    def forward(self, output: dict[str, Any] | Tensor, gt: Tensor) -> Tensor:
        scales = [output] if isinstance(output, Tensor) else output['scales']
        num_scales = 1 if isinstance(output, Tensor) else len(output['inputs'])
        iterations = len(scales) // num_scales
        check_crop(gt, num_scales, with_ssim=self.iters_per_epoch is not None)
        if isinstance(output, dict) and output['reconstructions']:
            raise ValueError(
                "GKMLoss has no term for the network's reconstructions: set network_g.self_reconstruction: false "
                'or train.pixel_opt.type: GGKMLoss'
            )
        targets = [target for target in pyramid(gt, num_scales) for _ in range(iterations)]
        pairs = zip(scales, targets, strict=True)
        if self.structural:
            name, parts = 'l_ssim', [1 - ssim(x, target).mean() for x, target in pairs]
        else:
            name, parts = 'l_mse', [F.mse_loss(x, target) for x, target in pairs]
        if self.training:
            self.iteration += 1
        total = torch.stack(parts).sum() / iterations
        self.terms = {name: total.detach()}
        return self.loss_weight * total
