"""Defocused photographs without ground truth, for testing."""

from typing import Any

import torch
from torch.utils.data import Dataset

from ggkm_plugin.data.decoding import image_files, read_image
from ggkm_plugin.data.layouts import pairs_of_layout
from ggkm_plugin.data.sampling import to_tensor
from ggkm_plugin.errors import OptionError
from ggkm_plugin.host.registries import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class SingleDefocusDataset(Dataset):
    """Sample: `lq` (3,H,W) float32 RGB in [0,1] and `lq_path`.

    Options: dataroot, layout and split (`layouts.LAYOUTS`; sharp images are ignored), or dataroot_lq, a folder.
    Raises OptionError or DataError naming the key, folder or file.
    """

    option_keys = frozenset(('dataroot', 'layout', 'split', 'dataroot_lq', 'bit_depth'))

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        if opt['phase'] == 'train':
            raise OptionError('SingleDefocusDataset has no sharp images to train on; use PairedDefocusDataset')
        if opt.get('dataroot') and opt.get('layout'):
            self.paths = [p.lq for p in pairs_of_layout(opt['dataroot'], opt['layout'], opt.get('split', 'test'))]
        elif opt.get('dataroot_lq'):
            self.paths = image_files(opt['dataroot_lq'])
        else:
            raise OptionError('set dataroot, layout and split, or dataroot_lq')

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        return {'lq': to_tensor(read_image(self.paths[index])), 'lq_path': self.paths[index]}
