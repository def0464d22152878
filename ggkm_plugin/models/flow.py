"""Optical flow between two images, and what training against misaligned pairs does with it.

A flow network is a class in `FLOW_REGISTRY`; an instance called with (one, two), both (B,3,H,W) RGB in [0,1], gives the
flow (B,2,H,W) in pixels, to the right and down, that finds one's pixels in two: one(p) = two(p + flow(p)). A plugin
adds its own with `@FLOW_REGISTRY.register()`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.utils.checkpoint import load_weights, read_checkpoint, weights_of
from ggkm_plugin.utils.config import nearest
from ggkm_plugin.utils.errors import CheckpointError, OptionError, UserError
from ggkm_plugin.utils.registry import Registry
from ggkm_plugin.utils.schema import Spec, raise_faults, section_faults, signature_section

FLOW_REGISTRY = Registry('flow')


@FLOW_REGISTRY.register()
class RAFT(nn.Module):
    """Torchvision's RAFT (Teed and Deng, ECCV 2020) with weights from a local file.

    Args:
        weights: a file of torchvision, `raft_large_*.pth` or `raft_small_*.pth`.
        size: large or small, as the file.
        updates: number of flow updates; the last one is returned.

    Raises:
        CheckpointError: the file is missing, damaged or of another network.
    """

    least_size = 128  # pixels; the coarsest correlations need them

    def __init__(
        self, weights: str, size: Literal['large', 'small'] = 'large', updates: Annotated[int, Field(ge=1)] = 12
    ) -> None:
        super().__init__()
        from torchvision.models import optical_flow

        builders = {'large': optical_flow.raft_large, 'small': optical_flow.raft_small}
        path = str(Path(weights).expanduser())
        if not Path(path).is_file():
            names = {'large': optical_flow.Raft_Large_Weights, 'small': optical_flow.Raft_Small_Weights}
            raise CheckpointError(
                f"{weights}: no such file. Download torchvision's {names[size].DEFAULT.url} to this path"
            )
        self.updates = updates
        self.net = builders[size](weights=None)
        load_weights(self.net, weights_of(read_checkpoint(path), path), path)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        height, width = one.shape[-2:]
        below, right = (max(self.least_size, -(-side // 8) * 8) - side for side in (height, width))
        one, two = (2 * pad(image, 0, right, 0, below) - 1 for image in (one, two))
        return self.net(one, two, num_flow_updates=self.updates)[-1][..., :height, :width]


def build_flow(spec: Any) -> nn.Module:
    """Build the flow network of `train.jdrl.flow`, frozen. Raises OptionError naming what is wrong."""
    where = 'train.jdrl.flow'
    raise_faults(list(section_faults(Spec, spec, where).values()))
    options = dict(spec)
    name = options.pop('type')
    if name not in FLOW_REGISTRY:
        known = nearest(name, list(FLOW_REGISTRY.keys()), 'Known are')
        raise OptionError(f'{where}.type: {name!r} is not a flow network.{known}')
    network = FLOW_REGISTRY.get(name)
    raise_faults(list(section_faults(signature_section(network), options, where, from_json=True).values()))
    try:
        return network(**options).eval().requires_grad_(False)
    except (UserError, TypeError, ValueError) as error:
        raise OptionError(f'{where}: {name}: {error}') from error


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample image (B,C,H,W) at p + flow(p), bilinear; the border is repeated beyond it."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(
        *(torch.arange(n, device=flow.device, dtype=flow.dtype) for n in (height, width)), indexing='ij'
    )
    at = torch.stack([2 * (x + flow[:, 0]) / max(width - 1, 1) - 1, 2 * (y + flow[:, 1]) / max(height - 1, 1) - 1], -1)
    return F.grid_sample(image, at.to(image.dtype), mode='bilinear', padding_mode='border', align_corners=True)


def calibration_mask(flow: Tensor, tolerance: float = 0.35) -> Tensor:
    """Return the mask, (B,1,H,W) of 0 and 1, of flow (B,2,H,W) that is consistent with the rest of its image.

    The flow is drawn with Middlebury's color wheel, the longest of its image in full color, and turned to gray
    (BT.601); 1 where that is within `tolerance` of its mean. A shift of the whole image is consistent everywhere.
    """
    from torchvision.utils import flow_to_image

    drawn = torch.stack([flow_to_image(one) for one in flow.float()]).float()
    gray = torch.einsum('c,bchw->bhw', drawn.new_tensor([0.299, 0.587, 0.114]), drawn)[:, None]
    mean = gray.mean(dim=(2, 3), keepdim=True)
    return ((gray - mean).abs() <= tolerance * mean).to(flow.dtype)
