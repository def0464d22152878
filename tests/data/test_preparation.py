"""Preparation of small copies of each benchmark into folders and LMDB; faulty pairs are refused or skipped."""

import errno
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ggkm_plugin.data.layouts import LAYOUTS, detect_layout, pairs_of_layout, scene_kinds
from ggkm_plugin.data.lmdb_store import LmdbStore
from ggkm_plugin.data.preparation import PreparationOptions, make_plan, plan_lines, prepare
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.image_decoding import decode_image

SETS = list(LAYOUTS)


def write(path, seed=0, bits=8, alpha=False, size=(10, 14)):
    """Write a random image, encoded by the suffix of the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, len(path.name)])
    image = rng.integers(0, 2**bits, (*size, 4 if alpha else 3)).astype(f'uint{bits}')
    path.write_bytes(cv2.imencode(path.suffix.lower(), image)[1].tobytes())


def tree(root, layout):
    """Write a benchmark as distributed, with few images and the other files of the archive."""
    if layout == 'DPDD':
        root = root / 'dd_dp_dataset_canon'
        for split, count in (('train', 3), ('val', 2), ('test', 2)):
            for k in range(count):
                for view in 'clr':
                    write(root / f'{split}_{view}' / 'source' / f'1P0A{10 * k + 1:04d}.png', k, bits=16)
                write(root / f'{split}_c' / 'target' / f'1P0A{10 * k:04d}.png', 50 + k, bits=16)
    if layout == 'LFDOF':
        for split, count in (('train', 4), ('test', 2)):
            for scene in (f'IMG_{k}' for k in range(count)):
                write(root / f'{split}_data' / 'ground_truth' / f'{scene}.png', count, alpha=scene == 'IMG_1')
                for aperture in (1, 2):
                    name = f'{scene}_ap{aperture}_1{aperture}.png'
                    write(root / f'{split}_data' / 'input' / scene / name, aperture, alpha=aperture == 2)
    if layout == 'RealDOF':
        for k in (1, 2, 10):
            write(root / 'source' / f'{k:02d}.png', k)
            write(root / 'target' / f'{k:02d}.png', 50 + k)
    if layout == 'RTF':
        for k in (1, 2, 3):
            write(root / 'RTFDataset' / 'image' / '0' / f'image_{k:02d}.png', k)
            write(root / 'RTFDataset' / 'GT' / f'sharp_{k:02d}.png', 50 + k)
    if layout == 'CUHK':
        for k, suffix in enumerate(('jpg', 'JPG', 'jpg')):
            write(root / 'image' / f'out_of_focus000{k}.{suffix}', k)
            write(root / 'gt' / f'out_of_focus000{k}.png', k)
        write(root / 'image' / 'motion0001.jpg')
    (root / 'README.txt').write_text('about')
    return root


PAIRS = {
    'DPDD': {'train': 3, 'val': 2, 'test': 2},
    'LFDOF': {'train': 6, 'test': 4, 'val': 2},
    'RealDOF': {'test': 3},
    'RTF': {'test': 3},
    'CUHK': {'test': 3},
}


def pack(folder, path):
    """Pack a folder, with its name, into a zip or tar archive (by the suffix of the path)."""
    files = sorted(file for file in folder.rglob('*') if file.is_file())
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w') as archive:
            for file in files:
                archive.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(path, 'w:gz' if path.suffix == '.gz' else 'w') as archive:
            for file in files:
                archive.add(file, file.relative_to(folder.parent))
    return path


def run(*sources, out, **options):
    return prepare(make_plan(PreparationOptions(tuple(map(str, sources)), str(out), **options)))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def refusal(*sources, out, **options):
    """Return the message of a refused preparation, which must write nothing."""
    before = contents(out.parent) if out.parent.is_dir() else {}
    with pytest.raises(DataError) as error:
        run(*sources, out=out, **options)
    assert not out.parent.is_dir() or contents(out.parent) == before
    return str(error.value)


@pytest.fixture
def realdof(tmp_path):
    return tree(tmp_path / 'RealDOF', 'RealDOF')


# results


@pytest.mark.parametrize(('layout', 'kind'), [*zip(SETS, ['zip', 'tar', 'tar.gz', 'folder', 'zip'], strict=True)])
def test_each_set_becomes_a_tree_that_the_data_sets_read(tmp_path, layout, kind):
    root = tree(tmp_path / layout, layout)
    source = tmp_path / layout if kind == 'folder' else pack(tmp_path / layout, tmp_path / f'down.{kind}')
    before = contents(tmp_path)
    plan = run(source, out=tmp_path / 'new' / 'out', workers=2)
    assert detect_layout(str(tmp_path / 'new' / 'out')) == plan.layout == layout
    top = root / 'RTFDataset' if layout == 'RTF' else root
    for split, count in PAIRS[layout].items():
        made = pairs_of_layout(str(tmp_path / 'new' / 'out'), layout, split)
        expected = pairs_of_layout(str(root), layout, split)
        assert len(made) == len(plan.pairs[split]) == count
        for pair, other in zip(made, expected, strict=True):
            for path, original in zip(pair, other, strict=True):
                if path is not None:
                    assert Path(path).read_bytes() == Path(original).read_bytes()
                    assert Path(path).relative_to(tmp_path / 'new' / 'out') == Path(original).relative_to(top)
    assert len(contents(tmp_path / 'new')) == len(
        {name for pairs in plan.pairs.values() for pair in pairs for name in pair if name}
    )
    shutil.rmtree(tmp_path / 'new')
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ('layout', 'codec', 'kind'), [('DPDD', 'raw', 'zip'), ('LFDOF', 'png', 'folder'), ('CUHK', 'raw', 'folder')]
)
def test_each_set_becomes_databases_with_the_same_pixels(tmp_path, layout, codec, kind):
    root = tree(tmp_path / layout, layout)
    source = tmp_path / layout if kind == 'folder' else pack(tmp_path / layout, tmp_path / 'down.zip')
    before = contents(tmp_path)
    (tmp_path / 'out').mkdir()  # an empty folder may exist
    run(source, out=tmp_path / 'out', format=codec, workers=2)
    assert sorted(os.listdir(tmp_path / 'out')) == sorted(f'{split}.lmdb' for split in PAIRS[layout])
    for split in PAIRS[layout]:
        store = LmdbStore(str(tmp_path / 'out' / f'{split}.lmdb'))
        assert (store.codec, store.about['layout'], store.about['split']) == (codec, layout, split)
        expected = pairs_of_layout(str(root), layout, split)
        for pair, other in zip(store.pairs, expected, strict=True):
            for key, original in zip(pair, other, strict=True):
                if key is not None:
                    assert Path(original).with_suffix('').as_posix().endswith(f'/{key}')
                    image = store.image(key)[:, :]
                    np.testing.assert_array_equal(image, decode_image(Path(original).read_bytes(), key))
    shutil.rmtree(tmp_path / 'out')
    assert contents(tmp_path) == before


def test_other_files_are_named_and_lists_of_scenes_are_copied(tmp_path):
    root = tree(tmp_path / 'DPDD', 'DPDD')
    for kind, labels in (('indoor', range(37)), ('outdoor', range(37, 76))):
        np.save(root / 'test_c' / f'{kind}_labels.npy', labels)
    source = pack(tmp_path / 'DPDD', tmp_path / 'down.zip')
    with zipfile.ZipFile(source, 'a') as archive:
        archive.writestr('../evil.png', b'x')
    plan = run(source, out=tmp_path / 'out')
    names = [f'{k:02d}' for k in range(76)]
    assert scene_kinds(str(tmp_path / 'out'), names) == {'indoor': names[:37], 'outdoor': names[37:]}
    text = '\n'.join(plan_lines(plan))
    for part in ('train 3 of 350', 'test 2 of 76', '16 files', 'DPDD/dd_dp_dataset_canon/README.txt'):
        assert part in text
    assert not (tmp_path / 'evil.png').exists()


def test_train_and_test_archives_are_merged(tmp_path):
    tree(tmp_path / 'LFDOF', 'LFDOF')
    sources = [pack(tmp_path / 'LFDOF' / f'{split}_data', tmp_path / f'{split}.tar.gz') for split in ('train', 'test')]
    plan = run(*sources, out=tmp_path / 'out')
    assert {split: len(pairs) for split, pairs in plan.pairs.items()} == PAIRS['LFDOF']


@pytest.mark.parametrize('kind', ['zip', 'folder'])
def test_a_source_may_be_named_as_the_folder_that_it_lacks(tmp_path, kind):
    tree(tmp_path / 'LFDOF', 'LFDOF')
    source = tmp_path / 'LFDOF' / 'train_data'
    if kind == 'zip':
        source = tmp_path / 'train_data.zip'
        with zipfile.ZipFile(source, 'w') as archive:
            for name, content in contents(tmp_path / 'LFDOF' / 'train_data').items():
                archive.writestr(name, content)
    assert list(run(source, out=tmp_path / 'out').pairs) == ['train', 'val']


def test_mirrors_get_the_authors_folders(tmp_path):
    for k in range(2):
        write(tmp_path / 'm' / 'test' / 'inputC' / f'{k}.png', k, bits=16)
        write(tmp_path / 'm' / 'test' / 'target' / f'{k}.png', k, bits=16)
        write(tmp_path / 'n' / 'LF' / 'train' / 'input' / f'IMG_{k}_ap1_11.png', k)
        write(tmp_path / 'n' / 'LF' / 'train' / 'target' / f'IMG_{k}.png', k)
    run(tmp_path / 'm', out=tmp_path / 'dpdd')
    assert sorted(contents(tmp_path / 'dpdd')) == [
        'test_c/source/0.png', 'test_c/source/1.png', 'test_c/target/0.png', 'test_c/target/1.png'
    ]  # fmt: skip
    run(tmp_path / 'n', out=tmp_path / 'lfdof')
    assert pairs_of_layout(str(tmp_path / 'lfdof'), 'LFDOF', 'val')[0].lq.endswith('input/IMG_1_ap1_11.png')


# faults, refused or skipped by pairs


def check_bad(tmp_path, folder, named, left, skipped, **options):
    """Check that the preparation is refused, and that with skip_bad it leaves out exactly these images."""
    source = pack(folder, tmp_path / 'down.zip')
    text = refusal(source, out=tmp_path / 'out', **options)
    assert str(source) in text
    assert named in text
    plan = run(source, out=tmp_path / 'out', skip_bad=True, **options)
    assert {split: len(pairs) for split, pairs in plan.pairs.items()} == left
    kept = {name for pairs in plan.pairs.values() for pair in pairs for name in pair}
    assert plan.images.keys() - kept == set(skipped)
    assert f'skipped: {len(skipped)} images' in '\n'.join(plan_lines(plan))
    if not options:
        assert set(contents(tmp_path / 'out')) == kept


@pytest.mark.parametrize('options', [{}, {'format': 'raw'}])
def test_a_missing_partner(tmp_path, realdof, options):
    (realdof / 'target' / '02.png').unlink()
    write(realdof / 'target' / '11.png')
    check_bad(tmp_path, realdof, 'target/11.png', {'test': 2}, ['source/02.png', 'target/11.png'], **options)


@pytest.mark.parametrize(('content', 'options'), [(b'', {}), (b'not an image', {'format': 'png'}), ('half', {})])
def test_an_unreadable_image(tmp_path, realdof, content, options):
    path = realdof / 'source' / '02.png'
    path.write_bytes(path.read_bytes()[:-40] if content == 'half' else content)
    skipped = ['source/02.png', 'target/02.png']
    check_bad(tmp_path, realdof, 'source/02.png', {'test': 2}, skipped, **options)


def test_another_size_than_the_partner(tmp_path, realdof):
    write(realdof / 'source' / '10.png', size=(10, 12))
    check_bad(tmp_path, realdof, 'source/10.png', {'test': 2}, ['source/10.png', 'target/10.png'])


def test_another_bit_depth_than_the_partner_and_the_order_of_the_other_pairs(tmp_path):
    root = tree(tmp_path / 'DPDD', 'DPDD')
    write(root / 'train_c' / 'source' / '1P0A0011.png', bits=8)
    skipped = ['train_c/source/1P0A0011.png', 'train_c/target/1P0A0010.png']
    check_bad(tmp_path, tmp_path / 'DPDD', skipped[0], {'train': 2, 'val': 2, 'test': 2}, skipped)
    left = pairs_of_layout(str(tmp_path / 'out'), 'DPDD', 'train')
    assert [Path(pair.gt).name for pair in left] == ['1P0A0000.png', '1P0A0020.png']


def test_a_bad_sharp_image_takes_all_of_its_inputs_along(tmp_path):
    root = tree(tmp_path / 'LFDOF', 'LFDOF')
    (root / 'test_data/ground_truth/IMG_1.png').write_bytes(b'')
    (root / 'train_data/input/IMG_0/IMG_0_ap1_11.png').write_bytes(b'x')
    skipped = ['test_data/ground_truth/IMG_1.png', 'train_data/input/IMG_0/IMG_0_ap1_11.png']
    skipped += [f'test_data/input/IMG_1/IMG_1_ap{k}_1{k}.png' for k in (1, 2)]
    check_bad(tmp_path, root, 'IMG_1.png', {'train': 5, 'test': 2, 'val': 2}, skipped)
    assert (tmp_path / 'out/train_data/ground_truth/IMG_0.png').exists()  # another input still needs it


def test_unequal_numbers_in_sorted_order_are_always_refused(tmp_path):
    root = tree(tmp_path / 'DPDD', 'DPDD')
    (root / 'val_c' / 'target' / '1P0A0000.png').unlink()
    text = refusal(root, out=tmp_path / 'out', skip_bad=True)
    assert all(part in text for part in (str(root), 'val_c/source', 'val_c/target'))


def test_two_images_of_one_key_are_refused_for_a_database(tmp_path):
    root = tree(tmp_path / 'CUHK', 'CUHK')
    write(root / 'image' / 'out_of_focus0000.png')
    run(root, out=tmp_path / 'tree')
    assert 'image/out_of_focus0000.png' in refusal(root, out=tmp_path / 'out', format='png')


# refused sources and targets


def test_these_sources_are_refused(tmp_path, realdof):
    out, rtf = tmp_path / 'out', tree(tmp_path / 'RTF', 'RTF')
    assert 'RTF' in refusal(realdof, out=out, layout='RTF')
    assert str(rtf) in refusal(realdof, rtf, out=out)
    assert str(realdof) in refusal(realdof, realdof, out=out)
    for path in (realdof / 'source').iterdir():
        path.write_bytes(b'x')
    assert 'split test' in refusal(realdof, out=out, skip_bad=True)


@pytest.mark.parametrize('target', ['full', 'file', 'file/out', 'RealDOF/lmdb'])
def test_these_targets_are_refused(tmp_path, realdof, target):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'mine').write_text('mine')
    (tmp_path / 'file').write_text('mine')  # as root, permissions do not stop anyone
    assert f'{tmp_path}/{target.removesuffix("/out").removesuffix("/lmdb")}' in refusal(realdof, out=tmp_path / target)


@pytest.mark.parametrize('job_format', ['folder', 'raw'])
def test_damage_that_extraction_finds(tmp_path, realdof, job_format):
    source = pack(realdof, tmp_path / 'down.zip')
    content, image = bytearray(source.read_bytes()), (realdof / 'target/10.png').read_bytes()
    content[content.index(image) + 50] ^= 1
    source.write_bytes(content)
    text = refusal(source, out=tmp_path / 'out', format=job_format)
    assert str(source) in text
    assert 'target/10.png' in text


def test_a_write_error_leaves_nothing(tmp_path, realdof, monkeypatch):
    source = pack(realdof, tmp_path / 'down.zip')
    usual = Path.mkdir

    def refuse(path, *arguments, **keywords):
        if path.name == 'target':
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return usual(path, *arguments, **keywords)

    monkeypatch.setattr(Path, 'mkdir', refuse)
    refusal(source, out=tmp_path / 'out')
    assert sorted(os.listdir(tmp_path)) == ['RealDOF', 'down.zip']


def test_too_little_space_is_reported_before_anything_is_unpacked(tmp_path, realdof, monkeypatch):
    source = pack(realdof, tmp_path / 'down.zip')
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=2500))
    monkeypatch.setattr(shutil, 'copyfileobj', None)
    size = sum(len(content) for name, content in contents(realdof).items() if name.endswith('.png'))
    for job_format, times in (('folder', 1), ('raw', 2)):
        text = refusal(source, out=tmp_path / 'out', format=job_format)
        assert f'{times * size / 1000:.1f} kB' in text
        assert '2.5 kB' in text


def test_the_real_photographs(tmp_path, shared_data):
    before = contents(shared_data / 'lfdof_pairs')
    plan = run(pack(shared_data / 'lfdof_pairs', tmp_path / 'lfdof_pairs.tar.gz'), out=tmp_path / 'out', format='raw')
    assert [len(pairs) for pairs in plan.pairs.values()] == [4]
    store = LmdbStore(str(tmp_path / 'out' / 'test.lmdb'))
    for lq, gt in store.pairs:
        for key, folder in ((lq, 'input'), (gt, 'ground_truth')):
            content = before[f'{folder}/{Path(key).name}.png']
            np.testing.assert_array_equal(store.image(key)[:, :], decode_image(content, key))
    cuhk = run(shared_data / 'cuhk_samples', out=tmp_path / 'cuhk')
    assert (cuhk.layout, len(cuhk.pairs['test'])) == ('CUHK', 12)
    assert contents(shared_data / 'lfdof_pairs') == before
