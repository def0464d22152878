"""Random crops, flips and noise of training samples, drawn from (seed, epoch, draw).

The indices of the sampler (`basicsr_patches.sampler`) carry their epoch and draw, so a sample does not depend on the
process that loads it.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from ggkm_plugin.basicsr_patches.sampler import SampleIndex
from ggkm_plugin.utils.errors import DataError

RESCALE_RANGE = (0.7, 1.0)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601, of RGB


def sample_rng(seed: int, index: int) -> np.random.Generator:
    """Return the generator of one training sample.

    A plain int, from another sampler, has no epoch and may repeat: a number from torch's generator, which the loader
    seeds in its workers, replaces epoch and draw. Such samples depend on the number of workers.
    """
    if isinstance(index, SampleIndex):
        return np.random.default_rng([seed, index.epoch, index.draw])
    return np.random.default_rng([seed, int(torch.randint(2**62, ())), index])


def crop_window(rng: np.random.Generator, height: int, width: int, size: int, name: str) -> tuple[slice, slice]:
    """Draw rows and columns of a size x size crop. Raises DataError if the image `name` is smaller."""
    check_crop(height, width, size, name)
    top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
    return slice(top, top + size), slice(left, left + size)


def check_crop(height: int, width: int, size: int, name: str) -> None:
    """Raise DataError if the image `name` is smaller than the training crop."""
    if min(height, width) < size:
        raise DataError(
            f'{name}: {height}x{width} is smaller than the training crop. Set datasets.train.gt_size to '
            f'{min(height, width)} or less, or remove the image'
        )


def flipped(
    rng: np.random.Generator, images: Sequence[np.ndarray], hflip: bool, vflip: bool, rot: bool
) -> list[np.ndarray]:
    """Apply the same random flips, and transposition (`rot`), to several (H,W,C) arrays, each with probability 1/2."""
    do_h, do_v, do_t = hflip and rng.random() < 0.5, vflip and rng.random() < 0.5, rot and rng.random() < 0.5
    flips = []
    for image in images:
        image = image[:, ::-1] if do_h else image
        image = image[::-1] if do_v else image
        flips.append(image.transpose(1, 0, 2) if do_t else image)
    return flips


def side_before_rescaling(rng: np.random.Generator, opt: dict[str, Any], largest: int) -> int:
    """Draw the side of the crop that is then reduced to gt_size, by a factor of rescale_range.

    It is gt_size in all but rescale_prob of the samples, and at most max(gt_size, `largest`).
    """
    size = opt['gt_size']
    if not opt.get('rescale_prob') or rng.random() >= opt['rescale_prob']:
        return size
    low, high = opt.get('rescale_range', RESCALE_RANGE)
    return max(size, min(round(size / rng.uniform(low, high)), largest))


def rescaled(image: np.ndarray, size: int) -> np.ndarray:
    """Reduce (S,S,3) float32 to (size,size,3) by means over areas."""
    return image if len(image) == size else cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def gray(image: np.ndarray) -> np.ndarray:
    """Replace the channels of (H,W,3) RGB by its luma (BT.601)."""
    return np.repeat((image @ _LUMA)[..., None], 3, axis=2)


def with_noise(
    rng: np.random.Generator, image: np.ndarray, std: float | Sequence[float], clip: bool = False
) -> np.ndarray:
    """Add Gaussian noise to a float image in [0,1]; std in 8-bit steps, fixed or drawn from [low, high] per image."""
    sigma = float(rng.uniform(std[0], std[1])) if isinstance(std, Sequence) else float(std)
    noisy = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma / 255)
    return noisy.clip(0, 1) if clip else noisy


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Convert (H,W,C) float32 to a contiguous (C,H,W) tensor."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
