"""Training pairs with varied scenes, lenses and cameras (`scenes: varied`), to generalize to real photographs.

Not in the paper. The ranges are wider than those of photographs, and were not fitted to defocused ones. A scene is a
part of one photograph with up to `MOST_OBJECTS` objects, cut out of other photographs, in front of it, each on a
surface of its own depth. All random choices are drawn from one generator.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from ggkm_plugin.data.apertures import random_aperture
from ggkm_plugin.data.layered_scene import Layer, in_focus, photograph
from ggkm_plugin.data.optics import signed_circle_of_confusion
from ggkm_plugin.data.sensor import Sensor, with_highlights

# Share of scenes entirely in focus, whose output must equal the input.
_SHARP_SHARE = 0.12
MOST_OBJECTS = 3
# Photographs are reduced at most to this scale, and never enlarged, which would blur the ground truth.
_SMALLEST_SCALE = 0.45
# Supersampling of masks, for antialiased edges.
_MASK_SCALE = 4


class RenderedPair(NamedTuple):
    """uint8 (H, W, 3) RGB: the defocused photograph, and the scene in focus without noise."""

    lq: np.ndarray
    gt: np.ndarray


def training_pair(
    rng: np.random.Generator, draw: Callable[[], np.ndarray], first: np.ndarray, size: int, max_radius: float
) -> RenderedPair:
    """Render a scene of size x size pixels from scaled, rotated, tilted, mirrored and recolored parts of photographs.

    `first` (H, W, 3) float32 in [0, 1] is the background; `draw` returns other photographs, for the objects in front.
    Light comes from up to `max_radius` pixels around the scene.
    """
    margin = math.ceil(max_radius)
    side = size + 2 * margin
    pictures = [recolored(rng, part(rng, first, side))]
    pictures += [recolored(rng, part(rng, draw(), side)) for _ in range(rng.integers(MOST_OBJECTS + 1))]
    middle = slice(margin, margin + size)
    return _taken(rng, pictures, _Blur(max_radius, 0.03, _SHARP_SHARE), (middle, middle))


def whole_pair(
    rng: np.random.Generator, draw: Callable[[], np.ndarray], first: np.ndarray, max_radius: float
) -> RenderedPair:
    """Render a whole photograph as it is, with objects from others, scaled to its size, in front of it.

    For validation: never entirely in focus, because the PSNR of such an input has no upper bound.
    """
    height, width, _ = first.shape
    pictures = [first]
    for _ in range(rng.integers(MOST_OBJECTS + 1)):
        pictures.append(cv2.resize(draw(), (width, height), interpolation=cv2.INTER_AREA))
    return _taken(rng, pictures, _Blur(max_radius, 0.35, 0), (slice(None), slice(None)))


class _Blur(NamedTuple):
    """Distribution of a scene's largest radius: 0 for `sharp_share` of scenes, else `most` u^1.5, u in [`least`, 1].

    The exponent favors small radii, which are the most frequent in photographs.
    """

    most: float
    least: float
    sharp_share: float

    def draw(self, rng: np.random.Generator) -> float:
        return 0.0 if rng.random() < self.sharp_share else self.most * rng.uniform(self.least, 1) ** 1.5


def _taken(
    rng: np.random.Generator, pictures: list[np.ndarray], blur: _Blur, window: tuple[slice, slice]
) -> RenderedPair:
    """Render the pictures, given from back to front, with a random camera."""
    sensor, aperture = random_sensor(rng), random_aperture(rng)
    exposure, gain = 2 ** rng.uniform(-1.5, 0.7), rng.uniform(0, 6) if rng.random() < 0.4 else 0.0
    light = [with_highlights(sensor.light(picture), gain) * np.float32(exposure) for picture in pictures]
    alphas = [np.ones(light[0].shape[:2], np.float32), *(mask(rng, light[0].shape[:2]) for _ in light[1:])]
    radius = radii(rng, [alpha.shape for alpha in alphas], blur.draw)
    layers = [Layer(*layer) for layer in zip(light, alphas, radius, strict=True)]
    sharp = in_focus(layers)[window]
    blurred = photograph(layers, aperture)[window]
    return RenderedPair(
        sensor.stored(sensor.values(sensor.noisy(rng, blurred))),
        Sensor(sensor.gamma).stored(sensor.values(sharp)),
    )


def radii(
    rng: np.random.Generator, shapes: list[tuple[int, ...]], widest: Callable[[np.random.Generator], float]
) -> list[np.ndarray]:
    """Draw the signed circles of confusion of surfaces, back to front; the largest is drawn by `widest`."""
    count = len(shapes)
    nearness = np.sort(rng.uniform(0, 1, count))
    disparities = [
        np.float32(near) + np.float32(rng.uniform(0, 0.5) / count) * surface(rng, (shape[0], shape[1]))
        for near, shape in zip(nearness, shapes, strict=True)
    ]
    far, near = min(float(d.min()) for d in disparities), max(float(d.max()) for d in disparities)
    # Most often on a surface of the scene, else anywhere in it or slightly in front of or behind it.
    focus = (
        float(np.median(disparities[rng.integers(count)]))
        if rng.random() < 0.6
        else far + (near - far) * rng.uniform(-0.5, 1.5)
    )
    strength = widest(rng) / max(near - focus, focus - far, 1e-3)
    return [signed_circle_of_confusion(disparity, focus, strength) for disparity in disparities]


def random_sensor(rng: np.random.Generator) -> Sensor:
    """Draw a sensor: sRGB, or for 4 in 10 another gamma (1: blur of values, as in software refocusing).

    6 in 10 have noise, up to that of a high ISO; 4 in 10 have JPEG compression of quality 75 to 98.
    """
    gamma = rng.uniform(1, 2.4) if rng.random() < 0.4 else None
    shot, read = (10 ** rng.uniform(-5, -3), 10 ** rng.uniform(-3.5, -2)) if rng.random() < 0.6 else (0.0, 0.0)
    return Sensor(gamma, shot, read, int(rng.integers(75, 99)) if rng.random() < 0.4 else None)


def part(rng: np.random.Generator, picture: np.ndarray, side: int, tries: int = 1) -> np.ndarray:
    """Cut out a square part of a photograph, side x side: reduced by any factor, half of the time rotated and tilted.

    A part that is larger than the photograph is continued by reflection (101). Mirrored half of the time each way.
    Of several `tries` at the same scale it takes the most detailed one.
    """
    height, width, _ = picture.shape
    smallest = min(1.0, max(_SMALLEST_SCALE, side / min(height, width)))
    scale = rng.uniform(smallest, 1)
    height, width = max(2, round(scale * height)), max(2, round(scale * width))
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    # top left corners at whole pixels, so a part that is not rotated is not softened
    corners = [
        np.array([rng.integers(min(0, n - side), max(0, n - side) + 1) for n in (width, height)], np.float32)
        for _ in range(tries)
    ]
    corner = corners[0] if tries == 1 else max(corners, key=lambda corner: _detail(picture, corner, side))
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * (side - 1)
    source: np.ndarray = square
    if rng.random() < 0.5:
        angle, middle = rng.uniform(0, 2 * np.pi), (side - 1) / 2
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], np.float32)
        source = (square - middle) @ turn + middle + rng.uniform(-0.06, 0.06, (4, 2)) * side
    matrix = cv2.getPerspectiveTransform((source + corner).astype(np.float32), square)
    out = cv2.warpPerspective(
        picture, matrix, (side, side), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101
    )
    out = out[:, ::-1] if rng.random() < 0.5 else out
    out = out[::-1] if rng.random() < 0.5 else out
    return np.clip(out, 0, 1)


def _detail(picture: np.ndarray, corner: np.ndarray, side: int) -> float:
    """Compute the mean absolute Laplacian of the green channel of a square."""
    x, y = (int(n) for n in corner.clip(0))
    return float(np.abs(cv2.Laplacian(picture[y : y + side, x : x + side, 1], cv2.CV_32F)).mean())


def recolored(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Change contrast, white balance and saturation of values in [0, 1]; permute the channels 1 time in 4."""
    picture = picture ** np.float32(rng.uniform(0.7, 1.5)) * rng.uniform(0.8, 1.15, 3).astype(np.float32)
    gray = picture.mean(axis=-1, keepdims=True)
    picture = gray + np.float32(rng.uniform(0.2, 1.4)) * (picture - gray)
    if rng.random() < 0.25:
        picture = picture[..., rng.permutation(3)]
    return np.clip(picture, 0, 1, dtype=np.float32)


