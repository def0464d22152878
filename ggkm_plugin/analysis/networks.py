"""The network that is looked at: from a checkpoint that describes itself, or untrained, and then said to be so."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from ggkm_plugin import preflight
from ggkm_plugin.archs.ggkmnet_ablations_arch import LearnedGroupBlur
from ggkm_plugin.archs.ggkmnet_arch import FixedPointStep, GGKMNet, GroupGaussianBlur
from ggkm_plugin.checkpoints import network_options, read_checkpoint
from ggkm_plugin.errors import CheckpointError, OptionError


@dataclass(frozen=True, eq=False)
class Subject:
    """A network in evaluation mode whose steps blur by alpha and beta.

    source: its weights, or that it has none; options: `type` and the arguments that build it.
    """

    net: GGKMNet
    source: str
    trained: bool
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return type(self.net).__name__

    def step_of(self, scale: int, iteration: int) -> FixedPointStep:
        """Both count from 1, scales from the coarsest."""
        return cast(FixedPointStep, self.net.steps_of_scale(scale)[iteration - 1])


def load_subject(weights: str | None, arch: str = 'GGKMNet') -> Subject:
    """The network of a checkpoint, or an untrained `arch` with its defaults.

    Raises CheckpointError for a file that is no complete checkpoint of a network that it describes, OptionError for a
    network that predicts no PSFs.
    """
    if weights is None:
        options = {'type': arch}
        net = preflight.build('network', 'archs', options)
        _check(net, arch)
        return Subject(net.eval(), 'untrained, random weights', False, options)
    options = network_options(weights)
    content = read_checkpoint(weights)
    net = preflight.build(weights, 'archs', options)
    _check(net, weights)
    state = content.get('params', content.get('params_ema'))
    try:
        net.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise CheckpointError(
            f'{weights}: not weights of the {options["type"]} that it describes ({reason})'
        ) from error
    iteration = content['description'].get('iteration', 'latest')
    if iteration == 0:
        return Subject(net.eval(), f'{Path(weights).name}, saved before any training', False, options)
    after = 'at the end of its training' if iteration == 'latest' else f'after {iteration} iterations'
    return Subject(net.eval(), f'{Path(weights).name}, {after}', True, options)


def _check(net: nn.Module, where: str) -> None:
    blurs = [step.blur for step in net.steps] if isinstance(net, GGKMNet) else []
    if not blurs or not all(isinstance(blur, GroupGaussianBlur | LearnedGroupBlur) for blur in blurs):
        raise OptionError(
            f'{where}: {type(net).__name__} predicts no PSFs by alpha and beta; GGKMNet and its ablations but for '
            'MCPNet do'
        )
