"""Pairs of a defocused and a sharp photograph in folders, 8 or 16 bits."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ggkm_plugin.data.decoding import read_image
from ggkm_plugin.data.layouts import Pair, pairs_in_folders, pairs_of_layout
from ggkm_plugin.data.sampling import check_sampling_options, crop_window, flipped, sample_rng, to_tensor, with_noise
from ggkm_plugin.errors import DataError, OptionError
from ggkm_plugin.host.registries import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class PairedDefocusDataset(Dataset):
    """Sample: `lq`, `gt` (3,H,W) float32 RGB in [0,1], `lq_path`, `gt_path`; random crops in training, else whole.

    Options (`opt`):
        dataroot, layout, split: a benchmark as distributed (`layouts.LAYOUTS`), or
        dataroot_lq, dataroot_gt: two folders; pairing: name (default), sorted, number or scene.
        phase: train, val or test. gt_size: side of the training crop.
        use_hflip, use_vflip, use_rot: random flips and transposition in training (default: no).
        noise_std: Gaussian noise on the input, in 8-bit steps; a number, or [low, high] drawn per image (default 0).
        noise_clip: clip the noisy input to [0,1] (default: no).
        seed: of crops, flips and noise (default 0; `basicsr train` sets it to manual_seed).

    Raises OptionError or DataError naming the key, folder or file.
    """

    option_keys = frozenset(
        (
            'dataroot',
            'layout',
            'split',
            'dataroot_lq',
            'dataroot_gt',
            'pairing',
            'gt_size',
            'use_hflip',
            'use_vflip',
            'use_rot',
            'noise_std',
            'noise_clip',
            'bit_depth',
        )
    )

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.training = opt['phase'] == 'train'
        self.seed = opt.get('seed', 0)
        backend = opt.get('io_backend') or {'type': 'disk'}
        if not isinstance(backend, dict) or backend.get('type') != 'disk':
            raise OptionError(f'io_backend: {backend!r} is not available here; use type: disk')
        check_sampling_options(opt, self.training)
        self.pairs = self._find_pairs()

    def _find_pairs(self) -> list[Pair]:
        opt = self.opt
        if opt.get('dataroot') and opt.get('layout'):
            pairs = pairs_of_layout(opt['dataroot'], opt['layout'], opt.get('split', opt['phase']))
            if pairs[0].gt is None:
                raise OptionError(f'layout: {opt["layout"]} has no sharp images; use type: SingleDefocusDataset')
            return pairs
        if opt.get('dataroot_lq') and opt.get('dataroot_gt'):
            return pairs_in_folders(opt['dataroot_lq'], opt['dataroot_gt'], opt.get('pairing', 'name'))
        raise OptionError('set dataroot, layout and split, or dataroot_lq and dataroot_gt')

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        lq_path, gt_path = self.pairs[index]
        lq, gt = read_image(lq_path), read_image(str(gt_path))
        if lq.shape != gt.shape:
            raise DataError(
                f'{lq_path} is {lq.shape[0]}x{lq.shape[1]} but its partner {gt_path} is {gt.shape[0]}x{gt.shape[1]}: '
                'both images of a pair have one size; fix or remove the pair'
            )
        rng = sample_rng(self.seed, index) if self.training else np.random.default_rng([self.seed, int(index)])
        if self.training:
            height, width, _ = gt.shape
            rows, columns = crop_window(rng, height, width, self.opt['gt_size'], lq_path)
            flips = (self.opt.get(f'use_{name}', False) for name in ('hflip', 'vflip', 'rot'))
            lq, gt = flipped(rng, [lq[rows, columns], gt[rows, columns]], *flips)
        if self.opt.get('noise_std'):
            lq = with_noise(rng, lq, self.opt['noise_std'], self.opt.get('noise_clip', False))
        return {'lq': to_tensor(lq), 'gt': to_tensor(gt), 'lq_path': lq_path, 'gt_path': str(gt_path)}
