"""Loss of NRKNet: error of each scale, and of the ground truth reblurred by the network."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.losses.common import WeightedTerms, check_ssim_crop, estimates, num_scales_of, over_scales
from ggkm_plugin.utils.registry import LOSS_REGISTRY
from ggkm_plugin.utils.schema import NonNegative


@LOSS_REGISTRY.register()
class NRKLoss(WeightedTerms):
    """mse_weight * MSE + ssim_weight * SSIM + fr_weight * FR + reblur_weight * reblurring, each summed over the scales.

    forward(output, gt (B,3,H,W)) -> scalar. `output` is a network's training dict (`scales`, `inputs`, and NRKNet's
    `reblur`; see `NRKNet`) or a plain image (one scale, no reblurring). After it, `terms` holds each term before its
    weight, detached. A term of weight 0 is not computed.

        l_mse      mean squared error
        l_ssim     1 - SSIM, Gaussian window 11x11, sigma 1.5, data range 1
        l_fr       mean |FFT(x) - FFT(gt)| of real and imaginary parts, norm backward, as in GGKMLoss
        l_reblur   mean squared error of B_i(gt_i) against the input y_i

    The defaults are the authors' "MSE + SSIM"; their other form, "MSE + 0.1 FFT", is ssim_weight 0 and fr_weight 0.1.
    Not published: the weight 1 of reblurring; equal weights of the scales; the pyramid of the ground truth, which takes
    every n-th pixel as the network does, because means of 2x2 pixels are shifted by half a pixel.

    Raises:
        ValueError: a negative weight, all weights 0; only reblurring for a network that does not reblur; a
            network with self-reconstruction, for which this loss has no term.
        CropSizeError: the coarsest level of gt is smaller than the SSIM window.
    """

    @checked
    def __init__(
        self,
        mse_weight: NonNegative = 1.0,
        ssim_weight: NonNegative = 1.0,
        fr_weight: NonNegative = 0.0,
        reblur_weight: NonNegative = 1.0,
        loss_weight: float = 1.0,
    ) -> None:
        weights = {'l_mse': mse_weight, 'l_ssim': ssim_weight, 'l_fr': fr_weight, 'l_reblur': reblur_weight}
        super().__init__(weights, loss_weight)

    def forward(self, output: dict[str, Any] | Tensor, gt: Tensor) -> Tensor:
        images, num_scales = estimates(self, output), num_scales_of(output)
        if self.weights['l_ssim']:
            check_ssim_crop(gt, num_scales)
        targets = [gt[..., :: 2**i, :: 2**i] for i in reversed(range(num_scales))]
        terms = self.image_terms(images, targets)
        if self.weights['l_reblur'] and isinstance(output, dict) and 'reblur' in output:
            terms['l_reblur'] = over_scales(F.mse_loss, output['reblur'](targets), output['inputs'])
        return self.weighted(terms)
