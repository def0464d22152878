"""Composite loss of GGKMNet, Eqs. (17)-(21)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.losses.common import WeightedTerms, check_ssim_crop, num_scales_of, over_scales
from ggkm_plugin.ops.pyramid import pyramid
from ggkm_plugin.utils.registry import LOSS_REGISTRY
from ggkm_plugin.utils.schema import NonNegative


@LOSS_REGISTRY.register()
class GGKMLoss(WeightedTerms):
    """mse_weight * MSE + fr_weight * FR + ssim_weight * SSIM + sr_weight * SR, each summed over the scales.

    forward(output, gt (B,3,H,W)) -> scalar. `output` is a network's training dict (`scales`, `inputs`,
    `reconstructions`; see `GGKMNet`) or a plain image (one scale, no SR). After it, `terms` holds each term before
    its weight, detached: l_mse, l_fr, l_ssim, l_sr. A term of weight 0 is not computed.

        l_mse   mean squared error                                           Eq. (18)
        l_fr    mean |FFT(x) - FFT(gt)| of real and imaginary parts, norm backward   Eq. (19)
        l_ssim  1 - SSIM, Gaussian window 11x11, sigma 1.5, data range 1     Eq. (20)
        l_sr    mean |reconstruction - input|, if the network reconstructs   Eq. (21)

    Scale t of T (1 = coarsest) has the weight 2^(1-t). Not in the paper: with omega='reversed' the finest has weight 1;
    means instead of sums; R iterations of a scale share its weight.

    Raises:
        ValueError: a negative weight, all weights 0, an unknown `omega`; reconstructions with sr_weight 0, which would
            leave the SRM's parameters unused.
        CropSizeError: the coarsest level of gt is smaller than the SSIM window.
    """

    @checked
    def __init__(
        self,
        mse_weight: NonNegative = 1.0,
        fr_weight: NonNegative = 0.1,
        ssim_weight: NonNegative = 0.1,
        sr_weight: NonNegative = 0.1,
        omega: Literal['literal', 'reversed'] = 'literal',
        loss_weight: float = 1.0,
    ) -> None:
        weights = {'l_mse': mse_weight, 'l_fr': fr_weight, 'l_ssim': ssim_weight, 'l_sr': sr_weight}
        super().__init__(weights, loss_weight)
        self.omega = omega

    def forward(self, output: dict[str, list[Tensor]] | Tensor, gt: Tensor) -> Tensor:
        if isinstance(output, Tensor):
            output = {'scales': [output], 'inputs': [gt], 'reconstructions': []}
        if output['reconstructions'] and not self.weights['l_sr']:
            raise ValueError(
                'sr_weight is 0 but the network reconstructs its input: set network_g.self_reconstruction: false '
                'or train.pixel_opt.sr_weight above 0'
            )
        num_scales = num_scales_of(output)
        if self.weights['l_ssim']:
            check_ssim_crop(gt, num_scales)
        weights = [2.0**-t for t in range(num_scales)]
        if self.omega == 'reversed':
            weights.reverse()
        terms = self.image_terms(output['scales'], pyramid(gt, num_scales), weights)
        if output['reconstructions']:
            terms['l_sr'] = over_scales(F.l1_loss, output['reconstructions'], output['inputs'], weights)
        return self.weighted(terms)
