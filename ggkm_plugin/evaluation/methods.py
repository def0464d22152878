"""A classical method as a model of a comparison; it runs on the processor."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ggkm_plugin import classical
from ggkm_plugin.classical.edge_map import LARGEST
from ggkm_plugin.classical.working import told
from ggkm_plugin.evaluation.compare_config import MethodEntry
from ggkm_plugin.evaluation.complexity import Size
from ggkm_plugin.evaluation.contestants import Contestant, Tell
from ggkm_plugin.report.pictures import colored, preview
from ggkm_plugin.utils.hashing import file_digest


class MethodContestant(Contestant):
    """A classical method with its settings; it has no parameters, and its operations depend on the image."""

    def __init__(self, entry: MethodEntry) -> None:
        self.name, self.method = entry.name, entry.method
        self.arch, self.parameters = self.method.name, 0
        self.settings = self.method.description
        self.structure = {'method': self.method.name, **self.settings, 'source': _source_digests()}
        self.depends = self.structure

    def restore(self, image: Tensor, tell: Tell) -> Tensor:
        restored = self.method(_array(image), told(self.name, tell))
        return torch.from_numpy(restored).permute(2, 0, 1).to(image.device)

    @property
    def sees_blur(self) -> bool:
        return True

    def blur_map(self, image: Tensor) -> np.ndarray:
        return preview(colored(self.method.blur_map(_array(image)) / LARGEST))

    def profile(self, size: Size, device: str, repeats: int, tell: Tell) -> None:
        return None


def _source_digests() -> list[str]:
    """Of the methods and the dictionary."""
    files = sorted(Path(classical.__file__).parent.iterdir())
    return [file_digest(str(file)) for file in files if file.suffix in ('.py', '.npz')]


def _array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).float().cpu().numpy()
