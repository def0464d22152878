"""Evaluation protocols: what each published evaluation script does to the two images before it scores them.

A preset covers the part that belongs to a metric: clipping, rounding and the SSIM window. What a script does to the
network's *input* (bit depth, cropping, padding) is the data set's and the restorer's business; it is named beside each
row because a number is only comparable with the published one if that was done too.
"""

from dataclasses import dataclass
from typing import Literal

from ggkm_plugin.ops.ssim import Window
from ggkm_plugin.utils.config import nearest
from ggkm_plugin.utils.errors import OptionError

# RGB in [-1, 1], as the metric was made for; BGR in [-1, 1]; or RGB left in [0, 1].
LpipsInput = Literal['rgb', 'bgr', 'unscaled']


@dataclass(frozen=True)
class Protocol:
    """Preparation and scoring of a pair of images in [0, 1]; PSNR and MAE are over all pixels and channels (RGB).

    clip: both images are clipped to [0, 1]. quantize: then rounded to multiples of 1/255. ssim_window: see `ops.ssim`.
    lpips_input: what LPIPS is given; None where the script has no LPIPS. bits: of the image files that it reads.
    """

    name: str
    clip: bool
    quantize: bool
    ssim_window: Window
    lpips_input: LpipsInput | None = 'rgb'
    bits: Literal[8, 16] = 8


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # Input: 16-bit, 1680x1120. Its script clips nothing: the network ends in a sigmoid, so its output is in [0, 1].
        Protocol('dpdnet', clip=True, quantize=False, ssim_window='uniform', bits=16),
        # Input: 8-bit, input and ground truth cropped to multiples of 8. The raw output is scored.
        Protocol('ifan', clip=False, quantize=False, ssim_window='uniform'),
        # Input: 8-bit, input and ground truth cropped to multiples of 16. The network clips its own output. No MAE.
        Protocol('drbnet', clip=True, quantize=False, ssim_window='uniform'),
        # Input: 8-bit, whole. The output is clamped and stays float.
        Protocol('restormer', clip=True, quantize=False, ssim_window='uniform'),
        # Input: 8-bit, reflect-padded to multiples of 16; scored on the padded images (RTF is cropped back). No MAE.
        # Its script clips for PSNR only and leaves overshoots in SSIM: here both see 8-bit images.
        Protocol('nrknet', clip=True, quantize=True, ssim_window='gaussian', lpips_input='bgr'),
        # Input: 8-bit, zero-padded to multiples of 16; scored on the padded images. No MAE. Overshoots as in nrknet.
        Protocol('gkmnet', clip=True, quantize=True, ssim_window='gaussian', lpips_input='unscaled'),
        # Input: 8-bit, whole. BasicSR's own `calculate_psnr` and `calculate_ssim`, crop_border 0, RGB. No MAE.
        Protocol('basicsr', clip=True, quantize=True, ssim_window='gaussian', lpips_input=None),
    )
}


def find_protocol(name: str) -> Protocol:
    """Look up a preset. Raises OptionError that names the nearest one, or the whole list."""
    if name not in PROTOCOLS:
        raise OptionError(f'protocol: {name!r} is unknown.{nearest(str(name), list(PROTOCOLS), "Protocols")}')
    return PROTOCOLS[name]
