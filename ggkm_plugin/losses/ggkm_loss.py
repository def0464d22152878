"""Composite loss of GGKMNet, Eqs. (17)-(21)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.losses.common import check_crop, checked_weights, fourier_l1
from ggkm_plugin.ops.pyramid import pyramid
from ggkm_plugin.ops.ssim import ssim
from ggkm_plugin.utils.registry import LOSS_REGISTRY


@LOSS_REGISTRY.register()
class GGKMLoss(nn.Module):
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
        CropSizeError: gt does not fit the pyramid, or its coarsest level is smaller than the SSIM window.
    """

    takes_scales = True

    def __init__(
        self,
        mse_weight: float = 1.0,
        fr_weight: float = 0.1,
        ssim_weight: float = 0.1,
        sr_weight: float = 0.1,
        omega: str = 'literal',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        weights = {'l_mse': mse_weight, 'l_fr': fr_weight, 'l_ssim': ssim_weight, 'l_sr': sr_weight}
        self.weights = checked_weights('GGKMLoss', weights)
        if omega not in ('literal', 'reversed'):
            raise ValueError(f'omega must be literal or reversed, not {omega!r}')
        self.omega = omega
        self.loss_weight = loss_weight
        self.terms: dict[str, Tensor] = {}

    def forward(self, output: dict[str, list[Tensor]] | Tensor, gt: Tensor) -> Tensor:
        if isinstance(output, Tensor):
            output = {'scales': [output], 'inputs': [gt], 'reconstructions': []}
        num_scales = len(output['inputs'])
        num_iters = len(output['scales']) // num_scales
        self._check(output, gt, num_scales)

        sums: dict[str, Tensor] = {}
        targets = pyramid(gt, num_scales)
        for i, x in enumerate(output['scales']):
            t = i // num_iters + 1
            weight = 2.0 ** (1 - t if self.omega == 'literal' else t - num_scales) / num_iters
            terms = self._image_terms(x, targets[t - 1])
            if output['reconstructions']:
                terms['l_sr'] = F.l1_loss(output['reconstructions'][i], output['inputs'][t - 1])
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + weight * term
        self.terms = {name: term.detach() for name, term in sums.items()}
        return self.loss_weight * torch.stack([self.weights[name] * term for name, term in sums.items()]).sum()

    def _image_terms(self, x: Tensor, gt: Tensor) -> dict[str, Tensor]:
        terms = {}
        if self.weights['l_mse']:
            terms['l_mse'] = F.mse_loss(x, gt)
        if self.weights['l_fr']:
            terms['l_fr'] = fourier_l1(x, gt)
        if self.weights['l_ssim']:
            terms['l_ssim'] = 1 - ssim(x, gt).mean()
        return terms

    def _check(self, output: dict[str, list[Tensor]], gt: Tensor, num_scales: int) -> None:
        if output['reconstructions'] and not self.weights['l_sr']:
            raise ValueError(
                'sr_weight is 0 but the network reconstructs its input: set network_g.self_reconstruction: false '
                'or train.pixel_opt.sr_weight above 0'
            )
        if not output['reconstructions'] and not any(self.weights[name] for name in ('l_mse', 'l_fr', 'l_ssim')):
            raise ValueError('only sr_weight is above 0 but the network reconstructs nothing: raise another weight')
        check_crop(gt, num_scales, with_ssim=bool(self.weights['l_ssim']))
