"""LMDB databases: round trips, crops, worker processes, damage, and atomic writing."""

import json
import multiprocessing
import os
import pickle
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from PIL import Image

from ggkm_plugin.data import lmdb_store
from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.lmdb_store import BAND_ROWS, CODECS, LmdbStore, key_of, write_lmdb
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.image_decoding import decode_image, write_image

SIZE = (40, 50)


def noise(seed, dtype=np.uint16, size=SIZE):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (*size, 3), dtype, endpoint=True)


def made(root, count=6, dtype=np.uint16, size=SIZE):
    """Write images of noise below root/lq. Returns files and pairs for `write_lmdb`."""
    for number in range(count):
        write_image(f'{root}/lq/{number:03d}.png', noise(number, dtype, size))
    files = {f'lq/{number:03d}': f'{root}/lq/{number:03d}.png' for number in range(count)}
    return files, [Pair(key, None) for key in files]


def images(path):
    store = LmdbStore(path)
    return {key: store.image(key)[:, :] for key in store.keys}


def changed(path, values):
    """Put values (None: delete) into a database that is not open in this process."""
    with lmdb.open(str(path), map_size=2**24, lock=False) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.delete(key) if value is None else transaction.put(key, value)


def write_0_1_0(path, pictures):
    """Write a raw database of version 0.1.0: header and pixels in one value per image."""
    header = struct.Struct('<4sBBHIII12x')
    values = {
        key.encode(): header.pack(b'GGKM', 1, image.itemsize, 3, *image.shape[:2], zlib.crc32(image.data))
        + image.tobytes()
        for key, image in pictures.items()
    }
    about = {'format': 1, 'codec': 'raw', 'pairs': [[key, None] for key in pictures], 'about': {'layout': 'DPDD'}}
    changed(path, {**values, b'\0about': json.dumps(about).encode()})


@pytest.fixture(params=CODECS)
def codec(request):
    return request.param


@pytest.fixture
def database(tmp_path, codec):
    files, pairs = made(tmp_path)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec, about={'layout': 'DPDD', 'split': 'train'})
    return f'{tmp_path}/a.lmdb'


# round trips


@pytest.mark.parametrize(
    ('dtype', 'size'), [(np.uint8, (1, 1)), (np.uint8, (BAND_ROWS + 1, 3)), (np.uint16, (2 * BAND_ROWS, 300))]
)
def test_pixels_pairs_and_description_are_stored_exactly(tmp_path, codec, dtype, size):
    files, _ = made(tmp_path, 3, dtype, size)
    pairs = [Pair('lq/001', 'lq/000'), Pair('lq/002', 'lq/000')]  # many to one
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec, about={'layout': 'LFDOF', 'n': [1]})
    store = LmdbStore(f'{tmp_path}/a.lmdb')
    assert (store.pairs, store.about, store.codec) == (pairs, {'layout': 'LFDOF', 'n': [1]}, codec)
    assert isinstance(store.pairs[0], Pair)
    found = images(f'{tmp_path}/a.lmdb')
    assert list(found) == sorted(files)
    for number, image in enumerate(found.values()):
        assert image.dtype == dtype
        np.testing.assert_array_equal(image, noise(number, dtype, size))


def test_a_crop_of_a_raw_image_is_the_slice_of_the_array(tmp_path):
    size = (3 * BAND_ROWS + 5, 40)
    files, pairs = made(tmp_path, 1, size=size)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'raw')
    image, expected = LmdbStore(f'{tmp_path}/a.lmdb').image('lq/000'), noise(0, size=size)
    assert (image.shape, image.dtype, image.itemsize) == (expected.shape, expected.dtype, expected.itemsize)
    windows = [(0, 1), (0, None), (BAND_ROWS - 1, BAND_ROWS + 1), (BAND_ROWS, 2 * BAND_ROWS), (-6, None), (7, 7)]
    for rows in [slice(*window) for window in windows]:
        for columns in (slice(None), slice(3, 17)):
            np.testing.assert_array_equal(image[rows, columns], expected[rows, columns])


