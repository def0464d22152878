"""Networks as graphs for other runtimes: programs of torch.export, and ONNX files made from them."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ggkm_plugin import ops
from ggkm_plugin.restoration.onnx_restorer import OnnxRestorer
from ggkm_plugin.utils.errors import CheckpointError, UserError
from ggkm_plugin.utils.files import whole_file

SUFFIXES = ('.onnx', '.pt2')
OPSET = 18
# Height and width of the traced input unless they are fixed: no multiples of anything, so that padding is in the graph.
_TRACED = (117, 101)

Size = tuple[int, int]


class ExportError(UserError):
    """A network cannot be written in a format, or the written file gives other results."""


def trace(network: nn.Module, name: str, size: Size | None = None) -> torch.export.ExportedProgram:
    """Trace a network in its form for inference: image (B,3,H,W) -> restored image of the same shape.

    Args:
        name: what errors call the network.
        size: fixed height and width, of one image; None: batch, height and width are dynamic.

    Raises:
        ExportError: the network cannot be traced.
    """
    image = torch.rand(1 if size else 2, 3, *(size or _TRACED))
    dynamic = torch.export.Dim.DYNAMIC
    shapes = None if size else ({0: dynamic, 2: dynamic, 3: dynamic},)
    network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        # FFTs and custom operators have no form in ONNX.
        with ops.blur_form('separable'), torch.no_grad(), _quiet():
            program = torch.export.export(network, (image,), dynamic_shapes=shapes)
    except Exception as error:  # torch raises many kinds
        fixed = ' Fix the size by --size HxW, or' if size is None else ''
        raise ExportError(
            f'{name}: cannot be traced by torch.export ({_reason(error)}).{fixed or " To keep the network,"} export '
            '.safetensors'
        ) from error
    # They compare sizes for the sake of memory layouts, and would refuse sizes that the graph takes.
    program._guards_code = []
    return program


def write_program(program: torch.export.ExportedProgram, path: str | Path, description: dict[str, Any]) -> None:
    """Write a .pt2 file; its extra file `description.json` describes the network. Raises CheckpointError."""
    content = io.BytesIO()
    with _quiet():
        torch.export.save(program, content, extra_files={'description.json': json.dumps(description)})
    _write(path, content.getvalue())


def write_onnx(program: torch.export.ExportedProgram, name: str, path: str | Path, description: dict[str, Any]) -> None:
    """Write an ONNX file with input `image` and output `restored`; its metadata `description` describes the network.

    Raises ExportError if ONNX cannot hold the network, CheckpointError if the file cannot be written.
    """
    try:
        with _quiet():
            exported = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=['image'], output_names=['restored'],
                custom_translation_table={torch.ops.aten.remainder.Scalar: _remainder}, verbose=False,
            )  # fmt: skip
        assert exported is not None
        exported.model.metadata_props['description'] = json.dumps(description)
        content = exported.model_proto.SerializeToString()
    except Exception as error:  # torch, onnxscript and protobuf raise many kinds
        raise ExportError(f'{name}: ONNX cannot hold it ({_reason(error)}). Export .pt2 or .safetensors') from error
    _write(path, content)


def runner(path: str | Path) -> Callable[[Tensor], Tensor]:
    """Load a written graph as a function of images (B,3,H,W), on the CPU."""
    if Path(path).suffix.lower() == '.onnx':
        return OnnxRestorer(path, 'cpu').restore
    with _quiet():
        module = torch.export.load(str(path)).module()
    return torch.no_grad()(module)


def _remainder(value: Any, divisor: Any) -> Any:
    """Translate `aten.remainder` of integers by a symbolic size, which torch's own translation refuses."""
    from onnxscript import opset18

    return opset18.Mod(value, opset18.CastLike(divisor, value))


def _write(path: str | Path, content: bytes) -> None:
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f'{path}: cannot be written ({reason}). Name a folder with free space') from error


def _reason(error: BaseException) -> str:
    """First line of the first error of a chain, which names the operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {lines[0][:200]}' if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings and logs off the terminal; what fails is raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(disabled)
