"""SyntheticDefocusDataset. A blur radius of 0.5 px is the identity, so lq must then equal gt, which shows any shift."""

import copy
import pickle

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ggkm_plugin.basicsr_patches.sampler import EpochSampler, SampleIndex
from ggkm_plugin.data import synthetic_defocus_dataset
from ggkm_plugin.data.photographs import SharpPhotograph
from ggkm_plugin.data.synthetic_defocus_dataset import SyntheticDefocusDataset
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.image_decoding import read_image, write_image

ROUNDING = 1e-4  # float32 through the sRGB curve and back; an 8-bit step is forty times as much
SHAPES = ((40, 61), (52, 44), (33, 33))
FLIPS = {'use_hflip': True, 'use_vflip': True, 'use_rot': True}


def texture(shape, seed=0):
    """Smooth noise: similar neighbors, no two equal places."""
    image = np.random.default_rng(seed).random((*shape, 3), dtype=np.float32)
    image = cv2.GaussianBlur(image, (0, 0), 1)
    return (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)


@pytest.fixture
def opt(tmp_path):
    """Training on three small photographs."""
    for number, shape in enumerate(SHAPES):
        write_image(str(tmp_path / 'photos' / f'{number}.png'), texture(shape, number))
    return {'phase': 'train', 'dataroot_gt': str(tmp_path / 'photos'), 'gt_size': 24}


def draws(dataset, count=30, epoch=0):
    return [dataset[SampleIndex(draw % len(dataset), epoch, draw)] for draw in range(count)]


def distance(sample):
    return (sample['lq'] - sample['gt']).abs().max()


# training


def test_a_training_sample_is_a_crop_and_its_defocused_version(opt):
    dataset = SyntheticDefocusDataset(opt)
    before = copy.deepcopy(opt)
    assert len(dataset) == 3
    for draw, sample in enumerate(draws(dataset)):
        assert set(sample) == {'lq', 'gt', 'lq_path', 'gt_path'}
        assert sample['lq_path'] == str(draw % 3)
        assert sample['gt_path'] == f'{opt["dataroot_gt"]}/{draw % 3}.png'
        for key in ('lq', 'gt'):
            assert sample[key].shape == (3, 24, 24)
            assert sample[key].dtype == torch.float32
            assert sample[key].is_contiguous()
            assert sample[key].min() >= 0
            assert sample[key].max() <= 1
            sample[key].zero_()  # as an in-place operation of a training loop does
    again = pickle.loads(pickle.dumps(dataset))
    for one, two in zip(draws(again), draws(SyntheticDefocusDataset(opt)), strict=True):
        assert torch.equal(one['lq'], two['lq'])
        assert torch.equal(one['gt'], two['gt'])
    assert opt == before


def test_the_crop_is_a_part_of_the_photograph(opt):
    for draw, sample in enumerate(draws(SyntheticDefocusDataset(opt), 9)):
        photo = read_image(f'{opt["dataroot_gt"]}/{draw % 3}.png')
        windows = np.lib.stride_tricks.sliding_window_view(photo, (24, 24, 3))[:, :, 0]
        assert np.abs(windows - sample['gt'].permute(1, 2, 0).numpy()).max((2, 3, 4)).min() == 0


@pytest.mark.parametrize('size', [24, 33])
def test_without_blur_both_are_the_same_crop(opt, size):
    dataset = SyntheticDefocusDataset({**opt, **FLIPS, 'gt_size': size, 'max_blur_radius': 0.5})
    assert max(map(distance, draws(dataset))) < ROUNDING


def test_flips_happen(opt):
    opt['gt_size'] = 33  # the whole of the third photograph: only flips are left to differ
    gts = [
        {sample['gt'].numpy().tobytes() for sample in draws(SyntheticDefocusDataset(o), 120)[2::3]}
        for o in (opt, {**opt, **FLIPS})
    ]
    assert [len(found) for found in gts] == [1, 8]


