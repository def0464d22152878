"""A classical method as what deblurs a photograph: chosen by one word of a command line, on images as they are read."""

import numpy as np
import torch

from ggkm_plugin.classical.methods import Method, method
from ggkm_plugin.classical.working import told
from ggkm_plugin.restoration.batch import Restore, Tell
from ggkm_plugin.utils.config import parse_assignments
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.memory import bounded_memory


def chosen_method(text: str) -> Method:
    """``EBDB``, or with settings: ``EBDB,fidelity=420,bins=16``. Raises OptionError."""
    name, *words = text.split(',')
    settings = parse_assignments(f'--method {name}:', words)
    if len(settings) < len(words):
        raise OptionError(f'--method {text}: a setting is set twice')
    try:
        return method(name.strip(), settings)
    except OptionError as error:
        raise OptionError(f'--method {text}: {error}') from None


def method_restorer(chosen: Method, device: str, tell: Tell) -> Restore:
    """RGB (H,W,3) or grey (H,W) of uint8 or uint16 to the same; on the processor, whatever the device."""

    def restore(image: np.ndarray) -> np.ndarray:
        white = np.iinfo(image.dtype).max
        grey = image.ndim == 2
        y = np.repeat(image[..., None], 3, axis=2) if grey else image
        with bounded_memory(torch.device('cpu')):  # else the kernel ends the process, and with it all other photographs
            x = chosen(y.astype(np.float32) / white, told(chosen.name, tell))
        if not np.isfinite(x).all():
            raise DataError(f'{chosen.name} with these settings gives no image; leave them out')
        if grey:
            x = x.mean(2)
        return (np.clip(x, 0, 1) * white).round().astype(image.dtype)

    return restore
