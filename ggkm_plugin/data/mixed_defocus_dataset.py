"""Several paired data sets in one training, each with a fixed share of every epoch."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ggkm_plugin.basicsr_patches.sampler import SampleIndex
from ggkm_plugin.data.options import AugmentationOptions, MixedOptions
from ggkm_plugin.data.paired_defocus_dataset import PairedDefocusDataset
from ggkm_plugin.utils.errors import OptionError, UserError
from ggkm_plugin.utils.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class MixedDefocusDataset(Dataset):
    """Training samples of several `PairedDefocusDataset`s. An epoch has as many samples as all of them together.

    Each source has the share of the epoch that its ratio gives, at least one sample. It cycles through its pairs in a
    new random order each time, across epochs, so no pair repeats before all of its source were drawn. The pair of a
    sample depends on (seed, epoch, draw), as its crop does. Plain integer indices draw the pairs of the first epoch.

    Options (`opt`):
        sources: a list of mappings, each with a ratio (above 0; only the proportion matters) and the keys of its
            pairs as in PairedDefocusDataset: dataroot, layout, split ...
        phase: train. gt_size, use_hflip, use_vflip, use_rot, noise_std, noise_clip, noise_prob, gray_prob,
            rescale_prob, rescale_range, seed: as there, for all sources.
        dataset_enlarge_ratio: as for the sampler, so that the next epoch continues the cycles (default 1).

    Raises OptionError or DataError naming the source and its key, folder or file.
    """

    options = MixedOptions

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.seed = opt.get('seed', 0)
        if opt['phase'] != 'train':
            raise OptionError(f'MixedDefocusDataset is for training; for {opt["phase"]} list the sets one by one')
        MixedOptions.of(opt, 'datasets.train')
        sources = opt['sources']
        shared = {key: opt[key] for key in AugmentationOptions.model_fields.keys() | {'io_backend'} if key in opt}
        self.datasets = [_source(f'datasets.train.sources[{k}]', {**shared, **spec}) for k, spec in enumerate(sources)]
        total = sum(map(len, self.datasets))
        self.counts = _shares([source['ratio'] for source in sources], total)
        # Interleaved evenly, so that any part of an epoch has the ratios.
        spread = np.concatenate([(np.arange(count) + 0.5) / count for count in self.counts])
        places = np.argsort(spread, kind='stable')
        self._source = np.repeat(np.arange(len(self.counts)), self.counts)[places]
        self._turn = np.concatenate([np.arange(count) for count in self.counts])[places]
        self._per_epoch = math.ceil(len(self) * opt.get('dataset_enlarge_ratio', 1))

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        if not 0 <= index < len(self):
            raise IndexError(f'sample {index} of {len(self)}')
        if not isinstance(index, SampleIndex):
            source, image = self._locate(index)
            return self.datasets[source][image]
        source, image = self._locate(index.epoch * self._per_epoch + index.draw)
        return self.datasets[source][SampleIndex(image, index.epoch, index.draw)]

    def _locate(self, position: int) -> tuple[int, int]:
        """Return (source, its pair) of a position in the infinite sequence of samples, of which epochs are parts."""
        rounds, place = divmod(position, len(self))
        source = int(self._source[place])
        pairs = len(self.datasets[source])
        cycle, step = divmod(rounds * self.counts[source] + int(self._turn[place]), pairs)
        return source, int(_order(self.seed, source, cycle, pairs)[step])


def _source(where: str, opt: dict[str, Any]) -> PairedDefocusDataset:
    try:
        return PairedDefocusDataset(opt)
    except UserError as error:
        raise type(error)(f'{where}: {error}') from error


@lru_cache(maxsize=64)
def _order(seed: int, source: int, cycle: int, pairs: int) -> np.ndarray:
    """Return the order of a source's pairs in a cycle."""
    # The last word separates it from the generators of samples and epochs.
    return np.random.default_rng([seed, source, cycle, 0x4D4958]).permutation(pairs)


def _shares(ratios: list[float], total: int) -> list[int]:
    """Split `total` into integers of at least 1 in proportion to the ratios, by largest remainders.

    Samples that raise a part to 1 are taken from the largest part.
    """
    wanted = np.array(ratios) / np.sum(ratios) * total
    counts = np.floor(wanted).astype(int)
    for k in np.argsort(counts - wanted, kind='stable')[: total - counts.sum()]:
        counts[k] += 1
    for k in np.flatnonzero(counts == 0):
        counts[np.argmax(counts)] -= 1
        counts[k] = 1
    return counts.tolist()
