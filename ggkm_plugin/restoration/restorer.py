"""Image restorers: the base class and networks."""

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ggkm_plugin import ops
from ggkm_plugin.archs.ggkmnet_arch import FixedPointStep, GGKMNet
from ggkm_plugin.ops.boundary import pad_to_multiple, padded_size
from ggkm_plugin.ops.ggkm import check_form, chosen_form
from ggkm_plugin.ops.precision import widest
from ggkm_plugin.restoration import tiling
from ggkm_plugin.restoration.blur_estimate import BlurEstimate
from ggkm_plugin.restoration.load import HUB_FILE, load_network, pretrained_file
from ggkm_plugin.restoration.psf import predicts_psfs
from ggkm_plugin.restoration.strength import (
    WHITE,
    AdjustableResult,
    Image,
    check_strength,
    from_planes,
    to_planes,
    to_type,
)
from ggkm_plugin.restoration.tiling import Tile, TileProgress
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.devices import UNTESTED, find_device
from ggkm_plugin.utils.errors import DataError, OptionError, UserError
from ggkm_plugin.utils.memory import bounded_memory

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Float images beyond these have another white than 1; noise and overshoots stay within.
_LIMITS = (-1, 2)
# Largest difference of an untested device from the CPU, relative to the largest value.
_TOLERANCE = 1e-3

_log = logging.getLogger(__name__)


class RestorationError(UserError):
    """The output of a network is not an image of its input's size."""


class ImageRestorer(ABC):
    """Image restorer: ``restorer(image) -> image``. Base class of networks (`Restorer`) and of classical methods.

    name: in messages; of the arch or the method.
    network: the module that runs; None for a classical method, which has no parameters.
    settings: plain values that, with the weights, determine the results.
    has_blur_map: whether `blur_map` can be called.
    estimates_blur: whether `restore_estimating` estimates the radius of the blur at each pixel.
    """

    name: str
    has_blur_map: bool
    estimates_blur = False
    network: nn.Module | None = None
    settings: dict[str, Any]
    device = torch.device('cpu')

    @abstractmethod
    def restore(self, image: Tensor) -> Tensor:
        """Restore float RGB (3,H,W) or (B,3,H,W), nominally in [0,1]; the result is float32 and may exceed [0,1].

        Raises RestorationError if the result is not an image.
        """

    @abstractmethod
    def blur_map(self, image: Tensor) -> np.ndarray:
        """Draw the blur estimated in (3,H,W), dark for sharp: (H',W',3) uint8."""

    @torch.inference_mode()
    def __call__(self, image: Image, strength: float = 1.0, mask: np.ndarray | Tensor | None = None) -> Image:
        """Restore an image; the result has the same kind, shape, type and, for tensors, device.

        Arrays are RGB (H,W,3) or gray (H,W) or (H,W,1), tensors RGB (3,H,W) or (B,3,H,W); uint8, uint16 or floats in
        [0,1]. Integer results are clipped and rounded. Float results are not clipped. A gray image is restored as
        three equal channels, which are averaged.

        Args:
            strength: in [0,2]: 0 is the image, 1 the result, 2 more than that; see `strength`.
            mask: (H,W) in [0,1], where the image is changed: 0 keeps it.

        Raises DataError for anything else, OptionError for a strength that cannot be, RestorationError if the result
        is not an image, TrainingError if the memory does not suffice.
        """
        check_strength(strength)
        planes = to_planes(image)
        if strength == 1 and mask is None:
            return from_planes(to_type(self._restored(planes)[0], planes.dtype), image)
        if planes.ndim == 4:
            return cast(Image, torch.stack([self(one, strength, mask) for one in planes]))
        return self.adjustable(image).at(strength, mask)

    def adjustable(self, image: Image) -> AdjustableResult[Image]:
        """Restore one image, see above, so that its strength can be chosen afterwards. Raises as above."""
        planes = to_planes(image)
        if planes.ndim == 4:
            raise DataError('adjustable: takes a single image, not a batch')
        x, estimate = self._restored(planes, estimating=True)
        return AdjustableResult(image, x.cpu(), estimate)

    def restore_estimating(self, image: Tensor) -> tuple[Tensor, BlurEstimate | None]:
        """Restore (3,H,W) as `restore` does, and estimate its blur; None if `estimates_blur` is false."""
        return self.restore(image), None

    @torch.inference_mode()
    def _restored(self, image: Tensor, estimating: bool = False) -> tuple[Tensor, BlurEstimate | None]:
        """Restore planes, see `to_planes`: a float result of their shape."""
        gray = image.shape[-3] == 1
        white = WHITE.get(image.dtype)
        y = (image.expand(3, -1, -1) if gray else image).to(self.device).to(torch.float32)
        if white:  # in place, since y is a copy: an image of 100 megapixels takes 1.2 GB
            y = y.contiguous().div_(white)
        low, high = y.aminmax()  # NaN if a value is NaN
        if not torch.isfinite(low + high):
            raise DataError('the image holds NaN or infinite values')
        if not white and (low < _LIMITS[0] or high > _LIMITS[1]):
            raise DataError(
                f'a float image has values in [0,1], this one from {float(low):g} to {float(high):g}. Divide it by the '
                'value of white'
            )
        x, estimate = self.restore_estimating(y) if estimating else (self.restore(y), None)
        return x.mean(-3, keepdim=True) if gray else x, estimate


