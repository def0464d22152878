"""Fits of PSFs with one or two parameters per pixel: the Gaussian of Eq. (4) and the generalized Gaussian.

    b(r) = exp(-(r/s)^nu) / sum,    r in pixels;    nu = 2 is the Gaussian with sigma = s / sqrt(2)

Y.-Q. Liu et al., "Estimating Generalized Gaussian Blur Kernels for Out-of-Focus Image Deblurring" (TCSVT 2020) has
the generalized one. Unit sum, since blur preserves brightness, is an addition: the paper's Eq. (3) has no factor.

Pixels are independent, and an isotropic PSF depends on its neighborhood only through the means of the sharp image over
rings of equal distance (325 within 24 pixels, with the symmetries of the square). Every pixel is thus a least-squares
problem in one or two unknowns: all candidates of a dense grid are evaluated as one matrix product with the ring means,
and the best is refined by damped Gauss-Newton steps (Levenberg, Marquardt).
"""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ggkm_plugin.studies.psf_fitting import MARGIN, Fit, Point, StudyPair, psnr

REACH = 24  # radius of the widest PSF, in pixels
# Candidates: effective radii in pixels (a PSF of one pixel, steps of 0.05 to 2, of 2.5 % to 12) and shapes nu. With
# Gaussian PSFs on noise each pixel's fit starts next to its optimum.
RADII = torch.cat([torch.tensor([0.05]), torch.arange(0.2, 2, 0.05), 2 * 1.025 ** torch.arange(73)])
SHAPES = torch.tensor([0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0])
GAUSSIAN = 2.0
# Bounds of log s and log nu.
_LOW = torch.tensor([math.log(0.05), math.log(0.3)])
_HIGH = torch.tensor([math.log(2 * REACH), math.log(20)])
_BLOCK_ROWS = 8


@dataclass(frozen=True, eq=False)
class Rings:
    """Offsets 0 <= j <= i <= REACH, their distances, and how many offsets are symmetric to each."""

    rows: Tensor
    columns: Tensor
    distance: Tensor
    count: Tensor


def rings() -> Rings:
    rows, columns = torch.tril_indices(REACH + 1, REACH + 1)
    count = torch.where((columns == 0) | (rows == columns), 4.0, 8.0)
    count[0] = 1
    return Rings(rows, columns, (rows.square() + columns.square()).float().sqrt(), count)


def ring_means(sharp: Tensor, of: Rings, first: int, last: int) -> Tensor:
    """Return (N,R,3): means over the rings around the pixels of rows first..last-1 of the crop inside the margin."""
    width, height = sharp.shape[-1] - 2 * MARGIN, last - first
    band = sharp[:, first + MARGIN - REACH : last + MARGIN + REACH, MARGIN - REACH : MARGIN + REACH + width]

    def both(image: Tensor, offset: int, dim: int, length: int) -> Tensor:
        """Average the pixels `offset` before and after."""
        return (image.narrow(dim, REACH - offset, length) + image.narrow(dim, REACH + offset, length)) / 2

    lines = [both(band, i, 1, height) for i in range(REACH + 1)]
    means = [
        (both(lines[i], j, 2, width) + both(lines[j], i, 2, width)) / 2
        for i, j in zip(of.rows.tolist(), of.columns.tolist(), strict=True)
    ]
    return torch.stack(means).flatten(2).permute(2, 0, 1).contiguous()


def parameters(radius: Tensor, shape: Tensor) -> Tensor:
    """Return theta (...,2) = (log s, log nu) for an effective radius: radius^2 = s^2 Gamma(4/nu) / Gamma(2/nu)."""
    scale = radius * torch.exp((torch.lgamma(2 / shape) - torch.lgamma(4 / shape)) / 2)
    return torch.stack([scale.log(), shape.log()], dim=-1)


def profile(theta: Tensor, of: Rings) -> Tensor:
    """Return the PSF's sum over each ring, (N,R) with unit sums, for theta (N,2)."""
    weights = of.count * torch.exp(-((of.distance / theta[:, :1].exp()) ** theta[:, 1:].exp()))
    return weights / weights.sum(dim=1, keepdim=True)


