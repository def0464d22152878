"""Checkpoint files: find the weights in any common format, read them safely, write them whole.

A checkpoint of this package is a dict of `params` (and `params_ema`), as BasicSR writes and loads it, and
`description`, which BasicSR ignores:

    arch, options    the registered name and the arguments that rebuild the network
    iteration        of the training that saved it; 'latest' for the end
    metrics          the last validation's scores, {name: value}; empty before the first
    option_digest    sha256 of the training options without their paths: equal for equal trainings
    versions         of ggkm_plugin, basicsr and torch

A `.safetensors` file holds one state dict, or `params` and `params_ema` under keys with these prefixes; its header's
metadata hold the description as JSON.

Which weights are taken, in every command: `params_ema`, else `params`, `state_dict`, `model`, else the file itself is
the state dict. An explicit key overrides this.
"""

import errno
import json
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from ggkm_plugin import __version__
from ggkm_plugin.utils.errors import CheckpointError, OptionError, listed
from ggkm_plugin.utils.files import whole_file
from ggkm_plugin.utils.hashing import digest

WEIGHT_KEYS = ('params_ema', 'params', 'state_dict', 'model')
SUFFIXES = ('.pth', '.pt', '.safetensors')
DESCRIBE = (
    'name the network by --arch NAME[,KEY=VALUE], in an option file by network_g, or write a file that describes it '
    'with `basicsr convert`'
)

_ADVICE = 'Name an existing folder with free space'
# Of a .safetensors file with two kinds of weights.
_PREFIXED = ('params', 'params_ema')
# Not an argument, and how the network runs, which changes no results.
_NOT_DESCRIBED = ('type', 'blur_form')
# What differs between two runs of one training without changing it.
_NOT_DIGESTED = ('path', 'rank', 'world_size', 'dist', 'auto_resume', 'root_path', 'logger', 'num_gpu', 'name')


