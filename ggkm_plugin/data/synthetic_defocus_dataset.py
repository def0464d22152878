"""Synthetic defocus pairs, rendered from sharp photographs. Needs no download."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ggkm_plugin.data import real_scenes, varied_scenes
from ggkm_plugin.data.optics import procedural_disparity, render_defocus
from ggkm_plugin.data.options import SyntheticOptions
from ggkm_plugin.data.photographs import SharpPhotograph, builtin_photographs, load_photograph, photographs_from_folders
from ggkm_plugin.data.sampling import (
    check_crop,
    crop_window,
    flipped,
    sample_rng,
    to_tensor,
    with_noise,
)
from ggkm_plugin.utils.errors import DataError, OptionError, listed
from ggkm_plugin.utils.image_decoding import to_float
from ggkm_plugin.utils.image_header import Header
from ggkm_plugin.utils.registry import DATASET_REGISTRY

# Decoded photographs that a process keeps.
_load = lru_cache(maxsize=32)(load_photograph)

# How far in front of or behind the scene the focus may lie, as a share of the scene's depth: photographs are out of
# focus as a whole as often as in parts.
_MISSED_FOCUS = 0.5


@DATASET_REGISTRY.register()
class SyntheticDefocusDataset(Dataset):
    """Sample: `lq`, `gt` (3,H,W) float32 RGB in [0,1], `lq_path`, `gt_path` (the sharp photograph's name and path).

    In training each sample is a new scene: crop, depth, focus and PSF are drawn from (seed, epoch, draw). In the other
    phases the whole photograph, its scene drawn from (seed, index), is the same in every validation.

    `scenes: plain` blurs a photograph by its depth, which is real where it has one (of the built-in ones the
    motorcycle, which is held out), else procedural, through a disk. `scenes: varied` composes layers cut out of several
    photographs, through other lenses and cameras (`varied_scenes`): both images are 8-bit, and the sharp one is that of
    the whole scene, recolored. `scenes: real` adds the optics and camera pipelines of `real_scenes`.

    Options (`opt`):
        dataroot_gt: folder of sharp photographs, or a list of folders (default: those inside scikit-image, some of
            them held out for phases other than train).
        builtin: with dataroot_gt, also the training photographs of scikit-image (default: no).
        photographs: names, without suffixes, of the only ones to use; leave_out: of those not to use.
        scenes: plain (default), varied or real.
        optics: with scenes: real, a preset's name or a mapping of keys of `real_scenes.Optics`.
        phase: train, val or test. gt_size: side of the training crop.
        max_blur_radius: pixels, the largest blur in an image (default 4); in training of plain scenes drawn from half
            of it up, in the others from 0.
        use_hflip, use_vflip, use_rot, noise_std, noise_clip, seed: as in PairedDefocusDataset. Varied and real scenes
            are mirrored and have their own noise as well.

    Raises OptionError or DataError that names the key, folder or file.
    """

    options = SyntheticOptions

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.training = opt['phase'] == 'train'
        self.seed = opt.get('seed', 0)
        options = SyntheticOptions.of(opt)
        self.max_radius, self.scenes = options.max_blur_radius, options.scenes
        self.optics = real_scenes.Optics.from_option(options.optics)
        if options.optics is not None and self.scenes != 'real':
            raise OptionError(f'optics: only for scenes: real, not {self.scenes!r}')
        self.photographs = _chosen(self._all_photographs(), opt.get('photographs'), opt.get('leave_out') or [])

    def _all_photographs(self) -> list[SharpPhotograph]:
        if not self.opt.get('dataroot_gt'):
            return builtin_photographs('train' if self.training else 'val')
        folders = self.opt['dataroot_gt']
        return photographs_from_folders(
            [folders] if isinstance(folders, str) else folders,
            builtin_photographs('train') if self.opt.get('builtin') else [],
        )

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        photo = self.photographs[index]
        gt, disparity = _load(photo)
        self.check_size(photo, gt)
        rng = sample_rng(self.seed, index) if self.training else np.random.default_rng([self.seed, int(index)])
        if self.scenes != 'plain':
            lq, gt = self._layered_pair(rng, gt)
        elif self.training:
            lq, gt = self._training_crop(rng, photo, gt, disparity)
        else:
            lq = self._defocused(rng, gt, disparity, self.max_radius)
        if self.training:
            lq, gt = flipped(rng, [lq, gt], *(self.opt.get(f'use_{name}', False) for name in ('hflip', 'vflip', 'rot')))
        if self.opt.get('noise_std'):
            lq = with_noise(rng, lq, self.opt['noise_std'], self.opt.get('noise_clip', False))
        return {'lq': to_tensor(lq), 'gt': to_tensor(gt), 'lq_path': photo.name, 'gt_path': photo.path}

    def check_size(self, photo: SharpPhotograph, image: np.ndarray | Header) -> None:
        """Raise DataError if a photograph is too small for the largest blur, or a plain one for the training crop."""
        height, width = image.shape[:2]
        if min(height, width) - 1 <= self.max_radius:
            raise DataError(
                f'{photo.path}: {height}x{width} is too small for a blur of radius {self.max_radius} px. Lower '
                'max_blur_radius, or leave the photograph out'
            )
        if self.training and self.scenes == 'plain':
            check_crop(height, width, self.opt['gt_size'], photo.path)

    def _layered_pair(self, rng: np.random.Generator, sharp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        def another() -> np.ndarray:
            return _load(self.photographs[rng.integers(len(self.photographs))])[0]

        size, radius = int(self.opt.get('gt_size') or 0), self.max_radius
        if self.scenes == 'real' and self.training:
            pair = real_scenes.training_pair(rng, another, sharp, size, radius, self.optics)
        elif self.scenes == 'real':
            pair = real_scenes.whole_pair(rng, another, sharp, radius, self.optics)
        elif self.training:
            pair = varied_scenes.training_pair(rng, another, sharp, size, radius)
        else:
            pair = varied_scenes.whole_pair(rng, another, sharp, radius)
        return to_float(pair.lq), to_float(pair.gt)

    def _training_crop(
        self, rng: np.random.Generator, photo: SharpPhotograph, gt: np.ndarray, disparity: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        size, margin = self.opt['gt_size'], math.ceil(self.max_radius)
        height, width, _ = gt.shape
        rows, columns = crop_window(rng, height, width, size, photo.path)
        # What lies up to one blur radius outside the crop shines into it.
        top, left = max(0, rows.start - margin), max(0, columns.start - margin)
        window = slice(top, rows.stop + margin), slice(left, columns.stop + margin)
        lq = self._defocused(
            rng,
            gt[window],
            None if disparity is None else disparity[window],
            rng.uniform(0.5 * self.max_radius, self.max_radius),
        )
        return lq[rows.start - top :, columns.start - left :][:size, :size], gt[rows, columns]

    def _defocused(
        self, rng: np.random.Generator, sharp: np.ndarray, disparity: np.ndarray | None, radius: float
    ) -> np.ndarray:
        """Render a photograph with its focus in or near the scene and a largest blur of `radius` pixels."""
        if disparity is None:
            disparity = procedural_disparity(sharp.shape[:2], rng)
        near, far = float(disparity.max()), float(disparity.min())
        focus = far + (near - far) * rng.uniform(-_MISSED_FOCUS, 1 + _MISSED_FOCUS)
        strength = radius / max(float(np.abs(disparity - focus).max()), 1e-3)
        return render_defocus(sharp, disparity, focus, strength)


def _chosen(
    photographs: list[SharpPhotograph], only: Sequence[str] | None, but: Sequence[str]
) -> list[SharpPhotograph]:
    """Select photographs named in `only` (None: all) and not in `but`. Raises OptionError for an unknown name."""
    names = {photo.name for photo in photographs}
    for key, wanted in (('photographs', only), ('leave_out', but)):
        unknown = sorted(set(wanted or ()) - names)
        if unknown:
            raise OptionError(f'{key}: no photograph named {listed(unknown)}; there are {listed(sorted(names))}')
    chosen = [photo for photo in photographs if (only is None or photo.name in only) and photo.name not in but]
    if not chosen:
        raise OptionError('photographs and leave_out together leave no photograph')
    return chosen
