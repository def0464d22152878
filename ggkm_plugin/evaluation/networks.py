"""Network of a comparison: with the weights of a checkpoint, the packaged ones, or none."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ggkm_plugin.evaluation.compare_config import PACKAGED, UNTRAINED, Entry
from ggkm_plugin.evaluation.complexity import Profile, Size, count_parameters, profile
from ggkm_plugin.evaluation.contestants import Contestant, Tell
from ggkm_plugin.evaluation.sizing import padded, shown
from ggkm_plugin.report.pictures import coefficient_map
from ggkm_plugin.restoration.load import build_network, load
from ggkm_plugin.restoration.restorer import check_restored
from ggkm_plugin.restoration.tiling import restored
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.hashing import code_digest, file_digest
from ggkm_plugin.utils.memory import bounded_memory, memory_advice


class NetworkContestant(Contestant):
    """A network in evaluation mode on its device."""

    def __init__(self, entry: Entry, device: torch.device) -> None:
        """Raises CheckpointError for weights that are missing, damaged or of another network, OptionError for a
        description in them that cannot be built.
        """
        self.entry, self.name = entry, entry.name
        where, named, param_key = f'{entry.name}: network_g', None, None
        if entry.weights == UNTRAINED:
            assert entry.network is not None
            network, self.sha256, named = entry.network, None, 'none: untrained'
            with torch.random.fork_rng():
                torch.manual_seed(0)
                net = build_network(network, where)
        else:
            weights = None if entry.weights == PACKAGED else entry.weights
            loaded = load(weights, entry.network, entry.param_key, where)
            net, network, param_key = loaded.net, loaded.options, loaded.param_key
            named = loaded.packaged and f'{loaded.packaged}, packaged'
            self.sha256 = file_digest(loaded.path)
        self.settings = {'weights': named} if named else None
        self.net: nn.Module = net.to(device).eval().requires_grad_(False)
        self.arch = str(network['type'])
        self.parameters = count_parameters(net)[1]
        self.size_multiple = entry.size_multiple or int(getattr(net, 'size_multiple', 1))
        self.structure: dict[str, Any] = {
            'network': network,
            'code': code_digest(*{kind for module in net.modules() for kind in type(module).__mro__}),
            'size_multiple': self.size_multiple,
        }
        self.depends = {
            **self.structure,
            'weights': self.sha256 or UNTRAINED,
            'param_key': param_key,
            'colour': entry.colour,
            'range': entry.range,
        }

    @torch.no_grad()
    def restore(self, image: Tensor, tell: Tell) -> Tensor:
        """At once, or in exact tiles where the memory does not suffice."""
        height, width = image.shape[-2:]
        low, high = self.entry.range
        x = padded(image, self.size_multiple)[None]
        x = self._turned(x) * (high - low) + low
        with bounded_memory(x.device):
            y = check_restored(self.arch, x, restored(self.net, x, None, tell))
        return shown(self._turned((y - low) / (high - low))[0], (height, width)).float()

    @property
    def sees_blur(self) -> bool:
        return hasattr(self.net, 'coefficients')

    def blur_map(self, image: Tensor) -> np.ndarray:
        drawn = coefficient_map(self.net, padded(image, self.size_multiple)[None], stretched=True)
        assert drawn is not None
        return drawn

    def profile(self, size: Size, device: str, repeats: int, tell: Tell) -> Profile:
        tell(f'{self.name}: costs of an image of {size[1]}x{size[0]}')
        height, width = (-(-side // self.size_multiple) * self.size_multiple for side in size)
        where = torch.device(device)
        with memory_advice(f'on an image of {height}x{width}', 'leave out complexity'), bounded_memory(where):
            return profile(self.net, (height, width), device, repeats, name=self.name)

    def _turned(self, image: Tensor) -> Tensor:
        return image.flip(1) if self.entry.colour == 'bgr' else image


def chosen_device(num_gpu: str | int) -> torch.device:
    """One GPU a process, or the CPU. Raises OptionError where fewer GPUs are there than asked for."""
    there = torch.cuda.device_count()
    if isinstance(num_gpu, int) and num_gpu > there:
        raise OptionError(f'num_gpu: {num_gpu} but this machine has {there}; set num_gpu: auto')
    return torch.device('cuda', torch.cuda.current_device()) if there and num_gpu != 0 else torch.device('cpu')
