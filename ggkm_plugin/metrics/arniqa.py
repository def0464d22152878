"""ARNIQA (Agnolucci et al., WACV 2024): quality of one image without ground truth, as torchmetrics computes it.

Its weights are the two files that the authors released. They are read from the cache of torch; nothing is downloaded.
Without them ARNIQA is skipped (`metrics.selection`).
"""

import warnings
import zipfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ggkm_plugin.metrics.defocus_metrics import Image, prepare
from ggkm_plugin.metrics.protocols import find_protocol
from ggkm_plugin.utils.checkpoint import read_checkpoint
from ggkm_plugin.utils.errors import OptionError, UserError
from ggkm_plugin.utils.registry import METRIC_REGISTRY

# Encoder, and regressor trained on KonIQ-10k: photographs with authentic distortions.
FILES = ('ARNIQA.pth', 'regressor_koniq10k.pth')
_ADDRESS = 'https://github.com/miccunifi/ARNIQA/releases/download/weights/'


@METRIC_REGISTRY.register()
def defocus_arniqa(img: Image, protocol: str = 'restormer', **kwargs: Any) -> float:
    """Compute ARNIQA of the image, trained on KonIQ-10k: about 0 to 1; higher is better.

    It is computed on the image's device, in float32.

    Raises:
        OptionError: torchmetrics or a file of the weights is missing, or a file is another one.
        ValueError: the image has less than two pixels on a side, since its half size is scored too.
    """
    if reason := _missing():
        raise OptionError(reason)
    rgb, _ = prepare(img, img, find_protocol(protocol))
    if min(rgb.shape[1:]) < 2:
        raise ValueError(f'ARNIQA needs images of at least 2x2 pixels, got {tuple(rgb.shape[1:])}.')
    with torch.no_grad():
        return _model(*_files()).to(rgb.device)(rgb.float().clamp(0, 1)[None], normalize=True).item()


def _missing(**options: Any) -> str | None:
    """Return why ARNIQA cannot be computed here."""
    if find_spec('torchmetrics') is None:
        return "ARNIQA needs torchmetrics. Run pip install 'ggkm_plugin[iqa]'"
    for path in _files():
        if not path.is_file():
            return f'ARNIQA: its weights are missing. Put {_ADDRESS}{path.name} into {path.parent}'
    try:
        _model(*_files())
    except OptionError as error:
        return str(error)
    return None


def _files(**options: Any) -> list[Path]:
    return [Path(torch.hub.get_dir(), 'checkpoints', name) for name in FILES]


defocus_arniqa.takes_float = True  # type: ignore[attr-defined]
defocus_arniqa.missing = _missing  # type: ignore[attr-defined]
defocus_arniqa.files = _files  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def _model(encoder: Path, regressor: Path) -> nn.Module:
    """Load the network of torchmetrics. Raises OptionError for files that are not ARNIQA's."""
    from torchmetrics.image.arniqa import ARNIQA

    try:
        # torchmetrics reads both without `weights_only`, so files that could run code are refused before.
        read_checkpoint(encoder)
        with zipfile.ZipFile(regressor) as archive:
            if not any(name.endswith('/constants.pkl') for name in archive.namelist()):  # of TorchScript
                raise ValueError(f'{regressor.name} is no TorchScript archive')
        with warnings.catch_warnings():  # torch says that it opens TorchScript
            warnings.simplefilter('ignore')
            return ARNIQA(regressor_dataset='koniq10k').model
    except (UserError, zipfile.BadZipFile, OSError, RuntimeError, ValueError, AttributeError, LookupError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise OptionError(
            f'ARNIQA: {encoder.parent}: {" or ".join(FILES)} has other content ({type(error).__name__}: {reason}). '
            f'Download both again from {_ADDRESS}'
        ) from error
