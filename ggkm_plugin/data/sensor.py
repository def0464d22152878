"""From light on the sensor to the values of a file: tone curve, noise that grows with the light, and JPEG."""

from dataclasses import dataclass

import cv2
import numpy as np

from ggkm_plugin.data.decoding import decode_image
from ggkm_plugin.data.optics import linear_to_srgb, srgb_to_linear


@dataclass(frozen=True)
class Sensor:
    """gamma: values are light^(1/gamma); None is the curve of sRGB.

    shot, read: the noise of a value of light x in [0, 1] has the variance shot * x + read^2 (photons and electronics).
    jpeg: quality 1 to 100, or None for values that are rounded to 8 bits only.
    """

    gamma: float | None = None
    shot: float = 0.0
    read: float = 0.0
    jpeg: int | None = None

    def light(self, values: np.ndarray) -> np.ndarray:
        """Linear light of values in [0, 1]; float32."""
        if self.gamma is None:
            return srgb_to_linear(values)
        return np.power(np.maximum(values, 0), np.float32(self.gamma), dtype=np.float32)

    def values(self, light: np.ndarray) -> np.ndarray:
        """Values in [0, 1] of linear light, which is clipped to [0, 1]; float32. Inverse of `light`."""
        light = np.clip(light, 0, 1)
        return linear_to_srgb(light) if self.gamma is None else np.power(light, np.float32(1 / self.gamma))

    def noisy(self, rng: np.random.Generator, light: np.ndarray) -> np.ndarray:
        """The light as it is measured: Gaussian noise of the variance above, of each value for itself; not clipped."""
        if not (self.shot or self.read):
            return light
        deviation = np.sqrt(np.float32(self.shot) * np.maximum(light, 0) + np.float32(self.read**2))
        return light + deviation * rng.standard_normal(light.shape, dtype=np.float32)

    def stored(self, values: np.ndarray) -> np.ndarray:
        """uint8 of values in [0, 1], as a file gives them back: rounded, after JPEG where there is one."""
        rounded = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
        if self.jpeg is None:
            return rounded
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.jpeg]
        content = cv2.imencode('.jpg', cv2.cvtColor(rounded, cv2.COLOR_RGB2BGR), quality)[1]
        return decode_image(content.tobytes(), 'a JPEG in memory')


def with_highlights(light: np.ndarray, gain: float, knee: float = 0.8) -> np.ndarray:
    """Light with its highlights as bright as they were before the file clipped them: up to 1 + gain times as bright.

    Where the brightest of the three colours is at most `knee` nothing changes; from there the factor grows to the
    square. All colours have the same factor. (Ours: a file does not tell how bright a clipped value was.)
    """
    above = np.clip((light.max(axis=-1, keepdims=True) - np.float32(knee)) / np.float32(1 - knee), 0, 1)
    return light * (1 + np.float32(gain) * above**2)
