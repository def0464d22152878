"""The blur that GGKMNet estimates in a photograph: RMS radius of the PSF at each pixel, and PSFs.

The PSFs are those of the last iteration, see `psf`. The radius of b is sqrt(sum r^2 |b| / sum |b|), in pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ggkm_plugin.archs.ggkmnet_ablations_arch import LearnedIGGCM
from ggkm_plugin.archs.ggkmnet_arch import IGGCM
from ggkm_plugin.restoration.psf import blur_kernels, output_weight, pixel_psfs, psf_maps

# Units of a pixel in a 16-bit blur map: value = radius * 256.
RADIUS_SCALE = 256
# Pixels whose coefficients are kept; of larger photographs every k-th in both directions.
_KEPT = 1_000_000


@dataclass(frozen=True, eq=False)
class BlurEstimate:
    """Estimated blur of a photograph, on the CPU.

    Attributes:
        radius: RMS radius of the PSF, (H,W) float32, in pixels.
        kernels: K (M,S,S), see `psf`.
        weight: w (C,M).
        beta: coefficients (M,h,w) float16 of every `step`-th pixel in both directions.
    """

    radius: Tensor
    kernels: Tensor
    weight: Tensor
    beta: Tensor
    step: int

    @classmethod
    def of(cls, blur: IGGCM | LearnedIGGCM, alpha: Tensor, beta: Tensor) -> 'BlurEstimate':
        """Compute the estimate from a network's blur, alpha (P,Q) and beta (M,H,W)."""
        kernels, weight = blur_kernels(blur, alpha), output_weight(blur)
        with torch.autocast(beta.device.type, enabled=False):
            radius = psf_maps(kernels, beta, weight, rings=True).radius.cpu()
        step = math.ceil(math.sqrt(radius.numel() / _KEPT)) or 1
        return cls(radius, kernels, weight, beta[:, ::step, ::step].half().cpu(), step)

    def psf_at(self, x: int, y: int) -> Tensor:
        """Compute the PSF (C,S,S) at the kept pixel nearest to (x, y)."""
        column, row = (
            min(round(place / self.step), size - 1) for place, size in zip((x, y), self.beta.shape[:0:-1], strict=True)
        )
        return pixel_psfs(self.kernels, self.beta[:, row, column, None].float(), self.weight)[0].float()

    def encoded(self) -> np.ndarray:
        """Encode the radius as (H,W) uint16: radius * `RADIUS_SCALE`, at most 65535."""
        return (self.radius * RADIUS_SCALE).round().clamp(max=65535).to(torch.int32).numpy().astype(np.uint16)
