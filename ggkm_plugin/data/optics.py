"""Spatially varying defocus, rendered from a sharp photograph and its depth.

The PSF of a thin lens is a disk (`disk_kernel`) with a radius linear in inverse depth (`circle_of_confusion`). The
image is split into depth layers, each blurred by its disk in linear light and composed over the ones behind it
(`render_defocus`), after Ikoma et al., "Depth from Defocus with Learned Optics for Imaging and Occlusion-aware Depth
Estimation" (ICCP 2021). Not in the paper: soft assignment to layers, and the fill behind blurred edges of near layers.
"""

import cv2
import numpy as np

# A disk that lies inside one pixel is the identity: any smaller circle of confusion is "in focus".
SHARP_RADIUS = 0.5
# Pixels of radius between layers. A slanted plane is then within 50 to 54 dB PSNR of one disk per pixel (Kodak crop,
# radii up to 6; see the test of the slanted plane).
LAYER_STEP = 0.5
MOST_LAYERS = 16
# A smaller share of one pixel is rounding noise (OpenCV convolves with large kernels by FFT).
MIN_COVERAGE = 1e-2
# Samples per pixel along one axis of a disk kernel; along the other the integral is exact.
CHORDS_PER_PIXEL = 32


def srgb_to_linear(image: np.ndarray) -> np.ndarray:
    """Convert sRGB values in [0,1] to linear light in [0,1] (IEC 61966-2-1); float32."""
    image = np.asarray(image, np.float32)
    return np.where(image <= 0.04045, image / 12.92, ((np.maximum(image, 0) + 0.055) / 1.055) ** np.float32(2.4))


def linear_to_srgb(image: np.ndarray) -> np.ndarray:
    """Convert linear light in [0,1] to sRGB values in [0,1] (IEC 61966-2-1); float32. Inverse of `srgb_to_linear`."""
    image = np.asarray(image, np.float32)
    curve = 1.055 * np.maximum(image, 0) ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.where(image <= 0.0031308, image * np.float32(12.92), curve)


def disk_kernel(radius: float) -> np.ndarray:
    """Compute the PSF of a defocused thin lens: a disk, each tap the area of its pixel inside the disk.

    Float32 (S, S), S = 2 ceil(radius - 1/2) + 1, unit sum. Up to `SHARP_RADIUS` it is the 1x1 identity.
    """
    reach = max(0, int(np.ceil(radius - 0.5)))
    size = 2 * reach + 1
    rows = np.arange(-reach, reach + 1)[:, None]
    columns = (np.arange(size * CHORDS_PER_PIXEL) + 0.5) / CHORDS_PER_PIXEL - size / 2
    half_chord = np.sqrt(np.maximum(radius**2 - columns**2, 0))
    inside = np.minimum(half_chord, rows + 0.5) - np.maximum(-half_chord, rows - 0.5)
    area = np.maximum(inside, 0).reshape(size, size, CHORDS_PER_PIXEL).sum(-1)
    area = area + area.T  # one axis is exact and the other sampled: the mean of both is symmetric
    return (area / area.sum()).astype(np.float32) if reach else np.ones((1, 1), np.float32)


def signed_circle_of_confusion(disparity: np.ndarray, focus: float, strength: float) -> np.ndarray:
    """Compute `circle_of_confusion` with a sign, float32: positive in front of the focal plane, negative behind it."""
    return np.float32(strength) * (np.asarray(disparity, np.float32) - np.float32(focus))


def circle_of_confusion(disparity: np.ndarray, focus: float, strength: float) -> np.ndarray:
    """Compute the radius of the blur spot in pixels, float32, shape of `disparity`: ``strength * |disparity - focus|``.

    Thin lens (any textbook): aperture A, sensor at distance v_s = f z_f / (z_f - f) where the depth z_f is sharp. A
    point at depth z gives a disk of diameter ``A v_s |1/z - 1/z_f|``. `disparity` is inverse depth normalized to [0,1],
    near = 1; `focus` is that of the focal plane; `strength` = A v_s (1/z_near - 1/z_far) / 2 in pixels is the radius
    at one end of the range when the other end is in focus.
    """
    return np.abs(signed_circle_of_confusion(disparity, focus, strength))


