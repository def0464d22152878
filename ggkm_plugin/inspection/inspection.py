"""Inspect a network of the GGKM family on one photograph: blur map, coefficients, PSFs, every estimate.

The PSFs are those of the blur that a step removes, x = y + xu - B o u (Eq. (14)): at a pixel
b = sum_p beta_p w_p K_p, with the chain's cumulative kernels K and the output layer's weight w on its color diagonal
(`psf`). They act on u, the input of the step; the photograph is padded by reflection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ggkm_plugin.inspection.network import Subject
from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.restoration.psf import blur_kernels, effective_radius, output_weight, pixel_psfs, psf_maps
from ggkm_plugin.utils.errors import OptionError

Place = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Estimate:
    """One iteration: x (3,H_t,W_t), alpha (P,Q), beta (M,H_t,W_t); scale and iteration count from 1, coarse to fine."""

    scale: int
    iteration: int
    x: Tensor
    alpha: Tensor
    beta: Tensor


@dataclass(frozen=True, eq=False)
class Inspection:
    """A photograph (3,H,W), RGB in [0,1], and the results of the network; on the CPU, float32.

    estimates: coarse to fine. kernels (M,S,S), weight (C,M) or None for the plain sum of Eq. (9), radius in pixels and
    strength (`PsfMaps`, (H,W)) are of the last. kernel_radii (M): effective radii of the kernels.
    """

    photograph: Tensor
    subject: Subject
    estimates: list[Estimate]
    kernels: Tensor
    weight: Tensor | None
    radius: Tensor
    strength: Tensor

    @property
    def result(self) -> Tensor:
        return self.estimates[-1].x

    @property
    def kernel_radii(self) -> list[float]:
        return effective_radius(self.kernels).tolist()

    def psf_at(self, place: Place) -> Tensor:
        """Return the PSF (C,S,S), float32, at (x, y); C is 1 without a weight."""
        x, y = place
        return pixel_psfs(self.kernels, self.estimates[-1].beta[:, y, x, None], self.weight)[0].float()

    def record(self, places: Sequence[Place]) -> dict[str, Any]:
        """Return the values of the pictures for JSON."""
        return {
            'network': self.subject.name,
            'weights': self.subject.source,
            'trained': self.subject.trained,
            'output_layer': self.weight is not None,
            'size': list(self.radius.shape),
            'radius_percentiles': {
                str(percent): self.radius.flatten().quantile(percent / 100).item() for percent in (5, 25, 50, 75, 95)
            },
            'kernel_radii': self.kernel_radii,
            'points': [
                {
                    'x': x,
                    'y': y,
                    'radius': self.radius[y, x].item(),
                    'strength': self.strength[y, x].item(),
                    'sums': self.psf_at((x, y)).sum((1, 2)).tolist(),
                }
                for x, y in places
            ],
            'alpha': [
                {'scale': estimate.scale, 'iteration': estimate.iteration, 'alpha': estimate.alpha.tolist()}
                for estimate in self.estimates
            ],
        }


def inspect(subject: Subject, photograph: Tensor, output_layer: bool = True) -> Inspection:
    """Run the network on (3,H,W). With `output_layer` False the PSFs omit W."""
    net = subject.net
    height, width = photograph.shape[-2:]
    padded = pad(photograph[None].float(), 0, -width % net.size_multiple, 0, -height % net.size_multiple)
    estimates = []
    with torch.no_grad():
        for number, found in enumerate(net.unroll(padded)):
            scale, iteration = (part + 1 for part in divmod(number, net.num_iters))
            shrink = 2 ** (net.num_scales - scale)
            size = (..., slice(-(-height // shrink)), slice(-(-width // shrink)))
            alpha, beta = found.coefficients
            estimates.append(Estimate(scale, iteration, found.x[0][size], alpha[0].float(), beta[0].float()[size]))
        last = estimates[-1]
        blur = subject.step_of(last.scale, last.iteration).blur
        kernels = blur_kernels(blur, last.alpha)
        weight = output_weight(blur) if output_layer else None
        maps = psf_maps(kernels, last.beta, weight)
    return Inspection(photograph, subject, estimates, kernels, weight, maps.radius, maps.strength)


def reduced(image: np.ndarray, longest: int) -> np.ndarray:
    """Reduce (H,W,3) by means over areas to at most this side."""
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def spread_points(radius: Tensor, count: int = 6) -> list[Place]:
    """Choose places (x, y) of small to large radius: at even quantiles, far from each other and from the edges.

    Of the 2 % of pixels with the radius nearest to a quantile it takes the farthest from the earlier places.
    """
    height, width = radius.shape
    inset_y, inset_x = height // 20, width // 20
    inner = radius[inset_y : height - inset_y, inset_x : width - inset_x]
    flat = inner.flatten()
    near = max(1, len(flat) // 50)
    order = flat.argsort(stable=True)
    places: list[Place] = []
    for i in range(count):
        middle = round((0.03 + 0.94 * i / max(1, count - 1)) * (len(flat) - 1))
        chosen = order[max(0, middle - near // 2) : middle + near // 2 + 1]
        rows, columns = chosen // inner.shape[1] + inset_y, chosen % inner.shape[1] + inset_x
        if places:
            known = torch.tensor(places)
            apart = (columns[:, None] - known[:, 0]).square() + (rows[:, None] - known[:, 1]).square()
            best = apart.amin(dim=1).argmax()
        else:
            best = torch.tensor(len(chosen) // 2)
        places.append((int(columns[best]), int(rows[best])))
    return places


def shown_reach(psfs: Sequence[Tensor]) -> int:
    """Return the smallest half width, at least 3 if possible, with 99.9 % of the absolute sum of each PSF."""
    middle = psfs[0].shape[-1] // 2
    for reach in range(min(3, middle), middle + 1):
        window = slice(middle - reach, middle + reach + 1)
        if all(psf[:, window, window].abs().sum() >= 0.999 * psf.abs().sum() for psf in psfs):
            return reach
    return middle


def parse_points(words: Sequence[str], width: int, height: int) -> list[Place]:
    """Parse 'X,Y' in pixels from the top left. Raises OptionError for places outside the photograph."""
    places = []
    for word in words:
        try:
            x, y = (int(part) for part in word.split(','))
        except ValueError as error:
            raise OptionError(f'--points {word}: write X,Y, two whole numbers of pixels') from error
        if not (0 <= x < width and 0 <= y < height):
            raise OptionError(f'--points {word}: outside the photograph of {width}x{height}')
        places.append((x, y))
    return places
