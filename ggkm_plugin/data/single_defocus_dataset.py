"""Defocused photographs without ground truth, for testing."""

from typing import Any

import torch
from torch.utils.data import Dataset

from ggkm_plugin.data.options import SingleOptions
from ggkm_plugin.data.sampling import to_tensor
from ggkm_plugin.data.sources import check_bit_depth, open_source
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.image_decoding import to_float
from ggkm_plugin.utils.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class SingleDefocusDataset(Dataset):
    """Sample: `lq` (3,H,W) float32 RGB in [0,1] and `lq_path`.

    Options: dataroot, layout and split (default test; sharp images are ignored), or dataroot_lq, a folder or database;
    io_backend and bit_depth as in PairedDefocusDataset. Raises OptionError or DataError naming the key, folder,
    database or file.
    """

    options = SingleOptions

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        if opt['phase'] == 'train':
            raise OptionError('SingleDefocusDataset has no sharp images to train on; use PairedDefocusDataset')
        SingleOptions.of(opt)
        self.source = open_source(opt, needs_gt=False)
        self.paths = [pair.lq for pair in self.source.pairs]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        path = self.paths[index]
        image = self.source.image(path)
        check_bit_depth(self.opt, image, path)
        return {'lq': to_tensor(to_float(image[:, :])), 'lq_path': path}
