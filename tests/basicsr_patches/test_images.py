"""Image decoder and JPEG compression of BasicSR's data sets."""

import logging

import cv2
import numpy as np
import pytest
import torch

from ggkm_plugin.basicsr_patches import data_loading, images, seams
from ggkm_plugin.utils.errors import DataError

import basicsr.data as basicsr_data  # isort: skip
import basicsr.utils.img_util as basicsr_img_util  # isort: skip

VALUES = {np.uint8: [0, 1, 2, 127, 128, 254, 255], np.uint16: [0, 1, 255, 256, 257, 32768, 65534, 65535]}


@pytest.fixture
def place(workplace):
    """Options of BasicSR's paired data set with one image of known values, different in each channel."""

    def make(dtype, name='00.png'):
        for path in workplace.rglob('pairs/*/*'):
            path.unlink()
        values = np.array(VALUES[dtype], dtype)
        image = np.stack([np.tile(np.roll(values, channel), (4, 1)) for channel in range(3)], axis=2)  # RGB
        for folder in ('input', 'ground_truth'):
            cv2.imwrite(f'pairs/{folder}/{name}', image[..., ::-1])
        opt = {
            'name': 'x', 'type': 'PairedImageDataset', 'phase': 'val', 'scale': 1, 'io_backend': {'type': 'disk'},
            'dataroot_lq': 'pairs/input', 'dataroot_gt': 'pairs/ground_truth',
        }  # fmt: skip
        return opt, torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)

    return make


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_values_are_divided_by_the_file_s_own_maximum(place, dtype):
    opt, values = place(dtype)
    expected = (values / np.iinfo(dtype).max).float()
    with seams.installed():
        sample = basicsr_data.build_dataset(opt)[0]
    assert torch.equal(sample['lq'], expected)
    assert torch.equal(sample['gt'], expected)


@pytest.mark.parametrize('flag', ['color', 'grayscale', 'unchanged'])
@pytest.mark.parametrize('float32', [True, False])
def test_8_bit_files_are_decoded_as_by_basicsr(place, workplace, flag, float32):
    place(np.uint8)
    content = (workplace / 'pairs/input/00.png').read_bytes()
    expected = basicsr_img_util.imfrombytes(content, flag, float32)
    found = images.imfrombytes(content, flag, float32)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


@pytest.mark.parametrize('content', [b'', None], ids=['empty', 'truncated'])
@pytest.mark.parametrize('workers', [0, 1])
def test_a_damaged_file_is_named(workplace, tiny, content, workers):
    """BasicSR's error: 'NoneType' has no attribute 'astype'."""
    path = workplace / 'pairs/input/02.png'
    path.write_bytes(path.read_bytes()[:100] if content is None else content)
    tiny.update(dist=False, rank=0, world_size=1)
    tiny['datasets']['train'].update(
        type='PairedImageDataset', phase='train', scale=1, io_backend={'type': 'disk'}, use_rot=False,
        num_worker_per_gpu=workers,
    )  # fmt: skip
    del tiny['datasets']['val']
    with seams.installed():
        loader = data_loading.create_train_val_dataloader(tiny, logging.getLogger('test'))[0]
        with pytest.raises(DataError, match=r'pairs/input/02\.png'):
            list(loader)


def test_a_fractional_jpeg_quality():
    """BasicSR draws fractions, which OpenCV refuses."""

    import basicsr.data.degradations as basicsr_degradations  # isort: skip

    image = np.random.default_rng(0).random((32, 32, 3), dtype=np.float32)
    with pytest.raises(Exception, match=r'(?i)type|argument|param|parse'):
        basicsr_degradations.add_jpg_compression(image, 90.3)
    with seams.installed():
        compressed = basicsr_degradations.random_add_jpg_compression(image, (90.2, 90.4))
        assert np.array_equal(compressed, basicsr_degradations.add_jpg_compression(image, 90))
    assert compressed.shape == image.shape
    assert 0 < np.abs(compressed - image).mean() < 0.2
