"""Camera pipeline from light to the values of a file: tone curve, noise, noise reduction, sharpening, compression."""

from dataclasses import dataclass

import cv2
import numpy as np

from ggkm_plugin.data.optics import linear_to_srgb, srgb_to_linear
from ggkm_plugin.utils.image_decoding import decode_image

_KNEE = 0.8  # light above which `with_highlights` brightens


@dataclass(frozen=True)
class Sensor:
    """gamma: values are light^(1/gamma); None is the curve of sRGB.

    shot, read: the noise of a value of light x in [0, 1] has the variance shot * x + read^2 (photons and electronics).
    jpeg, webp: quality 1 to 100 of a lossy file (chroma 4:2:0), or None. With neither, values are rounded to 8 bits.
    """

    gamma: float | None = None
    shot: float = 0.0
    read: float = 0.0
    jpeg: int | None = None
    webp: int | None = None

    def light(self, values: np.ndarray) -> np.ndarray:
        """Convert values in [0, 1] to linear light; float32."""
        if self.gamma is None:
            return srgb_to_linear(values)
        return np.power(np.maximum(values, 0), np.float32(self.gamma), dtype=np.float32)

    def values(self, light: np.ndarray) -> np.ndarray:
        """Convert linear light, clipped to [0, 1], to values; float32. Inverse of `light`."""
        light = np.clip(light, 0, 1)
        return linear_to_srgb(light) if self.gamma is None else np.power(light, np.float32(1 / self.gamma))

    def noisy(self, rng: np.random.Generator, light: np.ndarray) -> np.ndarray:
        """Add Gaussian noise of the variance above, independent for each value; not clipped."""
        if not (self.shot or self.read):
            return light
        deviation = np.sqrt(np.float32(self.shot) * np.maximum(light, 0) + np.float32(self.read**2))
        return light + deviation * rng.standard_normal(light.shape, dtype=np.float32)

    def stored(self, values: np.ndarray) -> np.ndarray:
        """Round values in [0, 1] to uint8, then compress and decode them if the file is lossy."""
        rounded = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
        if self.jpeg is not None:
            return _compressed(rounded, '.jpg', [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])
        if self.webp is not None:
            return _compressed(rounded, '.webp', [cv2.IMWRITE_WEBP_QUALITY, self.webp])
        return rounded


def _compressed(image: np.ndarray, suffix: str, options: list[int]) -> np.ndarray:
    content = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    return decode_image(content.tobytes(), f'a {suffix} file in memory')


def sharpened(values: np.ndarray, sigma: float, amount: float) -> np.ndarray:
    """Apply an unsharp mask: add `amount` times the detail that a Gaussian of `sigma` removes; clipped to [0, 1]."""
    return np.clip(values + np.float32(amount) * (values - cv2.GaussianBlur(values, (0, 0), sigma)), 0, 1)


def denoised(values: np.ndarray, chroma_sigma: float = 0.0, luma_strength: float = 0.0) -> np.ndarray:
    """Reduce noise as a camera does, on RGB values in [0, 1]; float32.

    chroma_sigma: sigma in pixels of a Gaussian on the chroma (YCrCb).
    luma_strength: range sigma, in values, of a 5x5 bilateral filter on the luma; differences far above it are edges.
    """
    y, cr, cb = cv2.split(cv2.cvtColor(values, cv2.COLOR_RGB2YCrCb))
    if chroma_sigma:
        cr, cb = (cv2.GaussianBlur(plane, (0, 0), chroma_sigma) for plane in (cr, cb))
    if luma_strength:
        y = cv2.bilateralFilter(y, 5, luma_strength, 1.5)
    return np.clip(cv2.cvtColor(cv2.merge([y, cr, cb]), cv2.COLOR_YCrCb2RGB), 0, 1)


def softened(values: np.ndarray, factor: float) -> np.ndarray:
    """Resize by a factor below 1 and back, without a shift or overshoot: fine detail as web pipelines leave it."""
    height, width = values.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    reduced = cv2.resize(values, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR)


def with_highlights(light: np.ndarray, gain: float) -> np.ndarray:
    """Restore highlights that the file clipped, up to 1 + gain times as bright.

    Where the largest of the three channels is at most `_KNEE` nothing changes; from there the factor grows with the
    square. All channels have the same factor. The gain is a guess: a file does not hold how bright a clipped value was.
    """
    above = np.clip((light.max(axis=-1, keepdims=True) - np.float32(_KNEE)) / np.float32(1 - _KNEE), 0, 1)
    return light * (1 + np.float32(gain) * above**2)
