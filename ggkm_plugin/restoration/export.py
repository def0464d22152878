"""Export of a checkpoint's network to a file for other programs: its EMA weights and its description."""

import os
from pathlib import Path

import torch

from ggkm_plugin.restoration.load import load
from ggkm_plugin.utils.checkpoint import check_suffix, describe_network, save_checkpoint
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.errors import CheckpointError, OptionError


def export(weights: str | Path | None, target: str | Path, half: bool = False, network: Options | None = None) -> None:
    """Write the weights that every command uses, EMA if there are any, to `target` (.pth or .safetensors).

    Args:
        weights: a checkpoint, or the name of packaged weights.
        half: store float16, half the size.
        network: `type` and arguments of the network, if the checkpoint does not describe it.

    Raises:
        OptionError: `target` exists, or its suffix names no format.
        CheckpointError: the checkpoint cannot be loaded, or holds numbers that float16 cannot.
    """
    if not str(target):
        raise OptionError('-o is empty. Name the file to write')
    check_suffix(target)
    if os.path.lexists(target):
        raise OptionError(f'{target}: exists already. Name another file')
    loaded = load(weights, network)
    state = loaded.state_dict()
    if half:
        state = {key: value.to(torch.float16) if value.is_floating_point() else value for key, value in state.items()}
        for key, value in state.items():
            if not value.isfinite().all():
                raise CheckpointError(f'{loaded.path}: {key} has values that float16 cannot hold. Leave out --half')
    described = describe_network(loaded.options)
    unchanged = all(loaded.description.get(key) == described[key] for key in ('arch', 'options'))
    save_checkpoint(state, dict(loaded.description) if unchanged else described, target)
