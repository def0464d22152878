"""Loss of NRKNet: error of each scale, and of the ground truth reblurred by the network."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.losses.common import check_crop, checked_weights, fourier_l1, scales_of
from ggkm_plugin.ops.ssim import ssim
from ggkm_plugin.utils.registry import LOSS_REGISTRY


@LOSS_REGISTRY.register()
class NRKLoss(nn.Module):
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
        CropSizeError: gt does not fit the pyramid, or its coarsest level is smaller than the SSIM window.
    """

    takes_scales = True

    def __init__(
        self,
        mse_weight: float = 1.0,
        ssim_weight: float = 1.0,
        fr_weight: float = 0.0,
        reblur_weight: float = 1.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        weights = {'l_mse': mse_weight, 'l_ssim': ssim_weight, 'l_fr': fr_weight, 'l_reblur': reblur_weight}
        self.weights = checked_weights('NRKLoss', weights)
        self.loss_weight = loss_weight
        self.terms: dict[str, Tensor] = {}

    def forward(self, output: dict[str, Any] | Tensor, gt: Tensor) -> Tensor:
        scales = scales_of(output)
        check_crop(gt, len(scales), with_ssim=self.weights['l_ssim'] > 0)
        targets = [gt[..., :: 2**i, :: 2**i] for i in reversed(range(len(scales)))]
        parts: dict[str, list[Tensor]] = {name: [] for name in self.weights}
        for x, target in zip(scales, targets, strict=True):
            if self.weights['l_mse']:
                parts['l_mse'].append(F.mse_loss(x, target))
            if self.weights['l_ssim']:
                parts['l_ssim'].append(1 - ssim(x, target).mean())
            if self.weights['l_fr']:
                parts['l_fr'].append(fourier_l1(x, target))
        if isinstance(output, dict):
            if output['reconstructions']:
                raise ValueError(
                    "NRKLoss has no term for the network's reconstructions: set network_g.self_reconstruction: false "
                    'or train.pixel_opt.type: GGKMLoss'
                )
            if self.weights['l_reblur'] and 'reblur' in output:
                pairs = zip(output['reblur'](targets), output['inputs'], strict=True)
                parts['l_reblur'] = [F.mse_loss(blurred, y) for blurred, y in pairs]
        sums = {name: torch.stack(values).sum() for name, values in parts.items() if values}
        if not sums:
            raise ValueError('only reblur_weight is above 0 but the network reblurs nothing: raise another weight')
        self.terms = {name: term.detach() for name, term in sums.items()}
        return self.loss_weight * torch.stack([self.weights[name] * term for name, term in sums.items()]).sum()
