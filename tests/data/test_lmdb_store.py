"""A database gives back what the files held, is complete or says that it is not, and reads no more than it must."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from PIL import Image

from ggkm_plugin.data import lmdb_store
from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.lmdb_pages import ValueMap
from ggkm_plugin.data.lmdb_store import CODECS, LmdbStore, key_of, write_lmdb
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.image_decoding import decode_image, write_image

SIZE = (40, 50)


def noise(seed, dtype=np.uint16, size=SIZE):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (*size, 3), dtype, endpoint=True)


def made(root, count=6, dtype=np.uint16, size=SIZE):
    """Images of noise below root/lq, and what `write_lmdb` takes of them."""
    for number in range(count):
        write_image(f'{root}/lq/{number:03d}.png', noise(number, dtype, size))
    files = {f'lq/{number:03d}': f'{root}/lq/{number:03d}.png' for number in range(count)}
    return files, [Pair(key, None) for key in files]


def images(path):
    store = LmdbStore(path)
    found = {}
    for key in store.keys:
        with store.image(key) as image:
            found[key] = np.array(image)
    return found


def identical(first, second):
    first, second = images(first), images(second)
    assert list(first) == list(second)
    return all(np.array_equal(first[key], second[key]) and first[key].dtype == second[key].dtype for key in first)


def interpreter(code, **options):
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.fixture(params=CODECS)
def codec(request):
    return request.param


@pytest.fixture
def database(tmp_path, codec):
    files, pairs = made(tmp_path)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec, about={'layout': 'DPDD', 'split': 'train'})
    return f'{tmp_path}/a.lmdb'


# what is stored comes back


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('size', [SIZE, (1, 1), (3, 5), (9, 7), (257, 300)])
def test_every_value_survives(tmp_path, codec, dtype, size):
    """Small values lie inside the pages of the tree, large ones in pages of their own."""
    files, pairs = made(tmp_path, 5, dtype, size)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec)
    found = images(f'{tmp_path}/a.lmdb')
    assert list(found) == sorted(files)
    for number, image in enumerate(found.values()):
        assert image.dtype == dtype
        np.testing.assert_array_equal(image, noise(number, dtype, size))


def test_a_tree_of_several_levels_is_walked(tmp_path, codec):
    files, _ = made(tmp_path, 3, np.uint8, (2, 3))
    many = {f'{number:04d}-{"x" * 200}': files[f'lq/{number % 3:03d}'] for number in range(400)}
    write_lmdb(f'{tmp_path}/a.lmdb', many, [], codec, workers=2)
    store = LmdbStore(f'{tmp_path}/a.lmdb')
    assert store.keys == sorted(many)
    for number, key in enumerate(store.keys):
        store.check(key)
        with store.image(key) as image:
            np.testing.assert_array_equal(image, noise(number % 3, np.uint8, (2, 3)))


def test_sources_of_every_kind_are_stored_as_they_decode(tmp_path, codec):
    grey, colour = noise(0)[..., 0], noise(1, np.uint8)
    cv2.imwrite(f'{tmp_path}/grey.png', grey)
    Image.fromarray(np.dstack([colour, np.full(SIZE, 255, np.uint8)])).save(tmp_path / 'alpha.png')
    Image.fromarray(colour).save(tmp_path / 'photo.png', 'JPEG')
    write_image(f'{tmp_path}/deep.tif', noise(2))
    write_image(f'{tmp_path}/flat.bmp', colour)
    files = {key_of(path.name): str(path) for path in tmp_path.iterdir()}
    write_lmdb(f'{tmp_path}/a.lmdb', files, [], codec)
    for key, image in images(f'{tmp_path}/a.lmdb').items():
        expected = decode_image(Path(files[key]).read_bytes(), key)
        assert image.dtype == expected.dtype
        np.testing.assert_array_equal(image, expected)


def test_a_png_is_stored_byte_for_byte_and_what_only_is_named_so_is_not(tmp_path):
    Image.fromarray(noise(0, np.uint8)).save(tmp_path / 'ours.png', compress_level=0)  # as OpenCV would not write it
    files = {'lq/000': f'{tmp_path}/ours.png'}
    Image.fromarray(noise(1, np.uint8)).save(tmp_path / 'photo.png', 'JPEG')
    write_lmdb(f'{tmp_path}/a.lmdb', {**files, 'photo': f'{tmp_path}/photo.png'}, [], 'png')
    with lmdb.open(f'{tmp_path}/a.lmdb', readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert transaction.get(b'lq/000') == Path(files['lq/000']).read_bytes()
        assert transaction.get(b'photo').startswith(b'\x89PNG')


@pytest.mark.parametrize(
    'name', ['a.b.c.png', 'ü 日本.png', "it's 100%.PNG", 'IMG.1.2 ü.JPG.png', os.fsdecode(b'\xff.png')]
)
def test_names_keep_all_but_their_last_suffix(tmp_path, codec, name):
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
        with store.image(key) as image:
            np.testing.assert_array_equal(image, noise(number))


def test_a_database_knows_its_pairs_and_what_it_was_told(tmp_path, codec):
    files, _ = made(tmp_path, 3)
    pairs = [Pair('lq/001', 'lq/000'), Pair('lq/002', 'lq/000')]  # many to one
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec, about={'layout': 'LFDOF', 'n': [1]})
    store = LmdbStore(f'{tmp_path}/a.lmdb')
    assert (store.pairs, store.about, store.codec) == (pairs, {'layout': 'LFDOF', 'n': [1]}, codec)
    assert isinstance(store.pairs[0], Pair)


# reading


def test_a_raw_image_is_a_read_only_view_of_the_file(tmp_path):
    files, pairs = made(tmp_path, 1, size=(300, 400))
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'raw')
    store = LmdbStore(f'{tmp_path}/a.lmdb')
    with store.image('lq/000') as image, store.image('lq/000') as again:
        assert not image.flags.owndata
        assert not image.flags.writeable
        assert image.flags.c_contiguous
        assert image.flags.aligned
        assert np.shares_memory(image, again)
        with pytest.raises(ValueError, match='read-only'):
            image[0, 0, 0] = 1


def test_a_crop_of_a_raw_image_reads_its_rows_only(tmp_path):
    """In a fresh process, by the pages of files that it has touched."""
    write_image(f'{tmp_path}/a.png', np.ones((4000, 1000, 3), np.uint16))  # 24 MB
    write_lmdb(f'{tmp_path}/a.lmdb', {'a': f'{tmp_path}/a.png'}, [], 'raw')
    code = f"""
        from ggkm_plugin.data.lmdb_store import LmdbStore
        def touched():
            blocks = open('/proc/self/smaps').read().split('VmFlags')
            sizes = [block.split('Rss:')[1].split()[0] for block in blocks if 'a.lmdb/data.mdb' in block]
            return sum(map(int, sizes))
        store = LmdbStore({str(tmp_path / 'a.lmdb')!r})
        before = touched()
        with store.image('a') as image:
            store.read_ahead('a', slice(500, 564))
            image[500:564, 100:164].astype(float)
        crop = touched() - before
        store.check('a')
        print(crop, touched() - before)
    """
    result = interpreter(code)
    crop, whole = map(int, result.stdout.split())
    assert crop < 5000  # KiB: 64 rows are 375, but what the system has in memory it may map by 2 MiB
    assert whole > 23000


def test_several_stores_are_open_in_one_process(tmp_path, database):
    files, pairs = made(tmp_path)
    write_lmdb(f'{tmp_path}/b.lmdb', files, pairs, 'raw')
    (tmp_path / 'link.lmdb').symlink_to(database)
    stores = [LmdbStore(path) for path in (database, database, f'{tmp_path}/b.lmdb/', f'{tmp_path}/link.lmdb')]
    for number, key in enumerate(stores[0].keys):
        for store in stores:
            with store.image(key) as image:
                np.testing.assert_array_equal(image, noise(number))


def _sums(store):
    sums = []
    for key in store.keys:
        with store.image(key) as image:
            sums.append(int(image.sum()))
    return sums


@pytest.mark.parametrize('method', ['fork', 'spawn'])
@pytest.mark.parametrize('used', [False, True])
def test_a_store_works_in_other_processes(database, method, used):
    store = LmdbStore(database)
    if used:
        _sums(store)
    with multiprocessing.get_context(method).Pool(1) as pool:
        pool.starmap(LmdbStore.check, [(store, key) for key in store.keys])
        with pytest.raises(DataError, match='no image'):
            pool.apply(LmdbStore.check, (store, 'lq/9'))
    assert _sums(store) == _sums(pickle.loads(pickle.dumps(store)))


def test_a_store_works_while_a_view_is_held_across_a_fork(database):
    store = LmdbStore(database)
    with store.image('lq/000') as image:
        with multiprocessing.get_context('fork').Pool(1) as pool:
            assert pool.apply(_sums, [store])[0] == int(image.sum())
        np.testing.assert_array_equal(image, noise(0))


def test_values_are_read_whole_where_the_file_is_of_an_unknown_format(tmp_path, monkeypatch):
    files, pairs = made(tmp_path)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'raw')

    def unknown(path):
        raise ValueError('format 2')

    monkeypatch.setattr(lmdb_store, 'ValueMap', unknown)
    store = LmdbStore(f'{tmp_path}/a.lmdb')
    store.read_ahead('lq/000', slice(0, 5))
    store.check('lq/000')
    for number, image in enumerate(images(store.path).values()):
        np.testing.assert_array_equal(image, noise(number))


def test_a_key_that_is_not_there_is_told(database):
    store = LmdbStore(database)
    for use in (store.check, lambda key: store.image(key).__enter__()):
        with pytest.raises(DataError, match=r"a\.lmdb: no image 'lq/9'"):
            use('lq/9')


# what is damaged, unfinished or replaced


@pytest.mark.parametrize('share', [0, 0.001, 0.3, 0.9, 0.9999])
def test_a_database_that_was_cut_off_is_told_when_it_is_opened(tmp_path, database, share):
    content = Path(database, 'data.mdb').read_bytes()
    (tmp_path / 'cut.lmdb').mkdir()
    (tmp_path / 'cut.lmdb' / 'data.mdb').write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r'cut\.lmdb'):
        LmdbStore(f'{tmp_path}/cut.lmdb')
    assert os.listdir(tmp_path / 'cut.lmdb') == ['data.mdb']


@pytest.mark.parametrize('place', ['root', 'tree'])
def test_a_database_whose_own_pages_are_damaged_is_told(tmp_path, database, place):
    content = bytearray(Path(database, 'data.mdb').read_bytes())
    psize = 4096
    if place == 'root':
        content[135] = content[psize + 135] = 0xFF  # the page number's highest byte
    else:
        for page in range(2, len(content) // psize):
            base = page * psize
            if content[base : base + 12] == page.to_bytes(8, 'little') + bytes((0, 0, 2, 0)):  # a leaf
                content[base + 16 : base + 18] = b'\xff\xff'  # its first pointer
    (tmp_path / 'bad.lmdb').mkdir()
    (tmp_path / 'bad.lmdb' / 'data.mdb').write_bytes(content)
    with pytest.raises(DataError, match=r'bad\.lmdb'):
        images(f'{tmp_path}/bad.lmdb')


def test_a_database_that_is_cut_off_while_it_is_read_is_told(database):
    store = LmdbStore(database)
    store.check('lq/003')
    os.truncate(f'{database}/data.mdb', 8192)
    for use in (store.check, lambda key: store.image(key).__enter__()):
        with pytest.raises(DataError, match='cut off while it was read'):
            use('lq/003')


def test_what_is_no_database_is_told(tmp_path):
    for name, content in (('file.lmdb', None), ('text.lmdb', b'x' * 100000), ('empty.lmdb', b'')):
        if content is None:
            (tmp_path / name).write_bytes(b'')
        else:
            (tmp_path / name).mkdir()
            (tmp_path / name / 'data.mdb').write_bytes(content)
        with pytest.raises(DataError, match=name):
            LmdbStore(f'{tmp_path}/{name}')
    with pytest.raises(DataError, match=r'gone\.lmdb: no LMDB database there'):
        LmdbStore(f'{tmp_path}/gone.lmdb')
    assert not (tmp_path / 'gone.lmdb').exists()


def test_a_flipped_bit_is_found_by_a_check(tmp_path, database):
    LmdbStore(database).check('lq/003')
    content = bytearray(Path(database, 'data.mdb').read_bytes())
    value = ValueMap(f'{database}/data.mdb').value(b'lq/003')
    content[content.index(bytes(value)) + len(value) // 2] ^= 1
    (tmp_path / 'bad.lmdb').mkdir()
    (tmp_path / 'bad.lmdb' / 'data.mdb').write_bytes(content)
    store = LmdbStore(f'{tmp_path}/bad.lmdb')
    store.check('lq/002')
    with pytest.raises(DataError, match=r'bad\.lmdb.*lq/003'):
        store.check('lq/003')


@pytest.mark.parametrize('value', [b'', b'GGKM', b'x' * 64, b'GGKM' + bytes(60)])
def test_a_raw_value_that_is_none_is_told(tmp_path, value):
    files, pairs = made(tmp_path, 1)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'raw')
    with lmdb.open(f'{tmp_path}/a.lmdb', map_size=2**24) as environment, environment.begin(write=True) as transaction:
        transaction.put(b'lq/000', value)
    with pytest.raises(DataError, match=r'lq/000.*is damaged'), LmdbStore(f'{tmp_path}/a.lmdb').image('lq/000'):
        pass


@pytest.mark.parametrize('record', [b'no json', b'{}', b'[]', b'{"format": 9, "codec": "raw"}', b'{"format": 1}'])
def test_a_description_that_is_damaged_or_of_the_future_is_told(tmp_path, record):
    with lmdb.open(f'{tmp_path}/a.lmdb', map_size=2**20) as environment, environment.begin(write=True) as transaction:
        transaction.put(lmdb_store._ABOUT, record)
    with pytest.raises(DataError, match=r'a\.lmdb.*make the database again'):
        LmdbStore(f'{tmp_path}/a.lmdb')


def test_a_store_of_a_replaced_database_reads_on_until_the_new_one_is_opened(tmp_path, database):
    old, codec = LmdbStore(database), LmdbStore(database).codec
    with old.image('lq/000') as image:
        shutil.rmtree(database)
        np.testing.assert_array_equal(image, noise(0))
        write_lmdb(database, {'x': f'{tmp_path}/lq/005.png'}, [], codec)
        with old.image('lq/001') as other:
            np.testing.assert_array_equal(other, noise(1))
        assert LmdbStore(database).keys == ['x']
        np.testing.assert_array_equal(image, noise(0))
    with pytest.raises(DataError, match='was replaced'), old.image('lq/000'):
        pass
    with pytest.raises(DataError, match='was replaced'):
        _ = pickle.loads(pickle.dumps(old)).keys


def test_a_database_that_was_deleted_is_told(database):
    store = LmdbStore(database)
    shutil.rmtree(database)
    with pytest.raises(DataError, match='no LMDB database there'):
        LmdbStore(database)
    with store.image('lq/000') as image:  # the process still has the file
        np.testing.assert_array_equal(image, noise(0))


# databases of basicsr


def basicsr_database(path, source, keys):
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    make_lmdb_from_imgs(str(source), str(path), [f'{key}.png' for key in keys], list(keys))


def test_a_database_made_by_basicsr_is_read(tmp_path, capfd):
    made(tmp_path)
    cv2.imwrite(f'{tmp_path}/lq/grey.png', noise(9)[..., 0])
    basicsr_database(tmp_path / 'a.lmdb', tmp_path / 'lq', [f'{number:03d}' for number in range(6)] + ['grey'])
    store = LmdbStore(f'{tmp_path}/a.lmdb')
    assert (store.pairs, store.about, store.codec) == ([], {}, 'png')
    assert store.keys == [f'{number:03d}' for number in range(6)] + ['grey']
    for number in range(6):
        store.check(f'{number:03d}')
        with store.image(f'{number:03d}') as image:
            np.testing.assert_array_equal(image, noise(number))
    with store.image('grey') as image:
        np.testing.assert_array_equal(image, np.repeat(noise(9)[..., :1], 3, -1))


def test_a_database_of_basicsr_that_lacks_images_is_told(tmp_path, capfd):
    made(tmp_path, 3)
    basicsr_database(tmp_path / 'a.lmdb', tmp_path / 'lq', ['000', '001', '002'])
    with open(tmp_path / 'a.lmdb' / 'meta_info.txt', 'a') as file:
        file.write('003.png (40,50,3) 1\n')
    with pytest.raises(DataError, match=r'3 images, but its meta_info\.txt lists 4'):
        LmdbStore(f'{tmp_path}/a.lmdb')
    (tmp_path / 'a.lmdb' / 'meta_info.txt').unlink()
    with pytest.raises(DataError, match='unfinished'):
        LmdbStore(f'{tmp_path}/a.lmdb')


# writing


def test_the_file_has_no_waste_and_nothing_is_left_beside_it(tmp_path, codec):
    files, pairs = made(tmp_path, 8, size=(200, 300))
    write_lmdb(f'{tmp_path}/new/a.lmdb', files, pairs, codec, workers=3)
    assert os.listdir(tmp_path / 'new') == ['a.lmdb']
    assert os.listdir(tmp_path / 'new/a.lmdb') == ['data.mdb']
    stored = sum(len(Path(path).read_bytes()) for path in files.values()) if codec == 'png' else 8 * 200 * 300 * 6
    assert stored < os.path.getsize(tmp_path / 'new/a.lmdb/data.mdb') < stored + (8 + 8) * 4096


def test_the_map_grows_with_what_is_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_store, '_MAP_SLACK', 2**16)
    files, pairs = made(tmp_path, 4)  # the first is small
    write_image(files['lq/003'], noise(3, size=(400, 500)))
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'raw')
    assert LmdbStore(f'{tmp_path}/a.lmdb').keys == sorted(files)


def test_what_exists_is_left_as_it_is(tmp_path, database):
    before = Path(database, 'data.mdb').read_bytes()
    files, pairs = made(tmp_path, 1)
    for name in (database, f'{database}/'):
        with pytest.raises(DataError, match='exists and is left as it is'):
            write_lmdb(name, files, pairs, 'png')
    assert Path(database, 'data.mdb').read_bytes() == before
    assert not Path(f'{database}.part').exists()


def test_all_that_is_unreadable_is_named_and_the_rest_is_kept(tmp_path, codec, monkeypatch):
    files, pairs = made(tmp_path)
    Path(files['lq/002']).write_bytes(b'')
    Path(files['lq/004']).unlink()
    with pytest.raises(DataError, match='2 of 6') as error:
        write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec, workers=2)
    for part in ('lq/002.png', 'lq/004.png', 'a.lmdb.part'):
        assert part in str(error.value)
    assert not (tmp_path / 'a.lmdb').exists()
    for number in (2, 4):
        write_image(files[f'lq/{number:03d}'], noise(number))
    converted = count_conversions(monkeypatch)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec)
    assert sorted(converted) == [files['lq/002'], files['lq/004']]
    for number, image in enumerate(images(f'{tmp_path}/a.lmdb').values()):
        np.testing.assert_array_equal(image, noise(number))


def test_a_name_too_long_for_a_key_is_told(tmp_path):
    files, _ = made(tmp_path, 1)
    with pytest.raises(DataError, match=r'000\.png: its name is longer than the 511 bytes'):
        write_lmdb(f'{tmp_path}/a.lmdb', {'ü' * 256: files['lq/000']}, [], 'png')


def test_wrong_arguments_are_told_before_anything_is_written(tmp_path):
    files, pairs = made(tmp_path, 1)
    with pytest.raises(OptionError, match="codec is one of png, raw, not 'jpg'"):
        write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'jpg')
    with pytest.raises(DataError, match='not among its files: lq/7'):
        write_lmdb(f'{tmp_path}/a.lmdb', files, [Pair('lq/000', 'lq/7')], 'png')
    assert os.listdir(tmp_path) == ['lq']


def count_conversions(monkeypatch):
    converted, value = [], lmdb_store._value
    monkeypatch.setattr(lmdb_store, '_value', lambda path, codec: (converted.append(path), value(path, codec))[1])
    return converted


# Converts the six images below a folder, a transaction for each, and is killed at a place in it.
KILLED = """
    import os, signal, sys
    from ggkm_plugin.data import lmdb_store
    root, codec, place = sys.argv[1:]
    lmdb_store._COMMIT_BYTES = 1
    files = {f'lq/{number:03d}': f'{root}/lq/{number:03d}.png' for number in range(6)}
    calls = 0
    def dies(module, name, at):
        function = getattr(module, name)
        def killed(*arguments):
            global calls
            calls += 1
            if calls > at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)
        setattr(module, name, killed)
    if place == 'rename':
        dies(os, 'replace', 0)
    else:
        dies(lmdb_store, '_store' if place[0] == 's' else '_open_for_writing', int(place[1:]))
    lmdb_store.write_lmdb(f'{root}/a.lmdb', files, [lmdb_store.Pair(key, None) for key in files], codec)