@contextmanager
def _saving(path: str | Path, advice: str) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` when it is whole. Raises CheckpointError, which ends in `advice`."""
    try:
        with whole_file(path) as file:
            yield file
    except (OSError, RuntimeError, AttributeError, pickle.PicklingError) as error:
        # torch's writer replaces what its file raised
        met = (error.__context__ or error) if isinstance(error, RuntimeError) else error
        if not isinstance(met, Exception):
            raise met from None
        reason = getattr(met, 'strerror', None) or met
        raise CheckpointError(f'{path}: cannot be written ({reason}). {advice}') from error


def save_atomically(content: object, path: str, advice: str = _ADVICE) -> None:
    """Write with torch.save: `path` is the old file or the whole new one, never a part.

    Raises CheckpointError, which ends in `advice`, if it cannot be written.
    """
    with _saving(path, advice) as file:
        torch.save(content, file)


def save_checkpoint(state: Mapping[str, Tensor], description: dict[str, Any], path: str | Path) -> None:
    """Write one state dict and its description in the format that the file's suffix names, whole or not at all.

    Raises OptionError for another suffix, CheckpointError if the file cannot be written.
    """
    check_suffix(path)
    save_content({'params': dict(state), 'description': description}, path)


def save_content(content: dict[str, Any], path: str | Path, advice: str = _ADVICE) -> None:
    """Write `params`, `params_ema` if given, and `description` as .safetensors or by torch.save, whole or not at all.

    Raises CheckpointError, which ends in `advice`, if the file cannot be written.
    """
    if Path(path).suffix.lower() != '.safetensors':
        save_atomically(content, str(path), advice)
        return
    from safetensors.torch import save

    states = {key: content[key] for key in _PREFIXED if key in content}
    tensors = {
        f'{key}.{name}' if len(states) > 1 else name: value.detach().cpu().contiguous().clone()
        for key, state in states.items()
        for name, value in state.items()
    }
    with _saving(path, advice) as file:
        file.write(save(tensors, {'format': 'pt', 'description': json.dumps(content['description'])}))


def check_suffix(path: str | Path, more: tuple[str, ...] = ()) -> None:
    """Raise OptionError for a file name whose suffix names no format that checkpoints, or `more`, are written in."""
    suffixes = (*SUFFIXES, *more)
    if Path(path).suffix.lower() not in suffixes:
        raise OptionError(f'{path}: its suffix names no format to write. End the name in {" or ".join(suffixes)}')


def describe(opt: dict[str, Any]) -> dict[str, Any]:
    """Describe the network of the training `opt`, before its first iteration; plain values only."""
    network = json.loads(json.dumps(opt['network_g']))
    digested = _without_places({key: value for key, value in opt.items() if key not in _NOT_DIGESTED})
    return describe_network(network, iteration=0, metrics={}, option_digest=digest(digested))


def describe_network(network: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Describe the network of a checkpoint: `type` and the arguments that rebuild it."""
    return {
        'arch': network['type'],
        'options': {key: value for key, value in network.items() if key not in _NOT_DESCRIBED},
        **more,
        'versions': {'ggkm_plugin': __version__, 'basicsr': version('basicsr'), 'torch': str(torch.__version__)},
    }


def _without_places(value: Any) -> Any:
    """Remove the data folders from options."""
    if not isinstance(value, dict):
        return value
    return {key: _without_places(inner) for key, inner in value.items() if not str(key).startswith('dataroot')}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU without executing anything in it. Raises CheckpointError."""
    if Path(path).is_dir():
        raise CheckpointError(f'{path}: is a folder. Name the checkpoint in it')
    if not Path(path).is_file():
        raise CheckpointError(f'{path}: no such checkpoint. Check the path, or name packaged weights')
    if Path(path).suffix.lower() in ('.onnx', '.pt2'):
        raise CheckpointError(
            f'{path}: a graph, not weights. Name the checkpoint that it was exported from, or run an ONNX file by '
            '`basicsr deblur --backend onnx`'
        )
    try:
        content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be read ({error.strerror or error}). Check the file') from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{path}: not a checkpoint, it holds a {type(content).__name__}. Name a file with a state dict'
        )
    return content


def _is_safetensors(path: str | Path) -> bool:
    """Whether a file begins like a safetensors file, or has its suffix and does not begin like torch.save's zip."""
    with open(path, 'rb') as file:
        head = file.read(9)
    return head[8:] == b'{' or (Path(path).suffix.lower() == '.safetensors' and head[:2] != b'PK')


def _read_torch(path: str | Path) -> Any:
    try:
        with warnings.catch_warnings(), open(path, 'rb') as file:  # given a name, torch depends on its suffix
            warnings.simplefilter('ignore')  # about foreign pickles, which the error explains
            return torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises many kinds for foreign files
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: of a truncated zip
            raise
        reason = _reason(error)
        raise CheckpointError(
            f'{path}: truncated, or not a checkpoint of tensors alone ({reason}). Copy or save it again'
        ) from error


def _read_safetensors(path: str | Path) -> dict[str, Any]:
    """Read the state dict as `params`, `params_ema` if there is one, and the description from the header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, 'pt') as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        reason = ' '.join(str(error).split())[:200]
        raise CheckpointError(
            f'{path}: truncated, or not a safetensors file ({reason}). Copy or save it again'
        ) from error
    content: dict[str, Any] = {'params': state}
    if state and all(key.startswith(tuple(f'{prefix}.' for prefix in _PREFIXED)) for key in state):
        content = {}
        for key, value in state.items():
            prefix, _, name = key.partition('.')
            content.setdefault(prefix, {})[name] = value
    if 'description' in metadata:
        try:
            content['description'] = json.loads(metadata['description'])
        except ValueError as error:
            raise CheckpointError(f'{path}: its description is not JSON ({error}). Save it again') from error
    return content


def _reason(error: Exception) -> str:
    """Return the reason why torch cannot load a file, without its advice to run the code in it."""
    words = ' '.join(str(error).split()).rpartition('WeightsUnpickler error: ')[2]
    if isinstance(error, EOFError | OSError) or 'central directory' in words:
        return 'the file is empty or truncated'
    if isinstance(error, KeyError) or 'Unsupported operand' in words:
        return 'torch.save did not write it'
    reason = re.split(r' Check the doc| Please use|\. ', words)[0][:200]
    return 'it holds more than tensors' if 'weights_only' in reason else reason


def weights_key(content: Mapping[str, Any], path: str | Path, param_key: str | None = None) -> str | None:
    """Return the key of the weights in a checkpoint; None if its content is the state dict.

    Raises CheckpointError if an explicit `param_key` is not there.
    """
    if param_key is not None:
        if param_key not in content:
            raise CheckpointError(f'{path}: has no key {param_key}. It has {listed(sorted(map(str, content)))}')
        return param_key
    return next((key for key in WEIGHT_KEYS if not isinstance(content.get(key), Tensor | None)), None)


def weights_of(content: Mapping[str, Any], path: str | Path, param_key: str | None = None) -> dict[str, Any]:
    """Return the state dict of a checkpoint, by the rule above, without the prefixes of network wrappers.

    Raises CheckpointError if there is none.
    """
    key = weights_key(content, path, param_key)
    state = content if key is None else content[key]
    if not isinstance(state, Mapping):
        raise CheckpointError(f'{path}: holds no state dict under {key} but {type(state).__name__}. Save it again')
    if key is None and {'iter', 'optimizers'} <= state.keys():
        raise CheckpointError(
            f'{path}: a training state, not weights. Name models/net_g_{state["iter"]}.pth of its run'
        )
    if key is None and state and not any(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f'{path}: holds no weights but {listed(sorted(map(str, state)))}. If they are under one of these keys, '
            'name it by path.param_key_g, by param_key in a comparison, or by --param-key of `basicsr convert`'
        )
    if param_key is None and key is not None and weights_key(state, path) is not None:
        return weights_of(state, path)
    return _without_prefixes(state, path)


def _without_prefixes(state: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Drop what DataParallel, AveragedModel and torch.compile put before keys, `n_averaged` included."""
    keys = {key: str(key).replace('_orig_mod.', '') for key in state if key != 'n_averaged'}
    while keys and all(key.startswith('module.') for key in keys.values()):
        keys = {old: key.removeprefix('module.') for old, key in keys.items()}
    if len(set(keys.values())) < len(keys):
        raise CheckpointError(f'{path}: some keys are there twice, with a prefix and without. Save it again')
    return {key: state[old] for old, key in keys.items()}


def load_weights(
    net: nn.Module, state: Mapping[str, Any], path: str | Path, strict: bool = True, finite: bool = True
) -> list[str]:
    """Load a state dict into a network: whole, or not at all. Returns a line for each thing that was not loaded.

    Parts that only training uses (`net.training_only`) may be absent from the file or from the network.

    Args:
        path: what errors call the state dict.
        strict: refuse missing and unexpected keys and other shapes; otherwise they are left out.
        finite: refuse NaN and infinite values.

    Raises:
        CheckpointError: names up to five keys of each kind; the network is as it was.
    """
    own = net.state_dict()
    faults = {key: fault for key in own if key in state and (fault := _fault(state[key], own[key]))}
    infinite = [key for key in own if finite and key in state and key not in faults and _breaks(state[key], own[key])]
    if infinite:
        raise CheckpointError(
            f'{path}: NaN or infinite values in {listed(infinite)}. Name a checkpoint from before the training diverged'
        )
    if not strict:
        state = {key: value for key, value in state.items() if key not in faults}
    before = {key: value.clone() for key, value in own.items()}
    missing, unexpected, refused = [], [], ''
    if not faults or not strict:
        try:
            missing, unexpected = net.load_state_dict(dict(state), strict=False)  # a copy: hooks may change it
        except (RuntimeError, NotImplementedError) as error:
            refused = ' '.join(str(error).split())[:300]
    else:
        missing = [key for key in own if key not in state]
        unexpected = [str(key) for key in state if key not in own]
    absent, unused = absent_parts(net, state), absent_parts(net, own)
    named = {
        'missing': [key for key in missing if key not in faults and not in_parts(key, absent)],
        'unexpected': [key for key in unexpected if not in_parts(key, unused)],
        'wrong': [f'{key} ({fault})' for key, fault in faults.items()],
    }
    shown = '; '.join(f'{kind}: {listed(keys)}' for kind, keys in named.items() if keys)
    if refused or (strict and shown):
        with torch.no_grad():
            for key, value in own.items():
                value.copy_(before[key])
        raise CheckpointError(
            f'{path}: not a checkpoint of {type(net).__name__} with these options ({shown or refused}). Check the '
            'options of the network'
        )
    fresh = [part for part in absent if part not in unused]
    lines = [f'{path}: has no {part.upper()}, which only training uses; it starts fresh' for part in fresh]
    return lines + ([f'{path}: not loaded ({shown})'] if shown else [])


def absent_parts(net: nn.Module, state: Mapping[str, Any]) -> tuple[str, ...]:
    """List the training-only parts of a network (`net.training_only`) that a state dict lacks."""
    parts = getattr(net, 'training_only', ())
    return tuple(part for part in parts if not any(in_parts(key, (part,)) for key in state))


def in_parts(key: Any, parts: tuple[str, ...]) -> bool:
    """Whether a state dict's key belongs to one of a network's parts."""
    return str(key).startswith(tuple(f'{part}.' for part in parts))


def _breaks(value: Tensor, tensor: Tensor) -> bool:
    """Whether a checkpoint's value is not finite where the network's own is."""
    return value.is_floating_point() and not value.isfinite().all() and bool(tensor.isfinite().all())


def _fault(value: Any, tensor: Tensor) -> str:
    """Return the reason why a value does not fit the network's tensor, '' if it fits."""
    if not isinstance(value, Tensor):
        return f'a {type(value).__name__}, not a tensor'
    if value.shape != tensor.shape:
        return f'{tuple(value.shape)}, not {tuple(tensor.shape)}'
    if value.is_floating_point() != tensor.is_floating_point() or value.is_complex():
        return f'{value.dtype}, not {tensor.dtype}'
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return 'not a plain tensor with data'
    return ''


def described_network(content: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Return `network_g` from a checkpoint's content. Raises CheckpointError if it is not there."""
    description = content.get('description')
    if not isinstance(description, dict):
        raise CheckpointError(f'{path}: does not describe its network. To use it, {DESCRIBE}')
    arch, options = description.get('arch'), description.get('options')
    if not isinstance(arch, str) or not isinstance(options, dict):
        raise CheckpointError(f'{path}: the description of its network is damaged. To use it, {DESCRIBE}')
    return {**options, 'type': arch}


def network_options(path: str) -> dict[str, Any]:
    """Return `network_g` as the checkpoint describes it. Raises CheckpointError if it does not."""
    return described_network(read_checkpoint(path), path)
