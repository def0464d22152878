"""Classical methods as image restorers, and the choice of one on the command line."""

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ggkm_plugin.classical.edge_map import LARGEST
from ggkm_plugin.classical.methods import Method, method
from ggkm_plugin.classical.working import progress_lines
from ggkm_plugin.report.pictures import colored, preview
from ggkm_plugin.restoration.restorer import ImageRestorer, check_restored
from ggkm_plugin.utils.config import parse_named
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.memory import bounded_memory

_log = logging.getLogger(__name__)


class MethodRestorer(ImageRestorer):
    """A classical method with its settings; it runs on the CPU.

    tell: called with lines about the progress. name: what they call it; default: the method's.
    """

    has_blur_map = True

    def __init__(self, chosen: Method, tell: Callable[[str], None] = _log.info, name: str | None = None) -> None:
        self.method, self.tell = chosen, tell
        self.name, self.settings = name or chosen.name, chosen.description

    def restore(self, image: Tensor) -> Tensor:
        if image.ndim == 4:
            return torch.stack([self.restore(one) for one in image])
        with bounded_memory(self.device):  # an allocation that fails is an error; else the kernel kills the process
            x = self.method(_array(image), progress_lines(self.name, self.tell))
        return check_restored(self.name, image, torch.from_numpy(x).permute(2, 0, 1)).to(image.device)

    def blur_map(self, image: Tensor) -> np.ndarray:
        return preview(colored(self.method.blur_map(_array(image)) / LARGEST))


def chosen_method(text: str) -> Method:
    """Parse ``EBDB``, or with settings ``EBDB,fidelity=420,bins=16``. Raises OptionError."""
    name, settings = parse_named('--method', text)
    try:
        return method(name, settings)
    except OptionError as error:
        raise OptionError(f'--method {text}: {error}') from None


def _array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).float().cpu().numpy()
