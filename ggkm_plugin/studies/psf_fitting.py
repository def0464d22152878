"""Fits of PSF models: the pair of images, the curve of convergence, and the fitted radius."""

import math
import time
from dataclasses import dataclass

from torch import Tensor

# Margin of the sharp image around the blurred crop, in pixels. It holds nearly all of the widest kernels' mass: GGKM's
# chain with equal alphas has 1e-4 of it beyond 42 pixels.
MARGIN = 48


@dataclass(frozen=True, eq=False)
class StudyPair:
    """blurred (3,H,W) and sharp (3,H+2*MARGIN,W+2*MARGIN), RGB float32 in [0,1].

    radius (H,W): effective radius of the PSFs in pixels, None if unknown.
    """

    name: str
    sharp: Tensor
    blurred: Tensor
    radius: Tensor | None = None


@dataclass(frozen=True)
class Point:
    """PSNR in dB between y and B_theta x (RGB, not clipped) after `step` steps."""

    step: int
    seconds: float
    psnr: float


@dataclass(frozen=True, eq=False)
class Fit:
    """Curve of convergence, and effective radius (H,W) in pixels of the fitted PSFs."""

    curve: list[Point]
    radius: Tensor

    @property
    def psnr(self) -> float:
        return self.curve[-1].psnr

    @property
    def seconds(self) -> float:
        return self.curve[-1].seconds


def psnr(squared_error: float, count: int) -> float:
    """Return the PSNR of a sum of squared errors over `count` values in [0,1]."""
    return -10 * math.log10(squared_error / count) if squared_error > 0 else math.inf


class Curve:
    """Collector of a fit's points; its clock starts at once."""

    def __init__(self, values: int) -> None:
        self.values = values
        self.points: list[Point] = []
        self.started = time.perf_counter()

    def add(self, step: int, squared_error: float) -> None:
        self.points.append(Point(step, time.perf_counter() - self.started, psnr(squared_error, self.values)))
