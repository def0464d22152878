"""Sample indices with epoch and draw, and their sampler."""

import pickle

import numpy as np
import pytest
import torch

from ggkm_plugin.basicsr_patches.sampler import EpochSampler, SampleIndex
from ggkm_plugin.data.sampling import sample_rng


def drawn(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


# SampleIndex


def test_a_pickled_index_keeps_its_epoch_and_draw():
    index = pickle.loads(pickle.dumps(SampleIndex(3, epoch=7, draw=11)))
    assert type(index) is SampleIndex
    assert (int(index), index.epoch, index.draw) == (3, 7, 11)


# EpochSampler


def test_an_epoch_is_a_permutation():
    sampler = EpochSampler(range(17), 1, 0, seed=3)
    for epoch in range(3):
        indices = drawn(sampler, epoch)
        assert list(sampler) == indices
        assert len(indices) == len(sampler) == 17
        assert sorted(indices) == list(range(17))
        assert {index.epoch for index in indices} == {epoch}
        assert [index.draw for index in indices] == indices


def test_epochs_are_shuffled_differently_and_again_the_same():
    orders = [drawn(EpochSampler(range(50), 1, 0, seed=3), epoch) for epoch in (0, 1, 2)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert orders[0] != sorted(orders[0])
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  (the global generator must not matter)
    again = EpochSampler(range(50), 1, 0, seed=3)
    assert [drawn(again, epoch) for epoch in (0, 1, 2)] == orders
    assert drawn(EpochSampler(range(50), 1, 0, seed=4), 0) != orders[0]


@pytest.mark.parametrize(('count', 'ratio', 'ranks'), [(12, 1, 3), (10, 1, 4), (5, 3, 2), (3, 1, 8), (7, 10, 3)])
def test_ranks_share_an_epoch_in_equal_parts(count, ratio, ranks):
    parts = [drawn(EpochSampler(range(count), ranks, rank, ratio, seed=1), 2) for rank in range(ranks)]
    assert {len(part) for part in parts} == {-(-count * ratio // ranks)}
    assert {len(EpochSampler(range(count), ranks, rank, ratio)) for rank in range(ranks)} == {len(parts[0])}
    draws = [index.draw for part in parts for index in part]
    assert sorted(draws) == list(range(len(draws)))  # no draw twice, so no two ranks load the same sample
    indices = [int(index) for part in parts for index in part]
    assert set(indices) == set(range(count))
    assert max(map(indices.count, set(indices))) - min(map(indices.count, set(indices))) <= 1


def test_an_enlarged_epoch_repeats_each_image_with_another_draw():
    indices = drawn(EpochSampler(range(6), 1, 0, ratio=4))
    assert sorted(indices) == sorted([*range(6)] * 4)
    assert len({index.draw for index in indices}) == 24
    assert all(index.draw % 6 == index for index in indices)
    crops = {tuple(sample_rng(0, index).integers(1000, size=2)) for index in indices if index == 2}
    assert len(crops) == 4


def test_half_an_epoch_is_the_other_half_the_next_time():
    """BasicSR never draws the second half of the images."""
    sampler = EpochSampler(range(8), 1, 0, ratio=0.5)
    assert sorted([*drawn(sampler, 0), *drawn(sampler, 1)]) == list(range(8))


@pytest.mark.parametrize('ranks', [1, 2])
def test_an_epoch_is_resumed_on_any_number_of_processes(ranks):
    whole = drawn(EpochSampler(range(12), 1, 0, seed=1), 3)
    parts = []
    for rank in range(ranks):
        sampler = EpochSampler(range(12), ranks, rank, seed=1)
        sampler.resume(3, 4)
        assert len(drawn(sampler, 2)) == 12 // ranks
        parts.append(drawn(sampler, 3))
    assert sorted(index for part in parts for index in part) == sorted(whole[4:])
    assert parts[0] == whole[4::ranks]
