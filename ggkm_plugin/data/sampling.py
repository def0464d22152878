"""Every random choice of a training sample, drawn from (seed, epoch, draw) and never from worker state.

The sampler (`host.sampler`) hands out indices that know their epoch and draw; whatever process loads the sample, it is
the same.
"""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from ggkm_plugin.basicsr_patches.sampler import SampleIndex
from ggkm_plugin.utils.errors import DataError, OptionError

# How many of the samples are noisy (where there is noise), grey, reduced.
SHARES = ('noise_prob', 'grey_prob', 'rescale_prob')
RESCALE_RANGE = (0.7, 1.0)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601, of RGB


def check_sampling_options(opt: dict[str, Any], training: bool) -> None:
    """Raises OptionError if gt_size (in training), noise_std, seed, a share of the samples or the range of their scale
    has a value that no sample can be drawn with.
    """
    size, seed, std = opt.get('gt_size'), opt.get('seed', 0), opt.get('noise_std') or 0
    if training and not (isinstance(size, int) and size >= 1):
        raise OptionError(f'gt_size, the side of the training crop, is a whole number of at least 1, not {size!r}')
    if not (isinstance(seed, int) and seed >= 0):
        raise OptionError(f'seed is a whole number of at least 0, not {seed!r}')
    bounds: list[Any] = list(std) if isinstance(std, list | tuple) else [std, std]
    numbers = len(bounds) == 2 and all(isinstance(bound, int | float) for bound in bounds)
    if not (numbers and 0 <= bounds[0] <= bounds[1] < math.inf):
        raise OptionError(f'noise_std is a number of 8-bit steps, 0 or more, or [low, high] of two, not {std!r}')
    for name in SHARES:
        share = opt.get(name, 0)
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 1:
            raise OptionError(f'{name}, a share of the samples, is a number from 0 to 1, not {share!r}')
    scales = opt.get('rescale_range', RESCALE_RANGE)
    pair = isinstance(scales, list | tuple) and len(scales) == 2
    if not (pair and all(isinstance(scale, int | float) for scale in scales) and 0 < scales[0] <= scales[1] <= 1):
        raise OptionError(f'rescale_range is [low, high] above 0 and up to 1, not {scales!r}')


def sample_rng(seed: int, index: int) -> np.random.Generator:
    """The generator of one training sample.

    A plain int, as a loop without our sampler gives, has no epoch and may come twice in one: a draw from torch's
    generator, which the loader seeds in its workers, stands for both. Such samples depend on the number of workers.
    """
    if isinstance(index, SampleIndex):
        return np.random.default_rng([seed, index.epoch, index.draw])
    return np.random.default_rng([seed, int(torch.randint(2**62, ())), index])


def crop_window(rng: np.random.Generator, height: int, width: int, size: int, name: str) -> tuple[slice, slice]:
    """Rows and columns of a random size x size crop. Raises DataError if the image `name` is smaller."""
    if min(height, width) < size:
        raise DataError(
            f'{name}: {height}x{width} is smaller than the training crop: set datasets.train.gt_size to '
            f'{min(height, width)} or less, or leave the image out'
        )
    top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
    return slice(top, top + size), slice(left, left + size)


def flipped(
    rng: np.random.Generator, images: Sequence[np.ndarray], hflip: bool, vflip: bool, rot: bool
) -> list[np.ndarray]:
    """The same random flips, and with `rot` transposition, of several (H,W,C) arrays; each happens half of the time."""
    do_h, do_v, do_t = hflip and rng.random() < 0.5, vflip and rng.random() < 0.5, rot and rng.random() < 0.5
    flips = []
    for image in images:
        image = image[:, ::-1] if do_h else image
        image = image[::-1] if do_v else image
        flips.append(image.transpose(1, 0, 2) if do_t else image)
    return flips


def side_before_rescaling(rng: np.random.Generator, opt: dict[str, Any], largest: int) -> int:
    """The side of the square to crop so that, reduced to gt_size, the image is smaller by a factor of rescale_range.

    gt_size itself in all but rescale_prob of the samples; never more than `largest`, where gt_size is not.
    """
    size = opt['gt_size']
    if not opt.get('rescale_prob') or rng.random() >= opt['rescale_prob']:
        return size
    low, high = opt.get('rescale_range', RESCALE_RANGE)
    return max(size, min(round(size / rng.uniform(low, high)), largest))


def rescaled(image: np.ndarray, size: int) -> np.ndarray:
    """(S,S,3) float32 reduced to (size,size,3), a pixel the mean of the area it covers."""
    return image if len(image) == size else cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def grey(image: np.ndarray) -> np.ndarray:
    """(H,W,3) RGB as a grey image, its luma (BT.601) in all three channels."""
    return np.repeat((image @ _LUMA)[..., None], 3, axis=2)


def with_noise(
    rng: np.random.Generator, image: np.ndarray, std: float | Sequence[float], clip: bool = False
) -> np.ndarray:
    """Gaussian noise on a float image in [0,1]; std in 8-bit steps, fixed or drawn from [low, high] for the image."""
    sigma = float(rng.uniform(std[0], std[1])) if isinstance(std, Sequence) else float(std)
    noisy = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma / 255)
    return noisy.clip(0, 1) if clip else noisy


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H,W,C) float32 to a contiguous (C,H,W) tensor."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
