"""MixedDefocusDataset: exact ratios, cycling through every pair, and the same samples from any worker, rank and run."""

import copy
import pickle
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from ggkm_plugin.basicsr_patches.sampler import EpochSampler, SampleIndex
from ggkm_plugin.data.mixed_defocus_dataset import MixedDefocusDataset
from ggkm_plugin.data.paired_defocus_dataset import PairedDefocusDataset
from ggkm_plugin.utils import config
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.image_decoding import write_image

SIZES = (5, 12, 3)


def write_set(folder, count):
    rng = np.random.default_rng(len(str(folder)))
    for number in range(count):
        for kind in ('input', 'sharp'):
            write_image(str(folder / kind / f'{number:02d}.png'), rng.integers(0, 256, (12, 14, 3), np.uint8))


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    """Three sets of 5, 12 and 3 pairs, as sources without a ratio."""
    root = tmp_path_factory.mktemp('sets')
    for number, count in enumerate(SIZES):
        write_set(root / f'set{number}', count)
    return [
        {'dataroot_lq': str(root / f'set{number}/input'), 'dataroot_gt': str(root / f'set{number}/sharp')}
        for number in range(len(SIZES))
    ]


@pytest.fixture
def mixed(sets):
    """Options of a mixture with the given ratios, random crops, flips and noise."""

    def make(*ratios, **more):
        sources = [{**source, 'ratio': ratio} for source, ratio in zip(sets, ratios, strict=False)]
        opt = {'phase': 'train', 'gt_size': 8, 'use_hflip': True, 'noise_std': [0, 9], 'seed': 4, 'sources': sources}
        return {**opt, **more}

    return make


def drawn(dataset, epoch=0, ratio=1, replicas=1, rank=0):
    sampler = EpochSampler(dataset, replicas, rank, ratio, seed=6)
    sampler.set_epoch(epoch)
    return list(sampler)


def pairs_of(dataset, indices):
    """(source, file) of the samples."""
    paths = [Path(dataset[index]['lq_path']) for index in indices]
    return [(int(path.parts[-3].removeprefix('set')), path.name) for path in paths]


def contents(samples):
    return [sample['lq'].numpy().tobytes() + sample['gt'].numpy().tobytes() for sample in samples]


# ratios and cycles


def test_an_epoch_is_as_long_as_all_sources_and_has_the_ratios(mixed):
    """Exactly, but at least one sample of each source; about so in any part of an epoch, too."""
    for ratios, counts in (((1, 2, 1), (5, 10, 5)), ((0.1, 0.2, 0.7), (2, 4, 14)), ((1e6, 1, 1), (18, 1, 1))):
        dataset = MixedDefocusDataset(mixed(*ratios))
        assert len(dataset) == sum(SIZES)
        for epoch in range(3):
            taken = Counter(source for source, _ in pairs_of(dataset, drawn(dataset, epoch)))
            assert [taken[source] for source in range(3)] == list(counts)
    dataset = MixedDefocusDataset(mixed(1, 2, 1))
    for start in range(0, 20, 4):
        assert sorted(dataset._locate(place)[0] for place in range(start, start + 4)) == [0, 1, 1, 2]


def test_each_source_and_cycle_has_another_order(mixed, sets):
    """Two sources of one size and ratio, two cycles: four different orders."""
    opt = mixed(1)
    opt['sources'] = [{**sets[1], 'ratio': 1}] * 2
    dataset = MixedDefocusDataset(opt)
    orders = [
        tuple(dataset._locate(epoch * 24 + place)[1] for place in range(24) if dataset._locate(place)[0] == source)
        for epoch in (0, 1)
        for source in (0, 1)
    ]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len({*orders, tuple(range(12))}) == 5


@pytest.mark.parametrize('ratio', [1, 3, 0.5, 1.25])
def test_no_pair_repeats_before_all_of_its_source_were_drawn(mixed, ratio):
    """Shares that are larger, smaller and no multiple of a source's size, over enlarged and shortened epochs."""
    dataset = MixedDefocusDataset(mixed(9, 8, 3, dataset_enlarge_ratio=ratio))
    taken = Counter()
    for epoch in range(8):
        indices = drawn(dataset, epoch, ratio)
        assert len(indices) == 20 * ratio
        taken.update(pairs_of(dataset, indices))
    for source, size in enumerate(SIZES):
        numbers = [taken[source, f'{number:02d}.png'] for number in range(size)]
        assert max(numbers) - min(numbers) <= 1
        assert abs(sum(numbers) - 8 * ratio * dataset.counts[source]) <= 1


