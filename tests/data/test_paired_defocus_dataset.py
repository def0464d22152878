"""PairedDefocusDataset: aligned crops, exact values, reproducible samples, and errors that name the file or key."""

import copy
import math
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ggkm_plugin.basicsr_patches.sampler import EpochSampler, SampleIndex
from ggkm_plugin.data.layouts import Pair, pairs_of_layout
from ggkm_plugin.data.lmdb_store import key_of, write_lmdb
from ggkm_plugin.data.paired_defocus_dataset import PairedDefocusDataset
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.image_decoding import write_image

LFDOF_PAIRS = Path(__file__).parents[2] / '../shared/data/lfdof_pairs'
HEIGHT, WIDTH, COUNT = 30, 40, 5


def coordinates(number, dtype=np.uint8):
    """An image whose channels are the row, the column and the number of the image."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.dstack([rows, columns, np.full_like(rows, number)])
    return (image * (257 if dtype == np.uint16 else 1)).astype(dtype)


@pytest.fixture
def folders(tmp_path):
    """Five pairs: the coordinates of each pixel, and 255 minus them as the sharp image."""
    for number in range(COUNT):
        write_image(str(tmp_path / 'lq' / f'{number}.png'), coordinates(number))
        write_image(str(tmp_path / 'gt' / f'{number}.png'), 255 - coordinates(number))
    return {'dataroot_lq': str(tmp_path / 'lq'), 'dataroot_gt': str(tmp_path / 'gt')}


@pytest.fixture
def training(folders):
    return {**folders, 'phase': 'train', 'gt_size': 8, 'use_hflip': True, 'use_vflip': True, 'use_rot': True}


def steps(image):
    """A float tensor in 8-bit steps."""
    return (image * 255).round().int()


def batches(dataset, num_workers, epoch=0, **options):
    sampler = EpochSampler(dataset, 1, 0, ratio=2, seed=5)
    sampler.set_epoch(epoch)
    return list(DataLoader(dataset, 3, sampler=sampler, num_workers=num_workers, **options))


def same(first, second):
    """Whether two lists of batches are equal to the last bit."""
    assert len(first) == len(second)
    return all(
        torch.equal(a[key], b[key]) if key in ('lq', 'gt') else a[key] == b[key]
        for a, b in zip(first, second, strict=True)
        for key in ('lq', 'gt', 'lq_path', 'gt_path')
    )


# a training sample


def test_a_training_sample_is_a_crop_of_both_images_at_one_place(training):
    before = copy.deepcopy(training)
    dataset = PairedDefocusDataset(training)
    assert len(dataset) == COUNT
    corners = set()
    for draw in range(200):
        index = draw % COUNT
        sample = dataset[SampleIndex(index, 0, draw)]
        assert set(sample) == {'lq', 'gt', 'lq_path', 'gt_path'}
        for key in ('lq', 'gt'):
            assert sample[key].shape == (3, 8, 8)
            assert sample[key].dtype == torch.float32
            assert sample[key].is_contiguous()
            assert sample[f'{key}_path'] == f'{training[f"dataroot_{key}"]}/{index}.png'
        lq = steps(sample['lq'])
        assert torch.equal(steps(sample['gt']), 255 - lq)
        assert (lq[2] == index).all()
        rows, columns = sorted(set(lq[0].flatten().tolist())), sorted(set(lq[1].flatten().tolist()))
        assert rows == list(range(rows[0], rows[0] + 8))
        assert columns == list(range(columns[0], columns[0] + 8))
        corners.add((rows[0], columns[0]))
    assert len(corners) > 100
    assert training == before


@pytest.mark.parametrize(
    ('option', 'flip'),
    [
        ('use_hflip', lambda image: image.flip(2)),
        ('use_vflip', lambda image: image.flip(1)),
        ('use_rot', lambda image: image.transpose(1, 2)),
    ],
)
def test_each_option_flips_as_it_says_half_of_the_time(folders, option, flip):
    plain = {**folders, 'phase': 'train', 'gt_size': 8}
    as_is, flipping = PairedDefocusDataset(plain), PairedDefocusDataset({**plain, option: True})
    happened = 0
    for draw in range(100):
        index = SampleIndex(draw % COUNT, 1, draw)
        still, moved = as_is[index], flipping[index]
        yes = not torch.equal(moved['lq'], still['lq'])
        happened += yes
        for key in ('lq', 'gt'):
            assert torch.equal(moved[key], flip(still[key]) if yes else still[key])
    assert 30 < happened < 70  # four standard deviations of 5


def test_gray_pairs_are_the_luma_of_the_color_pairs(folders):
    plain = {**folders, 'phase': 'train', 'gt_size': 8}
    color, gray = PairedDefocusDataset(plain), PairedDefocusDataset({**plain, 'gray_prob': 0.3})
    happened = 0
    for draw in range(200):
        index = SampleIndex(draw % COUNT, 1, draw)
        before, after = color[index], gray[index]
        yes = torch.equal(after['gt'][0], after['gt'][1])
        happened += yes
        for key in ('lq', 'gt'):
            r, g, b = before[key]
            luma = (0.299 * r + 0.587 * g + 0.114 * b).expand(3, 8, 8)
            torch.testing.assert_close(after[key], luma if yes else before[key], rtol=0, atol=1e-6)
    assert 34 < happened < 86  # 60, four standard deviations of 6.5


def test_the_old_name_of_gray_prob_still_works(folders):
    with pytest.warns(FutureWarning, match='gray_prob'):
        dataset = PairedDefocusDataset({**folders, 'phase': 'train', 'gt_size': 8, 'grey_prob': 0.3})
    assert dataset.gray_prob == 0.3


def test_rescaled_pairs_are_means_over_the_area(folders):
    """A reduced image of coordinates has steps as large as the factor, at the same place in both images."""
    dataset = PairedDefocusDataset(
        {**folders, 'phase': 'train', 'gt_size': 8, 'rescale_prob': 0.5, 'rescale_range': [0.5, 0.9]}
    )
    sizes = []
    for draw in range(200):
        sample = dataset[SampleIndex(draw % COUNT, 1, draw)]
        assert sample['lq'].shape == sample['gt'].shape == (3, 8, 8)
        lq, gt = (255 * sample[key].double() for key in ('lq', 'gt'))
        torch.testing.assert_close(gt, 255 - lq, rtol=0, atol=1e-4)
        step = (lq[0, -1] - lq[0, 0]).mean() / 7
        torch.testing.assert_close(lq[0].diff(dim=0), step.expand(7, 8), rtol=0, atol=0.2)  # parts of pixels
        sizes.append(round(8 * step.item(), 3))
    assert 72 < sizes.count(8) < 128  # 100, four standard deviations of 7
    assert {round(side) for side in sizes} == set(range(8, 17))  # of 8 / 0.9 to 8 / 0.5 pixels, or as it is


def test_a_crop_before_rescaling_stays_inside_the_image(folders):
    dataset = PairedDefocusDataset(
        {**folders, 'phase': 'train', 'gt_size': HEIGHT - 2, 'rescale_prob': 1, 'rescale_range': [0.1, 0.1]}
    )
    rows = 255 * dataset[SampleIndex(0, 0, 0)]['lq'][0]
    torch.testing.assert_close(rows[:, 0].mean(), torch.tensor((HEIGHT - 1) / 2), rtol=0, atol=1e-3)  # all of them


def test_noise_is_on_its_share_of_the_images(folders):
    plain = {**folders, 'phase': 'train', 'gt_size': 8}
    clean, noisy = PairedDefocusDataset(plain), PairedDefocusDataset({**plain, 'noise_std': 5, 'noise_prob': 0.1})
    indices = [SampleIndex(draw % COUNT, 1, draw) for draw in range(300)]
    happened = sum(not torch.equal(clean[index]['lq'], noisy[index]['lq']) for index in indices)
    assert 9 < happened < 51  # 30, four standard deviations of 5.2
    assert all(torch.equal(clean[index]['gt'], noisy[index]['gt']) for index in indices[:50])


# folders or LMDB


def as_database(root, codec, split):
    """The DPDD folders below `root` as a database beside them."""
    pairs = pairs_of_layout(str(root), 'DPDD', split)
    keys = [Pair(*(key_of(os.path.relpath(path, root)) for path in pair)) for pair in pairs]
    files = {key: path for pair, of in zip(pairs, keys, strict=True) for key, path in zip(of, pair, strict=True)}
    write_lmdb(f'{root}/{split}.lmdb', files, keys, codec, about={'layout': 'DPDD', 'split': split})


@pytest.fixture
def dpdd(tmp_path):
    for number in range(COUNT):
        write_image(f'{tmp_path}/train_c/source/{number}.png', coordinates(number, np.uint16))
        write_image(f'{tmp_path}/train_c/target/t{number}.png', ~coordinates(number, np.uint16))
    flips = {'use_hflip': True, 'use_vflip': True, 'use_rot': True, 'noise_std': [0, 17.85]}
    return {'dataroot': str(tmp_path), 'layout': 'DPDD', 'phase': 'train', 'gt_size': 8, **flips}


def test_a_database_gives_the_samples_of_the_folders(dpdd):
    folders = PairedDefocusDataset(dpdd)
    as_database(dpdd['dataroot'], 'raw', 'train')
    dataset = PairedDefocusDataset(dpdd)
    assert len(dataset) == len(folders) == COUNT
    for draw in range(30):
        index = SampleIndex(draw % COUNT, 1, draw)
        sample, expected = dataset[index], folders[index]
        assert sample['lq_path'] == expected['lq_path'].replace('train_c', 'train.lmdb/train_c')
        assert sample['gt_path'] == expected['gt_path'].replace('train_c', 'train.lmdb/train_c')
        for key in ('lq', 'gt'):
            assert torch.equal(sample[key], expected[key])


@pytest.mark.parametrize(
    ('codec', 'method'), [('png', 'fork'), ('raw', 'fork'), pytest.param('raw', 'spawn', marks=pytest.mark.slow)]
)
def test_a_database_is_read_by_any_worker(dpdd, codec, method):
    """Two data sets share one database, and both are used before the workers start."""
    as_database(dpdd['dataroot'], codec, 'train')
    dataset, other = PairedDefocusDataset(dpdd), PairedDefocusDataset(dpdd)
    alone = batches(dataset, 0)
    assert same(batches(other, 0), alone)
    assert same(batches(dataset, 2, multiprocessing_context=method), alone)
    assert same(batches(pickle.loads(pickle.dumps(dataset)), 0), alone)


@pytest.mark.slow
def test_memory_stays_flat_over_thousands_of_samples(dpdd, python):
    root = dpdd['dataroot']
    for number in range(COUNT):
        for name in (f'source/{number}', f'target/t{number}'):
            write_image(f'{root}/train_c/{name}.png', np.zeros((600, 800, 3), np.uint16))
    as_database(root, 'raw', 'train')
    result = python(
        f"""
