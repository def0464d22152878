"""Perceptual metrics: LPIPS under a named protocol, and NIQE, which needs no ground truth.

The package `lpips` has the calibrated heads (v0.1). Its backbone, or trunk, has the weights of an ImageNet classifier.
They are read from a local file; nothing is downloaded. Without the file LPIPS is skipped (`metrics.selection`).
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

from basicsr.metrics import calculate_niqe  # isort: skip

# torchvision's file of each backbone. LPIPS was calibrated on these weights.
TRUNKS = {
    'alex': 'alexnet-owt-7be5be79.pth',
    'vgg': 'vgg16-397923af.pth',
    'squeeze': 'squeezenet1_1-b8a52dc0.pth',
}
VARIABLE = 'LPIPS_TRUNK'
_ADDRESS = 'https://download.pytorch.org/models/'
# Smallest side, in pixels, of an image that the poolings of all backbones take.
_LEAST = 32
# Side of NIQE's blocks; their covariance needs two.
_BLOCK = 96


@METRIC_REGISTRY.register()
def defocus_lpips(
    img: Image, img2: Image, protocol: str = 'restormer', net: str = 'alex', trunk: str | None = None, **kwargs: Any
) -> float:
    """Compute LPIPS v0.1 (Zhang et al., CVPR 2018): 0 for identical images; lower is better.

    It is computed on the images' device, in float32.

    Args:
        net: alex, vgg or squeeze.
        trunk: ImageNet weights of the backbone, a file or its folder. Default: the environment variable LPIPS_TRUNK,
            then the cache of torch.

    Raises:
        OptionError: the file is missing, or the protocol has no LPIPS.
        ValueError: as the other metrics do, and for images of less than 32 pixels.
    """
    _check(protocol, net)
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
    """Raise OptionError for options that are wrong on every machine."""
    preset = find_protocol(protocol)
    if preset.lpips_input is None:
        those = ', '.join(name for name, other in PROTOCOLS.items() if other.lpips_input)
        raise OptionError(f'protocol {protocol} has no LPIPS; those that have one: {those}')
    if net not in TRUNKS:
        raise OptionError(f'net of LPIPS is one of {", ".join(TRUNKS)}, not {net!r}')


def _missing(protocol: str = 'restormer', net: str = 'alex', trunk: str | None = None) -> str | None:
    """Return why the backbone cannot be used: its file is missing or damaged."""
    try:
        _model(net, str(find_trunk(net, trunk)))
    except OptionError as error:
        return str(error)
    return None


def _files(net: str = 'alex', trunk: str | None = None, **options: Any) -> list[Path]:
    return [find_trunk(net, trunk)]


defocus_lpips.takes_float = True  # type: ignore[attr-defined]
defocus_lpips.better = 'lower'  # type: ignore[attr-defined]
defocus_lpips.check = _check  # type: ignore[attr-defined]
defocus_lpips.missing = _missing  # type: ignore[attr-defined]
defocus_lpips.files = _files  # type: ignore[attr-defined]


@METRIC_REGISTRY.register()
def defocus_niqe(img: Image, protocol: str = 'restormer', **kwargs: Any) -> float:
    """Compute BasicSR's NIQE of the image in 8 bits; lower is better.

    Raises ValueError for images with fewer than two blocks of 96x96 pixels.
    """
    rgb, _ = prepare(img, img, find_protocol(protocol))
    height, width = rgb.shape[1:]
    if (height // _BLOCK) * (width // _BLOCK) < 2:
        raise ValueError(f'NIQE needs images of at least {_BLOCK}x{2 * _BLOCK} pixels, got {height}x{width}.')
    bgr = rgb.flip(0).clamp(0, 1).mul(255).round().permute(1, 2, 0).to('cpu', torch.uint8).numpy()
    return calculate_niqe(bgr, crop_border=0)


defocus_niqe.takes_float = True  # type: ignore[attr-defined]
defocus_niqe.better = 'lower'  # type: ignore[attr-defined]


def find_trunk(net: str, trunk: str | None = None) -> Path:
    """Find the file with the weights of a backbone. Raises OptionError that says where to put it."""
    name = TRUNKS[net]
    given = trunk or os.environ.get(VARIABLE)
    if given:
        path = Path(given).expanduser()
        found = path / name if path.is_dir() else path
        if not found.is_file():
            raise OptionError(f'LPIPS: {found}: no such file. Name it or its folder by the option trunk or {VARIABLE}')
        return found
    cached = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if not cached.is_file():
        raise OptionError(
            f'LPIPS: the weights of its backbone are missing. Put {_ADDRESS}{name} into {cached.parent}, or name the '
            f'file by the option trunk or the variable {VARIABLE}'
        )
    return cached


@lru_cache(maxsize=3)
def _model(net: str, trunk: str) -> nn.Module:
    """Load LPIPS with a backbone from a file of torchvision: of the whole classifier or of its features."""
    import lpips

    with warnings.catch_warnings():  # it uses arguments that torchvision has deprecated
        warnings.simplefilter('ignore')
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    try:
        content = read_checkpoint(trunk)
        features = {key.removeprefix('features.'): value for key, value in content.items()}
        state = {key: features[key.partition('.')[2]] for key in model.net.state_dict()}  # slice3.6.weight: 6.weight
        model.net.load_state_dict(state)
    except Exception as error:  # torch raises many kinds for other files
        reason = ' '.join(str(error).split())[:200]
        raise OptionError(
            f'LPIPS: {trunk}: not the weights of {TRUNKS[net]} ({type(error).__name__}: {reason})'
        ) from error
    return model.requires_grad_(False)
