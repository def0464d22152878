"""Training sampler whose indices carry their epoch and draw; replaces BasicSR's `EnlargedSampler`."""

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Dataset, Sampler


class SampleIndex(int):
    """Integer index with its epoch and its draw, the position in the enlarged epoch."""

    epoch: int
    draw: int

    def __new__(cls, index: int, epoch: int = 0, draw: int = 0) -> 'SampleIndex':
        self = super().__new__(cls, index)
        self.epoch, self.draw = epoch, draw
        return self


class EpochSampler(Sampler):
    """Sampler of SampleIndex: `ratio` repeats of a data set per epoch, split over processes.

    The order is a permutation by (seed, epoch), the same in all processes; each takes every `num_replicas`-th index.
    `resume(epoch, samples)` skips the samples that all processes together have already drawn of that epoch.
    """

    def __init__(self, dataset: Dataset, num_replicas: int, rank: int, ratio: int = 1, seed: int = 0) -> None:
        self.dataset = dataset
        self.num_replicas, self.rank, self.seed = num_replicas, rank, seed
        self.epoch = 0
        self._resumed = (0, 0)
        self.num_samples = math.ceil(len(dataset) * ratio / num_replicas)  # type: ignore[arg-type]
        self.total_size = self.num_samples * num_replicas

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def resume(self, epoch: int, samples: int) -> None:
        self._resumed = (epoch, samples)

    @property
    def first(self) -> int:
        """Number of samples of this epoch, over all processes, that were drawn before the run was resumed."""
        epoch, samples = self._resumed
        return samples if epoch == self.epoch else 0

    def __iter__(self) -> Iterator[SampleIndex]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.total_size)[self.first :]
        order = order[: len(order) // self.num_replicas * self.num_replicas]  # the same number for each process
        count = len(self.dataset)  # type: ignore[arg-type]
        before = self.epoch * self.total_size  # continues the last epoch: a ratio of 0.5 skips no image
        for draw in order[self.rank :: self.num_replicas].tolist():
            yield SampleIndex((before + draw) % count, self.epoch, draw)
