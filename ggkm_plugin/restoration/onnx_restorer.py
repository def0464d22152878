"""Image restorer for a network in an ONNX file, run by onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ggkm_plugin.restoration.restorer import ImageRestorer, check_restored
from ggkm_plugin.utils.errors import CheckpointError, DataError, OptionError

_INSTALL = "Run pip install 'ggkm_plugin[onnx]'"
_PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}


def is_onnx(weights: str | None) -> bool:
    """Whether weights are an ONNX file, by the suffix."""
    return weights is not None and Path(weights).suffix.lower() == '.onnx'


class OnnxRestorer(ImageRestorer):
    """A network that `basicsr export` wrote as ONNX: ``OnnxRestorer('model.onnx')(image) -> image``.

    It runs whole images: memory grows with their size. Exact tiles need PyTorch (`Restorer`).

    Args:
        device: auto (a GPU if the installed onnxruntime has one), cpu or cuda.

    Raises:
        OptionError: onnxruntime is not installed, or does not have the device.
        CheckpointError: the file is missing, or not a network from image to image.
    """

    has_blur_map = False

    def __init__(self, path: str | Path, device: str = 'auto') -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise OptionError(f'{path}: needs the package onnxruntime. {_INSTALL}') from error
        there = onnxruntime.get_available_providers()
        kind = device.partition(':')[0]
        if kind not in ('auto', *_PROVIDERS):
            raise OptionError(f'device {device}: ONNX files run on auto, {" or ".join(_PROVIDERS)}. Choose one')
        wanted = [one for one in _PROVIDERS.values() if one in there] if kind == 'auto' else [_PROVIDERS[kind]]
        if not set(wanted) <= set(there):
            raise OptionError(f'device {device}: the installed onnxruntime has {", ".join(there)}. Use cpu')
        if not Path(path).is_file():
            raise CheckpointError(f'{path}: no such file. Write one with `basicsr export`')
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4  # what fails is raised
        settings.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(str(path), settings, providers=wanted[::-1])
        except Exception as error:  # onnxruntime has a kind of its own for each code
            reason = ' '.join(str(error).split())[:200]
            raise CheckpointError(f'{path}: cannot be loaded by onnxruntime ({reason}). Export it again') from error
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != 'tensor(float)':
            raise CheckpointError(
                f'{path}: not a network from one image (B,3,H,W) in float32 to another. Write one with `basicsr export`'
            )
        self._input, self._shape = inputs[0].name, inputs[0].shape
        self.path, self.name, self.settings = str(path), Path(path).name, {}

    def restore(self, image: Tensor) -> Tensor:
        batch = image if image.ndim == 4 else image[None]
        y = batch.to('cpu', torch.float32).contiguous()
        if any(isinstance(fixed, int) and fixed != side for fixed, side in zip(self._shape, y.shape, strict=True)):
            raise DataError(
                f'{self.path}: takes images of shape {tuple(self._shape)}, not {tuple(y.shape)}. Resize the image, or '
                'export without --size'
            )
        (output,) = self.session.run(None, {self._input: y.numpy()})
        restored: Any = torch.from_numpy(output)
        return check_restored(self.name, y, restored).reshape(image.shape).to(image.device)

    def blur_map(self, image: Tensor) -> np.ndarray:
        raise OptionError(f'{self.path}: an ONNX file has no blur map. Use PyTorch weights')
