"""`basicsr convert`: weights that a network's authors released become a checkpoint of ours, which describes itself."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ggkm_plugin import __version__
from ggkm_plugin.archs.released import load_ifan, load_keras, load_kpac, load_released
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.checkpoint import save_atomically
from ggkm_plugin.utils.errors import CheckpointError, OptionError

# What the released weights were trained, or tested, with where that is not the arch's default.
_OPTIONS: dict[str, dict[str, Any]] = {
    'GKMNet': {'kernel_order': 'released', 'bn_mode': 'batch'},
    'IFAN': {'second_pass': 'K1'},
    'NRKNet': {'bn_mode': 'batch'},
}
# Of the others: load_released.
_READERS: dict[str, Callable[..., None]] = {'IFAN': load_ifan, 'DPDNetS': load_keras, 'MDP': load_keras}


def convert(
    source: Path, arch: str, options: dict[str, Any], target: Path, allow_pickle: bool = False
) -> dict[str, Any]:
    """Write the weights in `source` to `target`; returns the network's options, by which the file is rebuilt.

    `options` are the arch's, beside those that the released weights need. `allow_pickle`: see `released.load_kpac`.
    Raises OptionError for the arch or its options, CheckpointError for a file that is not of such a network.
    """
    if not source.is_file():
        raise CheckpointError(f'{source}: no such file')
    needed = _OPTIONS.get(arch, {})
    for key, value in needed.items():
        if options.get(key, value) != value:
            raise OptionError(
                f'--options {key}={options[key]}: {arch} was released with {value}; leave it out, and set it in '
                'network_g of what uses the weights'
            )
    network = {**needed, **options}
    net = registry.build('--arch', 'archs', {'type': arch, **network})
    if arch == 'KPAC':
        load_kpac(net, source, allow_pickle)
    else:
        _READERS.get(arch, load_released)(net, source)
    description = {
        'arch': arch,
        'options': network,
        'source': source.name,
        'versions': {'ggkm_plugin': __version__, 'torch': str(torch.__version__), 'basicsr': version('basicsr')},
    }
    save_atomically({'params': net.state_dict(), 'description': description}, str(target))
    return network
