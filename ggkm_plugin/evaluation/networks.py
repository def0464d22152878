"""A network of a comparison with its weights: built, loaded and run on one image, each mistake named.

Weights lie in a checkpoint under the entry's `param_key`; by default under params, params_ema, state_dict or model,
whichever is there first; else the file itself is the state dict. Or they are the packaged ones, or none.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ggkm_plugin.evaluation.compare_config import PACKAGED, UNTRAINED, Entry
from ggkm_plugin.evaluation.complexity import Profile, Size, count_parameters, profile
from ggkm_plugin.evaluation.contestants import Contestant, Tell
from ggkm_plugin.evaluation.sizing import padded, shown
from ggkm_plugin.report.pictures import coefficient_map
from ggkm_plugin.restoration.restorer import check_restored
from ggkm_plugin.restoration.tiling import restored
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.checkpoint import described_network, read_checkpoint, weights_of
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.errors import CheckpointError, OptionError
from ggkm_plugin.utils.hashing import code_digest, file_digest
from ggkm_plugin.utils.memory import bounded_memory, memory_advice
from ggkm_plugin.weights import NAMES, checkpoint_path, packaged_weights

_PARAM_KEYS = ('params', 'params_ema', 'state_dict', 'model')
_LONGEST = 300  # of a reason in torch's words


class NetworkContestant(Contestant):
    """A network in evaluation mode on its device."""

    def __init__(self, entry: Entry, device: torch.device) -> None:
        """Raises CheckpointError for weights that are missing, damaged or of another network, OptionError for a
        description in them that cannot be built.
        """
        self.entry, self.name = entry, entry.name
        if entry.weights == UNTRAINED:
            named: str | None = 'none: untrained'
            net, network, self.sha256 = _untrained(entry)
        else:
            path = checkpoint_path(None if entry.weights == PACKAGED else entry.weights)
            named = {packaged_weights(name): f'{name}, packaged' for name in NAMES}.get(path)
            net, network, self.sha256 = _trained(entry, path)
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
            'param_key': entry.param_key,
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


def _trained(entry: Entry, path: str) -> tuple[nn.Module, Options, str]:
    """The network with its weights, its options, and the weights' sha256."""
    content = read_checkpoint(path)
    network = entry.network or described_network(content, path, 'set network_g in the option file')
    net = registry.build(f'{entry.name}: network_g', 'archs', network)
    _load(net, content, entry, path)
    return net, network, file_digest(path)


def _untrained(entry: Entry) -> tuple[nn.Module, Options, None]:
    assert entry.network is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return registry.build(f'{entry.name}: network_g', 'archs', entry.network), entry.network, None


def _load(net: nn.Module, content: dict[str, Any], entry: Entry, path: str) -> None:
    """Every key or none. Raises CheckpointError."""
    if entry.param_key and entry.param_key not in content:
        raise CheckpointError(f'{path}: has no {entry.param_key}; it has {", ".join(map(str, content))}')
    state = weights_of(content, path, [entry.param_key] if entry.param_key else _PARAM_KEYS)
    try:
        net.load_state_dict({key.removeprefix('module.'): value for key, value in state.items()})
    except (RuntimeError, AttributeError, TypeError, KeyError) as error:
        reason = ' '.join(str(error).split())
        raise CheckpointError(
            f'{path}: not weights of {type(net).__name__} with these options '
            f'({reason[:_LONGEST]}{"..." if len(reason) > _LONGEST else ""})'
        ) from error


def chosen_device(num_gpu: str | int) -> torch.device:
    """One GPU a process, or the CPU. Raises OptionError where fewer GPUs are there than asked for."""
    there = torch.cuda.device_count()
    if isinstance(num_gpu, int) and num_gpu > there:
        raise OptionError(f'num_gpu: {num_gpu} but this machine has {there}; set num_gpu: auto')
    return torch.device('cuda', torch.cuda.current_device()) if there and num_gpu != 0 else torch.device('cpu')