from ggkm_plugin.data.paired_defocus_dataset import PairedDefocusDataset
from ggkm_plugin.basicsr_patches.sampler import SampleIndex
def anonymous():
    return int(next(line for line in open('/proc/self/status') if line.startswith('RssAnon')).split()[1])
dataset = PairedDefocusDataset({dict(dpdd, gt_size=64)!r})
for draw in range(5_000):
    dataset[SampleIndex(draw % {COUNT}, 0, draw)]
    if draw == 1000:
        before = anonymous()
print(anonymous() - before)
"""
    )
    assert abs(int(result.stdout)) < 1024, result.stderr  # KiB


# the same from any worker


def test_samples_do_not_depend_on_the_workers(training):
    """Persistent workers draw new samples in each epoch."""
    dataset = PairedDefocusDataset({**training, 'noise_std': [0, 17.85]})
    alone = [batches(dataset, 0, epoch) for epoch in (0, 1)]
    assert not same(*alone)
    torch.manual_seed(2)
    sampler = EpochSampler(dataset, 1, 0, ratio=2, seed=5)
    options = {'num_workers': 2, 'persistent_workers': True, 'multiprocessing_context': 'fork'}
    loader = DataLoader(dataset, 3, sampler=sampler, **options)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        assert same(list(loader), alone[epoch])
    del loader  # ends the workers now: the garbage collector, in its own order, would wait five seconds for each


def test_another_seed_is_another_crop(training):
    index = SampleIndex(0, 0, 0)
    crops = [PairedDefocusDataset({**training, 'seed': seed})[index]['lq'] for seed in (0, 1, 0)]
    assert torch.equal(crops[0], crops[2])
    assert not torch.equal(crops[0], crops[1])


@pytest.mark.parametrize(
    ('options', 'sampler'), [({'num_workers': 0}, [2] * 5), ({'num_workers': 2, 'persistent_workers': True}, None)]
)
def test_a_sampler_without_epochs_gives_new_crops_too(training, options, sampler):
    dataset = PairedDefocusDataset(training)

    def two_epochs():
        torch.manual_seed(3)
        loader = DataLoader(dataset, COUNT, sampler=sampler, **options)
        return torch.cat([batch['lq'] for _ in range(2) for batch in loader])

    first = two_epochs()
    assert len({crop.numpy().tobytes() for crop in first}) == 2 * COUNT
    assert torch.equal(two_epochs(), first)


# eval and noise


def test_validation_takes_the_whole_image_as_it_is(training):
    dataset = PairedDefocusDataset({**training, 'phase': 'val'})
    for number in range(COUNT):
        sample = dataset[number]
        np.testing.assert_array_equal(steps(sample['lq']).permute(1, 2, 0), coordinates(number))
        np.testing.assert_array_equal(steps(sample['gt']).permute(1, 2, 0), 255 - coordinates(number))
        assert torch.equal(dataset[number]['lq'], sample['lq'])


def test_the_noise_of_validation_belongs_to_seed_and_index(folders):
    opt = {**folders, 'phase': 'val', 'noise_std': 5}
    clean = [sample['lq'] for sample in map(PairedDefocusDataset({**opt, 'noise_std': 0}).__getitem__, range(2))]
    dataset = PairedDefocusDataset(opt)
    noise = [dataset[index]['lq'] - clean[index] for index in range(2)]
    assert torch.equal(dataset[0]['lq'] - clean[0], noise[0])
    assert torch.equal(dataset[SampleIndex(0, 4, 7)]['lq'] - clean[0], noise[0])
    assert torch.equal(PairedDefocusDataset(opt)[1]['lq'] - clean[1], noise[1])
    other = PairedDefocusDataset({**opt, 'seed': 1})[0]['lq'] - clean[0]
    for one, two in ((noise[0], noise[1]), (noise[0], other)):
        assert abs(np.corrcoef(one.flatten(), two.flatten())[0, 1]) < 0.1
    assert noise[0].std() * 255 == pytest.approx(5, rel=0.05)


# errors


@pytest.mark.parametrize('sharp', [np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8), coordinates(2, np.uint16)])
def test_a_pair_of_two_sizes_or_bit_depths_is_refused_with_both_files(training, sharp):
    write_image(f'{training["dataroot_gt"]}/2.png', sharp)
    with pytest.raises(DataError, match=r'lq/2\.png.*gt/2\.png'):
        PairedDefocusDataset(training)[2]


@pytest.mark.parametrize('side', ['lq', 'gt'])
def test_a_broken_image_is_named_through_a_worker(training, side):
    path = Path(training[f'dataroot_{side}']) / '3.png'
    path.write_bytes(path.read_bytes()[:-40])
    dataset = PairedDefocusDataset(training)
    with pytest.raises(DataError, match=rf'{side}/3\.png') as error:
        batches(dataset, 2)
    error.value.with_traceback(None)
    del error  # ends the workers now: the garbage collector, in its own order, would wait five seconds for each


# real photographs


@pytest.mark.skipif(not LFDOF_PAIRS.is_dir(), reason=f'{LFDOF_PAIRS} is absent: real LFDOF pairs to read')
def test_real_pairs_are_read_alpha_and_all():
    folders = {'dataroot_lq': str(LFDOF_PAIRS / 'input'), 'dataroot_gt': str(LFDOF_PAIRS / 'ground_truth')}
    dataset = PairedDefocusDataset({**folders, 'phase': 'val'})
    assert len(dataset) == 4
    modes = set()
    for sample in map(dataset.__getitem__, range(4)):
        assert sample['lq'].shape == sample['gt'].shape == (3, 688, 1008)
        with Image.open(sample['lq_path']) as image:
            modes.add(image.mode)
            expected = np.asarray(image.convert('RGB'))
        np.testing.assert_array_equal(steps(sample['lq']).permute(1, 2, 0), expected)
        psnr = -10 * math.log10(float(((sample['lq'] - sample['gt']) ** 2).mean()))
        assert 15 < psnr < 40  # a pair of one scene, and not the same image
        assert Path(sample['lq_path']).stem == Path(sample['gt_path']).stem
        sharpness = [cv2.Laplacian(sample[key].mean(0).numpy(), -1).var() for key in ('lq', 'gt')]
        assert sharpness[0] < sharpness[1]
    assert 'RGBA' in modes
    assert PairedDefocusDataset({**folders, 'phase': 'train', 'gt_size': 256})[0]['gt'].shape == (3, 256, 256)
