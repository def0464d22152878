"""A classical method as what deblurs a photograph: chosen by one word of a command line, on images as they are read."""

import numpy as np
import yaml

from ggkm_plugin.classical.methods import Method, method
from ggkm_plugin.classical.working import told
from ggkm_plugin.errors import OptionError
from ggkm_plugin.inference.deblurring import Restore, Tell


def chosen_method(text: str) -> Method:
    """``EBDB``, or with settings: ``EBDB,fidelity=420,bins=16``. Raises OptionError."""
    name, *words = text.split(',')
    settings = {}
    for word in words:
        key, equals, value = word.partition('=')
        if not equals or not value:
            raise OptionError(f'--method {text}: a setting is written KEY=VALUE, not {word!r}')
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            raise OptionError(f'--method {text}: {value!r} is no value') from None
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
        x = chosen(y.astype(np.float32) / white, told(chosen.name, tell))
        if grey:
            x = x.mean(2)
        return (np.clip(x, 0, 1) * white).round().astype(image.dtype)

    return restore
