"""Checkpoints in the host's format that also say what network they hold: written whole, read safely.

A file is a dict of `params` (and `params_ema`), as basicsr writes and loads it, and `description`, which it ignores:

    arch, options    the registered name and the arguments that rebuild the network
    iteration        of the training that saved it; 'latest' for the end
    metrics          the last validation's scores, {name: value}; empty before the first
    option_digest    sha256 of the training options without their paths: equal for equal trainings
    versions         of ggkm_plugin, basicsr and torch
"""

import json
import pickle
import re
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ggkm_plugin import __version__
from ggkm_plugin.utils.errors import CheckpointError
from ggkm_plugin.utils.files import whole_file
from ggkm_plugin.utils.hashing import digest

# What differs between two runs of one training without changing it.
_NOT_DIGESTED = ('path', 'rank', 'world_size', 'dist', 'auto_resume', 'root_path', 'logger', 'num_gpu', 'name')


def save_atomically(content: object, path: str, advice: str = 'name a folder that is there, and has room') -> None:
    """torch.save: `path` is the old file or the whole new one, never a part.

    Raises CheckpointError, which ends in `advice`, if it cannot be written.
    """
    try:
        with whole_file(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError, AttributeError, pickle.PicklingError) as error:
        # torch's writer ends in words of its own, whatever it was that its file raised
        met = (error.__context__ or error) if isinstance(error, RuntimeError) else error
        if not isinstance(met, Exception):
            raise met from None
        reason = getattr(met, 'strerror', None) or met
        raise CheckpointError(f'{path}: cannot be written ({reason}); {advice}') from error


def describe(opt: dict[str, Any]) -> dict[str, Any]:
    """The `description` of checkpoints of the training `opt`, before its first iteration: plain values only."""
    network = json.loads(json.dumps(opt['network_g']))
    digested = _without_places({key: value for key, value in opt.items() if key not in _NOT_DIGESTED})
    return {
        'arch': network.pop('type'),
        'options': network,
        'iteration': 0,
        'metrics': {},
        'option_digest': digest(digested),
        'versions': {'ggkm_plugin': __version__, 'basicsr': version('basicsr'), 'torch': str(torch.__version__)},
    }


def _without_places(value: Any) -> Any:
    """Options without the folders the data lies in."""
    if not isinstance(value, dict):
        return value
    return {key: _without_places(inner) for key, inner in value.items() if not str(key).startswith('dataroot')}


def read_checkpoint(path: str) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU; nothing in the file is executed. Raises CheckpointError."""
    if Path(path).is_dir():
        raise CheckpointError(f'{path}: is a folder; name the checkpoint in it')
    if not Path(path).is_file():
        raise CheckpointError(f'{path}: no such checkpoint')
    content = read_tensors(path)
    if not isinstance(content, dict):
        raise CheckpointError(f'{path}: not a checkpoint: it holds a {type(content).__name__}, not a dict')
    return content


def read_tensors(path: str | Path) -> Any:
    """What torch.save wrote, on the CPU; nothing in the file is executed. Raises CheckpointError."""
    try:
        with warnings.catch_warnings():  # of foreign pickles, which the error then tells of
            warnings.simplefilter('ignore')
            return torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be read ({error.strerror or error})') from error
    except Exception as error:  # torch raises many kinds for what is in a foreign file
        reason = _reason(error)
        raise CheckpointError(
            f'{path}: truncated, or not a checkpoint of tensors alone ({reason}); copy or save it anew'
        ) from error


def _reason(error: Exception) -> str:
    """torch's own, where it says what is wrong with the file rather than how to run what is in it."""
    words = ' '.join(str(error).split()).rpartition('WeightsUnpickler error: ')[2]
    if isinstance(error, EOFError) or 'central directory' in words:
        return 'the file is empty, or ends too soon'
    if isinstance(error, KeyError) or 'Unsupported operand' in words:
        return 'torch.save did not write it'
    reason = re.split(r' Check the documen| Please use|\. ', words)[0][:200]
    return 'it holds more than tensors' if 'weights_only' in reason else reason


def weights_of(content: dict[str, Any], path: str, keys: Sequence[str] = ('params_ema', 'params')) -> dict[str, Any]:
    """The state dict of a checkpoint's content: under the first of `keys` that it has, else the content itself.

    Raises CheckpointError if something else is there.
    """
    key = next((key for key in keys if key in content), None)
    state = content if key is None else content[key]
    if not isinstance(state, dict):
        raise CheckpointError(f'{path}: holds no state dict under {key} but {type(state).__name__}; save it again')
    return state


def network_options(path: str) -> dict[str, Any]:
    """`network_g` as the checkpoint describes itself. Raises CheckpointError if it does not."""
    return described_network(read_checkpoint(path), path, 'set network_g in the option file')


def described_network(content: dict[str, Any], path: str, fix: str) -> dict[str, Any]:
    """`network_g` from a checkpoint's content. Raises CheckpointError, which ends in `fix`, if it is not there."""
    description = content.get('description')
    if not isinstance(description, dict):
        raise CheckpointError(f'{path}: does not say what network it holds; {fix}')
    arch, options = description.get('arch'), description.get('options')
    if not isinstance(arch, str) or not isinstance(options, dict):
        raise CheckpointError(f'{path}: its description of the network is damaged; {fix}')
    return {**options, 'type': arch}
