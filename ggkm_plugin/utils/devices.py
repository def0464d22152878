"""Devices by name, and a description of the machine for measurements."""

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

import torch

from ggkm_plugin.utils.errors import OptionError

# Types that torch supports, and this package has never run on. `restoration.restorer.checked_device` compares first.
UNTESTED = ('mps', 'xpu')


def find_device(name: str) -> torch.device:
    """Find `auto` (the first CUDA GPU, else the CPU), `cpu`, `cuda`, `cuda:N`, `mps` or `xpu[:N]`.

    Raises OptionError for a missing device.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ('cpu', 'cuda', *UNTESTED):
        raise OptionError(f'device {name}: no such device. Use auto, cpu, cuda, cuda:N, mps or xpu')
    if device.type == 'cpu':
        return device
    module = torch.get_device_module(device.type)
    count = module.device_count() if module.is_available() else 0
    if (device.index or 0) >= count:
        kind = device.type if device.type == 'cuda' else f'{device.type}, which torch {torch.__version__} can use'
        raise OptionError(f'device {name}: this machine has {count} devices of type {kind}. Use --device auto or cpu')
    return device


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type != 'cpu':
        torch.get_device_module(device.type).synchronize()


# Flags of processors with arithmetic in these types (Intel and AMD, Arm).
_NATIVE = {torch.bfloat16: {'amx_bf16', 'avx512_bf16', 'bf16'}, torch.float16: {'amx_fp16', 'avx512_fp16', 'asimdhp'}}


def is_native(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a device computes in a data type itself; emulated types are slower than float32."""
    if dtype == torch.float32:
        return True
    if device.type == 'cuda':
        return dtype != torch.bfloat16 or torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == 'cpu' and not _NATIVE[dtype].isdisjoint(_cpu_flags())


def _cpu_flags() -> set[str]:
    """Return the instruction sets of the processor, by their names in /proc/cpuinfo."""
    if hasattr(torch.cpu, 'get_capabilities'):  # since torch 2.12, on all systems
        return {name for name, value in torch.cpu.get_capabilities().items() if value is True}
    with contextlib.suppress(OSError):
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        return {flag for line in lines if line.startswith(('flags', 'Features')) for flag in line.split()}
    return set()


def device_name(device: torch.device) -> str:
    """Name the GPU, or the processor and the number of threads."""
    if device.type != 'cpu':
        name_of = getattr(torch.get_device_module(device.type), 'get_device_name', str)  # MPS has none
        return str(name_of(device))
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        name = next(line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    threads = torch.get_num_threads()
    return f'{name}, {threads} thread{"s" * (threads > 1)}'


def machine() -> dict[str, Any]:
    """Describe the machine, to be stored with measurements."""
    import cv2
    import lmdb
    import numpy as np

    from ggkm_plugin import __version__

    return {
        'processor': device_name(torch.device('cpu')),
        'cores': len(os.sched_getaffinity(0)),
        'memory_bytes': os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'),
        'system': f'{platform.system()} {platform.release()}',
        'load_average': round(os.getloadavg()[0], 2),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'opencv': cv2.__version__,
        'lmdb': lmdb.__version__,
        'numpy': np.__version__,
        'ggkm_plugin': __version__,
    }
