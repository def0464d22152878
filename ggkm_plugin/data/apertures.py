"""The point spread function of a defocused lens: the shape of its aperture, as wide as the circle of confusion.

Geometric optics (any textbook): the blur spot is the aperture's shape, scaled, and turned by 180 degrees on the other
side of the focal plane. Shapes: a disk, a polygon of blades, a cat's eye (the barrel of the lens covers a part of the
aperture, seen from the corner of a picture), and an edge that is not sharp. How often each is drawn, and in what
ranges, is ours: chosen to cover photographic lenses widely.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

# A spot that lies inside one pixel is the identity: any smaller circle of confusion is "in focus".
SHARP_RADIUS = 0.5
# Points along a radius at which a shape is looked at, and the fewest in a pixel.
_POINTS_PER_RADIUS = 64
_LEAST_POINTS_PER_PIXEL = 4


@dataclass(frozen=True)
class Aperture:
    """Transmission inside the unit circle. The default is an open disk with a sharp edge.

    blades: corners of the polygon, 0 for a disk, else at least 3, on the unit circle; turn: radians.
    roundness: 0 for straight blades, 1 for a disk: how far the sides are bent outwards.
    cut: the cat's eye is the part that a unit disk shifted by this (right, down) leaves; (0, 0) cuts nothing.
    softness: width of the edge as a share of the radius, inwards; 0 is sharp.
    rim: brightness at the edge against the centre, (1 + rim) : 1 with r^2 between (spherical aberration); above -1.

    Raises ValueError for what is none of that.
    """

    blades: int = 0
    turn: float = 0.0
    roundness: float = 0.0
    cut: tuple[float, float] = (0.0, 0.0)
    softness: float = 0.0
    rim: float = 0.0

    def __post_init__(self) -> None:
        if self.blades != 0 and self.blades < 3:
            raise ValueError(f'blades is {self.blades}; an aperture has none or at least 3')
        if not (0 <= self.roundness <= 1 and 0 <= self.softness <= 1 and self.rim > -1):
            raise ValueError(f'roundness and softness lie in [0, 1] and rim above -1: {self}')
        if not math.hypot(*self.cut) < 1:
            raise ValueError(f'a cut by {self.cut} leaves too little of the aperture; its length is below 1')

    def transmission(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Transmission in [0, ...) at points in units of the radius, x to the right and y down. Zero outside."""
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
        return light * (1 + self.rim * radius**2)

    def kernel(self, radius: float) -> np.ndarray:
        """The PSF of a signed radius in pixels: float32 (S, S), S odd, unit sum, its centre the aperture's centre.

        The image of a point is this array, row 0 on top; a negative radius, behind the focal plane, turns it by 180
        degrees. Within `SHARP_RADIUS` it is the 1x1 identity. Read-only: the same array is given again.
        Raises ValueError if the radius is not finite.
        """
        if not math.isfinite(radius):
            raise ValueError(f'radius is {radius}; it must be a finite number of pixels')
        return _kernel(self, float(radius))


DISK = Aperture()


@lru_cache(maxsize=256)
def _kernel(aperture: Aperture, radius: float) -> np.ndarray:
    reach = max(0, math.ceil(abs(radius) - 0.5))
    if reach == 0:
        kernel = np.ones((1, 1), np.float32)
    else:
        size, points = 2 * reach + 1, max(_LEAST_POINTS_PER_PIXEL, math.ceil(_POINTS_PER_RADIUS / abs(radius)))
        at = ((np.arange(size * points) + 0.5) / points - size / 2) / radius
        light = aperture.transmission(at[None, :], at[:, None])
        taps = light.reshape(size, points, size, points).mean((1, 3))
        kernel = (taps / taps.sum()).astype(np.float32)
    kernel.setflags(write=False)
    return kernel


def spread(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) float32 in which every point has become the kernel: a convolution, border reflected (101)."""
    if kernel.shape == (1, 1):
        return image
    # OpenCV correlates: turned by 180 degrees it convolves.
    return cv2.filter2D(image, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_REFLECT_101)


def random_aperture(rng: np.random.Generator) -> Aperture:
    """A disk or 5 to 8 blades, half of the time each; a third of them cat's eyes, half of them with another edge."""
    shape: dict[str, float] = {}
    if rng.random() < 0.5:
        blades = int(rng.integers(5, 9))
        shape = {'blades': blades, 'turn': rng.uniform(0, 2 * np.pi / blades), 'roundness': rng.uniform(0, 0.8)}
    direction, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.7) if rng.random() < 1 / 3 else 0.0
    if rng.random() < 0.5:
        shape |= {'softness': rng.uniform(0, 0.6), 'rim': rng.uniform(-0.5, 0.8)}
    return Aperture(cut=(length * math.cos(direction), length * math.sin(direction)), **shape)  # type: ignore[arg-type]
