"""Strict loaders for the checkpoints that the networks' authors released, one function per format that is not a
state dict with the keys of the arch.

======================  ================================================================================
`load_ifan`             PyTorch, keys with IFAN's trainer before them
`load_keras`            Keras HDF5: DPDNetS, MDP; needs h5py
`load_kpac`             TensorFlow arrays in an npz, a pickle that can run code: only on request
======================  ================================================================================

`basicsr convert` converts any of them to a checkpoint of this package.
"""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ggkm_plugin.archs.dpdnets_arch import DPDNetS
from ggkm_plugin.archs.ifan_arch import IFAN
from ggkm_plugin.archs.kpac_arch import KPAC
from ggkm_plugin.archs.mdp_arch import MDP
from ggkm_plugin.utils.checkpoint import load_weights, read_checkpoint, weights_of
from ggkm_plugin.utils.errors import CheckpointError, listed


def load_ifan(net: IFAN, path: str | Path) -> None:
    """Load IFAN's weights as its trainer saved them, and set `net.second_pass` to K1, with which they were trained.

    The network's keys have the prefix `Network.` (after `module.`, if present). Those of the reblurring network,
    `reblurNet.`, are ignored unless `net` has one.
    """
    state = weights_of(read_checkpoint(path), path)
    if not any(str(key).startswith('Network.') for key in state):
        raise CheckpointError(f"{path}: no keys with the prefix `Network.` of IFAN's trainer")
    load_weights(net, {str(key).removeprefix('Network.'): value for key, value in state.items()}, path)
    net.second_pass = 'K1'


def load_keras(net: DPDNetS | MDP, path: str | Path) -> None:
    """Load an HDF5 file of Keras with the model or its weights; MDP needs `views`.

    Layers are named conv2d, conv2d_1 and so on, and are sorted by this number, not by their order in the file; kernels
    are HWIO. MDP's branches have equal shapes, so a wrong order cannot be detected: check that the mean of the left
    and right view, `net.images`, looks like the input.

    Raises:
        CheckpointError: as `load_weights`; unknown layers or a wrong number of them; h5py is not installed.
    """
    _load_in_order(net, _keras_arrays(path), path)


def load_kpac(net: KPAC, path: str | Path, allow_pickle: bool = False) -> None:
    """Load KPAC's npz: the object array `params` with each layer's weights (HWIO) and biases, in graph order.

    Object arrays are pickles, and reading one can run code from the file. Set `allow_pickle` only for a trusted file.

    Raises:
        CheckpointError: as `load_weights`; the pickle is not allowed; a wrong number of arrays.
    """
    if not zipfile.is_zipfile(path):  # numpy would unpickle any other file
        raise CheckpointError(f'{path}: not an npz file, the format of the released KPAC')
    if not allow_pickle:
        raise CheckpointError(
            f'{path}: the arrays of this format are a Python pickle, which can run code. If you trust the file, use '
            '--allow-pickle or allow_pickle=True'
        )
    try:
        with np.load(path, allow_pickle=True, encoding='latin1') as file:
            arrays = [np.asarray(array, np.float32) for array in file['params']]
    except Exception as error:  # a damaged or hostile file can make the reader raise anything
        reason = ' '.join(str(error).split())
        raise CheckpointError(f'{path}: not a readable npz file with arrays in params ({reason[:300]})') from error
    _load_in_order(net, arrays, path)


def _load_in_order(net: nn.Module, arrays: list[np.ndarray], path: str | Path) -> None:
    """Load weights and biases of the convolutions in the order of registration, TensorFlow's graph order.

    Kernels of convolutions are (H,W,I,O), those of transposed ones (H,W,O,I).
    """
    keys = [
        f'{name}.{key}'
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        for key, _ in module.named_parameters()
    ]
    if len(arrays) != len(keys):
        raise CheckpointError(
            f'{path}: holds {len(arrays)} weights and biases, {type(net).__name__} with these options has {len(keys)}. '
            'Check the options of the network'
        )
    state = {}
    for key, array in zip(keys, arrays, strict=True):
        state[key] = torch.from_numpy(np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array))
    load_weights(net, state, path)


def _keras_arrays(path: str | Path) -> list[np.ndarray]:
    """Read kernel and bias of each convolution, sorted by number. Raises CheckpointError."""
    try:
        import h5py
    except ImportError as error:
        raise CheckpointError(
            f"{path}: Keras files need the package h5py, which is not installed. Run pip install 'ggkm_plugin[keras]'"
        ) from error
    found: dict[str, dict[str, np.ndarray]] = {}

    def visit(name: str, node: Any) -> None:  # links to other files are not followed
        if isinstance(node, h5py.Dataset):
            layer, *_, last = name.split('/')
            found.setdefault(layer, {})[last.partition(':')[0]] = np.asarray(node[()], np.float32)

    try:
        with h5py.File(path, 'r') as file:
            file.get('model_weights', file).visititems(visit)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(
            f'{path}: not a readable HDF5 file of Keras ({" ".join(str(error).split())[:300]})'
        ) from error
    numbered = {}
    for layer, arrays in found.items():
        match = re.fullmatch(r'conv2d(?:_(\d+))?', layer)
        if match is None or set(arrays) != {'kernel', 'bias'}:
            raise CheckpointError(f'{path}: {layer} holds {listed(sorted(arrays))}, not conv2d_N with kernel and bias')
        numbered[int(match[1] or 0)] = [arrays['kernel'], arrays['bias']]
    return [array for number in sorted(numbered) for array in numbered[number]]
