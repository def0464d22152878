"""Base classes of the networks: padding to any size, submodules that only training uses, and the inference form."""

from typing import Any, TypeVar

from torch import Tensor, nn

from ggkm_plugin.archs.folding import inference_form
from ggkm_plugin.ops.boundary import crop_to, pad_to_multiple, padded_size
from ggkm_plugin.utils.errors import CropSizeError

Net = TypeVar('Net', bound='RestorationNet')


class RestorationNet(nn.Module):
    """Network from y (B,3,H,W), RGB in [0,1], of any size, to the restored image of the same shape and dtype.

    Checkpoints that hold parameters of an absent (None) submodule of `training_only` or `optional` load strictly: these
    parameters are ignored.

    Attributes:
        size_multiple: H and W of the layers' input are multiples of this.
        smallest_side: H and W of the layers' input are at least this.
        training_only: names of submodules that evaluation does not use.
        optional: names of other submodules that may be absent.
    """

    size_multiple: int
    smallest_side: int = 0
    training_only: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_ignore_absent)

    def padded(self, y: Tensor) -> Tensor:
        """Extend y by reflection, on the right and at the bottom, to a size that the layers take."""
        return pad_to_multiple(y, self.size_multiple, self.smallest_side)

    def cropped(self, image: Tensor, y: Tensor) -> Tensor:
        """Crop an image of the size of `padded(y)`, or downscaled from it, to the part that shows y; in y's dtype."""
        height, width = y.shape[-2:]
        rows, _ = padded_size(height, width, self.size_multiple, self.smallest_side)
        return crop_to(image, height, width, rows // image.shape[-2]).to(y.dtype)

    def check_crop(self, y: Tensor, smallest: int = 0) -> None:
        """Raise CropSizeError unless a training crop has a size that the layers take, and at least `smallest`."""
        height, width = y.shape[-2:]
        smallest = max(smallest, self.smallest_side)
        if height % self.size_multiple or width % self.size_multiple or min(height, width) < smallest:
            raise CropSizeError(
                f'a training crop of {height}x{width} does not fit: set datasets.train.gt_size to a multiple of '
                f'{self.size_multiple}{f", {smallest} or more" if smallest else ""}'
            )

    def prepare_inference(self: Net) -> Net:
        """Return a copy for inference (`folding.inference_form`), without the submodules that only training uses."""
        net = inference_form(self)
        for name in net.training_only:
            setattr(net, name, None)
        return net


class AnySizeNet(RestorationNet):
    """Network defined by `restore`, with padding and cropping around it, in training too."""

    def restore(self, y: Tensor) -> Tensor | dict[str, Any]:
        """Return the image of y; in training also a dict (see `GGKMNet`) of lists of images of full or reduced size."""
        raise NotImplementedError

    def forward(self, y: Tensor) -> Tensor | dict[str, Any]:
        output = self.restore(self.padded(y))
        if isinstance(output, Tensor):
            return self.cropped(output, y)
        return {
            key: [self.cropped(image, y) for image in value] if isinstance(value, list) else value
            for key, value in output.items()
        }


def _ignore_absent(net: RestorationNet, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Remove the parameters of absent submodules from a state dict before it is loaded."""
    for name in (*net.training_only, *net.optional):
        if getattr(net, name) is None:
            for key in [key for key in state_dict if key.startswith(f'{prefix}{name}.')]:
                del state_dict[key]
