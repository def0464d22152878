"""Cropping and padding of images by protocol, before they are restored and scored."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ggkm_plugin.metrics.protocols import find_protocol
from ggkm_plugin.ops.boundary import pad_to_multiple


@dataclass(frozen=True)
class Sizing:
    """Images are cropped, or padded at the bottom and the right, to multiples of `multiple`, and scored so.

    kept_whole: benchmarks whose result is cropped back to the photograph before it is scored.
    """

    how: Literal['crop', 'reflect', 'zero']
    multiple: int
    kept_whole: tuple[str, ...] = ()


# Protocols that are not here leave images as they are.
SIZINGS = {
    'ifan': Sizing('crop', 8),
    'drbnet': Sizing('crop', 16),
    'nrknet': Sizing('reflect', 16, kept_whole=('RTF',)),
    'gkmnet': Sizing('zero', 16),
}
_WORDS = {
    'crop': 'images cropped to multiples of {}',
    'reflect': 'images reflect-padded to multiples of {} and scored with the padding{}',
    'zero': 'images zero-padded to multiples of {} and scored with the padding{}',
}
_WINDOWS = {'uniform': 'uniform 7x7', 'gaussian': 'Gaussian 11x11'}
_LPIPS = {'rgb': 'RGB in [-1,1]', 'bgr': 'BGR in [-1,1]', 'unscaled': 'RGB left in [0,1]'}


def sized(image: Tensor, protocol: str) -> Tensor:
    """Crop or pad (3,H,W) as the protocol does before restoring and scoring."""
    sizing = SIZINGS.get(protocol)
    if sizing is None:
        return image
    height, width = image.shape[-2:]
    if sizing.how == 'crop':
        return image[..., : height - height % sizing.multiple, : width - width % sizing.multiple]
    return pad_to_multiple(image, sizing.multiple, boundary='zeros' if sizing.how == 'zero' else 'reflect')


def scored(image: Tensor, protocol: str, benchmark: str, size: tuple[int, int]) -> Tensor:
    """Return the part of a `sized` image that is scored; `size` (H,W) is that of the photograph."""
    sizing = SIZINGS.get(protocol)
    return shown(image, size) if sizing and benchmark in sizing.kept_whole else image


def shown(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop the padding, for pictures."""
    return image[..., : size[0], : size[1]]


def protocol_words(name: str, lpips: bool = False) -> str:
    """Describe a protocol in one line, for the notes of a table; with `lpips` also the input of LPIPS."""
    protocol, sizing = find_protocol(name), SIZINGS.get(name)
    size = 'whole images'
    if sizing:
        but = f' ({", ".join(sizing.kept_whole)}: without)' if sizing.kept_whole else ''
        size = _WORDS[sizing.how].format(sizing.multiple, but)
    values = 'rounded to 8 bits' if protocol.quantize else 'clipped, not rounded' if protocol.clip else 'not clipped'
    words = [
        f'protocol {name}: RGB, files as they are (its authors read {protocol.bits} bits)',
        size,
        f'results {values}',
        f'SSIM {_WINDOWS[protocol.ssim_window]}',
        *([f'LPIPS of {_LPIPS[protocol.lpips_input]}'] if lpips and protocol.lpips_input else []),
        'mean over images',
    ]
    return ', '.join(words)