"""


@pytest.mark.parametrize(('place', 'left'), [('o0', 6), ('s0', 6), ('s1', 5), ('s4', 2), ('s7', 0), ('rename', 0)])
def test_a_conversion_that_was_killed_goes_on_where_it_stopped(tmp_path, monkeypatch, codec, place, left):
    files, pairs = made(tmp_path)
    write_lmdb(f'{tmp_path}/whole.lmdb', files, pairs, codec)
    script = [sys.executable, '-c', textwrap.dedent(KILLED), str(tmp_path), codec, place]
    assert subprocess.run(script, timeout=60, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / 'a.lmdb').exists()
    if place[0] == 's':
        with pytest.raises(DataError, match='unfinished'):
            LmdbStore(f'{tmp_path}/a.lmdb.part')
    converted = count_conversions(monkeypatch)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec)
    assert len(converted) == left
    assert identical(f'{tmp_path}/a.lmdb', f'{tmp_path}/whole.lmdb')
    assert LmdbStore(f'{tmp_path}/a.lmdb').pairs == pairs
    assert not (tmp_path / 'a.lmdb.part').exists()
    assert os.listdir(tmp_path / 'a.lmdb') == ['data.mdb']


def interrupted(tmp_path, files, codec='png'):
    """A conversion of which one image is unreadable: what is kept are the others."""
    path = Path(files['lq/005'])
    content = path.read_bytes()
    path.write_bytes(b'')
    with pytest.raises(DataError):
        write_lmdb(f'{tmp_path}/a.lmdb', files, [], codec)
    path.write_bytes(content)


@pytest.mark.parametrize('change', ['codec', 'a file', 'a time', 'fewer files', 'no job', 'cut off', 'no database'])
def test_what_another_job_left_is_not_used(tmp_path, monkeypatch, change):
    files, _ = made(tmp_path)
    interrupted(tmp_path, files)
    codec, part = 'png', tmp_path / 'a.lmdb.part'
    if change == 'codec':
        codec = 'raw'
    elif change == 'a file':
        write_image(files['lq/001'], noise(77, size=(9, 9)))
    elif change == 'a time':
        os.utime(files['lq/001'], ns=(1, 1))
    elif change == 'fewer files':
        del files['lq/001']
    elif change == 'no job':
        (part / 'job.json').unlink()
    elif change == 'cut off':
        os.truncate(part / 'data.mdb', 20000)
    else:
        (part / 'data.mdb').write_bytes(b'x' * 10000)
    converted = count_conversions(monkeypatch)
    write_lmdb(f'{tmp_path}/a.lmdb', files, [], codec)
    assert len(converted) == len(files)
    for key, image in images(f'{tmp_path}/a.lmdb').items():
        np.testing.assert_array_equal(image, decode_image(Path(files[key]).read_bytes(), key))


def test_what_a_cut_transaction_left_behind_the_end_is_cut_off(tmp_path):
    files, _ = made(tmp_path)
    interrupted(tmp_path, files)
    with open(tmp_path / 'a.lmdb.part' / 'data.mdb', 'ab') as file:
        file.write(bytes(2**20))
    write_lmdb(f'{tmp_path}/a.lmdb', files, [], 'png')
    assert os.path.getsize(tmp_path / 'a.lmdb' / 'data.mdb') < 2**18


def test_files_may_be_added_to_an_interrupted_conversion(tmp_path, monkeypatch):
    files, _ = made(tmp_path)
    interrupted(tmp_path, files)
    files['new'] = files['lq/000']
    converted = count_conversions(monkeypatch)
    write_lmdb(f'{tmp_path}/a.lmdb', files, [], 'png')
    assert sorted(converted) == sorted([files['lq/000'], files['lq/005']])


def test_a_full_disk_is_told_and_the_conversion_goes_on_when_there_is_room(tmp_path, monkeypatch, codec):
    files, pairs = made(tmp_path, 40, size=(100, 100))  # 60 kB each
    code = f"""
        import resource, sys
        from ggkm_plugin.data import lmdb_store
        from ggkm_plugin.utils.errors import DataError
        lmdb_store._COMMIT_BYTES = 200_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        try:
            lmdb_store.write_lmdb({str(tmp_path / 'a.lmdb')!r}, {files!r}, [], {codec!r}, workers=2)
        except DataError as error:
            print(error)
    """
    result = interpreter(code)
    assert result.returncode == 0, result.stderr
    for part in ('a.lmdb: cannot be written', 'Input/output error', 'a.lmdb.part', 'make room'):
        assert part in result.stdout
    assert not (tmp_path / 'a.lmdb').exists()
    converted = count_conversions(monkeypatch)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, codec)
    assert 20 < len(converted) < 35
    for number, image in enumerate(images(f'{tmp_path}/a.lmdb').values()):
        np.testing.assert_array_equal(image, noise(number, size=(100, 100)))


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    files, pairs = made(tmp_path, 1)
    (tmp_path / 'file').write_text('a file')
    for target in (f'{tmp_path}/file/a.lmdb', '/proc/a.lmdb'):
        with pytest.raises(DataError, match=r'a\.lmdb\.part: cannot be made'):
            write_lmdb(target, files, pairs, 'png')
    (tmp_path / 'a.lmdb.part').mkdir()
    (tmp_path / 'a.lmdb.part' / 'data.mdb').mkdir()
    with pytest.raises(DataError, match=r'a\.lmdb: cannot be written'):
        write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'png')


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can take rights away from itself')
def test_a_read_only_target_is_told(tmp_path):
    files, _ = made(tmp_path, 1)
    code = f"""
        import os
        from ggkm_plugin.data.lmdb_store import write_lmdb
        from ggkm_plugin.utils.errors import DataError
        os.seteuid(65534)
        try:
            write_lmdb('/usr/a.lmdb', {files!r}, [], 'png')
        except DataError as error:
            print(error)
    """
    assert 'a.lmdb.part: cannot be made (Permission denied)' in interpreter(code).stdout


def test_two_conversions_to_one_place_do_not_mix(tmp_path):
    files, pairs = made(tmp_path, 1)
    (tmp_path / 'a.lmdb.part').mkdir()
    with lmdb_store._claimed(f'{tmp_path}/a.lmdb.part'), pytest.raises(DataError, match='another process is writing'):
        write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'png')
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'png')


@pytest.mark.parametrize('workers', [1, 4])
def test_few_images_are_in_memory_at_a_time(tmp_path, monkeypatch, workers):
    files, pairs = made(tmp_path, 40, np.uint8, (5, 5))
    monkeypatch.setattr(lmdb_store, '_COMMIT_BYTES', 1)
    converted, stored, most, store = count_conversions(monkeypatch), [], [], lmdb_store._store

    def counted(environment, values):
        most.append(len(converted) - len(stored))
        stored.extend(values)
        store(environment, values)

    monkeypatch.setattr(lmdb_store, '_store', counted)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'raw', workers=workers)
    assert max(most) <= 2 * workers + 1


def test_the_number_of_workers_does_not_show(tmp_path):
    files, pairs = made(tmp_path, 12)
    for workers in (1, 3):
        write_lmdb(f'{tmp_path}/{workers}.lmdb', files, pairs, 'raw', workers=workers)
    first, second = ((tmp_path / f'{workers}.lmdb/data.mdb').read_bytes() for workers in (1, 3))
    assert zlib.crc32(first) == zlib.crc32(second)


def test_progress_is_shown_on_request(tmp_path, capfd):
    files, pairs = made(tmp_path, 2)
    write_lmdb(f'{tmp_path}/a.lmdb', files, pairs, 'png')
    assert capfd.readouterr() == ('', '')
    write_lmdb(f'{tmp_path}/b.lmdb', files, pairs, 'png', progress=True)
    assert '2/2' in capfd.readouterr().err
    assert json.loads(json.dumps(LmdbStore(f'{tmp_path}/b.lmdb').about)) == {}
