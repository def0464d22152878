"""A plugin for BasicSR: an arch, a loss and a data set, named in option files."""

import cv2
import numpy as np
import torch
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY
from skimage import data
from torch import Tensor, nn


@ARCH_REGISTRY.register()
class ResidualNet(nn.Module):
    """Residual network of a few convolutions. forward: (B,3,H,W) in [0,1] -> the same size."""

    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, lq: Tensor) -> Tensor:
        return lq + self.body(lq)


@LOSS_REGISTRY.register()
class EdgeLoss(nn.Module):
    """L1 of values and of horizontal and vertical differences."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, output: Tensor, gt: Tensor) -> Tensor:
        error = output - gt
        parts = (error, error.diff(dim=-1), error.diff(dim=-2))
        return self.loss_weight * sum(part.abs().mean() for part in parts)


@DATASET_REGISTRY.register()
class EvenBlurDataset(torch.utils.data.Dataset):
    """Crops of scikit-image's astronaut under one Gaussian blur. opt: `gt_size`, `sigma` in pixels, `count`."""

    def __init__(self, opt: dict) -> None:
        self.size, self.count = opt['gt_size'], opt.get('count', 64)
        self.gt = data.astronaut().astype(np.float32) / 255
        self.lq = cv2.GaussianBlur(self.gt, (0, 0), opt.get('sigma', 1.5))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        random = np.random.default_rng(index)
        y, x = (int(random.integers(0, side - self.size)) for side in self.gt.shape[:2])
        crops = {}
        for name, image in (('lq', self.lq), ('gt', self.gt)):
            crop = image[y : y + self.size, x : x + self.size]
            crops[name] = torch.from_numpy(crop.transpose(2, 0, 1).copy())
        return crops | {'lq_path': f'astronaut/{index}', 'gt_path': f'astronaut/{index}'}