def surface(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw a slanted plane with gentle waves: float32 (H, W) in about [-1, 1]."""
    height, width = shape
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    grid = rng.uniform(-1, 1, (4, 4)).astype(np.float32)
    waves = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.float32(0.6 * math.cos(angle)) * x + np.float32(0.6 * math.sin(angle)) * y + np.float32(0.3) * waves


def mask(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw the mask of an object: a blob, a polygon, stalks, or an edge across the image. Float32 (H, W) in [0, 1].

    Edges are one pixel wide.
    """
    height, width = (_MASK_SCALE * n for n in shape)
    canvas = np.zeros((height, width), np.uint8)
    size = min(height, width)
    kind = rng.integers(4)
    if kind == 0:  # a blob
        cells = int(rng.integers(3, 9))
        noise = cv2.resize(
            rng.uniform(-1, 1, (cells, cells)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        canvas[noise > rng.uniform(-0.1, 0.5)] = 1
    elif kind == 1:  # a polygon or star
        corners = int(rng.integers(3, 11))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = size * rng.uniform(0.1, 0.6, corners)
        center = rng.uniform(0, 1, 2) * (width, height)
        points = center + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(canvas, [points.round().astype(np.int32)], 1)
    elif kind == 2:  # stalks, wires, branches
        for _ in range(rng.integers(1, 9)):
            points = rng.uniform(-0.1, 1.1, (3, 2)) * (width, height)
            t = np.linspace(0, 1, 24)[:, None]
            curve = (1 - t) ** 2 * points[0] + 2 * t * (1 - t) * points[1] + t**2 * points[2]
            thickness = int(_MASK_SCALE * rng.uniform(1.5, 20))
            cv2.polylines(canvas, [curve.round().astype(np.int32)], False, 1, thickness)
    else:  # a wavy edge
        canvas[surface(rng, (height, width)) > rng.uniform(-0.2, 0.6)] = 1
    return cv2.resize(canvas.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
