"""Sources of images: folders or databases, their pairs, and refused options."""

import pickle
import shutil

import numpy as np
import pytest

from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.lmdb_store import key_of, write_lmdb
from ggkm_plugin.data.paired_defocus_dataset import PairedDefocusDataset
from ggkm_plugin.data.sources import FolderSource, LmdbSource, open_source
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.image_decoding import write_image

DPDD = ('source', 'target')


def picture(value, dtype=np.uint16):
    return np.full((5, 6, 3), value, dtype)


def database(path, root, names, pairs, layout='DPDD'):
    files = {key_of(name): f'{root}/{name}' for name in names}
    write_lmdb(
        str(path), files, [Pair(key_of(lq), gt and key_of(gt)) for lq, gt in pairs], 'raw', about={'layout': layout}
    )


@pytest.fixture
def dpdd(tmp_path):
    """Two pairs of DPDD's test split, whose names differ, as folders."""
    for number in range(2):
        for folder, value in zip(DPDD, (100, 200), strict=True):
            write_image(
                f'{tmp_path}/test_c/{folder}/1P0A{number + (folder == "target")}.b.png', picture(value + number)
            )
    return tmp_path


@pytest.fixture
def both(dpdd):
    """The folders of `dpdd` with a database beside them."""
    pairs = [(f'test_c/source/1P0A{number}.b.png', f'test_c/target/1P0A{number + 1}.b.png') for number in range(2)]
    database(dpdd / 'test.lmdb', dpdd, [name for pair in pairs for name in pair], pairs)
    return dpdd


def values(source):
    found = []
    for pair in source.pairs:
        lq, gt = source.image(pair.lq)[:, :], source.image(pair.gt)[:, :]
        found.append((int(lq[0, 0, 0]), int(gt[0, 0, 0])))
    return found


@pytest.mark.parametrize('layout', [{}, {'layout': 'DPDD'}])
@pytest.mark.parametrize(
    ('backend', 'kind'),
    [
        ({}, LmdbSource),
        ({'io_backend': {'type': 'lmdb'}}, LmdbSource),
        ({'io_backend': {'type': 'disk'}}, FolderSource),
    ],
)
def test_a_database_comes_before_the_folders_and_has_the_same_images(both, layout, backend, kind):
    source = open_source({'dataroot': str(both), 'phase': 'test', **layout, **backend}, needs_gt=True)
    assert type(source) is kind
    assert values(source) == values(pickle.loads(pickle.dumps(source))) == [(100, 200), (101, 201)]
    place = 'test.lmdb/test_c' if kind is LmdbSource else 'test_c'
    assert source.pairs[1] == Pair(f'{both}/{place}/source/1P0A1.b.png', f'{both}/{place}/target/1P0A2.b.png')


def test_the_default_split_is_the_phase_or_test_without_sharp_images(both):
    with pytest.raises(DataError):
        open_source({'dataroot': str(both), 'phase': 'val', 'layout': 'DPDD'}, needs_gt=True)
    for root in ({'dataroot': str(both), 'layout': 'DPDD'}, {'dataroot_lq': f'{both}/test.lmdb'}):
        paths = [pair.lq for pair in open_source({'phase': 'val', **root}, needs_gt=False).pairs]
        assert paths == [f'{both}/test.lmdb/test_c/source/1P0A{number}.b.png' for number in range(2)]


def test_a_database_of_another_layout_is_refused(both):
    with pytest.raises(OptionError, match=r'LFDOF.*test\.lmdb.*DPDD'):
        open_source({'dataroot': str(both), 'phase': 'test', 'layout': 'LFDOF'}, needs_gt=True)


@pytest.mark.parametrize('needs_gt', [True, False])
def test_a_database_without_sharp_images_is_for_single_photographs(tmp_path, needs_gt):
    write_image(f'{tmp_path}/image/a.png', picture(1))
    database(tmp_path / 'test.lmdb', tmp_path, ['image/a.png'], [('image/a.png', None)], 'CUHK')
    opt = {'dataroot': str(tmp_path), 'phase': 'test'}
    if needs_gt:
        with pytest.raises(OptionError, match='SingleDefocusDataset'):
            open_source(opt, needs_gt)
    else:
        assert open_source(opt, needs_gt).pairs == [Pair(f'{tmp_path}/test.lmdb/image/a.png', None)]


