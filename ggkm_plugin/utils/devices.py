"""Devices by name, and the facts of the machine that a measurement belongs to."""

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

import torch

from ggkm_plugin.utils.errors import OptionError


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
    """What a time belongs to: the GPU's name, or the processor's and the number of threads."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        name = next(line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    threads = torch.get_num_threads()
    return f'{name}, {threads} thread{"s" * (threads > 1)}'


def machine() -> dict[str, Any]:
    """The facts that a number belongs to."""
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
