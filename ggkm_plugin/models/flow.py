"""Optical flow between two images, and what training against misaligned pairs does with it.

A flow network is a class in `FLOW_REGISTRY`; an instance called with (one, two), both (B,3,H,W) RGB in [0,1], gives the
flow (B,2,H,W) in pixels, to the right and down, that finds one's pixels in two: one(p) = two(p + flow(p)). A plugin
adds its own with `@FLOW_REGISTRY.register()`.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.utils.checkpoint import load_weights, read_checkpoint, weights_of
from ggkm_plugin.utils.config import nearest
from ggkm_plugin.utils.errors import CheckpointError, OptionError, UserError
from ggkm_plugin.utils.registry import Registry

FLOW_REGISTRY = Registry('flow')


@FLOW_REGISTRY.register()
class RAFT(nn.Module):
    """Torchvision's RAFT (Teed and Deng, ECCV 2020) with weights from a file; nothing is fetched.

    Args:
        weights: one of torchvision's files, `raft_large_*.pth` or `raft_small_*.pth`, of any of its trainings.
        size: large or small, as the file.
        updates: of the flow; the last is given.

    Raises:
        CheckpointError: the file is missing, damaged or of another network.
    """

    least_size = 128  # pixels: its coarsest correlations need them

    def __init__(self, weights: str, size: str = 'large', updates: int = 12) -> None:
        super().__init__()
        from torchvision.models import optical_flow

        builders = {'large': optical_flow.raft_large, 'small': optical_flow.raft_small}
        if size not in builders:
            raise ValueError(f'size is large or small, not {size!r}')
        if not isinstance(updates, int) or updates < 1:
            raise ValueError(f'updates is a whole number of at least 1, not {updates!r}')
        path = str(Path(weights).expanduser())
        if not Path(path).is_file():
            names = {'large': optical_flow.Raft_Large_Weights, 'small': optical_flow.Raft_Small_Weights}
            raise CheckpointError(
                f"{weights}: no such file. Put torchvision's {names[size].DEFAULT.url} there, or one of its like; "
                'nothing is fetched here'
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
    """The flow network of `train.jdrl.flow`, frozen. Raises OptionError naming what does not fit."""
    where = 'train.jdrl.flow'
    if not isinstance(spec, dict) or not isinstance(spec.get('type'), str):
        raise OptionError(f'{where}: a flow network and its options, as in {{type: RAFT, weights: FILE}}, not {spec!r}')
    options = dict(spec)
    name = options.pop('type')
    if name not in FLOW_REGISTRY:
        known = nearest(name, list(FLOW_REGISTRY.keys()), 'There are')
        raise OptionError(f'{where}.type: {name!r} is no flow network.{known}')
    try:
        return FLOW_REGISTRY.get(name)(**options).eval().requires_grad_(False)
    except (UserError, TypeError, ValueError) as error:
        raise OptionError(f'{where}: {name}: {error}') from error


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """image (B,C,H,W) at p + flow(p), bilinear; beyond its border it is continued by it."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(
        *(torch.arange(n, device=flow.device, dtype=flow.dtype) for n in (height, width)), indexing='ij'
    )
    at = torch.stack([2 * (x + flow[:, 0]) / max(width - 1, 1) - 1, 2 * (y + flow[:, 1]) / max(height - 1, 1) - 1], -1)
    return F.grid_sample(image, at.to(image.dtype), mode='bilinear', padding_mode='border', align_corners=True)


def calibration_mask(flow: Tensor, tolerance: float = 0.35) -> Tensor:
    """Where a flow (B,2,H,W) is like that of the rest of its image, and so to be believed: (B,1,H,W) of 0 and 1.

    The flow is drawn with Middlebury's colour wheel, the longest of its image in full colour, and turned to grey
    (BT.601); 1 where that is within `tolerance` of its mean. A shift of the whole image is believed everywhere.
    """
    from torchvision.utils import flow_to_image

    drawn = torch.stack([flow_to_image(one) for one in flow.float()]).float()
    grey = torch.einsum('c,bchw->bhw', drawn.new_tensor([0.299, 0.587, 0.114]), drawn)[:, None]
    mean = grey.mean(dim=(2, 3), keepdim=True)
    return ((grey - mean).abs() <= tolerance * mean).to(flow.dtype)