def _blurred(theta: Tensor, means: Tensor, of: Rings, free: int) -> tuple[Tensor, Tensor]:
    """Return B x (N,3) and its derivatives (N,3,free) by log s and log nu."""
    nu = theta[:, 1:].exp()
    logs = torch.log(of.distance.clamp(min=1e-6)) - theta[:, :1]
    powers = torch.exp(nu * logs)
    weights = of.count * torch.exp(-powers)
    weights = weights / weights.sum(dim=1, keepdim=True)
    by_scale = weights * (nu * powers)
    rows = torch.stack([weights, by_scale, -by_scale * logs][: 1 + free], dim=1)
    images = rows @ means
    value = images[:, :1]
    return value[:, 0], (images[:, 1:] - rows[:, 1:].sum(dim=2, keepdim=True) * value).mT


class _Refinement:
    """Damped Gauss-Newton steps on a block of pixels; no step increases a pixel's error."""

    def __init__(self, theta: Tensor, y: Tensor, means: Tensor, of: Rings, free: int) -> None:
        self.theta, self.y, self.means, self.of, self.free = theta, y, means, of, free
        self.value, self.slope = _blurred(theta, means, of, free)
        self.error = (self.value - y).square().sum(dim=1)
        self.damping = torch.full((len(theta), 1), 1e-2)

    def step(self) -> None:
        normal = self.slope.mT @ self.slope
        gradient = (self.slope.mT @ (self.value - self.y).unsqueeze(2)).squeeze(2)
        damped = normal.diagonal(dim1=1, dim2=2).clamp(min=1e-12) * self.damping
        change = -torch.linalg.solve(normal + torch.diag_embed(damped), gradient).clamp(-0.5, 0.5)
        theta = self.theta.clone()
        theta[:, : self.free] += change
        theta = theta.clamp(_LOW, _HIGH)
        value, slope = _blurred(theta, self.means, self.of, self.free)
        error = (value - self.y).square().sum(dim=1)
        better = error < self.error
        for old, new in ((self.theta, theta), (self.value, value), (self.slope, slope), (self.error, error)):
            old[better] = new[better]
        self.damping = torch.where(better[:, None], self.damping / 5, self.damping * 5).clamp(1e-6, 1e6)


def fit_parametric(pair: StudyPair, generalized: bool, steps: int) -> tuple[Fit, Tensor]:
    """Return the fit, and theta (H,W,2) = (log s, log nu). Step 0 of the curve is the grid, then Gauss-Newton steps."""
    of = rings()
    shapes = SHAPES if generalized else torch.tensor([GAUSSIAN])
    candidates = parameters(*torch.meshgrid(RADII, shapes, indexing='ij')).flatten(0, 1)
    weights = profile(candidates, of)
    height, width = pair.blurred.shape[-2:]
    errors = torch.zeros(steps + 1, dtype=torch.float64)
    seconds = [0.0] * (steps + 1)
    thetas = []
    for first in range(0, height, _BLOCK_ROWS):
        started = time.perf_counter()
        last = min(height, first + _BLOCK_ROWS)
        y = pair.blurred[:, first:last].flatten(1).T.contiguous()
        means = ring_means(pair.sharp, of, first, last)
        chosen = (torch.einsum('kr,nrc->knc', weights, means) - y).square().sum(dim=2).argmin(dim=0)
        block = _Refinement(candidates[chosen], y, means, of, 1 + generalized)
        for step in range(steps + 1):
            if step:
                block.step()
            errors[step] += block.error.double().sum()
            seconds[step] += time.perf_counter() - started
        thetas.append(block.theta)
    theta = torch.cat(thetas)
    radius = (profile(theta, of) @ of.distance.square()).sqrt().view(height, width)
    total = pair.blurred.numel()
    curve = [Point(step, seconds[step], psnr(errors[step].item(), total)) for step in range(steps + 1)]
    return Fit(curve, radius), theta.view(height, width, 2)
