"""From weights to a function that takes an image and gives it back deblurred."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from ggkm_plugin import ops
from ggkm_plugin.ops.ggkm import check_form, chosen_form
from ggkm_plugin.restoration import tiling
from ggkm_plugin.restoration.load import HUB_FILE, load_network, pretrained_file
from ggkm_plugin.restoration.tiling import Tile
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.devices import find_device
from ggkm_plugin.utils.errors import DataError, OptionError, UserError
from ggkm_plugin.utils.memory import bounded_memory

Image = TypeVar('Image', np.ndarray, Tensor)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# What white is in integers; in floats it is 1.
_WHITE = {torch.uint8: 255, torch.uint16: 65535}

_log = logging.getLogger(__name__)


class RestorationError(UserError):
    """A network gives something else than an image of its input's size."""


class Restorer:
    """A network on its device, ready to restore images: ``Restorer('net_g_latest.pth')(image) -> image``.

    Args:
        weights_or_network: a checkpoint (.pth or .safetensors), the name of packaged weights (`GGKMNet`,
            `GGKMNet_light`), or a network, which is not changed. EMA weights are used if the file has them.
        device: auto (the first GPU, else the CPU), cpu, cuda or cuda:N.
        tile: auto, None (the whole image at once), or the side of tiles in pixels; see `tiling.restored`. The result
            is the same.
        dtype: float32; or bfloat16, float16: mixed precision, faster on GPUs that have it, with small errors.
        tell: is told when the memory does not suffice and tiles are made smaller; by default that is logged.
        network_g: `type` and arguments of the network, for a checkpoint that does not describe it.
        blur_form: form of GGKMNet's blur (`ops.ggkm.FORMS`), for time and memory; None leaves the choice to
            BASICSR_BLUR_FORM or the network.

    Raises:
        CheckpointError, OptionError: for weights or an argument that cannot be used.
    """

    def __init__(
        self,
        weights_or_network: str | Path | nn.Module,
        device: str = 'auto',
        tile: Tile = 'auto',
        dtype: torch.dtype = torch.float32,
        tell: Callable[[str], None] = _log.warning,
        network_g: Options | None = None,
        blur_form: str | None = None,
    ) -> None:
        tiling.check_tile(tile)
        if dtype not in DTYPES:
            raise OptionError(f'dtype: one of {", ".join(map(str, DTYPES))}, not {dtype}')
        self.device, self.tile, self.dtype, self.tell = find_device(device), tile, dtype, tell
        self.blur_form = blur_form
        try:
            check_form(blur_form or chosen_form(), device=self.device)
        except ValueError as error:
            raise OptionError(str(error)) from None
        given = weights_or_network
        net = given if isinstance(given, nn.Module) else load_network(given, network_g)
        self.network = _for_inference(net).to(self.device)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, filename: str = HUB_FILE, revision: str | None = None, **options: Any
    ) -> 'Restorer':
        """Restorer with packaged weights by name, a local checkpoint, or `OWNER/NAME` of the Hugging Face Hub.

        `filename` and `revision` are of the Hub's repository; `options` are those of the class.
        """
        return cls(pretrained_file(name, filename, revision), **options)

    def __call__(self, image: Image) -> Image:
        """An image restored: of the same kind, shape, type and, for tensors, device.

        Arrays are RGB (H,W,3) or grey (H,W) or (H,W,1), tensors RGB (3,H,W) or (B,3,H,W); uint8, uint16 or floats in
        [0,1]. Results in integers are rounded and clipped, floats are as the network gives them, which may be a
        little outside of [0,1]. A grey image is restored as three equal colours, and their mean is taken.

        Raises DataError for anything else, RestorationError where the network does not give an image, TrainingError
        if the memory does not suffice.
        """
        if isinstance(image, Tensor):
            return self._restored(image)
        if not isinstance(image, np.ndarray):
            raise DataError(f'an image is a numpy array or a tensor, not a {type(image).__name__}')
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
            raise DataError(f'an image as an array is (H,W,3), (H,W,1) or (H,W), not of shape {image.shape}')
        planes = np.moveaxis(np.atleast_3d(image), 2, 0)
        y = torch.from_numpy(np.array(planes, planes.dtype.newbyteorder('='), order='C'))
        x = self._restored(y.expand(3, -1, -1), grey=len(planes) == 1)
        return np.ascontiguousarray(x.movedim(0, 2).numpy().reshape(image.shape), image.dtype)

    @torch.inference_mode()
    def _restored(self, image: Tensor, grey: bool = False) -> Tensor:
        if image.ndim not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape:
            raise DataError(f'an image as a tensor is (3,H,W) or (B,3,H,W), not of shape {tuple(image.shape)}')
        white = _WHITE.get(image.dtype)
        if white is None and not image.is_floating_point():
            raise DataError(f'an image is of uint8, uint16 or floats, not {image.dtype}')
        y = image.to(self.device).to(torch.float32)
        if white:  # y is our own then; an image of 100 megapixels is 1.2 GB
            y.div_(white)
        if not torch.isfinite(y.sum(dtype=torch.float64)):
            raise DataError('the image holds NaN or infinite values')
        batch = y if y.ndim == 4 else y[None]
        half = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        # With a memory bound, a full memory is an error, after which smaller tiles help.
        with half, ops.blur_form(self.blur_form), bounded_memory(self.device):
            x = tiling.restored(self.network, batch, self.tile, self.tell)
        x = check_restored(type(self.network).__name__, batch, x).reshape(y.shape).float()
        if grey:
            x = x.mean(-3, keepdim=True)
        if white:
            x.clamp_(0, 1).mul_(white).round_()
        return x.to(image.dtype).to(image.device)


def check_restored(arch: str, y: Tensor, x: Any) -> Tensor:
    """`x` if it is what a network should make of y (B,3,H,W). Raises RestorationError otherwise."""
    if not isinstance(x, Tensor) or x.shape != y.shape:
        given = f'of shape {tuple(x.shape)}' if isinstance(x, Tensor) else f'a {type(x).__name__}'
        raise RestorationError(f'{arch} gives {given} for an input of shape {tuple(y.shape)}, not an image')
    if not torch.isfinite(x.sum(dtype=torch.float64)):
        raise RestorationError(f'{arch}: its output holds NaN or infinite values')
    return x


def _for_inference(network: nn.Module) -> nn.Module:
    """A copy for evaluation: the network's own fast form if it has one."""
    prepare: Any = getattr(network, 'prepare_inference', None)
    if prepare is not None:
        return cast(nn.Module, prepare())
    return copy.deepcopy(network).eval().requires_grad_(False)