def test_a_raw_database_of_0_1_0_is_read(tmp_path):
    write_0_1_0(tmp_path / 'a.lmdb', {f'a.b/{k}': noise(k, dtype) for k, dtype in enumerate((np.uint8, np.uint16))})
    store = LmdbStore(f'{tmp_path}/a.lmdb')
    assert (store.codec, store.about, store.keys) == ('raw', {'layout': 'DPDD'}, ['a.b/0', 'a.b/1'])
    assert store.pairs == [Pair('a.b/0', None), Pair('a.b/1', None)]
    for k, dtype in enumerate((np.uint8, np.uint16)):
        store.check(f'a.b/{k}')
        np.testing.assert_array_equal(store.image(f'a.b/{k}')[:, :], noise(k, dtype))
        np.testing.assert_array_equal(store.image(f'a.b/{k}')[3:-2, 5:9], noise(k, dtype)[3:-2, 5:9])


def test_images_of_every_format_are_stored_as_decoded(tmp_path, codec):
    gray, color = noise(0)[..., 0], noise(1, np.uint8)
    cv2.imwrite(f'{tmp_path}/gray.png', gray)
    Image.fromarray(np.dstack([color, np.full(SIZE, 255, np.uint8)])).save(tmp_path / 'alpha.png')
    Image.fromarray(color).save(tmp_path / 'photo.png', 'JPEG')
    write_image(f'{tmp_path}/deep.tif', noise(2))
    write_image(f'{tmp_path}/flat.bmp', color)
    files = {key_of(path.name): str(path) for path in tmp_path.iterdir()}
    write_lmdb(f'{tmp_path}/a.lmdb', files, [], codec)
    for key, image in images(f'{tmp_path}/a.lmdb').items():
        expected = decode_image(Path(files[key]).read_bytes(), key)
        assert image.dtype == expected.dtype
        np.testing.assert_array_equal(image, expected)


def test_a_png_is_stored_byte_for_byte(tmp_path):
    # OpenCV writes another compression level.
    Image.fromarray(noise(0, np.uint8)).save(tmp_path / 'a.png', compress_level=0)
    write_lmdb(f'{tmp_path}/a.lmdb', {'a': f'{tmp_path}/a.png'}, [], 'png')
    with lmdb.open(f'{tmp_path}/a.lmdb', readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert transaction.get(b'a') == (tmp_path / 'a.png').read_bytes()


@pytest.mark.parametrize('name', ['IMG.1.2 ü 日本.JPG.png', "it's 100%.PNG", os.fsdecode(b'\xff.png')])
def test_keys_are_names_without_the_last_suffix(tmp_path, codec, name):
    for folder, number in (('x.y/source', 0), ('x.y/target', 1)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_bytes(cv2.imencode('.png', noise(number)[..., ::-1])[1].tobytes())
    names = [f'x.y/source/{name}', f'x.y/target/{name}']
    keys = [key_of(name) for name in names]
    assert keys == [name[:-4] for name in names]
    write_lmdb(f'{tmp_path}/a.lmdb', {key_of(n): f'{tmp_path}/{n}' for n in names}, [Pair(*keys)], codec)
    store = LmdbStore(f'{tmp_path}/a.lmdb')
    assert store.keys == keys
    assert store.pairs == [Pair(*keys)]
    for number, key in enumerate(keys):
        np.testing.assert_array_equal(store.image(key)[:, :], noise(number))


# reading


def test_a_crop_reads_only_its_bands(tmp_path):
    size = (4 * BAND_ROWS, 30)
    files, pairs = made(tmp_path, 1, size=size)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'raw')
    with lmdb.open(f'{tmp_path}/a.lmdb', lock=False) as environment, environment.begin() as transaction:
        bands = [bytes(key) for key in transaction.cursor().iternext(values=False) if key.startswith(b'lq/000\0')]
    assert len(bands) == 4
    changed(tmp_path / 'a.lmdb', {bands[0]: None, bands[3]: b''})
    store = LmdbStore(f'{tmp_path}/a.lmdb')
    rows = slice(BAND_ROWS, 3 * BAND_ROWS)
    np.testing.assert_array_equal(store.image('lq/000')[rows, 5:20], noise(0, size=size)[rows, 5:20])
    for rows in (slice(BAND_ROWS - 1, BAND_ROWS + 1), slice(3 * BAND_ROWS, None)):
        with pytest.raises(DataError, match='lq/000'):
            store.image('lq/000')[rows, :]


def test_several_stores_are_open_in_one_process(tmp_path, database):
    files, pairs = made(tmp_path)
    write_lmdb(f'{tmp_path}/b.lmdb', files, pairs, 'raw')
    (tmp_path / 'link.lmdb').symlink_to(database)
    stores = [LmdbStore(path) for path in (database, database, f'{tmp_path}/b.lmdb/', f'{tmp_path}/link.lmdb')]
    for number, key in enumerate(stores[0].keys):
        for store in stores:
            np.testing.assert_array_equal(store.image(key)[:, :], noise(number))


def _sums(store):
    return [int(store.image(key)[:, :].sum()) for key in store.keys]


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_a_store_works_in_other_processes(database, method):
    store = LmdbStore(database)
    _sums(store)
    with multiprocessing.get_context(method).Pool(1) as pool:
        pool.starmap(LmdbStore.check, [(store, key) for key in store.keys])
        with pytest.raises(DataError, match='lq/9'):
            pool.apply(LmdbStore.check, (store, 'lq/9'))
    for use in (store.check, store.image):
        with pytest.raises(DataError, match=r'a\.lmdb.*lq/9'):
            use('lq/9')
    assert _sums(store) == _sums(pickle.loads(pickle.dumps(store)))


# damaged, incomplete or replaced databases


@pytest.mark.parametrize('share', [0, 0.001, 0.9, 0.9999])
def test_a_truncated_database_is_refused_when_it_is_opened(tmp_path, database, share):
    content = Path(database, 'data.mdb').read_bytes()
    (tmp_path / 'cut.lmdb').mkdir()
    (tmp_path / 'cut.lmdb' / 'data.mdb').write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r'cut\.lmdb'):
        LmdbStore(f'{tmp_path}/cut.lmdb')
    assert os.listdir(tmp_path / 'cut.lmdb') == ['data.mdb']


