"""SingleDefocusDataset: whole photographs without ground truth, in order of names."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

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
    """A folder of three photographs of different sizes and bit depths, and a text file."""
    write_image(str(tmp_path / 'photos' / 'b ü.png'), picture(20))
    write_image(str(tmp_path / 'photos' / 'a.PNG'), picture(10, (7, 5)))
    write_image(str(tmp_path / 'photos' / 'c.tif'), picture(30000, dtype=np.uint16))
    (tmp_path / 'photos' / 'notes.txt').write_text('none')
    return {'phase': 'test', 'dataroot_lq': str(tmp_path / 'photos')}


def test_a_folder_is_read_whole_and_in_order(opt):
    before = copy.deepcopy(opt)
    dataset = SingleDefocusDataset(opt)
    assert len(dataset) == 3
    assert opt == before
    images = {'a.PNG': picture(10, (7, 5)), 'b ü.png': picture(20), 'c.tif': picture(30000, dtype=np.uint16)}
    for index, (name, image) in enumerate(images.items()):
        sample = dataset[index]
        assert set(sample) == {'lq', 'lq_path'}
        assert sample['lq_path'] == f'{opt["dataroot_lq"]}/{name}'
        assert sample['lq'].dtype == torch.float32
        top = np.float32(np.iinfo(image.dtype).max)
        np.testing.assert_array_equal(sample['lq'].numpy(), image.transpose(2, 0, 1).astype(np.float32) / top)


def test_a_benchmark_with_sharp_images_gives_its_defocused_ones(tmp_path):
    for folder, value in (('source', 1), ('target', 2)):
        for split in ('train', 'test'):
            write_image(str(tmp_path / f'{split}_c' / folder / '1.png'), picture(value))
    opt = {'phase': 'val', 'dataroot': str(tmp_path), 'layout': 'DPDD'}
    assert SingleDefocusDataset(opt).paths == [f'{tmp_path}/test_c/source/1.png']
    assert SingleDefocusDataset({**opt, 'split': 'train'}).paths == [f'{tmp_path}/train_c/source/1.png']
    write_image(f'{tmp_path}/image/out_of_focus0001.jpg', picture(100))
    write_image(f'{tmp_path}/gt/out_of_focus0001.png', picture(255))  # CUHK's masks are no ground truth
    assert SingleDefocusDataset({**opt, 'layout': 'CUHK'}).paths == [f'{tmp_path}/image/out_of_focus0001.jpg']


def test_training_is_refused_with_the_type_to_use(opt):
    with pytest.raises(OptionError, match='PairedDefocusDataset'):
        SingleDefocusDataset({**opt, 'phase': 'train'})
    with pytest.raises(OptionError, match='dataroot_lq'):
        SingleDefocusDataset({'phase': 'test', 'layout': 'CUHK'})


def test_another_bit_depth_than_the_option_or_a_broken_file_is_named(opt):
    dataset = SingleDefocusDataset({**opt, 'bit_depth': 8})
    dataset[1]
    with pytest.raises(DataError, match=r'c\.tif.*bit_depth'):
        dataset[2]
    path = Path(opt['dataroot_lq']) / 'b ü.png'
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r'photos/b ü\.png'):
        dataset[1]
