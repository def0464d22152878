"""Faults of images found before a run starts: all of all data sets, from headers and ends of files."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.lmdb_store import write_lmdb
from ggkm_plugin.training import check_config
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.image_decoding import decode_image, write_image
from ggkm_plugin.utils.image_header import read_header

RNG = np.random.default_rng(0)


def picture(height, width, dtype='uint8'):
    image = RNG.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return cv2.resize(image, (width, height)).astype(dtype) * (257 if dtype == 'uint16' else 1)


def faults(opt, is_train=True):
    with pytest.raises((DataError, OptionError)) as caught:
        check_config.check_options(opt, is_train, images=True)
    return str(caught.value)


def cut(path, size):
    Path(path).write_bytes(Path(path).read_bytes()[:size])


def test_sound_data_pass(workplace, tiny):
    assert check_config.check_options(tiny, is_train=True, images=True) == []


def test_all_faults_of_all_data_sets(workplace, tiny):
    """Those of the field: sizes that differ, truncated files, images smaller than the crop, depths that differ."""
    for name in ('val/input', 'val/ground_truth'):
        shutil.copytree(workplace / 'pairs' / Path(name).name, name)
    tiny['datasets']['val'].update(dataroot_lq='val/input', dataroot_gt='val/ground_truth')
    write_image('val/ground_truth/00.png', picture(64, 48))
    cut('val/ground_truth/01.png', 900)
    Path('val/input/02.png').write_bytes(b'')
    write_image('val/input/03.png', picture(48, 64, 'uint16'))
    cut('pairs/input/00.png', -12)
    for folder in ('input', 'ground_truth'):
        write_image(f'pairs/{folder}/01.png', picture(28, 64))
    tiny['train']['total_iter'] = '4'
    messages = faults(tiny)
    assert 'train.total_iter' in messages
    for name in ('val/input/00', 'val/ground_truth/01', 'val/input/02', 'val/input/03', 'pairs/input/01'):
        assert f'datasets.{"val" if "val" in name else "train"}: {name}.png' in messages
    assert 'pairs/input/00.png' in messages
    assert messages.count('.png') < 20


def test_a_test_s_data(workplace, tiny):
    """Faults of the option file's own rules are found too: here the depth."""
    tiny['datasets']['test'] = {**tiny['datasets'].pop('val'), 'bit_depth': 16}
    del tiny['datasets']['train']
    assert 'pairs/input/03.png' in faults(tiny, is_train=False)


@pytest.mark.parametrize('codec', ['raw', 'png'])
def test_lmdb(workplace, tiny, codec):
    write_image('pairs/ground_truth/02.png', picture(64, 64))
    write_image('pairs/input/03.png', picture(28, 40))
    write_image('pairs/ground_truth/03.png', picture(28, 40))
    keys = [f'{folder}/{i:02d}' for i in range(4) for folder in ('input', 'ground_truth')]
    pairs = [Pair(f'input/{i:02d}', f'ground_truth/{i:02d}') for i in range(4)]
    write_lmdb('set/train.lmdb', {key: f'pairs/{key}.png' for key in keys}, pairs, codec)
    for key in ('dataroot_lq', 'dataroot_gt'):
        del tiny['datasets']['train'][key]
    tiny['datasets']['train'].update(dataroot='set')
    messages = faults(tiny)
    assert 'train.lmdb/input/02.png' in messages
    assert 'train.lmdb/input/03.png' in messages
    assert 'input/01' not in messages


def test_mixed_and_synthetic_sets(workplace, tiny):
    folders = {key: tiny['datasets']['train'].pop(key) for key in ('dataroot_lq', 'dataroot_gt')}
    tiny['datasets']['train'].update(type='MixedDefocusDataset', sources=[{**folders, 'ratio': 1}])
    tiny['datasets']['val'] = {'name': 'val', 'type': 'SyntheticDefocusDataset', 'dataroot_gt': 'photos'}
    for i in range(2):
        write_image(f'photos/{i}.png', picture(4, 40) if i else picture(40, 40))
    cut('pairs/input/03.png', 100)
    messages = faults(tiny)
    assert 'pairs/input/03.png' in messages
    assert 'photos/1.png' in messages
    assert 'photos/0.png' not in messages


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif', '.webp'])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
def test_headers_are_what_is_decoded(tmp_path, suffix, dtype):
    path = str(tmp_path / f'image{suffix}')
    write_image(path, picture(40, 52, dtype))
    whole = Path(path).read_bytes()
    decoded = decode_image(whole, path)
    assert read_header(path) == (decoded.shape, decoded.dtype)
    Path(path).write_bytes(whole + b'more')  # legal
    assert read_header(path) == (decoded.shape, decoded.dtype)
    for size in (0, 1, 20, len(whole) // 2, len(whole) - 30):
        Path(path).write_bytes(whole[:size])
        with pytest.raises(DataError, match='image'):
            read_header(path)


@pytest.mark.parametrize(('value', 'size'), [(b'\3\0\1\0\0\0\6\0\0\0', (52, 40)), (b'\2\0\4\0\0\0abc\0', (40, 52))])
def test_a_photograph_that_is_turned_or_says_so_wrongly(tmp_path, value, size):
    path = str(tmp_path / 'turned.jpg')
    exif = b'Exif\0\0II*\0\x08\0\0\0\1\0\x12\1' + value + bytes(4)
    Image.fromarray(picture(40, 52)).save(path, exif=exif)
    assert read_header(path).shape == decode_image(Path(path).read_bytes(), path).shape == (*size, 3)
