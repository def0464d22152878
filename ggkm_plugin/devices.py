"""Names of devices, as the command line and the library take them."""

import torch

from ggkm_plugin.errors import OptionError


def find_device(name: str) -> torch.device:
    """`auto` (the first GPU, else the CPU), `cpu`, `cuda` or `cuda:N`. Raises OptionError for one that is not there."""
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise OptionError(f'device {name}: no such device; auto, cpu, cuda or cuda:N')
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(f'device {name}: this machine has {torch.cuda.device_count()} CUDA devices')
    return device
