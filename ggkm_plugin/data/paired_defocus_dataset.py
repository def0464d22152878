"""Pairs of defocused and sharp photographs, 8 or 16 bits, in folders or LMDB."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ggkm_plugin.data.options import PairedOptions, gray_share
from ggkm_plugin.data.sampling import (
    crop_window,
    flipped,
    gray,
    rescaled,
    sample_rng,
    side_before_rescaling,
    to_tensor,
    with_noise,
)
from ggkm_plugin.data.sources import SourceImage, check_bit_depth, open_source
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.image_decoding import to_float
from ggkm_plugin.utils.image_header import Header
from ggkm_plugin.utils.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class PairedDefocusDataset(Dataset):
    """Sample: `lq`, `gt` (3,H,W) float32 RGB in [0,1], `lq_path`, `gt_path`; random crops in training, else whole.

    Options (`opt`):
        dataroot, layout, split: a benchmark as distributed or as LMDB (see `sources.open_source`), or
        dataroot_lq, dataroot_gt: two folders or databases; pairing: name (default), sorted, number or scene.
        io_backend: {type: disk} or {type: lmdb} (default: the database if it exists).
        phase: train, val or test. gt_size: side of the training crop.
        bit_depth: 8 or 16 refuses images of another depth; auto (default) takes both, but not in one pair.
        use_hflip, use_vflip, use_rot: random flips and transposition in training (default: no).
        noise_std: Gaussian noise on the input, in 8-bit steps; a number, or [low, high] drawn per image (default 0).
        noise_clip: clip the noisy input to [0,1] (default: no).
        noise_prob: share of the images that get noise (default 1).
        gray_prob: share of the training pairs that become gray (default 0).
        rescale_prob, rescale_range: share of the training pairs that are reduced, by a factor drawn from [low, high]
            (default 0, [0.7, 1]); the crop still has gt_size.
        seed: of crops, flips and noise (default 0; `basicsr train` sets it to manual_seed).

    Raises OptionError or DataError naming the key, folder, database or file.
    """

    options = PairedOptions

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.training = opt['phase'] == 'train'
        self.seed = opt.get('seed', 0)
        PairedOptions.of(opt)
        self.gray_prob = gray_share(opt)
        self.source = open_source(opt, needs_gt=True)
        self.pairs = self.source.pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        lq_path, gt_path = self.pairs[index][0], str(self.pairs[index][1])
        rng = sample_rng(self.seed, index) if self.training else np.random.default_rng([self.seed, int(index)])
        images = self.source.image(lq_path), self.source.image(gt_path)
        self.check_pair(*images, lq_path, gt_path)
        rows = columns = slice(None)
        if self.training:
            height, width, _ = images[1].shape
            side = side_before_rescaling(rng, self.opt, min(height, width))
            rows, columns = crop_window(rng, height, width, side, lq_path)
        lq, gt = (to_float(image[rows, columns]) for image in images)
        if self.training:
            lq, gt = (rescaled(image, self.opt['gt_size']) for image in (lq, gt))
            lq, gt = flipped(rng, [lq, gt], *(self.opt.get(f'use_{name}', False) for name in ('hflip', 'vflip', 'rot')))
            if self.gray_prob and rng.random() < self.gray_prob:
                lq, gt = gray(lq), gray(gt)
        if self.opt.get('noise_std') and (self.opt.get('noise_prob', 1) == 1 or rng.random() < self.opt['noise_prob']):
            lq = with_noise(rng, lq, self.opt['noise_std'], self.opt.get('noise_clip', False))
        return {'lq': to_tensor(lq), 'gt': to_tensor(gt), 'lq_path': lq_path, 'gt_path': gt_path}

    def check_pair(self, lq: SourceImage | Header, gt: SourceImage | Header, lq_path: str, gt_path: str) -> None:
        """Raise DataError if sizes or bit depths of a pair differ."""
        if lq.shape != gt.shape:
            raise DataError(
                f'{lq_path} is {lq.shape[0]}x{lq.shape[1]} but its partner {gt_path} is {gt.shape[0]}x{gt.shape[1]}: '
                'both images of a pair must have one size. Fix or remove the pair'
            )
        if lq.dtype != gt.dtype:
            raise DataError(
                f'{lq_path} has {8 * lq.itemsize} bits but its partner {gt_path} has {8 * gt.itemsize}: both images '
                'of a pair must have one bit depth. Take them from one release of the data set'
            )
        check_bit_depth(self.opt, lq, lq_path)
