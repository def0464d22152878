"""PSFs of a defocused lens: apertures (disk, polygon, cat's eye, soft edge, spherical aberration) and Gaussians.

Geometric optics (any textbook): the PSF of a defocused lens is the shape of its aperture, scaled by the circle of
confusion and rotated by 180 degrees behind the focal plane. Spherical aberration moves light between the center and
the rim of the PSF, in opposite directions in front of the focal plane and behind it. Gaussians model blur with many
causes, such as aberrations and motion of the camera. The ranges of `random_aperture` were chosen to cover photographic
lenses widely.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from scipy import special

from ggkm_plugin.data.optics import SHARP_RADIUS

# Samples along a radius, and the fewest along a pixel.
_POINTS_PER_RADIUS = 64
_LEAST_POINTS_PER_PIXEL = 4
# Share of the light of a Gaussian PSF that its kernel keeps.
_KEPT_LIGHT = 0.998


class PSF:
    """A point spread function of any radius. Hashable, so that its kernels can be cached."""

    centered = False
    extent = 1.0  # distance from the center, in radii, beyond which the PSF is zero

    def transmission(self, x: np.ndarray, y: np.ndarray, behind: bool = False) -> np.ndarray:
        """Compute the relative intensity at points in units of the radius, x to the right and y down."""
        raise NotImplementedError

    def kernel(self, radius: float) -> np.ndarray:
        """Compute the PSF of a signed radius in pixels: float32 (S, S), S odd, unit sum.

        Its center is the center of the PSF, or its centroid if `centered`. The image of a point is this array, row 0 on
        top; a negative radius, behind the focal plane, rotates it by 180 degrees. Within `SHARP_RADIUS` it is the 1x1
        identity. Read-only and cached.
        """
        return _kernel(self, float(radius))


@dataclass(frozen=True)
class Aperture(PSF):
    """Transmission inside the unit circle. The default is an open disk with a sharp edge.

    blades: corners of the polygon, 0 for a disk, else at least 3, on the unit circle; turn: radians.
    roundness: 0 for straight blades, 1 for a disk.
    cut: the cat's eye is the overlap with a unit disk shifted by this (right, down); (0, 0) cuts nothing.
    softness: width of the edge as a share of the radius, inwards; 0 is sharp.
    rim: brightness at the edge relative to the center, (1 + rim) : 1 with r^2 between, on both sides of focus.
    spherical: spherical aberration s in (-1, 1): a factor 1 + s (2 r^2 - 1) in front of the focal plane and
        1 - s (2 r^2 - 1) behind it. A positive one gives a bright rim in front and a bright core behind.
    centered: kernels are shifted so that their centroid is the center. Without it a cat's eye shifts what it blurs.
    """

    blades: int = 0
    turn: float = 0.0
    roundness: float = 0.0
    cut: tuple[float, float] = (0.0, 0.0)
    softness: float = 0.0
    rim: float = 0.0
    spherical: float = 0.0
    centered: bool = False

    def transmission(self, x: np.ndarray, y: np.ndarray, behind: bool = False) -> np.ndarray:
        """Compute the transmission at points in units of the radius, x to the right and y down. Zero outside."""
        radius = np.hypot(x, y)
        inside = 1 - radius  # distance to the edge, as a share of the radius; negative outside
        if self.blades:
            sector = 2 * np.pi / self.blades
            angle = np.mod(np.arctan2(y, x) - self.turn, sector) - sector / 2
            straight = np.cos(sector / 2) / np.cos(angle)  # distance of the polygon's side in this direction
            inside = straight + self.roundness * (1 - straight) - radius
        if any(self.cut):
            inside = np.minimum(inside, 1 - np.hypot(x - self.cut[0], y - self.cut[1]))
        light = np.clip(inside / self.softness, 0, 1) if self.softness else (inside >= 0).astype(np.float64)
        light = light * (1 + self.rim * radius**2)
        if self.spherical:
            light = light * (1 + (-self.spherical if behind else self.spherical) * (2 * radius**2 - 1))
        return light


@dataclass(frozen=True)
class GaussianPSF(PSF):
    """Gaussian or generalized Gaussian exp(-(r / a)^exponent) with the second moment of a disk of the same radius.

    exponent: 2 is the Gaussian, whose sigma is half the radius; below 2 the tails are heavier, above it the PSF
    approaches the disk.
    """

    exponent: float = 2.0

    @property
    def scale(self) -> float:
        """a in radii. With the second moment <r^2> = a^2 G(4/b) / G(2/b) of exponent b, it makes <r^2> = 1/2."""
        low, high = special.gammaln(2 / self.exponent), special.gammaln(4 / self.exponent)
        return float(np.exp(0.5 * (low - high)) / np.sqrt(2))

    @property
    def extent(self) -> float:  # type: ignore[override]
        """Distance from the center, in radii, that holds `_KEPT_LIGHT` of the light."""
        return float(self.scale * special.gammaincinv(2 / self.exponent, _KEPT_LIGHT) ** (1 / self.exponent))

    def transmission(self, x: np.ndarray, y: np.ndarray, behind: bool = False) -> np.ndarray:
        """Compute the relative intensity at points in units of the radius; equal on both sides of focus."""
        radius = np.hypot(x, y)
        return np.where(radius <= self.extent, np.exp(-((radius / self.scale) ** self.exponent)), 0)


GAUSSIAN = GaussianPSF()
DISK = Aperture()


@lru_cache(maxsize=256)
def _kernel(psf: PSF, radius: float) -> np.ndarray:
    if abs(radius) <= SHARP_RADIUS:
        kernel = np.ones((1, 1), np.float32)
    else:
        reach = max(0, math.ceil(abs(radius) * psf.extent - 0.5))
        size, points = 2 * reach + 1, max(_LEAST_POINTS_PER_PIXEL, math.ceil(_POINTS_PER_RADIUS / abs(radius)))
        at = ((np.arange(size * points) + 0.5) / points - size / 2) / radius
        x, y = at[None, :], at[:, None]
        light = psf.transmission(x, y, radius < 0)
        if psf.centered:
            right, down = ((light * axis).sum() / light.sum() for axis in (x, y))
            light = psf.transmission(x + right, y + down, radius < 0)
        taps = light.reshape(size, points, size, points).mean((1, 3))
        kernel = (taps / taps.sum()).astype(np.float32)
    kernel.setflags(write=False)
    return kernel


def spread(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve (H, W) or (H, W, C) float32 with a kernel, border reflected (101)."""
    if kernel.shape == (1, 1):
        return image
    # OpenCV correlates: a kernel rotated by 180 degrees makes it a convolution.
    return cv2.filter2D(image, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_REFLECT_101)


def random_aperture(rng: np.random.Generator) -> Aperture:
    """Draw an aperture: a disk or 5 to 8 blades, half each; a third are cat's eyes, half have a soft edge and a rim."""
    shape: dict[str, float] = {}
    if rng.random() < 0.5:
        blades = int(rng.integers(5, 9))
        shape = {'blades': blades, 'turn': rng.uniform(0, 2 * np.pi / blades), 'roundness': rng.uniform(0, 0.8)}
    direction, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.7) if rng.random() < 1 / 3 else 0.0
    if rng.random() < 0.5:
        shape |= {'softness': rng.uniform(0, 0.6), 'rim': rng.uniform(-0.5, 0.8)}
    return Aperture(cut=(length * math.cos(direction), length * math.sin(direction)), **shape)  # type: ignore[arg-type]
