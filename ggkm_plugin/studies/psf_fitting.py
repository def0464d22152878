"""What a fit of a PSF model is: the pair it explains, and how near it came, step by step."""

import math
import time
from dataclasses import dataclass

from torch import Tensor

# Pixels around the blurred crop in which the sharp image is known, or continued by reflection: nearly all of the widest
# kernels' mass (GGKM's chain with equal alphas has 1e-4 of it beyond 42 pixels).
MARGIN = 48


@dataclass(frozen=True, eq=False)
class StudyPair:
    """blurred (3,H,W) and sharp (3,H+2*MARGIN,W+2*MARGIN), RGB float32 in [0,1].

    radius (H,W): effective radius of the PSFs in pixels, where they are known.
    """

    name: str
    sharp: Tensor
    blurred: Tensor
    radius: Tensor | None = None


@dataclass(frozen=True)
class Point:
    """After `step` steps and so many seconds: PSNR in dB between y and B_theta x, RGB, not clipped."""

    step: int
    seconds: float
    psnr: float


@dataclass(frozen=True, eq=False)
class Fit:
    """How a model explained a pair: its curve, and the effective radius of the fitted PSFs (H,W) in pixels."""

    curve: list[Point]
    radius: Tensor

    @property
    def psnr(self) -> float:
        return self.curve[-1].psnr

    @property
    def seconds(self) -> float:
        return self.curve[-1].seconds


def psnr(squared_error: float, count: int) -> float:
    """dB of a sum of squares over `count` values of a range of 1; inf for none."""
    return -10 * math.log10(squared_error / count) if squared_error > 0 else math.inf


class Curve:
    """Collects the points of a fit; its clock starts when it is made."""

    def __init__(self, values: int) -> None:
        self.values = values
        self.points: list[Point] = []
        self.started = time.perf_counter()

    def add(self, step: int, squared_error: float) -> None:
        self.points.append(Point(step, time.perf_counter() - self.started, psnr(squared_error, self.values)))
