"""The sampler that our training loop uses in place of the host's: its indices know their epoch and draw."""

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Dataset, Sampler


class SampleIndex(int):
    """A plain index to any data set, with the epoch and the position in the enlarged epoch it was drawn for."""

    epoch: int
    draw: int

    def __new__(cls, index: int, epoch: int = 0, draw: int = 0) -> 'SampleIndex':
        self = super().__new__(cls, index)
        self.epoch, self.draw = epoch, draw
        return self


class EpochSampler(Sampler):
    """The host's `EnlargedSampler` (ratio repeats of a data set in an epoch, split over processes) with SampleIndex.

    Shuffled anew in each epoch by (seed, epoch), the same in all processes, which take every `num_replicas`-th index.
    `resume(epoch, samples)` leaves out what all processes together have drawn of that epoch already.
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
        """How many samples of this epoch, over all processes, were drawn before the run was resumed."""
        epoch, samples = self._resumed
        return samples if epoch == self.epoch else 0

    def __iter__(self) -> Iterator[SampleIndex]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.total_size)[self.first :]
        order = order[: len(order) // self.num_replicas * self.num_replicas]  # each process has equally many
        count = len(self.dataset)  # type: ignore[arg-type]
        before = (
            self.epoch * self.total_size
        )  # an epoch goes on where the last one ended: a ratio of 0.5 leaves none out
        for draw in order[self.rank :: self.num_replicas].tolist():
            yield SampleIndex((before + draw) % count, self.epoch, draw)
