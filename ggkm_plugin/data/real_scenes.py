"""Training pairs with the optics and camera pipelines of real photographs (`scenes: real`).

The scenes are those of `varied_scenes`: layers cut out of photographs. `Optics` holds the probability and the range of
each property of lens and camera. The parameters of one pair are drawn from independent streams for scene, lens, camera
and noise, so a property that is turned off leaves the other parameters of a pair as they were.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
from pydantic import AfterValidator

from ggkm_plugin.data import varied_scenes
from ggkm_plugin.data.apertures import GAUSSIAN, PSF, GaussianPSF, random_aperture, spread
from ggkm_plugin.data.layered_scene import Layer, in_focus, photograph
from ggkm_plugin.data.sensor import Sensor, denoised, sharpened, softened, with_highlights
from ggkm_plugin.data.varied_scenes import RenderedPair
from ggkm_plugin.utils.config import nearest
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.schema import Share, raise_faults, section_faults, signature_section

Range = tuple[float, float]


def _within(low: float, high: float) -> AfterValidator:
    def check(bounds: Range) -> Range:
        if not low <= bounds[0] <= bounds[1] <= high:
            raise ValueError(f'must be [low, high], two numbers from {low:g} to {high:g}')
        return bounds

    return AfterValidator(check)


@dataclass(frozen=True)
class Optics:
    """Probabilities and ranges of lens and camera properties. A probability of 0 turns a property off.

    | key | meaning | unit |
    | --- | --- | --- |
    | detail_prob | share of layers that are the more detailed of two parts of their photograph | |
    | sharp_prob | share of scenes that are entirely in focus; their camera has little noise and compression | |
    | even_prob, even_radius | share of the other scenes under one PSF; radius (2 sigma), log-uniform | px |
    | radius | largest radius of a layered scene, log-uniform; at most max_blur_radius | px |
    | gaussian_prob, gaussian_exponent | PSF is a generalized Gaussian, half of them with exponent 2; log-uniform | |
    | spherical_prob, spherical | spherical aberration of an aperture; either sign | |
    | chromatic_prob, chromatic | offset of the radius in R; in B 0.5 to 1.5 times minus that; either sign | px |
    | residual_prob, residual | sigma of a Gaussian over the whole frame, focal plane included | px |
    | exposure | factor of the light, 2^x | stops |
    | highlights_prob, highlights | highlights up to 1 + x times as bright before the blur | |
    | gamma_prob, gamma | tone curve is not sRGB but x^(1/gamma), half of them with gamma 1 (blur of values) | |
    | noise_prob, shot, read | noise of variance shot x + read^2; log-uniform | light |
    | chroma_prob, chroma | noise reduction: sigma of a Gaussian on the chroma of lq | px |
    | luma_prob, luma | noise reduction: range sigma of a bilateral filter on the luma of lq | values |
    | sharpen_prob, sharpen, sharpen_sigma | unsharp mask: amount and sigma | px |
    | sharpen_both | share of the unsharp masks that gt has too; on lq alone the amount is halved | |
    | resize_prob, resize | the scene is rendered x times as large, then both images are reduced | |
    | soften_prob, soften | lq is reduced by this factor and enlarged again | |
    | compress_prob, quality | JPEG or WebP of lq, half each, chroma 4:2:0; gt has quality 100 and the same chroma | |
    """

    detail_prob: Share = 0.7
    sharp_prob: Share = 0.12
    even_prob: Share = 0.25
    even_radius: Annotated[Range, _within(0.5, 64)] = (0.8, 8.0)
    radius: Annotated[Range, _within(0.5, 64)] = (0.5, 16.0)
    gaussian_prob: Share = 0.35
    gaussian_exponent: Annotated[Range, _within(0.8, 64)] = (1.0, 8.0)
    spherical_prob: Share = 0.5
    spherical: Annotated[Range, _within(0, 0.99)] = (0.1, 0.9)
    chromatic_prob: Share = 0.3
    chromatic: Annotated[Range, _within(0, 8)] = (0.2, 1.5)
    residual_prob: Share = 0.4
    residual: Annotated[Range, _within(0, 8)] = (0.0, 1.2)
    exposure: Annotated[Range, _within(-8, 8)] = (-1.2, 0.7)
    highlights_prob: Share = 0.4
    highlights: Annotated[Range, _within(0, 100)] = (0.0, 6.0)
    gamma_prob: Share = 0.4
    gamma: Annotated[Range, _within(0.2, 5)] = (1.0, 2.4)
    noise_prob: Share = 0.5
    shot: Annotated[Range, _within(1e-09, 1)] = (1e-5, 1e-3)
    read: Annotated[Range, _within(1e-09, 1)] = (1e-4, 3e-3)
    chroma_prob: Share = 0.25
    chroma: Annotated[Range, _within(0.1, 16)] = (0.5, 2.0)
    luma_prob: Share = 0.2
    luma: Annotated[Range, _within(0.0001, 1)] = (0.01, 0.05)
    sharpen_prob: Share = 0.35
    sharpen: Annotated[Range, _within(0, 4)] = (0.1, 1.0)
    sharpen_sigma: Annotated[Range, _within(0.3, 8)] = (0.5, 1.2)
    sharpen_both: Share = 0.75
    resize_prob: Share = 0.25
    resize: Annotated[Range, _within(1, 4)] = (1.0, 2.0)
    soften_prob: Share = 0.15
    soften: Annotated[Range, _within(0.1, 1)] = (0.6, 0.95)
    compress_prob: Share = 0.4
    quality: Annotated[Range, _within(1, 100)] = (60.0, 98.0)

    @classmethod
    def from_option(cls, option: 'Optics | str | dict[str, Any] | None') -> 'Optics':
        """Read the option `optics`: None, a preset's name, or a mapping of keys with the optional key `preset`.

        Raises OptionError for an unknown preset or key, or a value outside its bounds.
        """
        if isinstance(option, Optics):
            return option
        keys = {'preset': option} if isinstance(option, str) else dict(option or {})
        preset = keys.pop('preset', 'full')
        if preset not in list(PRESETS):
            raise OptionError(f'optics: no preset {preset!r}.{nearest(str(preset), list(PRESETS), "Presets")}')
        kind: Any = cls
        raise_faults(list(section_faults(signature_section(kind), keys, 'optics', from_json=True).values()))
        values: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in keys.items()}
        return dataclasses.replace(PRESETS[preset], **values)


_LENS = {f'{name}_prob': 0.0 for name in ('even', 'gaussian', 'spherical', 'chromatic', 'residual')}
_CAMERA = {f'{name}_prob': 0.0 for name in ('chroma', 'luma', 'sharpen', 'resize', 'soften')}
PRESETS = {
    'full': Optics(),
    'lens': Optics(**_CAMERA),  # type: ignore[arg-type]
    'camera': Optics(**_LENS),  # type: ignore[arg-type]
    'basic': Optics(**_LENS, **_CAMERA),  # type: ignore[arg-type]
}


def training_pair(
    rng: np.random.Generator,
    draw: Callable[[], np.ndarray],
    first: np.ndarray,
    size: int,
    max_radius: float,
    optics: Optics = PRESETS['full'],
) -> RenderedPair:
    """Render a scene of size x size pixels made of scaled, rotated and recolored parts of photographs.

    `first`, `draw` and `max_radius` are those of `varied_scenes.training_pair`.
    """
    shot = _shot(rng, optics, max_radius)
    window, margin = round(size * shot.resize), math.ceil(max_radius)
    side = window + 2 * margin
    pictures = [_part(shot.scene, first, side, optics.detail_prob)]
    for _ in range(shot.scene.integers(varied_scenes.MOST_OBJECTS + 1)):
        pictures.append(_part(shot.scene, draw(), side, optics.detail_prob))
    middle = slice(margin, margin + window)
    return _taken(shot, pictures, (middle, middle), (size, size))


def whole_pair(
    rng: np.random.Generator,
    draw: Callable[[], np.ndarray],
    first: np.ndarray,
    max_radius: float,
    optics: Optics = PRESETS['full'],
) -> RenderedPair:
    """Render a whole photograph as it is, with parts of others, scaled to its size, in front of it.

    For validation: never entirely in focus, because the PSNR of such an input has no upper bound, and never resized.
    """
    shot = _shot(rng, dataclasses.replace(optics, sharp_prob=0.0, resize_prob=0.0), max_radius)
    height, width, _ = first.shape
    pictures = [first]
    for _ in range(shot.scene.integers(varied_scenes.MOST_OBJECTS + 1)):
        pictures.append(cv2.resize(draw(), (width, height), interpolation=cv2.INTER_AREA))
    return _taken(shot, pictures, (slice(None), slice(None)), (height, width))


def _part(rng: np.random.Generator, picture: np.ndarray, side: int, detail_prob: float) -> np.ndarray:
    """Cut a recolored part out of a photograph, with probability `detail_prob` the more detailed of two.

    Photographs have smooth areas and backgrounds that are out of focus, which are no ground truth to learn from.
    """
    tries = 2 if rng.random() < detail_prob else 1
    return varied_scenes.recolored(rng, varied_scenes.part(rng.spawn(1)[0], picture, side, tries))


class _Shot(NamedTuple):
    """The parameters of one pair, and the generators of its scene and its noise."""

    scene: np.random.Generator
    noise: np.random.Generator
    kind: str  # sharp, even or layers
    psf: PSF
    radius: float  # the largest, or that of an even scene
    chromatic: tuple[float, ...]
    residual: float  # sigma
    exposure: float
    highlights: float
    sensor: Sensor
    chroma: float
    luma: float
    sharpen: tuple[float, float]  # sigma, amount; 0 for none
    sharpen_both: bool
    resize: float
    soften: float


def _shot(rng: np.random.Generator, optics: Optics, max_radius: float) -> _Shot:
    """Draw the parameters of a pair. The number of draws from each stream does not depend on `optics`."""
    scene, aperture, lens, camera, noise = (np.random.default_rng(seed) for seed in rng.integers(2**62, size=5))
    sharp, even, psf_kind, sign = lens.random(4)
    kind = 'sharp' if sharp < optics.sharp_prob else 'even' if even < optics.even_prob else 'layers'
    psf: PSF = dataclasses.replace(random_aperture(aperture), centered=True)
    exponent = _drawn(lens, 0.5, optics.gaussian_exponent, log=True) or 2.0
    spherical = _drawn(lens, optics.spherical_prob, optics.spherical)
    if psf_kind < optics.gaussian_prob:
        psf = GaussianPSF(exponent)
    elif spherical:
        psf = dataclasses.replace(psf, spherical=math.copysign(spherical, sign - 0.5))  # type: ignore[type-var]
    low, high = optics.even_radius if kind == 'even' else optics.radius
    radius = _drawn(lens, 1.0, (min(low, max_radius), min(high, max_radius)), log=True)
    red = math.copysign(_drawn(lens, optics.chromatic_prob, optics.chromatic), lens.random() - 0.5)
    blue = -red * lens.uniform(0.5, 1.5)
    residual = _drawn(lens, optics.residual_prob, optics.residual)

    exposure = 2.0 ** _drawn(camera, 1.0, optics.exposure)
    highlights = _drawn(camera, optics.highlights_prob, optics.highlights)
    values_blur, webp = camera.random(2)
    gamma = _drawn(camera, optics.gamma_prob, optics.gamma)
    noisy = camera.random() < optics.noise_prob
    shot_noise = _drawn(camera, 1.0, optics.shot, log=True)
    read_noise = _drawn(camera, 1.0, optics.read, log=True)
    chroma = _drawn(camera, optics.chroma_prob, optics.chroma)
    luma = _drawn(camera, optics.luma_prob, optics.luma)
    amount = _drawn(camera, optics.sharpen_prob, optics.sharpen)
    sigma = _drawn(camera, 1.0, optics.sharpen_sigma)
    both = camera.random() < optics.sharpen_both
    resize = _drawn(camera, optics.resize_prob, optics.resize) or 1.0
    soften = _drawn(camera, optics.soften_prob, optics.soften) or 1.0
    quality = round(_drawn(camera, optics.compress_prob, optics.quality)) or None
    if kind == 'sharp':  # the output must stay the input: no processing that hides detail
        shot_noise, read_noise = 0.1 * shot_noise, 0.1 * read_noise
        chroma, luma, soften, residual, both = 0.0, 0.0, 1.0, 0.0, True
        quality = quality and 92 + quality // 16
    sensor = Sensor(
        None if not gamma else 1.0 if values_blur < 0.5 else gamma,
        shot_noise if noisy else 0.0,
        read_noise if noisy else 0.0,
        None if webp < 0.5 else quality,
        quality if webp < 0.5 else None,
    )
    return _Shot(
        scene, noise, kind, psf, 0.0 if kind == 'sharp' else radius, (red, 0.0, blue) if red else (),
        residual, exposure, highlights, sensor, chroma, luma,
        (sigma, amount if both else amount / 2), both, resize, soften,
    )  # fmt: skip


def _drawn(rng: np.random.Generator, prob: float, bounds: Range, log: bool = False) -> float:
    """Draw a value within the bounds with probability `prob`, else 0. Always draws two numbers from the generator."""
    chance, share = rng.random(2)
    if chance >= prob:
        return 0.0
    low, high = bounds
    return float(low * (high / low) ** share if log else low + (high - low) * share)


def _taken(shot: _Shot, pictures: list[np.ndarray], window: tuple[slice, slice], size: tuple[int, int]) -> RenderedPair:
    """Render the pictures, given from back to front."""
    sensor = shot.sensor
    light = [
        with_highlights(sensor.light(picture), shot.highlights) * np.float32(shot.exposure) for picture in pictures
    ]
    shape = light[0].shape[:2]
    alphas = [np.ones(shape, np.float32), *(varied_scenes.mask(shot.scene, shape) for _ in light[1:])]
    radii = varied_scenes.radii(shot.scene, [shape] * len(light), lambda _: shot.radius)
    layers = [Layer(*layer) for layer in zip(light, alphas, radii, strict=True)]
    sharp = in_focus(layers)
    if shot.kind == 'layers':
        blurred = photograph(layers, shot.psf, shot.chromatic)
    elif shot.kind == 'even':
        offsets = shot.chromatic or (0.0, 0.0, 0.0)
        channels = [spread(sharp[..., c], shot.psf.kernel(shot.radius + offset)) for c, offset in enumerate(offsets)]
        blurred = np.dstack(channels)
    else:
        blurred = sharp
    if shot.residual:
        blurred = spread(blurred, GAUSSIAN.kernel(2 * shot.residual))
    gt, lq = sensor.values(sharp[window]), sensor.values(sensor.noisy(shot.noise, blurred[window]))
    if shot.chroma or shot.luma:
        lq = denoised(lq, shot.chroma, shot.luma)
    sigma, amount = shot.sharpen
    if amount:
        lq, gt = sharpened(lq, sigma, amount), sharpened(gt, sigma, amount) if shot.sharpen_both else gt
    if shot.resize > 1:
        lq, gt = (cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in (lq, gt))
    if shot.soften < 1:
        lq = softened(lq, shot.soften)
    # Both images lose the same chroma resolution: restoring it would alter every photograph that is a JPEG.
    chroma = Sensor(jpeg=sensor.jpeg and 100, webp=sensor.webp and 100)
    return RenderedPair(sensor.stored(lq), chroma.stored(gt))
