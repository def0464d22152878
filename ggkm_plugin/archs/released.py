"""Checkpoints that the authors of a network released, read whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ggkm_plugin.errors import CheckpointError, listed

_WRAPPERS = ('params', 'state_dict', 'model')
_PREFIX = 'module.'  # of torch's data-parallel wrappers


def load_released(net: nn.Module, source: str | Path | Mapping[str, Any], name: str = 'the checkpoint') -> None:
    """Load a checkpoint with the keys of `net`, every one of them and no other.

    `source` is a file, read with `weights_only`, or its content: the state dict, perhaps under `params`, `state_dict`
    or `model`, its keys perhaps with `module.` before them; `name` is what a content's errors call it.

    Raises:
        CheckpointError: the file cannot be read, or keys are missing, unexpected, or no tensors of the right shape;
            five of each are named, and the network is as it was.
    """
    where, content = (name, source) if isinstance(source, Mapping) else (str(source), _read(source))
    state = _unwrapped(content)
    if state is None:
        raise CheckpointError(f'{where}: holds no state dict but {type(content).__name__}')
    own = net.state_dict()
    wrong = [f'{key} ({fault})' for key in own if key in state and (fault := _fault(state[key], own[key]))]
    faults = {
        'missing': [key for key in own if key not in state],
        'unexpected': [str(key) for key in state if key not in own],
        'wrong': wrong,
    }
    if any(faults.values()):
        named = '; '.join(f'{kind}: {listed(keys)}' for kind, keys in faults.items() if keys)
        raise CheckpointError(f'{where}: not a checkpoint of {type(net).__name__} with these options ({named})')
    # Converted before the first is copied: what cannot be fails here, and leaves the network whole.
    try:
        ready = {key: state[key].detach().to(tensor.device, tensor.dtype) for key, tensor in own.items()}
    except (RuntimeError, NotImplementedError) as error:
        raise CheckpointError(f'{where}: cannot be loaded ({error})') from error
    net.load_state_dict(ready, strict=True)


def _read(path: str | Path) -> Any:
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged or hostile file can make the reader raise anything
        reason = ' '.join(str(error).split())
        raise CheckpointError(
            f'{path}: cannot be read as a checkpoint ({reason[:300]}{"..." if len(reason) > 300 else ""})'
        ) from error


def _unwrapped(content: Any) -> dict[Any, Any] | None:
    """The state dict in a checkpoint's content, without wrappers and without `module.`; None if there is none."""
    while isinstance(content, Mapping):
        inner = [content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)]
        if not inner:
            keys = list(content)
            prefixed = bool(keys) and all(isinstance(key, str) and key.startswith(_PREFIX) for key in keys)
            return {key[len(_PREFIX) :] if prefixed else key: content[key] for key in keys}
        content = inner[0]
    return None


def _fault(value: Any, tensor: Tensor) -> str:
    """Why a checkpoint's value does not fit the network's tensor; nothing if it does."""
    if not isinstance(value, Tensor):
        return f'a {type(value).__name__}, not a tensor'
    if value.shape != tensor.shape:
        return f'{tuple(value.shape)}, not {tuple(tensor.shape)}'
    if value.is_floating_point() != tensor.is_floating_point() or value.is_complex():
        return f'{value.dtype}, not {tensor.dtype}'
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return 'not a plain tensor with data'
    return ''