class Restorer(ImageRestorer):
    """A network in its form for inference: ``Restorer('net_g_latest.pth')(image) -> image``.

    Args:
        weights_or_network: a checkpoint (.pth or .safetensors), the name of packaged weights (`GGKMNet`,
            `GGKMNet_light`), or a network, which is copied. EMA weights are used if the file has them.
        device: auto (the first GPU, else the CPU), cpu, cuda, cuda:N, mps or xpu. The last two are untested, see
            `checked_device`.
        tile: auto, None (the whole image at once), or the side of tiles in pixels; see `tiling.restored`. The result
            is the same.
        dtype: float32; or bfloat16, float16: mixed precision, faster on GPUs that have it, with small errors.
        tell: called with a line when the memory does not suffice and tiles are made smaller; by default it is logged.
        progress: called with a `tiling.TileProgress` after each tile.
        network_g: `type` and arguments of the network, for a checkpoint that does not describe it.
        blur_form: form of GGKMNet's blur (`ops.ggkm.FORMS`), for time and memory; None leaves the choice to
            BASICSR_BLUR_FORM or the network.
        size_multiple: what height and width of the network's input are padded to; default: what the network declares.
        channel_order: rgb or bgr, that the network takes and gives.
        value_range: the network's values of black and white.

    Raises:
        CheckpointError, OptionError: for weights or an argument that cannot be used.
    """

    network: nn.Module

    def __init__(
        self,
        weights_or_network: str | Path | nn.Module,
        device: str | torch.device = 'auto',
        tile: Tile = 'auto',
        dtype: torch.dtype = torch.float32,
        tell: Callable[[str], None] = _log.warning,
        network_g: Options | None = None,
        blur_form: str | None = None,
        size_multiple: int | None = None,
        channel_order: str = 'rgb',
        value_range: tuple[float, float] = (0.0, 1.0),
        progress: Callable[[TileProgress], None] = tiling.no_progress,
    ) -> None:
        tiling.check_tile(tile)
        if dtype not in DTYPES:
            raise OptionError(f'dtype: one of {", ".join(map(str, DTYPES))}, not {dtype}')
        if channel_order not in ('rgb', 'bgr'):
            raise OptionError(f'channel_order: rgb or bgr, not {channel_order!r}')
        if not value_range[0] < value_range[1]:
            raise OptionError(f'value_range: the values of black and white, not {value_range}')
        if size_multiple is not None and size_multiple < 1:
            raise OptionError(f'size_multiple: at least 1, not {size_multiple}')
        self.device, self.tile, self.dtype, self.tell = find_device(str(device)), tile, dtype, tell
        self.blur_form, self.progress = blur_form, progress
        try:
            check_form(blur_form or chosen_form(), device=self.device)
        except ValueError as error:
            raise OptionError(str(error)) from None
        given = weights_or_network
        net = given if isinstance(given, nn.Module) else load_network(given, network_g)
        self.network = for_inference(net)
        self.device = checked_device(self.network, self.device, tell)
        self.network.to(self.device)
        self.name, self.has_blur_map = type(self.network).__name__, hasattr(self.network, 'coefficients')
        self.estimates_blur = predicts_psfs(self.network)
        self.settings = {
            'size_multiple': size_multiple or int(getattr(self.network, 'size_multiple', 1)),
            'channel_order': channel_order,
            'value_range': list(value_range),
            'tile': tile,
            'dtype': str(dtype),
            'blur_form': blur_form or chosen_form(''),
        }
        self._size_multiple, self._is_bgr = self.settings['size_multiple'], channel_order == 'bgr'
        self._black, self._scale = value_range[0], value_range[1] - value_range[0]

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, filename: str = HUB_FILE, revision: str | None = None, **options: Any
    ) -> 'Restorer':
        """Load packaged weights by name, a local checkpoint, or `OWNER/NAME` of the Hugging Face Hub.

        `filename` and `revision` are of the Hub's repository; `options` are those of the class.
        """
        return cls(pretrained_file(name, filename, revision), **options)

    def restore(self, image: Tensor) -> Tensor:
        return self._run(image)

    def restore_estimating(self, image: Tensor) -> tuple[Tensor, BlurEstimate | None]:
        if not self.estimates_blur:
            return self._run(image), None
        net = cast(GGKMNet, self.network)
        blur = cast(FixedPointStep, net.steps_of_scale(net.num_scales)[-1]).blur
        height, width = image.shape[-2:]
        found: list[BlurEstimate] = []

        def observe(alpha: Tensor, beta: Tensor) -> None:
            found.append(BlurEstimate.of(blur, alpha[0], beta[0, :, :height, :width]))

        return self._run(image, observe), found[-1]

    @torch.inference_mode()
    def _run(self, image: Tensor, observe: tiling.Observe | None = None) -> Tensor:
        batch = self._input(image)
        half = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        # With a memory bound, a full memory is an error, after which smaller tiles help.
        with half, ops.blur_form(self.blur_form), bounded_memory(self.device):
            output = tiling.restored(self.network, batch, self.tile, self.tell, self.progress, observe)
        output = check_restored(self.name, batch, output).float()
        if (self._black, self._scale) != (0, 1):
            output = (output - self._black) / self._scale
        output = output.flip(1) if self._is_bgr else output
        height, width = image.shape[-2:]
        return output[..., :height, :width].reshape(image.shape).to(image.device)

    @torch.inference_mode()
    def blur_map(self, image: Tensor) -> np.ndarray:
        from ggkm_plugin.report.pictures import coefficient_map  # imports OpenCV, which takes time

        return cast(np.ndarray, coefficient_map(self.network, self._input(image), stretched=True))

    def _input(self, image: Tensor) -> Tensor:
        """Return the network's input (B,3,H,W) for an image."""
        y = image.to(self.device, torch.float32)
        batch = pad_to_multiple(y if y.ndim == 4 else y[None], self._size_multiple)
        batch = batch.flip(1) if self._is_bgr else batch
        return batch * self._scale + self._black if (self._black, self._scale) != (0, 1) else batch


