"""Pairs made from sharp photographs: depth, a thin lens, and the blur it gives. Needs no download."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ggkm_plugin.data.optics import procedural_disparity, render_defocus
from ggkm_plugin.data.photographs import Photograph, builtin_photographs, load_photograph, photographs_from_folder
from ggkm_plugin.data.sampling import (
    check_sampling_options,
    crop_window,
    flipped,
    sample_rng,
    to_tensor,
    with_noise,
)
from ggkm_plugin.errors import DataError, OptionError
from ggkm_plugin.host.registries import DATASET_REGISTRY

# Decoded photographs a process keeps; a worker draws from few, again and again.
_load = lru_cache(maxsize=16)(load_photograph)

# How far in front of or behind the scene the focus may lie, as a share of the scene's depth: photographs are out of
# focus as a whole as often as in parts.
_MISSED_FOCUS = 0.5


@DATASET_REGISTRY.register()
class SyntheticDefocusDataset(Dataset):
    """Sample: `lq`, `gt` (3,H,W) float32 RGB in [0,1], `lq_path`, `gt_path` (the sharp photograph's name and path).

    In training each sample is a new scene: crop, depth, focus and aperture are drawn from (seed, epoch, draw). Else
    the whole photograph, its scene drawn from (seed, index), the same in every validation. Depth is the photograph's
    own where it has one (of the built-in ones the motorcycle, which is held out), else procedural.

    Options (`opt`):
        dataroot_gt: folder of sharp photographs (default: those inside scikit-image, some of them held out for
            phases other than train).
        phase: train, val or test. gt_size: side of the training crop.
        max_blur_radius: pixels, the largest blur in a picture (default 4); in training, drawn from half of it up.
        use_hflip, use_vflip, use_rot, noise_std, noise_clip, seed: as in PairedDefocusDataset.

    Raises OptionError or DataError naming the key, folder or file.
    """

    option_keys = frozenset(
        ('dataroot_gt', 'max_blur_radius', 'gt_size', 'use_hflip', 'use_vflip', 'use_rot', 'noise_std', 'noise_clip')
    )

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.training = opt['phase'] == 'train'
        self.seed = opt.get('seed', 0)
        self.max_radius = opt.get('max_blur_radius', 4)
        if not isinstance(self.max_radius, int | float) or not 0.5 <= self.max_radius < math.inf:
            raise OptionError(f'max_blur_radius is a number of pixels of at least 0.5, not {self.max_radius!r}')
        check_sampling_options(opt, self.training)
        self.photographs: list[Photograph] = (
            photographs_from_folder(opt['dataroot_gt'])
            if opt.get('dataroot_gt')
            else builtin_photographs('train' if self.training else 'val')
        )

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        photo = self.photographs[index]
        gt, disparity = _load(photo)
        if min(gt.shape[:2]) - 1 <= self.max_radius:
            raise DataError(
                f'{photo.path}: {gt.shape[0]}x{gt.shape[1]} is too small for a blur of radius {self.max_radius} px: '
                'lower max_blur_radius, or leave the photograph out'
            )
        if self.training:
            rng = sample_rng(self.seed, index)
            lq, gt = self._training_crop(rng, photo, gt, disparity)
        else:
            rng = np.random.default_rng([self.seed, int(index)])
            lq = self._defocused(rng, gt, disparity, self.max_radius)
        if self.opt.get('noise_std'):
            lq = with_noise(rng, lq, self.opt['noise_std'], self.opt.get('noise_clip', False))
        return {'lq': to_tensor(lq), 'gt': to_tensor(gt), 'lq_path': photo.name, 'gt_path': photo.path}

    def _training_crop(
        self, rng: np.random.Generator, photo: Photograph, gt: np.ndarray, disparity: np.ndarray | None
    ) -> list[np.ndarray]:
        size, margin = self.opt['gt_size'], math.ceil(self.max_radius)
        height, width, _ = gt.shape
        rows, columns = crop_window(rng, height, width, size, photo.path)
        # What lies up to one blur radius outside the crop shines into it.
        top, left = max(0, rows.start - margin), max(0, columns.start - margin)
        seen = slice(top, rows.stop + margin), slice(left, columns.stop + margin)
        lq = self._defocused(
            rng,
            gt[seen],
            None if disparity is None else disparity[seen],
            rng.uniform(0.5 * self.max_radius, self.max_radius),
        )
        lq = lq[rows.start - top :, columns.start - left :][:size, :size]
        flips = (self.opt.get(f'use_{name}', False) for name in ('hflip', 'vflip', 'rot'))
        return flipped(rng, [lq, gt[rows, columns]], *flips)

    def _defocused(
        self, rng: np.random.Generator, sharp: np.ndarray, disparity: np.ndarray | None, radius: float
    ) -> np.ndarray:
        """The photograph with its focus somewhere in or near the scene, and `radius` pixels of blur where most."""
        if disparity is None:
            disparity = procedural_disparity(sharp.shape[:2], rng)
        near, far = float(disparity.max()), float(disparity.min())
        focus = far + (near - far) * rng.uniform(-_MISSED_FOCUS, 1 + _MISSED_FOCUS)
        strength = radius / max(float(np.abs(disparity - focus).max()), 1e-3)
        return render_defocus(sharp, disparity, focus, strength)
