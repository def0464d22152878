"""The inspected network: from a self-describing checkpoint, or untrained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from ggkm_plugin.archs.ggkmnet_arch import FixedPointStep, GGKMNet
from ggkm_plugin.restoration.load import build_network, load
from ggkm_plugin.restoration.psf import predicts_psfs
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.errors import OptionError


@dataclass(frozen=True, eq=False)
class Subject:
    """A network in evaluation mode whose steps blur by alpha and beta.

    source: description of its weights; options: `type` and the arguments that build it.
    """

    net: GGKMNet
    source: str
    trained: bool
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return type(self.net).__name__

    def step_of(self, scale: int, iteration: int) -> FixedPointStep:
        """Return a step; scale (coarse to fine) and iteration count from 1."""
        return cast(FixedPointStep, self.net.steps_of_scale(scale)[iteration - 1])


def load_subject(weights: str | None, network: Options | None = None) -> Subject:
    """Load the network of a checkpoint, or build an untrained `network` (`type` and arguments).

    Raises CheckpointError for a file that cannot be loaded, OptionError for a network that predicts no PSFs.
    """
    if weights is None:
        options = network or {'type': 'GGKMNet'}
        net = _checked(build_network(options, 'network'), options['type'])
        return Subject(net.eval(), 'untrained, random weights', False, options)
    loaded = load(weights, network)
    net, name = _checked(loaded.net, loaded.path), Path(loaded.path).name
    iteration = loaded.description.get('iteration', 'latest')
    if iteration == 0:
        return Subject(net.eval(), f'{name}, saved before any training', False, loaded.options)
    after = 'at the end of its training' if iteration == 'latest' else f'after {iteration} iterations'
    return Subject(net.eval(), f'{name}, {after}', True, loaded.options)


def _checked(net: nn.Module, where: str) -> GGKMNet:
    if predicts_psfs(net):
        family = cast(GGKMNet, net)
        if (channels := cast(FixedPointStep, family.steps[0]).blur.mix.out_channels) != 3:
            raise OptionError(f'{where}: its images have {channels} channels, but photographs have 3')
        return family
    raise OptionError(f'{where}: {type(net).__name__} predicts no PSFs. Use GGKMNet or an ablation except MCPNet')
