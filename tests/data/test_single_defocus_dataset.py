"""Photographs without ground truth: whole, in order, from a folder or a benchmark."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import ggkm_plugin
from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.lmdb_store import CODECS, key_of, write_lmdb
from ggkm_plugin.data.single_defocus_dataset import SingleDefocusDataset
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.image_decoding import write_image


def picture(value, shape=(6, 9), dtype=np.uint8):
    image = np.zeros((*shape, 3), dtype)
    image[..., 0] = value
    image[0, :, 2] = np.arange(shape[1])
    return image


@pytest.fixture
def opt(tmp_path):
    """A folder of three photographs of different sizes and depths, and a file that is none."""
    write_image(str(tmp_path / 'photos' / 'b ü.png'), picture(20))
    write_image(str(tmp_path / 'photos' / 'a.PNG'), picture(10, (7, 5)))
    write_image(str(tmp_path / 'photos' / 'c.tif'), picture(30000, dtype=np.uint16))
    (tmp_path / 'photos' / 'notes.txt').write_text('none')
    return {'phase': 'test', 'dataroot_lq': str(tmp_path / 'photos')}


def test_a_folder_is_read_whole_and_in_order(opt):
    dataset = SingleDefocusDataset(opt)
    assert len(dataset) == 3
    images = {'a.PNG': picture(10, (7, 5)), 'b ü.png': picture(20), 'c.tif': picture(30000, dtype=np.uint16)}
    for index, (name, image) in enumerate(images.items()):
        sample = dataset[index]
        assert set(sample) == {'lq', 'lq_path'}
        assert sample['lq_path'] == f'{opt["dataroot_lq"]}/{name}'
        assert sample['lq'].dtype == torch.float32
        top = np.float32(np.iinfo(image.dtype).max)
        np.testing.assert_array_equal(sample['lq'].numpy(), image.transpose(2, 0, 1).astype(np.float32) / top)


def test_cuhk_is_read_by_its_layout_and_its_masks_are_not(tmp_path):
    for number, suffix in ((1, 'JPG'), (2, 'jpg')):
        write_image(str(tmp_path / f'image/out_of_focus000{number}.{suffix}'), picture(100))
        write_image(str(tmp_path / f'gt/out_of_focus000{number}.png'), picture(255))
    dataset = SingleDefocusDataset({'phase': 'test', 'dataroot': str(tmp_path), 'layout': 'CUHK'})
    paths = [sample['lq_path'] for sample in map(dataset.__getitem__, range(len(dataset)))]
    assert paths == [f'{tmp_path}/image/out_of_focus0001.JPG', f'{tmp_path}/image/out_of_focus0002.jpg']


def test_a_benchmark_with_sharp_images_gives_its_defocused_ones(tmp_path):
    for folder, value in (('source', 1), ('target', 2)):
        for split in ('train', 'test'):
            write_image(str(tmp_path / f'{split}_c' / folder / '1.png'), picture(value))
    opt = {'phase': 'val', 'dataroot': str(tmp_path), 'layout': 'DPDD'}
    assert SingleDefocusDataset(opt).paths == [f'{tmp_path}/test_c/source/1.png']
    assert SingleDefocusDataset({**opt, 'split': 'train'}).paths == [f'{tmp_path}/train_c/source/1.png']


def test_training_is_refused_with_the_type_to_use(opt):
    with pytest.raises(OptionError, match=r'no sharp images.*PairedDefocusDataset'):
        SingleDefocusDataset({**opt, 'phase': 'train'})


@pytest.mark.parametrize('given', [{}, {'layout': 'CUHK'}, {'dataroot_gt': '/data'}])
def test_without_a_folder_the_keys_are_named(given):
    with pytest.raises(OptionError, match='dataroot_lq'):
        SingleDefocusDataset({'phase': 'test', **given})


@pytest.mark.parametrize('codec', CODECS)
def test_a_database_gives_the_photographs_of_the_folder(tmp_path, opt, codec):
    folder = SingleDefocusDataset(opt)
    files = {key_of(Path(path).name): path for path in folder.paths}
    write_lmdb(f'{tmp_path}/photos.lmdb', files, [Pair(key, None) for key in sorted(files)], codec)
    database = SingleDefocusDataset({**opt, 'dataroot_lq': f'{tmp_path}/photos.lmdb'})
    assert database.paths == [f'{tmp_path}/photos.lmdb/{name}.png' for name in ('a', 'b ü', 'c')]
    for index in range(3):
        assert torch.equal(database[index]['lq'], folder[index]['lq'])


def test_a_depth_that_was_not_asked_for_is_told(opt):
    dataset = SingleDefocusDataset({**opt, 'bit_depth': 8})
    dataset[1]
    with pytest.raises(DataError, match=r'c\.tif.*bit_depth: 16'):
        dataset[2]


def test_a_folder_that_is_missing_or_a_layout_that_is_none_is_named():
    with pytest.raises(DataError, match='/nowhere: no such folder'):
        SingleDefocusDataset({'phase': 'test', 'dataroot_lq': '/nowhere'})
    with pytest.raises(OptionError, match=r"layout.*'CUHKBD'"):
        SingleDefocusDataset({'phase': 'test', 'dataroot': '/nowhere', 'layout': 'CUHKBD'})


def test_a_photograph_that_is_broken_is_named_through_a_worker(opt):
    path = Path(opt['dataroot_lq']) / 'b ü.png'
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r'photos/b ü\.png: not a readable image') as error:
        list(DataLoader(SingleDefocusDataset(opt), num_workers=1))
    error.value.with_traceback(None)
    del error  # ends the workers now: the garbage collector, in its own order, would wait five seconds for each


def test_options_are_left_alone_and_the_data_set_can_be_pickled(opt):
    before = copy.deepcopy(opt)
    dataset = SingleDefocusDataset(opt)
    sample = dataset[1]
    assert opt == before
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1]['lq'], sample['lq'])


def test_the_host_builds_it_by_name(opt):
    ggkm_plugin.register()
    from basicsr.data import build_dataloader, build_dataset

    opt = {**opt, 'name': 'photos', 'type': 'SingleDefocusDataset'}
    shapes = [batch['lq'].shape for batch in build_dataloader(build_dataset(opt), opt)]
    assert shapes == [(1, 3, 7, 5), (1, 3, 6, 9), (1, 3, 6, 9)]
