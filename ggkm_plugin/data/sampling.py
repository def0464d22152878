"""Every random choice of a training sample, drawn from (seed, epoch, draw) and never from worker state.

The sampler (`host.sampler`) hands out indices that know their epoch and draw; whatever process loads the sample, it is
the same.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ggkm_plugin.errors import DataError, OptionError
from ggkm_plugin.host.sampler import SampleIndex


def check_sampling_options(opt: dict[str, Any], training: bool) -> None:
    """Raises OptionError if gt_size (in training), noise_std or seed has a value that no sample can be drawn with."""
    size, seed, std = opt.get('gt_size'), opt.get('seed', 0), opt.get('noise_std') or 0
    if training and not (isinstance(size, int) and size >= 1):
        raise OptionError(f'gt_size, the side of the training crop, is a whole number of at least 1, not {size!r}')
    if not (isinstance(seed, int) and seed >= 0):
        raise OptionError(f'seed is a whole number of at least 0, not {seed!r}')
    bounds: list[Any] = list(std) if isinstance(std, list | tuple) else [std, std]
    numbers = len(bounds) == 2 and all(isinstance(bound, int | float) for bound in bounds)
    if not (numbers and 0 <= bounds[0] <= bounds[1] < math.inf):
        raise OptionError(f'noise_std is a number of 8-bit steps, 0 or more, or [low, high] of two, not {std!r}')


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
