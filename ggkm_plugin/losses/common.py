"""Shared parts of the multi-scale losses: weighted terms, sums over scales, check of training crops."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.ops.ssim import ssim
from ggkm_plugin.utils.errors import CropSizeError

SSIM_WINDOW = 11


def loss_input(loss: Any, output: Any) -> Any:
    """Return the part of a training output that a loss takes.

    That is the whole training dict (see `GGKMNet`) if the loss declares `takes_scales`, otherwise the finest image.
    """
    return output['scales'][-1] if isinstance(output, dict) and not getattr(loss, 'takes_scales', False) else output


class WeightedTerms(nn.Module):
    """Base of the losses that sum weighted terms l_*; a term of weight 0 is not computed.

    Attributes:
        weights: weight of each term.
        terms: after a call, each term before its weight, detached.

    Raises:
        ValueError: all weights are 0, or no term with a weight applies to the network's output.
    """

    takes_scales = True

    def __init__(self, weights: dict[str, float], loss_weight: float) -> None:
        super().__init__()
        if not any(weights.values()):
            raise ValueError(f'all weights of {type(self).__name__} are 0. Set one above 0')
        self.weights, self.loss_weight = weights, loss_weight
        self.terms: dict[str, Tensor] = {}

    def image_terms(
        self, images: list[Tensor], targets: list[Tensor], scale_weights: Sequence[float] | None = None
    ) -> dict[str, Tensor]:
        """Sum each of l_mse, l_fr and l_ssim that has a weight over the scales."""
        return {
            name: over_scales(error, images, targets, scale_weights)
            for name, error in _IMAGE_ERRORS.items()
            if self.weights.get(name)
        }

    def weighted(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the loss, the sum of terms under their weights."""
        terms = {name: terms[name] for name in self.weights if name in terms}
        if not terms:
            wanted = ', '.join(f'{name[2:]}_weight' for name in self.weights)
            raise ValueError(f'no term of this network has a weight above 0. Raise another weight of {wanted}')
        self.terms = {name: term.detach() for name, term in terms.items()}
        return self.loss_weight * torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()


def estimates(loss: nn.Module, output: dict[str, Any] | Tensor) -> list[Tensor]:
    """Return the images to supervise, coarse to fine. Raises ValueError for reconstructions, which `loss` ignores."""
    if isinstance(output, Tensor):
        return [output]
    if output['reconstructions']:
        raise ValueError(
            f"{type(loss).__name__} has no term for the network's reconstructions: set "
            'network_g.self_reconstruction: false or train.pixel_opt.type: GGKMLoss'
        )
    return output['scales']


def num_scales_of(output: dict[str, Any] | Tensor) -> int:
    """Return the number of scales; the network may give several estimates of each."""
    return 1 if isinstance(output, Tensor) else len(output['inputs'])


def over_scales(
    error: Callable[[Tensor, Tensor], Tensor],
    images: list[Tensor],
    targets: list[Tensor],
    scale_weights: Sequence[float] | None = None,
) -> Tensor:
    """Sum error(image, target) over the scales, by default of weight 1; iterations of a scale share its weight."""
    iterations = len(images) // len(targets)
    total = images[0].new_zeros(())
    for i, image in enumerate(images):
        t = i // iterations
        weight = (scale_weights[t] if scale_weights else 1.0) / iterations
        total = total + weight * error(image, targets[t])
    return total


def _fourier_l1(x: Tensor, gt: Tensor) -> Tensor:
    """Return mean |FFT(x) - FFT(gt)| of real and imaginary parts; norm backward. Eq. (19)."""
    return torch.view_as_real(torch.fft.fft2(x - gt)).abs().mean()


def _dissimilarity(x: Tensor, gt: Tensor) -> Tensor:
    return 1 - ssim(x, gt).mean()


_IMAGE_ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'l_mse': F.mse_loss,
    'l_fr': _fourier_l1,
    'l_ssim': _dissimilarity,
}


def check_ssim_crop(gt: Tensor, num_scales: int) -> None:
    """Raise CropSizeError if the coarsest scale of gt (B,C,H,W) is smaller than the window of SSIM."""
    height, width = gt.shape[-2:]
    shrink = 2 ** (num_scales - 1)
    if min(height, width) // shrink < SSIM_WINDOW:
        raise CropSizeError(
            f'a training crop of {height}x{width} is {min(height, width) // shrink} pixels wide at the coarsest of '
            f'{num_scales} scales, smaller than the SSIM window of {SSIM_WINDOW}: set datasets.train.gt_size to '
            f'{SSIM_WINDOW * shrink} or more, or train.pixel_opt.ssim_weight: 0'
        )
