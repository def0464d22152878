"""Export of a checkpoint's network to a file for other programs: weights with their description, or a graph."""

import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.restoration import graphs
from ggkm_plugin.restoration.graphs import ExportError, Size
from ggkm_plugin.restoration.load import LoadedNetwork, load
from ggkm_plugin.restoration.restorer import for_inference
from ggkm_plugin.utils.checkpoint import check_suffix, describe_network, save_checkpoint
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.errors import CheckpointError, OptionError
from ggkm_plugin.utils.files import renamed_when_done
from ggkm_plugin.utils.image_decoding import read_image

# Largest difference from PyTorch's results that a file without --half may have; white is 1.
TOLERANCE = 1e-4
# Batch, height and width of the test images: odd and wide; and multiples of 32, tall.
_CHECKED = ((1, 181, 251), (2, 160, 96))
_ONNX = ('onnx', 'onnxscript', 'onnxruntime')

_log = logging.getLogger(__name__)


def export(
    weights: str | Path | None,
    target: str | Path,
    half: bool = False,
    network: Options | None = None,
    size: Size | None = None,
    check: bool = False,
    tell: Callable[[str], None] = _log.info,
) -> float | None:
    """Write the weights that every command uses, EMA if there are any, in the format that the suffix of `target` names.

    .pth and .safetensors hold the weights and the network's description, .onnx and .pt2 the network as a graph, which
    is compared with PyTorch on photographs.

    Args:
        weights: a checkpoint, or the name of packaged weights.
        half: store float16, half the size; for .pth and .safetensors.
        network: `type` and arguments of the network, if the checkpoint does not describe it.
        size: fixed height and width of a graph; None: dynamic.
        check: compare .pth and .safetensors, too.
        tell: called with a line before what takes long.

    Returns:
        The largest difference from PyTorch's result; None if not compared.

    Raises:
        OptionError: `target` exists, its folder does not, its suffix names no format, or an argument does not fit it.
        CheckpointError: the checkpoint cannot be loaded, or holds numbers that float16 cannot.
        ExportError: the format cannot hold the network, or its result differs.
    """
    if not str(target):
        raise OptionError('-o is empty. Name the file to write')
    check_suffix(target, graphs.SUFFIXES)
    suffix = Path(target).suffix.lower()
    graph = suffix in graphs.SUFFIXES
    if half and graph:
        raise OptionError(f'{target}: --half is for .pth and .safetensors. Leave it out')
    if size and not graph:
        raise OptionError(f'{target}: --size is for .onnx and .pt2. Leave it out')
    if suffix == '.onnx' and (missing := [name for name in _ONNX if find_spec(name) is None]):
        raise OptionError(f"{target}: needs {', '.join(missing)}. Run pip install 'ggkm_plugin[onnx]'")
    if os.path.lexists(target):
        raise OptionError(f'{target}: exists already. Name another file')
    if not Path(target).parent.is_dir():
        raise OptionError(f'{target}: its folder does not exist. Create it, or name another')
    loaded = load(weights, network)
    described = describe_network(loaded.options)
    unchanged = all(loaded.description.get(key) == described[key] for key in ('arch', 'options'))
    description = dict(loaded.description) if unchanged else described
    if not graph and not check:
        save_checkpoint(_state(loaded, half), description, target)
        return None
    # The file is renamed after the comparison, so that an interrupt leaves no unchecked file.
    with renamed_when_done(Path(target).with_name(f'.unchecked-{Path(target).name}'), target) as written:
        if graph:
            tell('Tracing the network: a minute or more')
            name = loaded.options['type']
            program = graphs.trace(for_inference(loaded.net), name, size)
            if suffix == '.onnx':
                graphs.write_onnx(program, name, written, description)
            else:
                graphs.write_program(program, written, description)
        else:
            save_checkpoint(_state(loaded, half), description, written)
        return _difference(loaded, written, half, size)


def _state(loaded: LoadedNetwork, half: bool) -> dict[str, Tensor]:
    state = loaded.state_dict()
    if half:
        state = {key: value.to(torch.float16) if value.is_floating_point() else value for key, value in state.items()}
        for key, value in state.items():
            if not value.isfinite().all():
                raise CheckpointError(f'{loaded.path}: {key} has values that float16 cannot hold. Leave out --half')
    return state


def _difference(loaded: LoadedNetwork, target: str | Path, half: bool, size: Size | None) -> float:
    """Compare a written file with PyTorch. Raises ExportError if it differs."""
    name, sizes = loaded.options['type'], ((1, *size),) if size else _CHECKED
    try:
        run = _runner(loaded, target)
        differences = [_differs(loaded, run, *shape) for shape in sizes]
    except Exception as error:  # of the runtime
        reason = ' '.join(str(error).split())[:200]
        raise ExportError(
            f'{name}: the exported graph fails on another size ({type(error).__name__}: {reason}). Fix the size by '
            '--size HxW, or export .safetensors'
        ) from error
    largest = max(differences)
    if not largest <= TOLERANCE and not half:
        raise ExportError(
            f'{name}: the exported network differs from PyTorch by {largest:.1e}, more than {TOLERANCE:g}. '
            f'{"Export" if size else "Fix the size by --size HxW, or export"} .safetensors'
        )
    return largest


def _runner(loaded: LoadedNetwork, target: str | Path) -> Callable[[Tensor], Tensor]:
    if Path(target).suffix.lower() in graphs.SUFFIXES:
        return graphs.runner(target)
    return for_inference(load(target, loaded.options).net)


@torch.no_grad()
def _differs(loaded: LoadedNetwork, run: Callable[[Tensor], Tensor], batch: int, height: int, width: int) -> float:
    """Compare on crops of a photograph, repeated by reflection where it is smaller."""
    photograph = read_image(builtin_photographs('val')[0].path)
    tall, wide = photograph.shape[:2]
    pixels = np.pad(photograph, ((0, max(height - tall, 0)), (0, max(width - wide, 0)), (0, 0)), 'symmetric')
    image = torch.from_numpy(np.ascontiguousarray(pixels[:height, :width])).permute(2, 0, 1)
    images = torch.stack([image.flip(-1) if index else image for index in range(batch)])
    return float((run(images) - for_inference(loaded.net)(images)).abs().max())