def test_files_that_are_not_databases_are_refused(tmp_path):
    (tmp_path / 'file.lmdb').write_bytes(b'')
    for name, content in (('text.lmdb', b'x' * 100000), ('empty.lmdb', b'')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'data.mdb').write_bytes(content)
    for name in ('file.lmdb', 'text.lmdb', 'empty.lmdb', 'gone.lmdb'):
        with pytest.raises(DataError, match=name):
            LmdbStore(f'{tmp_path}/{name}')
    assert not (tmp_path / 'gone.lmdb').exists()


def test_a_flipped_bit_is_found_by_a_check(tmp_path, database):
    content = bytearray(Path(database, 'data.mdb').read_bytes())
    is_raw = LmdbStore(database).codec == 'raw'
    stored = noise(3)[:BAND_ROWS].tobytes() if is_raw else (tmp_path / 'lq/003.png').read_bytes()
    content[content.index(stored) + len(stored) // 2] ^= 1
    (tmp_path / 'bad.lmdb').mkdir()
    (tmp_path / 'bad.lmdb' / 'data.mdb').write_bytes(content)
    store = LmdbStore(f'{tmp_path}/bad.lmdb')
    store.check('lq/002')
    with pytest.raises(DataError, match=r'bad\.lmdb.*lq/003'):
        store.check('lq/003')


@pytest.mark.parametrize('value', [b'GGKM', b'x' * 64, b'GGKM' + bytes(60)])
def test_a_damaged_raw_value_is_refused(tmp_path, value):
    files, pairs = made(tmp_path, 1)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'raw')
    changed(tmp_path / 'a.lmdb', {b'lq/000': value})
    with pytest.raises(DataError, match='lq/000'):
        LmdbStore(f'{tmp_path}/a.lmdb').check('lq/000')


@pytest.mark.parametrize(
    'record', [b'no json', b'{}', b'[]', b'{"format": 9, "codec": "raw", "about": {}, "pairs": []}']
)
def test_a_damaged_or_unknown_description_is_refused(tmp_path, record):
    changed(tmp_path / 'a.lmdb', {b'\0about': record})
    with pytest.raises(DataError, match=r'a\.lmdb'):
        LmdbStore(f'{tmp_path}/a.lmdb')


def test_a_replaced_database_is_detected(tmp_path, database):
    old, codec = LmdbStore(database), LmdbStore(database).codec
    shutil.rmtree(database)
    with pytest.raises(DataError, match=r'a\.lmdb'):
        LmdbStore(database)
    np.testing.assert_array_equal(old.image('lq/000')[:, :], noise(0))  # the process still has the file
    write_lmdb(database, {'x': f'{tmp_path}/lq/005.png'}, [], codec)
    assert LmdbStore(database).keys == ['x']
    for store in (old, pickle.loads(pickle.dumps(old))):
        with pytest.raises(DataError, match=r'a\.lmdb'):
            store.image('lq/000')


# databases of BasicSR