@torch.inference_mode()
def checked_device(network: nn.Module, device: torch.device, tell: Callable[[str], None]) -> torch.device:
    """Return the device, or the CPU if it is an untested one whose result differs from the CPU's on a small image."""
    if device.type not in UNTESTED:
        return device
    side = padded_size(64, 64, int(getattr(network, 'size_multiple', 1)))
    image = torch.rand((1, 3, *side), generator=torch.Generator().manual_seed(0))
    expected = network.to('cpu')(image)
    try:
        found = network.to(device)(image.to(device)).cpu()
        difference = float((found - expected).abs().max() / expected.abs().max())
        fault = None if difference < _TOLERANCE else f'its result on a small image differs by {difference:.1g}'
    except Exception as error:  # an operator that the device lacks, or its driver
        fault = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
    if fault:
        tell(f'device {device}: {fault}. The CPU is used instead')
        return torch.device('cpu')
    tell(f'device {device}: untested by this package. Its result on a small image is that of the CPU')
    return device


def check_restored(name: str, y: Tensor, x: Any) -> Tensor:
    """Return `x` if it is an image of y's shape. Raises RestorationError otherwise."""
    if not isinstance(x, Tensor) or x.shape != y.shape:
        given = f'of shape {tuple(x.shape)}' if isinstance(x, Tensor) else f'a {type(x).__name__}'
        raise RestorationError(f'{name} gives {given} for an input of shape {tuple(y.shape)}, not an image')
    if not torch.isfinite(x.sum(dtype=widest(x.device))):
        raise RestorationError(f'{name}: its output holds NaN or infinite values')
    return x


def for_inference(network: nn.Module) -> nn.Module:
    """Copy a network for evaluation, in its own fast form if it has one."""
    prepare: Any = getattr(network, 'prepare_inference', None)
    if prepare is not None:
        return cast(nn.Module, prepare())
    return copy.deepcopy(network).eval().requires_grad_(False)
