"""Conversion of weights in any format, those of a network's authors included, to a self-describing checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ggkm_plugin.archs.released import load_ifan, load_keras, load_kpac
from ggkm_plugin.restoration.load import build_network, load
from ggkm_plugin.utils.checkpoint import check_suffix, describe_network, save_checkpoint
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.weights import checkpoint_path

# What the released weights were trained, or tested, with where that is not the arch's default.
_OPTIONS: dict[str, dict[str, Any]] = {
    'GKMNet': {'kernel_order': 'released', 'bn_mode': 'batch'},
    'IFAN': {'second_pass': 'K1'},
    'NRKNet': {'bn_mode': 'batch'},
}
# Of networks whose authors' files are not state dicts with the arch's keys.
_READERS: dict[str, Callable[..., None]] = {
    'IFAN': load_ifan,
    'DPDNetS': load_keras,
    'MDP': load_keras,
    'KPAC': load_kpac,
}


def convert(
    source: str | Path,
    arch: str,
    options: dict[str, Any],
    target: Path,
    allow_pickle: bool = False,
    param_key: str | None = None,
) -> dict[str, Any]:
    """Write the weights in `source` to `target`; returns the network's options, by which the file is rebuilt.

    `options` are the arch's, beside those that the released weights need. `allow_pickle`: see `released.load_kpac`.
    `param_key`: where the weights are in a PyTorch file; default: see `utils.checkpoint`.
    `source` may be the name of packaged weights. The suffix of `target` chooses its format.

    Raises OptionError for the arch or its options, CheckpointError for a file that is not of such a network.
    """
    check_suffix(target)
    path = checkpoint_path(source)
    needed = _OPTIONS.get(arch, {})
    for key, value in needed.items():
        if options.get(key, value) != value:
            raise OptionError(
                f'--options {key}={options[key]}: {arch} was released with {value}; leave it out, and set it in '
                'network_g of the option file that uses the weights'
            )
    network = {**needed, **options}
    options = {**network, 'type': arch}
    if arch in _READERS:
        net = build_network(options, '--arch')
        _READERS[arch](net, path, *([allow_pickle] if arch == 'KPAC' else []))
        state = net.state_dict()
    else:
        state = load(path, options, param_key, '--arch').state_dict()
    save_checkpoint(state, describe_network(options, source=Path(path).name), target)
    return network