def test_a_database_of_basicsr_is_read_and_refused_if_incomplete(tmp_path, capfd):
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    made(tmp_path)
    cv2.imwrite(f'{tmp_path}/lq/gray.png', noise(9)[..., 0])
    keys = [f'{number:03d}' for number in range(6)] + ['gray']
    make_lmdb_from_imgs(f'{tmp_path}/lq', f'{tmp_path}/a.lmdb', [f'{key}.png' for key in keys], keys)
    store = LmdbStore(f'{tmp_path}/a.lmdb')
    assert (store.pairs, store.about, store.codec) == ([], {}, 'png')
    assert store.keys == keys
    for number in range(6):
        store.check(f'{number:03d}')
        np.testing.assert_array_equal(store.image(f'{number:03d}')[:, :], noise(number))
    np.testing.assert_array_equal(store.image('gray')[:, :], np.repeat(noise(9)[..., :1], 3, -1))
    listing = tmp_path / 'a.lmdb' / 'meta_info.txt'
    listing.write_text(listing.read_text() + 'gray.png (48,64,1) 1\n')  # two files of one key
    with pytest.raises(DataError, match=r'a\.lmdb'):
        LmdbStore(f'{tmp_path}/a.lmdb')
    listing.unlink()
    with pytest.raises(DataError, match=r'a\.lmdb'):
        LmdbStore(f'{tmp_path}/a.lmdb')


# writing


def test_the_file_is_small_and_the_same_for_any_number_of_workers(tmp_path, codec):
    files, pairs = made(tmp_path, 8, size=(200, 300))
    write_lmdb(f'{tmp_path}/new/a.lmdb', files, pairs, codec, workers=3)
    assert os.listdir(tmp_path / 'new') == ['a.lmdb']
    assert os.listdir(tmp_path / 'new/a.lmdb') == ['data.mdb']
    stored = sum(len(Path(path).read_bytes()) for path in files.values()) if codec == 'png' else 8 * 200 * 300 * 6
    assert stored < os.path.getsize(tmp_path / 'new/a.lmdb/data.mdb') < 1.1 * stored
    write_lmdb(f'{tmp_path}/one.lmdb', files, pairs, codec, workers=1)
    contents = [(tmp_path / name / 'data.mdb').read_bytes() for name in ('new/a.lmdb', 'one.lmdb')]
    assert contents[0] == contents[1]


def test_the_memory_map_grows(tmp_path, codec, monkeypatch):
    monkeypatch.setattr(lmdb_store, '_MAP_SIZE', 2**16)
    files, pairs = made(tmp_path, 4)
    write_image(files['lq/003'], noise(3, size=(400, 500)))
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec)
    np.testing.assert_array_equal(images(f'{tmp_path}/a.lmdb')['lq/003'], noise(3, size=(400, 500)))


def test_an_existing_database_is_not_overwritten(tmp_path, database):
    before = Path(database, 'data.mdb').read_bytes()
    files, pairs = made(tmp_path, 1)
    for name in (database, f'{database}/'):
        with pytest.raises(DataError, match=r'a\.lmdb'):
            write_lmdb(name, files, pairs, 'png')
    assert Path(database, 'data.mdb').read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ['a.lmdb', 'lq']


def test_all_unreadable_images_are_named_and_nothing_is_left(tmp_path, codec):
    files, pairs = made(tmp_path)
    Path(files['lq/002']).write_bytes(b'')
    Path(files['lq/004']).unlink()
    with pytest.raises(DataError) as error:
        write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec, workers=2)
    for part in ('a.lmdb', 'lq/002.png', 'lq/004.png'):
        assert part in str(error.value)
    assert os.listdir(tmp_path) == ['lq']


def test_a_database_that_cannot_be_written_is_named(tmp_path):
    files, pairs = made(tmp_path, 1)
    for path, of in (('/proc/a.lmdb', files), (f'{tmp_path}/a.lmdb', {'ü' * 256: files['lq/000']})):  # too long a key
        with pytest.raises(DataError, match=r'a\.lmdb'):
            write_lmdb(path, of, pairs, 'png')
    assert os.listdir(tmp_path) == ['lq']


def test_an_interruption_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch):
    files, pairs = made(tmp_path)

    def interrupt(content, name):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lmdb_store, 'decode_image', interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'raw')
    assert os.listdir(tmp_path) == ['lq']
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'raw')
    assert LmdbStore(f'{tmp_path}/a.lmdb').pairs == pairs