def _smooth_noise(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> np.ndarray:
    """Draw uniform noise on a grid of `cells` x `cells`, enlarged bicubically: float32 (H, W) in about [-1,1]."""
    grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def procedural_disparity(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a scene for photographs without depth: float32 (H, W) in [0,1], near = 1.

    A slanted, wavy ground with 0 to 3 nearer objects (half planes and ellipses with a wavy outline). Their edges are
    hard, since a disparity between those of both sides would add a surface. A network thus sees both blur that changes
    slowly and blur that jumps at an occlusion.
    """
    height, width = shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    waves = _smooth_noise(shape, 4, rng)
    ground = np.float32(rng.uniform(0.05, 0.35)) * slope + np.float32(rng.uniform(0.02, 0.15)) * waves
    disparity = ground - ground.min() + np.float32(rng.uniform(0, 0.3))

    for near in np.sort(rng.uniform(0.3, 1.0, rng.integers(0, 4))):  # back to front
        angle = rng.uniform(0, 2 * np.pi)
        right, down = x - np.float32(rng.uniform(-0.8, 0.8)), y - np.float32(rng.uniform(-0.8, 0.8))
        along = np.float32(np.cos(angle)) * right + np.float32(np.sin(angle)) * down
        across = np.float32(-np.sin(angle)) * right + np.float32(np.cos(angle)) * down
        outline = np.float32(0.2) * _smooth_noise(shape, 6, rng)
        if rng.random() < 0.4:
            inside = along + outline > 0.3
        else:
            long, short = rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.5)
            inside = (along / np.float32(long)) ** 2 + (across / np.float32(short)) ** 2 + outline < 1
        surface = np.float32(near) + np.float32(rng.uniform(-0.1, 0.1)) * along
        disparity = np.where(inside, np.maximum(surface, disparity), disparity)
    return np.clip(disparity, 0, 1)


def _layer_planes(low: float, high: float) -> np.ndarray:
    """Return the depths of the layers, back to front, from `low` to `high` (signed pixels of blur), with 0 between."""
    step = max(LAYER_STEP, (high - low) / (MOST_LAYERS - 3))
    if low < 0 < high:
        behind = np.linspace(low, 0, int(np.ceil(-low / step)) + 1)
        return np.concatenate([behind[:-1], np.linspace(0, high, int(np.ceil(high / step)) + 1)])
    return np.linspace(low, high, int(np.ceil((high - low) / step)) + 1)


def _convolved(planes: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Blur each plane of (C, H, W) by a symmetric kernel, border reflected (101)."""
    return np.stack([cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_REFLECT_101) for plane in planes])


def _per_coverage(planes: np.ndarray, coverage: np.ndarray, one_pixel: float) -> np.ndarray:
    """Return ``planes / coverage``, and 0 where the coverage is only rounding noise of the blur."""
    return planes / np.where(coverage > MIN_COVERAGE * one_pixel, coverage, np.float32(np.inf))


def _filled(planes: np.ndarray, reach: int) -> np.ndarray:
    """Fill holes of premultiplied RGBA planes with the mean color within `reach` pixels."""
    size = 2 * reach + 1
    nearby = np.stack([cv2.blur(plane, (size, size), borderType=cv2.BORDER_REFLECT_101) for plane in planes])
    return planes + (1 - planes[3]) * _per_coverage(nearby, nearby[3], 1 / size**2)


def render_defocus(sharp: np.ndarray, disparity: np.ndarray, focus: float, strength: float) -> np.ndarray:
    """Render a scene as photographed through a thin lens: float32 (H, W, 3), sRGB in [0,1].

    `sharp`: (H, W, 3) float sRGB in [0,1]; `disparity`, `focus`, `strength`: see `circle_of_confusion`. The largest
    blur is narrower than the image. Borders are reflected (101).

    With a_k in [0,1] the share of a pixel in layer k (hat functions: they sum to 1), h_k the disk of the layer, and
    layers from back (0) to front (K), Ikoma et al.'s image is

        c~_k = (h_k * a_k x) / E_k,   a~_k = (h_k * a_k) / E_k,   E_k = h_k * (a_0 + ... + a_k)
        b = sum_k c~_k (1 - a~_{k+1}) ... (1 - a~_K)

    E_k continues a layer behind the layers that hide it, so a hidden background leaves no dark seam. Where a blurred
    edge uncovers more background, its color is the mean of the visible background nearby (not in the paper; without it
    the near side of the edge would stay hard).
    """
    blur = signed_circle_of_confusion(disparity, focus, strength)
    # Everything within SHARP_RADIUS of the focal plane shares the identity kernel: one layer, at depth 0.
    depth = np.sign(blur) * np.maximum(np.abs(blur) - SHARP_RADIUS, 0)
    planes = _layer_planes(float(depth.min()), float(depth.max()))
    place = np.interp(depth, planes, np.arange(len(planes))).astype(np.float32)

    opaque = np.stack([*cv2.split(srgb_to_linear(sharp)), np.ones(disparity.shape, np.float32)])
    behind = np.zeros(disparity.shape, np.float32)  # a_0 + ... + a_k
    out = np.zeros_like(opaque)  # premultiplied color, and coverage
    for k, plane in enumerate(planes):
        share = np.clip(1 - np.abs(place - k), 0, 1)
        if not share.any():
            continue
        behind += share
        kernel = disk_kernel(abs(float(plane)) + SHARP_RADIUS)
        layer = _convolved(opaque * share, kernel)
        layer = _per_coverage(layer, _convolved(behind[None], kernel)[0], kernel.max())
        if k and len(kernel) > 1:
            out = _filled(out, len(kernel) // 2)
        out = layer + (1 - layer[3]) * out
    return np.clip(linear_to_srgb(cv2.merge(list(out[:3] / out[3]))), 0, 1)
