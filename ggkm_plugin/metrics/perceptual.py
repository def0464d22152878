"""LPIPS under a named protocol, without a network: its trunk comes from a file.

The package `lpips` brings the calibrated heads (v0.1); the trunk, an ImageNet classifier's features, it would download.
"""

import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ggkm_plugin.metrics.defocus_metrics import Image, prepare
from ggkm_plugin.metrics.protocols import PROTOCOLS, find_protocol
from ggkm_plugin.utils.checkpoint import read_checkpoint
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.registry import METRIC_REGISTRY

# torchvision's file of each trunk; LPIPS was calibrated on these weights.
TRUNKS = {
    'alex': 'alexnet-owt-7be5be79.pth',
    'vgg': 'vgg16-397923af.pth',
    'squeeze': 'squeezenet1_1-b8a52dc0.pth',
}
VARIABLE = 'LPIPS_TRUNK'
_ADDRESS = 'https://download.pytorch.org/models/'
# Pixels: below, the trunks' poolings leave nothing of an image.
_LEAST = 32


@METRIC_REGISTRY.register()
def defocus_lpips(
    img: Image, img2: Image, protocol: str = 'restormer', net: str = 'alex', trunk: str | None = None, **kwargs: Any
) -> float:
    """LPIPS v0.1 (Zhang et al., CVPR 2018), 0 for identical images; lower is better.

    net: alex, vgg or squeeze. trunk: its ImageNet weights, a file or a folder that has it; default: the environment
    variable LPIPS_TRUNK, then torch's own cache. Computed on the images' device, in float32.
    Raises OptionError if the trunk is not there or the protocol has no LPIPS, ValueError as the other metrics do and
    for images of less than 32 pixels.
    """
    _check(protocol, net, trunk)
    preset = find_protocol(protocol)
    rgb, rgb2 = (image.float() for image in prepare(img, img2, preset))
    if min(rgb.shape[1:]) < _LEAST:
        raise ValueError(f'LPIPS needs images of at least {_LEAST} pixels, got {tuple(rgb.shape[1:])}.')
    if preset.lpips_input == 'bgr':
        rgb, rgb2 = rgb.flip(0), rgb2.flip(0)
    model = _model(net, str(find_trunk(net, trunk))).to(rgb.device)
    with torch.no_grad():
        return model(rgb[None], rgb2[None], normalize=preset.lpips_input != 'unscaled').item()


def _check(protocol: str = 'restormer', net: str = 'alex', trunk: str | None = None) -> None:
    """Raises OptionError before a training starts that would end at its first validation."""
    preset = find_protocol(protocol)
    if preset.lpips_input is None:
        those = ', '.join(name for name, other in PROTOCOLS.items() if other.lpips_input)
        raise OptionError(f'protocol {protocol} has no LPIPS; those that have one: {those}')
    find_trunk(net, trunk)


defocus_lpips.takes_float = True  # type: ignore[attr-defined]
defocus_lpips.better = 'lower'  # type: ignore[attr-defined]
defocus_lpips.check = _check  # type: ignore[attr-defined]


def find_trunk(net: str, trunk: str | None = None) -> Path:
    """The file with the weights of a trunk. Raises OptionError saying where to put it."""
    if net not in TRUNKS:
        raise OptionError(f'net of LPIPS is one of {", ".join(TRUNKS)}, not {net!r}')
    name = TRUNKS[net]
    given = trunk or os.environ.get(VARIABLE)
    if given:
        path = Path(given).expanduser()
        found = path / name if path.is_dir() else path
        if not found.is_file():
            raise OptionError(f'LPIPS: {found}: no such file; {VARIABLE} or the option trunk names it or its folder')
        return found
    cached = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if not cached.is_file():
        raise OptionError(
            f'LPIPS with {net} needs the weights of its trunk: put {_ADDRESS}{name} into {cached.parent}, or name the '
            f'file by the option trunk or the variable {VARIABLE}'
        )
    return cached


@lru_cache(maxsize=3)
def _model(net: str, trunk: str) -> nn.Module:
    """LPIPS with the trunk's weights from a file of torchvision's, of the whole classifier or its features."""
    import lpips

    with warnings.catch_warnings():  # it speaks an older torchvision's language
        warnings.simplefilter('ignore')
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    try:
        content = read_checkpoint(trunk)
        features = {key.removeprefix('features.'): value for key, value in content.items()}
        state = {key: features[key.partition('.')[2]] for key in model.net.state_dict()}  # slice3.6.weight: 6.weight
        model.net.load_state_dict(state)
    except Exception as error:  # torch raises many kinds for what is in a foreign file
        reason = ' '.join(str(error).split())[:200]
        raise OptionError(
            f'LPIPS: {trunk}: not the weights of {TRUNKS[net]} ({type(error).__name__}: {reason})'
        ) from error
    return model.requires_grad_(False)