def test_a_database_without_pairs_is_named(tmp_path):
    write_image(f'{tmp_path}/image/a.png', picture(1))
    database(tmp_path / 'test.lmdb', tmp_path, ['image/a.png'], [])
    with pytest.raises(DataError, match=r'test\.lmdb'):
        open_source({'dataroot': str(tmp_path), 'phase': 'test'}, needs_gt=True)


@pytest.mark.parametrize(
    ('change', 'fault', 'named'),
    [
        ({'split': 'train', 'io_backend': {'type': 'lmdb'}}, DataError, r'train\.lmdb'),
        ({'dataroot': None}, OptionError, 'dataroot'),
        ({'dataroot': None, 'dataroot_lq': '/nowhere', 'dataroot_gt': '/nowhere'}, DataError, '/nowhere'),
    ],
)
def test_a_wrong_option_is_named(both, change, fault, named):
    with pytest.raises(fault, match=named):
        PairedDefocusDataset({'dataroot': str(both), 'phase': 'test', **change})[0]


def test_a_split_without_a_database_is_named_if_there_are_no_folders(both):
    shutil.rmtree(both / 'test_c')
    for change in ({'split': 'tset', 'layout': 'DPDD'}, {'io_backend': {'type': 'disk'}}):
        with pytest.raises(OptionError, match=r'of test.*io_backend'):
            open_source({'dataroot': str(both), 'phase': 'test', **change}, needs_gt=True)


# two databases


@pytest.fixture
def basicsr_databases(tmp_path):
    """Databases of BasicSR, one per side, with equal keys."""
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    for side, value in (('lq', 100), ('gt', 200)):
        for number in range(2):
            write_image(f'{tmp_path}/{side}/{number}.png', picture(value + number))
        names = ['0.png', '1.png']
        make_lmdb_from_imgs(f'{tmp_path}/{side}', f'{tmp_path}/{side}.lmdb', names, ['0', '1'], map_size=2**20)
    return {'phase': 'test', 'dataroot_lq': f'{tmp_path}/lq.lmdb', 'dataroot_gt': f'{tmp_path}/gt.lmdb'}


@pytest.mark.parametrize('backend', [{}, {'io_backend': {'type': 'lmdb'}}])
def test_two_databases_are_paired_by_their_keys(basicsr_databases, backend):
    source = open_source({**basicsr_databases, **backend}, needs_gt=True)
    assert values(source) == [(100, 200), (101, 201)]
    assert source.pairs[0] == Pair(
        f'{basicsr_databases["dataroot_lq"]}/0.png', f'{basicsr_databases["dataroot_gt"]}/0.png'
    )
    single = open_source({**basicsr_databases, **backend}, needs_gt=False)
    assert single.pairs == [Pair(f'{basicsr_databases["dataroot_lq"]}/{number}.png', None) for number in range(2)]


@pytest.mark.parametrize('short', ['lq', 'gt'])
def test_images_without_a_partner_in_the_other_database_are_named(basicsr_databases, tmp_path, short):
    write_lmdb(f'{tmp_path}/short.lmdb', {'0': f'{tmp_path}/lq/0.png'}, [], 'png')
    with pytest.raises(DataError, match=r'short\.lmdb: 1\b'):
        open_source({**basicsr_databases, f'dataroot_{short}': f'{tmp_path}/short.lmdb'}, needs_gt=True)


def test_a_database_and_a_folder_or_one_database_twice_are_refused(basicsr_databases, tmp_path):
    with pytest.raises(OptionError, match=f'{tmp_path}/gt'):
        open_source({**basicsr_databases, 'dataroot_gt': f'{tmp_path}/gt'}, needs_gt=True)
    with pytest.raises(OptionError, match='dataroot_gt'):
        open_source({**basicsr_databases, 'dataroot_gt': basicsr_databases['dataroot_lq']}, needs_gt=True)


@pytest.mark.parametrize('split', ['../other/train', '/tmp/train'])
def test_a_split_is_a_name(tmp_path, split):
    with pytest.raises(OptionError, match='split'):
        open_source({'dataroot': str(tmp_path), 'layout': 'DPDD', 'split': split, 'phase': 'train'}, needs_gt=True)
