"""Photographs of layered scenes through a lens with any PSF, in linear light.

Each layer has its own color also where another layer hides it, unlike a photograph with a depth map
(`optics.render_defocus`): what a blurred edge uncovers is known and need not be guessed. A layer is blurred with its
alpha, then composited over those behind it (Kraus and Strengert, "Depth-of-Field Rendering by Pyramidal Image
Processing", 2007, and others before). Within a layer, whose depth is smooth, each pixel is blurred by the PSF of its
own depth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ggkm_plugin.data.apertures import DISK, PSF, spread
from ggkm_plugin.data.optics import SHARP_RADIUS

# Most blurred versions of one layer, between which its pixels are interpolated, and the least radius between two.
_MOST_LEVELS = 9
_LEVEL_STEP = 0.5


@dataclass(frozen=True)
class Layer:
    """A surface of the scene.

    light: (H, W, C) float32 linear light, 0 or more, also where the layer is hidden.
    alpha: (H, W) float32 in [0, 1], the coverage of each pixel; that of the rearmost layer is 1.
    radius: (H, W) float32, its signed circle of confusion in pixels (`optics.signed_circle_of_confusion`), smooth.
    """

    light: np.ndarray
    alpha: np.ndarray
    radius: np.ndarray


def photograph(layers: Sequence[Layer], psf: PSF = DISK, chromatic: Sequence[float] = ()) -> np.ndarray:
    """Render layers, given from back to front, through a lens: float32 (H, W, C) linear light.

    With C_k = K_k * (alpha_k light_k) and A_k = K_k * alpha_k, where K_k is the PSF of the layer,

        b_k = C_k + (1 - A_k) b_{k-1}

    so light is neither gained nor lost, a blurred layer spreads over those behind, and they never over it. Borders are
    reflected (101). `chromatic`: a signed offset of the radius for each channel, in pixels (longitudinal chromatic
    aberration). The rearmost layer is opaque, and the largest blur narrower than the image.
    """
    if any(chromatic):
        channels = [
            photograph([Layer(layer.light[..., c : c + 1], layer.alpha, layer.radius + np.float32(offset))
                        for layer in layers], psf)
            for c, offset in enumerate(chromatic)
        ]  # fmt: skip
        return np.concatenate(channels, axis=-1)
    out = np.zeros_like(layers[0].light)
    for layer in layers:
        blurred = _blurred(layer, psf)
        out = blurred[..., :-1] + (1 - blurred[..., -1:]) * out
    return out


def in_focus(layers: Sequence[Layer]) -> np.ndarray:
    """Render layers with everything in focus."""
    return photograph([Layer(layer.light, layer.alpha, np.zeros_like(layer.radius)) for layer in layers])


def _blurred(layer: Layer, psf: PSF) -> np.ndarray:
    """Return (H, W, C + 1), color times alpha and alpha, each pixel blurred by the PSF of its own radius."""
    sheet = np.dstack([layer.light * layer.alpha[..., None], layer.alpha])
    # Everything within SHARP_RADIUS of the focal plane shares the identity: one level, at 0.
    depth = np.sign(layer.radius) * np.maximum(np.abs(layer.radius) - SHARP_RADIUS, 0)
    low, high = float(depth.min()), float(depth.max())
    levels = np.linspace(low, high, min(_MOST_LEVELS, int(np.ceil((high - low) / _LEVEL_STEP)) + 1))
    if low < 0 < high:
        levels[np.abs(levels).argmin()] = 0  # what is in focus must stay as it is
    blurred = [spread(sheet, psf.kernel(level + np.copysign(SHARP_RADIUS, level))) for level in levels]
    if len(levels) == 1:
        return blurred[0]
    place = np.interp(depth, levels, np.arange(len(levels))).astype(np.float32)
    shares = (np.clip(1 - np.abs(place - k), 0, 1)[..., None] for k in range(len(levels)))
    return sum((share * level for share, level in zip(shares, blurred, strict=True)), np.zeros_like(sheet))