# the same from any worker, rank and run


def test_the_seed_decides_and_epochs_differ(mixed):
    def samples(seed, epoch):
        dataset = MixedDefocusDataset(mixed(1, 2, 1, seed=seed))
        indices = [SampleIndex(i, epoch, i) for i in range(len(dataset))]
        return pairs_of(dataset, indices), contents(dataset[index] for index in indices)

    first = samples(4, 0)
    torch.manual_seed(1)  # nothing global matters
    assert samples(4, 0) == first
    for other in (samples(4, 1), samples(5, 0)):
        assert other[0] != first[0]
        assert not set(other[1]) & set(first[1])


# one sample


def test_a_sample_is_the_one_its_source_gives(mixed, sets):
    opt = mixed(1, 2, 1)
    before = copy.deepcopy(opt)
    dataset = MixedDefocusDataset(opt)
    shared = {key: value for key, value in opt.items() if key != 'sources'}
    alone = [PairedDefocusDataset({**shared, **source}) for source in sets]
    for index in drawn(dataset, 2):
        sample = dataset[index]
        source, name = pairs_of(dataset, [index])[0]
        expected = alone[source][SampleIndex(int(name[:2]), index.epoch, index.draw)]
        assert sample['lq'].shape == (3, 8, 8)
        assert all(torch.equal(sample[key], expected[key]) for key in ('lq', 'gt'))
    again = pickle.loads(pickle.dumps(dataset))[index]
    assert (again['lq_path'], contents([again])) == (sample['lq_path'], contents([sample]))
    assert opt == before


def test_a_plain_index_is_of_the_first_epoch_with_a_new_crop_each_time(mixed):
    dataset = MixedDefocusDataset(mixed(1, 2, 1))
    assert pairs_of(dataset, range(20)) == pairs_of(dataset, [SampleIndex(i, 0, i) for i in range(20)])
    assert not torch.equal(dataset[3]['lq'], dataset[3]['lq'])
    assert len(list(islice(dataset, 99))) == 20
    with pytest.raises(IndexError, match='20 of 20'):
        dataset[20]


# errors


@pytest.mark.parametrize('sources', [None, [], 'DPDD', ['DPDD']])
def test_wrong_sources_are_named(mixed, sources):
    with pytest.raises(OptionError, match=r'datasets\.train\.sources'):
        MixedDefocusDataset(mixed(sources=sources))
    with pytest.raises(OptionError, match='val'):
        MixedDefocusDataset(mixed(1, phase='val'))


@pytest.mark.parametrize(
    ('change', 'error', 'key'),
    [
        *(({'ratio': ratio}, OptionError, '.ratio') for ratio in (0, None, True, float('nan'))),
        ({'layuot': 'DPDD'}, OptionError, '.layuot'),
        ({'gt_size': 8}, OptionError, '.gt_size'),
        ({'pairing': 'order'}, OptionError, '.pairing'),
        ({'dataroot_lq': '/nowhere/lq'}, DataError, ': /nowhere/lq'),
        ({'dataroot_lq': None}, OptionError, '.*dataroot_lq'),
        ({'dataroot': '/nowhere', 'layout': 'CUHK'}, OptionError, '.*CUHK'),
    ],
)
def test_a_fault_of_a_source_is_named_with_it(mixed, change, error, key):
    opt = mixed(1, 1, 1)
    opt['sources'][1].update(change)
    with pytest.raises(error, match=rf'^datasets\.train\.sources\[1\]{key}'):
        MixedDefocusDataset(opt)


# option files


@pytest.mark.parametrize(('name', 'std'), [('DPDD', 5), ('RTF', 15)])
def test_noise_is_tested_on_the_network_that_was_trained_with_it(name, std):
    file = config.packaged_folder() / f'test_GGKMNet_{name}.yml'
    trained = config.load_options(config.packaged_folder() / 'train_GGKMNet_DPDD.yml', 'noise')
    assert trained['datasets']['train']['noise_std'] == [0, pytest.approx(255 * 0.07)]
    assert 'noise_std' not in trained['datasets']['val']
    clean, noisy = config.load_options(file), config.load_options(file, f'noise{std}')
    assert noisy['path']['pretrain_network_g'] == f'experiments/{trained["name"]}/models/net_g_latest.pth'
    assert noisy['datasets']['test'] == {**clean['datasets']['test'], 'noise_std': std, 'seed': 0}