def test_light_from_outside_the_crop_is_blurred_into_it(tmp_path):
    """The photograph is blurred before it is cropped, so crops have no reflected border."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 255
    write_image(str(tmp_path / 'photos' / 'a.png'), image)
    opt = {'phase': 'train', 'dataroot_gt': str(tmp_path / 'photos'), 'gt_size': 16, 'max_blur_radius': 8}
    dataset, lit = SyntheticDefocusDataset(opt), 0
    for draw in range(150):
        sample = dataset[SampleIndex(0, 0, draw)]
        lit += bool(sample['gt'].max() == 0 and sample['lq'].max() > 0.05)
    assert lit > 0


def test_real_depth_is_cropped_with_its_photograph(tmp_path, monkeypatch):
    """The left half is red and near, the right half blue and far, and so in every crop."""
    image = np.maximum(texture((48, 64)), 1)
    image[:, :32, 2] = 0
    image[:, 32:, 0] = 0
    write_image(str(tmp_path / 'photos' / 'a.png'), image)
    np.savez(tmp_path / 'a.npz', np.where(np.arange(64) < 32, 1.0, 0.0) * np.ones((48, 1)))
    opt = {'phase': 'train', 'dataroot_gt': str(tmp_path / 'photos'), 'gt_size': 32, 'max_blur_radius': 3, **FLIPS}
    dataset = SyntheticDefocusDataset(opt)
    dataset.photographs = [SharpPhotograph('a', str(tmp_path / 'photos' / 'a.png'), str(tmp_path / 'a.npz'))]
    rendered = []
    monkeypatch.setattr(synthetic_defocus_dataset, 'render_defocus', lambda *scene: rendered.append(scene) or scene[0])
    draws(dataset)
    edges = 0
    for sharp, disparity, *_ in rendered:
        assert sharp.shape[:2] == disparity.shape
        blue, far = sharp[..., 0] == 0, disparity == 0
        # load_photograph widens the near side by one pixel
        assert (blue & ~far).sum() == (far.shape[0] if blue.any() and not blue.all() else 0)
        assert not (far & ~blue).any()
        edges += bool(far.any() and not far.all())
    assert edges > 10


# the same from any worker


@pytest.mark.parametrize('more', [{**FLIPS, 'noise_std': [0, 10]}, {'scenes': 'varied', 'max_blur_radius': 5}])
def test_samples_do_not_depend_on_the_workers(opt, more):
    dataset = SyntheticDefocusDataset({**opt, **more})

    def epoch_of(workers, epoch):
        sampler = EpochSampler(dataset, 1, 0, ratio=4, seed=1)
        sampler.set_epoch(epoch)
        return [
            torch.stack([batch['lq'], batch['gt']])
            for batch in DataLoader(dataset, 3, sampler=sampler, num_workers=workers)
        ]

    alone = [epoch_of(0, epoch) for epoch in (0, 1)]
    assert not all(map(torch.equal, *alone))
    torch.manual_seed(2)
    for epoch in (0, 1):
        assert all(map(torch.equal, epoch_of(2, epoch), alone[epoch]))


# validation


def test_validation_is_the_whole_photograph_the_same_each_time(opt):
    opt = {**opt, **FLIPS, 'phase': 'val'}
    dataset = SyntheticDefocusDataset(opt)
    for index, shape in enumerate(SHAPES):
        sample = dataset[index]
        assert sample['lq'].shape == sample['gt'].shape == (3, *shape)
        np.testing.assert_array_equal(sample['gt'].permute(1, 2, 0), read_image(sample['gt_path']))
        for again in (dataset[SampleIndex(index, 3, 8)], SyntheticDefocusDataset(opt)[index]):
            assert torch.equal(again['lq'], sample['lq'])
        other = SyntheticDefocusDataset({**opt, 'seed': 1})[index]
        assert not torch.equal(other['lq'], sample['lq'])
        assert torch.equal(other['gt'], sample['gt'])


def test_the_built_in_photographs_of_validation_are_held_out():
    train = SyntheticDefocusDataset({'phase': 'train', 'gt_size': 32})
    for phase in ('val', 'test'):
        held_out = SyntheticDefocusDataset({'phase': phase})
        assert len(held_out) >= 2
        assert not {photo.path for photo in held_out.photographs} & {photo.path for photo in train.photographs}
    assert all(sample['gt'].shape == (3, 32, 32) for sample in draws(train, len(train)))


def test_the_built_in_pairs_are_blurred_and_one_has_an_area_in_focus():
    dataset = SyntheticDefocusDataset({'phase': 'val'})
    in_focus = []
    for sample in map(dataset.__getitem__, range(len(dataset))):
        change = (sample['lq'] - sample['gt']).abs().amax(0)
        in_focus.append((change < 1e-3).float().mean())
        assert (change > 0.02).float().mean() > 0.2
        psnr = -10 * torch.log10(((sample['lq'] - sample['gt']) ** 2).mean())
        assert 20 < psnr < 40
    assert max(in_focus) > 0.05


def test_noise_is_on_the_input_only_and_clipped_by_option(opt):
    clean, noisy, clipped = (
        SyntheticDefocusDataset({**opt, **more})[SampleIndex(0, 1, 3)]
        for more in ({}, {'noise_std': 40}, {'noise_std': 40, 'noise_clip': True})
    )
    assert (noisy['lq'] - clean['lq']).std() * 255 == pytest.approx(40, rel=0.08)  # of 1,728 values
    assert torch.equal(noisy['gt'], clean['gt'])
    assert noisy['lq'].min() < 0
    assert torch.equal(clipped['lq'], noisy['lq'].clamp(0, 1))


# varied and real scenes, choice of photographs


SCENES = {
    'plain': {'max_blur_radius': 5},
    'varied': {'scenes': 'varied', 'max_blur_radius': 5},
    'real': {'scenes': 'real', 'max_blur_radius': 5, 'optics': {'sharp_prob': 0}},
}


@pytest.mark.parametrize('scenes', SCENES)
@pytest.mark.parametrize('phase', ['train', 'val'])
def test_samples_have_8_bits_and_depend_on_seed_epoch_and_draw(opt, scenes, phase):
    def sample(*index, seed=1):
        return SyntheticDefocusDataset({**opt, **SCENES[scenes], 'phase': phase, 'seed': seed})[SampleIndex(0, *index)]

    one, same = sample(0, 4), sample(0, 4)
    for key in ('lq', 'gt'):
        assert one[key].shape == ((3, 24, 24) if phase == 'train' else (3, *SHAPES[0]))
        assert one[key].dtype == torch.float32
        if scenes != 'plain':
            torch.testing.assert_close(one[key] * 255, (one[key] * 255).round(), rtol=0, atol=1e-4)
        assert torch.equal(one[key], same[key])
    assert not torch.equal(one['lq'], sample(0, 4, seed=2)['lq'])
    for other in (sample(1, 4), sample(0, 7)):
        assert torch.equal(one['lq'], other['lq']) == (phase == 'val')


def test_photographs_are_chosen_by_name(opt):
    def names(**more):
        return [photo.name for photo in SyntheticDefocusDataset({**opt, **more}).photographs]

    assert names() == ['0', '1', '2']
    assert names(photographs=['2', '0']) == ['0', '2']
    assert names(leave_out=['1']) == ['0', '2']
    assert names(photographs=['0', '1'], leave_out=['1']) == ['0']
    builtin = [photo.name for photo in SyntheticDefocusDataset({'phase': 'train', 'gt_size': 24}).photographs]
    assert names(builtin=True) == ['0', '1', '2', *builtin]
    assert names(builtin=True, phase='val', leave_out=['2']) == ['0', '1', *builtin]  # without the held-out ones


# errors


@pytest.mark.parametrize(
    ('key', 'value', 'named'),
    [
        *(('max_blur_radius', radius, '') for radius in (0.4, '4', None, float('nan'))),
        ('photographs', ['nobody'], 'nobody.*0, 1, 2'),
        ('leave_out', ['nobody'], 'nobody'),
        ('leave_out', ['0', '1', '2'], ''),
        ('photographs', [0], ''),
        ('scenes', 'wild', 'wild'),
        ('optics', 'basic', ''),  # needs scenes: real
        ('optics', 'foggy', ''),
    ],
)
def test_a_wrong_option_is_named(opt, key, value, named):
    scenes = {'scenes': 'real'} if value == 'foggy' else {}
    with pytest.raises(OptionError, match=f'{key}.*{named}'):
        SyntheticDefocusDataset({**opt, **scenes, key: value})


@pytest.mark.parametrize('phase', ['train', 'val'])
def test_a_photograph_smaller_than_the_blur_is_named_with_the_option(opt, phase):
    dataset = SyntheticDefocusDataset({**opt, 'phase': phase, 'max_blur_radius': 32})
    with pytest.raises(DataError, match=r'photos/2\.png.*max_blur_radius'):
        dataset[2]
    with pytest.raises(DataError, match=r'photos/2\.png.*gt_size'):
        SyntheticDefocusDataset({**opt, 'gt_size': 34})[2]
    largest = SyntheticDefocusDataset({**opt, 'phase': phase, 'max_blur_radius': 31.9})
    for draw in range(5):
        largest[SampleIndex(2, 0, draw)]


def test_a_folder_or_photograph_that_is_unusable_is_named(opt, tmp_path):
    with pytest.raises(DataError, match='nowhere'):
        SyntheticDefocusDataset({**opt, 'dataroot_gt': str(tmp_path / 'nowhere')})
    (tmp_path / 'photos' / '1.png').write_bytes(b'broken')
    with pytest.raises(DataError, match=r'photos/1\.png') as error:
        list(DataLoader(SyntheticDefocusDataset(opt), None, sampler=[0, 1, 2], num_workers=1))
    error.value.with_traceback(None)
    del error  # ends the workers now: the garbage collector, in its own order, would wait five seconds for each
