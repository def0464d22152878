"""Every benchmark's archive, scaled down, to a tree and to LMDB; and what is not as it should be, one by one."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest

from ggkm_plugin.data.archives import Archive
from ggkm_plugin.data.layouts import LAYOUTS, detect_layout, pairs_of_layout, scene_kinds
from ggkm_plugin.data.lmdb_store import LmdbStore
from ggkm_plugin.data.preparation import prepare, report_lines
from ggkm_plugin.data.preparation_plan import Job, make_plan, plan_lines
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.image_decoding import decode_image

SETS = list(LAYOUTS)


def write(path, seed=0, bits=8, alpha=False, size=(10, 14)):
    """A random image, encoded as the path's suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, len(path.name)])
    image = rng.integers(0, 2**bits, (*size, 4 if alpha else 3)).astype(f'uint{bits}')
    path.write_bytes(cv2.imencode(path.suffix.lower(), image)[1].tobytes())


def tree(root, layout):
    """A benchmark as distributed, with few images and what else the authors pack."""
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
    """A zip or tar archive, as the path's suffix says, of a folder and its name."""
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
    return prepare(make_plan(Job(tuple(map(str, sources)), str(out), **options)))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def manifest_of(out):
    return json.loads((out / 'manifest.json').read_text(encoding='utf-8'))


def refusal(*sources, out, **options):
    """What is said when the job is refused; it must be one line."""
    with pytest.raises(DataError) as error:
        run(*sources, out=out, **options)
    assert '\n' not in str(error.value)
    return str(error.value)


# what is made


@pytest.mark.parametrize('layout', SETS)
@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz', 'folder'])
def test_each_set_becomes_a_tree_that_the_data_sets_read(tmp_path, layout, kind):
    root = tree(tmp_path / layout, layout)
    source = tmp_path / layout if kind == 'folder' else pack(tmp_path / layout, tmp_path / f'down.{kind}')
    before = contents(tmp_path / layout)
    report = run(source, out=tmp_path / 'out', workers=2)
    assert detect_layout(str(tmp_path / 'out')) == report.plan.layout == layout
    top = root / 'RTFDataset' if layout == 'RTF' else root
    for split, count in PAIRS[layout].items():
        made = pairs_of_layout(str(tmp_path / 'out'), layout, split)
        expected = pairs_of_layout(str(root), layout, split)
        assert len(made) == len(report.pairs[split]) == count
        for pair, other in zip(made, expected, strict=True):
            for path, original in zip(pair, other, strict=True):
                if path is not None:
                    assert Path(path).read_bytes() == Path(original).read_bytes()
                    assert Path(path).relative_to(tmp_path / 'out') == Path(original).relative_to(top)
    images = sum(len({name for pair in pairs for name in pair if name}) for pairs in report.pairs.values())
    assert len(contents(tmp_path / 'out')) == images + 1  # the manifest
    assert contents(tmp_path / layout) == before
    assert not (tmp_path / 'out.part').exists()


@pytest.mark.parametrize('layout', SETS)
@pytest.mark.parametrize(('codec', 'kind'), [('png', 'zip'), ('raw', 'zip'), ('raw', 'folder')])
def test_each_set_becomes_databases_with_the_same_pixels(tmp_path, layout, codec, kind):
    root = tree(tmp_path / layout, layout)
    source = tmp_path / layout if kind == 'folder' else pack(tmp_path / layout, tmp_path / 'down.zip')
    before = contents(tmp_path / layout)
    run(source, out=tmp_path / 'out', format=codec, workers=2)
    assert sorted(os.listdir(tmp_path / 'out')) == sorted(['manifest.json', *(f'{s}.lmdb' for s in PAIRS[layout])])
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
    assert contents(tmp_path / layout) == before


def test_held_out_scenes_are_in_one_database_only(tmp_path):
    tree(tmp_path / 'LFDOF', 'LFDOF')
    run(tmp_path / 'LFDOF', out=tmp_path / 'out', format='raw')
    scenes = {
        split: {Path(pair.gt).name for pair in LmdbStore(str(tmp_path / 'out' / f'{split}.lmdb')).pairs}
        for split in ('train', 'val')
    }
    assert scenes == {'train': {'IMG_0', 'IMG_1', 'IMG_2'}, 'val': {'IMG_3'}}


def test_the_manifest_tells_all(tmp_path):
    tree(tmp_path / 'DPDD', 'DPDD')
    for kind, labels in (('indoor', range(37)), ('outdoor', range(37, 76))):
        np.save(tmp_path / 'DPDD' / 'dd_dp_dataset_canon' / 'test_c' / f'{kind}_labels.npy', labels)
    (tmp_path / 'DPDD' / '.DS_Store').write_text('x')
    source = pack(tmp_path / 'DPDD', tmp_path / 'down.zip')
    report = run(source, out=tmp_path / 'out')
    manifest = manifest_of(tmp_path / 'out')
    assert (manifest['layout'], manifest['format']) == ('DPDD', 'folder')
    assert [(each['name'], each['size']) for each in manifest['sources']] == [('down.zip', source.stat().st_size)]
    assert manifest['pairs'] == {'train': 3, 'val': 2, 'test': 2}
    assert manifest['counts']['train'] == {'found': 3, 'expected': 350}
    assert manifest['skipped'] == {}
    assert manifest['ignored'] == ['DPDD/.DS_Store']
    canon = 'DPDD/dd_dp_dataset_canon'
    assert manifest['not_taken'][f'{canon}/train_l/source'] == 3
    assert manifest['not_taken'][f'{canon}/README.txt'] == 1
    files = contents(tmp_path / 'out')
    del files['manifest.json']
    assert sorted({**manifest['images'], **manifest['files']}) == sorted(files)
    assert sorted(manifest['files']) == ['indoor_labels.npy', 'outdoor_labels.npy']
    for name, entry in {**manifest['images'], **manifest['files']}.items():
        path = tmp_path / 'out' / name
        told = subprocess.run(['sha256sum', path], capture_output=True, text=True, check=True).stdout.split()[0]
        assert (entry['size'], entry['sha256']) == (path.stat().st_size, told)
    assert {(image['width'], image['height'], image['bits']) for image in manifest['images'].values()} == {(14, 10, 16)}
    names = [f'{k:02d}' for k in range(76)]
    assert scene_kinds(str(tmp_path / 'out'), names) == {'indoor': names[:37], 'outdoor': names[37:]}
    lines = '\n'.join(report_lines(report))
    assert 'warning: not the published number of images: train 3 of 350, val 2 of 74, test 2 of 76' in lines
    assert f'no part of the set: 15 files: {canon}/README.txt, {canon}/test_l/source (2)' in lines
    assert 'hidden or left by systems: 1 files: DPDD/.DS_Store' in lines


def test_databases_are_in_the_manifest_with_their_hash(tmp_path):
    tree(tmp_path / 'RTF', 'RTF')
    run(tmp_path / 'RTF', out=tmp_path / 'out', format='png')
    manifest = manifest_of(tmp_path / 'out')
    assert list(manifest['files']) == ['test.lmdb/data.mdb']
    told = subprocess.run(
        ['sha256sum', tmp_path / 'out/test.lmdb/data.mdb'], capture_output=True, text=True, check=True
    )
    assert manifest['files']['test.lmdb/data.mdb']['sha256'] == told.stdout.split()[0]
    assert sorted(manifest['images'])[-1] == 'image/0/image_03.png'


def test_train_and_test_archives_are_merged(tmp_path):
    tree(tmp_path / 'LFDOF', 'LFDOF')
    sources = [pack(tmp_path / 'LFDOF' / f'{split}_data', tmp_path / f'{split}.tar.gz') for split in ('train', 'test')]
    report = run(*sources, out=tmp_path / 'out')
    assert {split: len(pairs) for split, pairs in report.pairs.items()} == PAIRS['LFDOF']
    assert len(manifest_of(tmp_path / 'out')['sources']) == 2


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
    assert sorted(manifest_of(tmp_path / 'dpdd')['images']) == [
        'test_c/source/0.png', 'test_c/source/1.png', 'test_c/target/0.png', 'test_c/target/1.png'
    ]  # fmt: skip
    run(tmp_path / 'n', out=tmp_path / 'lfdof')
    assert pairs_of_layout(str(tmp_path / 'lfdof'), 'LFDOF', 'val')[0].lq.endswith('input/IMG_1_ap1_11.png')


def test_a_prepared_tree_is_converted_in_place(tmp_path, monkeypatch):
    tree(tmp_path / 'RealDOF', 'RealDOF')
    run(tmp_path / 'RealDOF', out=tmp_path / 'tree')
    before = contents(tmp_path / 'tree')
    monkeypatch.setattr(Archive, '_write', lambda *_: pytest.fail('nothing is to be copied'))
    run(tmp_path / 'tree', out=tmp_path / 'raw', format='raw')
    assert contents(tmp_path / 'tree') == before
    assert len(LmdbStore(str(tmp_path / 'raw' / 'test.lmdb')).pairs) == 3


def test_unicode_and_dotted_names_are_kept(tmp_path):
    for name in ('IMG.1.v2.png', 'Bäume ü.png', '木.png'):
        write(tmp_path / 'R' / 'source' / name)
        write(tmp_path / 'R' / 'target' / name)
    source = pack(tmp_path / 'R', tmp_path / 'down.zip')
    run(source, out=tmp_path / 'out')
    assert sorted(os.listdir(tmp_path / 'out' / 'source')) == ['Bäume ü.png', 'IMG.1.v2.png', '木.png']
    run(source, out=tmp_path / 'raw', format='raw')
    keys = [pair.lq for pair in LmdbStore(str(tmp_path / 'raw' / 'test.lmdb')).pairs]
    assert sorted(keys) == ['source/Bäume ü', 'source/IMG.1.v2', 'source/木']


# a plan


@pytest.mark.parametrize('kind', ['zip', 'folder'])
def test_a_plan_writes_nothing(tmp_path, kind):
    tree(tmp_path / 'DPDD', 'DPDD')
    source = tmp_path / 'DPDD' if kind == 'folder' else pack(tmp_path / 'DPDD', tmp_path / 'down.zip')
    before = contents(tmp_path)
    plan = make_plan(Job((str(source),), str(tmp_path / 'out'), format='raw'))
    lines = plan_lines(plan)
    assert contents(tmp_path) == before
    assert lines[0].startswith(f'DPDD in {source}: ')
    assert 'an LMDB of codec raw for each split' in lines[0]
    assert lines[1:4] == ['  train: 3 pairs', '  val: 2 pairs', '  test: 2 pairs']
    assert 'warning: ' in lines[4]
    size = sum(len(content) for name, content in before.items() if '_c/' in name)
    assert plan.num_bytes == size


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        ({'format': 'jpg'}, 'format is one of folder, png, raw'),
        ({'layout': 'dpdd'}, 'layout is one of DPDD'),
        ({'workers': 0}, 'workers is at least 1'),
        ({'max_bytes': float('nan')}, 'max-size is above 0'),
    ],
)
def test_options_that_make_no_sense_are_told(tmp_path, options, says):
    with pytest.raises(OptionError, match=says):
        make_plan(Job((str(tmp_path),), str(tmp_path / 'out'), **options))


# bad input, told or left out by pairs


@pytest.fixture
def realdof(tmp_path):
    return tree(tmp_path / 'RealDOF', 'RealDOF')


def check_bad(tmp_path, folder, says, left, skipped, **options):
    """The job is refused naming the fault, and with skip_bad leaves out these images and no others."""
    source = pack(folder, tmp_path / 'down.zip')
    text = refusal(source, out=tmp_path / 'out', **options)
    assert text.startswith(f'{source}: ')
    assert says in text
    assert '--skip-bad' in text
    assert not (tmp_path / 'out').exists()
    report = run(source, out=tmp_path / 'out', skip_bad=True, **options)  # goes on in the same OUT.part
    assert {split: len(pairs) for split, pairs in report.pairs.items()} == left
    manifest = manifest_of(tmp_path / 'out')
    assert sorted(manifest['skipped']) == sorted(skipped)
    assert not set(manifest['images']) & set(skipped)
    if not options:
        assert sorted(manifest['images']) == sorted(set(contents(tmp_path / 'out')) - {'manifest.json'})
    assert f'left out: {len(skipped)} images: ' in '\n'.join(report_lines(report))
    return manifest


@pytest.mark.parametrize('options', [{}, {'format': 'raw'}])
def test_a_missing_partner(tmp_path, realdof, options):
    (realdof / 'target' / '02.png').unlink()
    write(realdof / 'target' / '11.png')
    says = '2 of 6 images cannot be used: source/02.png (no partner in target), target/11.png (no partner in source)'
    check_bad(tmp_path, realdof, says, {'test': 2}, ['source/02.png', 'target/11.png'], **options)


def test_a_missing_partner_is_told_before_anything_is_written(tmp_path, realdof):
    (realdof / 'target' / '02.png').unlink()
    refusal(realdof, out=tmp_path / 'out')
    assert sorted(os.listdir(tmp_path)) == ['RealDOF']


@pytest.mark.parametrize('options', [{}, {'format': 'png'}])
@pytest.mark.parametrize('content', [b'', b'not an image', 'half'])
def test_an_unreadable_image(tmp_path, realdof, content, options):
    path = realdof / 'source' / '02.png'
    path.write_bytes(path.read_bytes()[:-40] if content == 'half' else content)
    says = f'source/02.png ({"empty file" if not content else "not a readable image"}'
    manifest = check_bad(tmp_path, realdof, says, {'test': 2}, ['source/02.png', 'target/02.png'], **options)
    assert manifest['skipped']['target/02.png'] == 'its partner is left out'


def test_two_images_of_a_pair_that_differ_in_size(tmp_path, realdof):
    write(realdof / 'source' / '10.png', size=(10, 12))
    says = 'source/10.png (12x10, but its partner target/10.png is 14x10)'
    check_bad(tmp_path, realdof, says, {'test': 2}, ['source/10.png', 'target/10.png'])


def test_bit_depths_that_are_mixed_in_a_split(tmp_path):
    root = tree(tmp_path / 'DPDD', 'DPDD')
    write(root / 'train_c' / 'source' / '1P0A0011.png', bits=8)
    says = 'train_c/source/1P0A0011.png (8 bits; train has 1 of 8 bits and 5 of 16 bits)'
    skipped = ['train_c/source/1P0A0011.png', 'train_c/target/1P0A0010.png']
    check_bad(tmp_path, tmp_path / 'DPDD', says, {'train': 2, 'val': 2, 'test': 2}, skipped)
    left = pairs_of_layout(str(tmp_path / 'out'), 'DPDD', 'train')  # in sorted order still the right ones
    assert [Path(pair.gt).name for pair in left] == ['1P0A0000.png', '1P0A0020.png']


def test_the_depth_that_most_images_have_is_meant(tmp_path, realdof):
    write(realdof / 'source' / '01.png', bits=16)
    says = 'source/01.png (16 bits; test has 5 of 8 bits and 1 of 16 bits)'
    check_bad(tmp_path, realdof, says, {'test': 2}, ['source/01.png', 'target/01.png'])


def test_a_bad_sharp_image_takes_all_of_its_inputs_along(tmp_path):
    root = tree(tmp_path / 'LFDOF', 'LFDOF')
    (root / 'test_data/ground_truth/IMG_1.png').write_bytes(b'')
    (root / 'train_data/input/IMG_0/IMG_0_ap1_11.png').write_bytes(b'x')
    skipped = ['test_data/ground_truth/IMG_1.png', 'train_data/input/IMG_0/IMG_0_ap1_11.png']
    skipped += [f'test_data/input/IMG_1/IMG_1_ap{k}_1{k}.png' for k in (1, 2)]
    check_bad(tmp_path, root, 'IMG_1.png (empty file)', {'train': 5, 'test': 2, 'val': 2}, skipped)
    assert (tmp_path / 'out/train_data/ground_truth/IMG_0.png').exists()  # another input still needs it


def test_many_faults_are_told_in_one_line_with_five_examples(tmp_path, realdof):
    for k in range(20, 28):
        write(realdof / 'source' / f'{k}.png')
        write(realdof / 'target' / f'{k}.png')
        (realdof / 'source' / f'{k}.png').write_bytes(b'x')
    text = refusal(realdof, out=tmp_path / 'out')
    assert '8 of 22 images cannot be used' in text
    assert 'source/24.png' in text
    assert 'source/25.png' not in text
    assert '(and 3 more)' in text


def test_nothing_left_of_a_split_is_an_error_even_so(tmp_path, realdof):
    for path in (realdof / 'source').iterdir():
        path.write_bytes(b'x')
    assert 'no pair of the split test can be used' in refusal(realdof, out=tmp_path / 'out', skip_bad=True)


@pytest.mark.parametrize('skip_bad', [False, True])
def test_unequal_numbers_where_order_pairs_cannot_be_helped(tmp_path, skip_bad):
    root = tree(tmp_path / 'DPDD', 'DPDD')
    (root / 'val_c' / 'target' / '1P0A0000.png').unlink()
    text = refusal(root, out=tmp_path / 'out', skip_bad=skip_bad)
    assert text.startswith(f'{root}: 2 images in val_c/source but 1 in val_c/target')
    assert not (tmp_path / 'out.part').exists()


def test_irregularities_that_do_no_harm_are_noted(tmp_path, realdof):
    shutil.copy(next(tree(tmp_path / 'CUHK', 'CUHK').glob('image/*0.jpg')), realdof / 'source' / '01.png')
    write(realdof / 'target' / '02.png', alpha=True)
    lines = report_lines(run(realdof, out=tmp_path / 'out'))
    assert 'note: 1 files are of another kind than their suffix says: source/01.png (JPEG)' in lines
    assert 'note: 1 images have an alpha channel, which is not read: target/02.png' in lines
    assert sum(line.startswith('note: ') for line in lines) == 2


def test_an_8_bit_conversion_of_dpdd_is_noted(tmp_path):
    for name in ('source/a.png', 'target/b.png'):
        write(tmp_path / 'D' / 'test_c' / name)
    assert 'note: 8 bits; DPDD is distributed with 16' in report_lines(run(tmp_path / 'D', out=tmp_path / 'out'))


def test_two_images_of_one_key_are_refused_for_a_database(tmp_path):
    root = tree(tmp_path / 'CUHK', 'CUHK')
    write(root / 'image' / 'out_of_focus0000.png')
    run(root, out=tmp_path / 'tree')
    assert 'would have one key' in refusal(root, out=tmp_path / 'out', format='png')


def test_pixels_enough_to_fill_the_memory_are_not_decoded(tmp_path, realdof, monkeypatch):
    monkeypatch.setattr('PIL.Image.MAX_IMAGE_PIXELS', 60)  # of 140; twice as many are an error
    assert 'more pixels than a photograph has' in refusal(realdof, out=tmp_path / 'out')


# sources that are refused


def test_another_set_than_the_one_named(tmp_path, realdof):
    text = refusal(realdof, out=tmp_path / 'out', layout='RTF')
    assert f'{realdof}: not laid out as RTF' in text
    assert 'folders source, target' in text


def test_sources_of_two_sets(tmp_path, realdof):
    rtf = tree(tmp_path / 'RTF', 'RTF')
    assert f'{realdof} is RealDOF, but {rtf} is RTF' in refusal(realdof, rtf, out=tmp_path / 'out')


def test_a_source_named_twice(tmp_path, realdof):
    assert 'name each archive once' in refusal(realdof, realdof, out=tmp_path / 'out')


@pytest.mark.parametrize('kind', ['zip', 'tar.gz'])
def test_a_truncated_archive(tmp_path, realdof, kind):
    source = pack(realdof, tmp_path / f'down.{kind}')
    source.write_bytes(source.read_bytes()[:-300])
    text = refusal(source, out=tmp_path / 'out')
    assert text.startswith(f'{source}: damaged or cut off')
    assert not list(tmp_path.glob('out*'))


def test_an_archive_that_leads_out_of_its_folder(tmp_path, realdof):
    source = pack(realdof, tmp_path / 'down.zip')
    with zipfile.ZipFile(source, 'a') as archive:
        archive.writestr('../evil.png', b'x')
    assert 'refused, its entry ../evil.png' in refusal(source, out=tmp_path / 'out')
    assert sorted(os.listdir(tmp_path)) == ['RealDOF', 'down.zip']


def test_more_than_the_limit(tmp_path, realdof):
    source = pack(realdof, tmp_path / 'down.zip')
    assert '--max-size' in refusal(source, out=tmp_path / 'out', max_bytes=1000)


# the target


def test_a_folder_in_use_is_left_untouched(tmp_path, realdof):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'mine').write_text('mine')
    assert f'{tmp_path}/out: already there' in refusal(realdof, out=tmp_path / 'out')
    (tmp_path / 'file').write_text('mine')
    assert f'{tmp_path}/file: already there' in refusal(realdof, out=tmp_path / 'file')
    assert contents(tmp_path / 'out') == {'mine': b'mine'}
    assert not (tmp_path / 'out.part').exists()


def test_an_empty_folder_may_be_there(tmp_path, realdof):
    (tmp_path / 'out').mkdir()
    run(realdof, out=tmp_path / 'out')
    assert (tmp_path / 'out' / 'manifest.json').exists()


def test_a_source_is_not_written_into(tmp_path, realdof):
    before = contents(realdof)
    assert 'sources are never changed' in refusal(realdof, out=realdof / 'lmdb')
    assert contents(realdof) == before


def test_an_unfinished_folder_of_another_job_is_left_untouched(tmp_path, realdof):
    (realdof / 'source' / '01.png').write_bytes(b'broken')
    refusal(realdof, out=tmp_path / 'out')
    before = contents(tmp_path / 'out.part')
    assert before
    assert 'out.part: left by another job' in refusal(realdof, out=tmp_path / 'out', format='raw')
    write(realdof / 'source' / '01.png', size=(9, 9))  # the source has changed
    assert 'remove this folder' in refusal(realdof, out=tmp_path / 'out')
    assert contents(tmp_path / 'out.part') == before
    (tmp_path / 'other.part').mkdir()
    (tmp_path / 'other.part' / 'mine').write_text('mine')
    assert 'other.part: left by another job' in refusal(realdof, out=tmp_path / 'other')
    assert contents(tmp_path / 'other.part') == {'mine': b'mine'}


def test_two_runs_do_not_write_into_one_folder(tmp_path, realdof):
    (tmp_path / 'out.part').mkdir()
    handle = os.open(tmp_path / 'out.part', os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    try:
        assert 'another process is preparing there' in refusal(realdof, out=tmp_path / 'out')
    finally:
        os.close(handle)
    run(realdof, out=tmp_path / 'out')


def test_a_target_that_cannot_be_written(tmp_path, realdof):
    (tmp_path / 'file').write_text('mine')  # as root, permissions do not stop anyone
    text = refusal(realdof, out=tmp_path / 'file' / 'out')
    assert f'{tmp_path}/file/out.part: cannot be written (Not a directory); make the folder writable' in text


@pytest.mark.parametrize('job_format', ['folder', 'raw'])
@pytest.mark.parametrize(('function', 'fits'), [('pathlib.Path.mkdir', 'out.part'), ('builtins.open', '.writing.part')])
def test_a_read_only_target(tmp_path, realdof, monkeypatch, function, fits, job_format):
    """By the error that the system would give: tests may run as root, whom permissions do not stop."""
    source = pack(realdof, tmp_path / 'down.zip')
    real = Path.mkdir if 'mkdir' in function else open

    def refuse(path, *arguments, **keywords):
        if str(path).endswith(fits):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(function, refuse)
    text = refusal(source, out=tmp_path / 'out', format=job_format)
    monkeypatch.undo()
    assert 'cannot be written (Read-only file system); make the folder writable, or choose another' in text
    run(source, out=tmp_path / 'out', format=job_format)


@pytest.mark.parametrize(('job_format', 'times'), [('folder', 1), ('raw', 2)])
def test_too_little_room_is_told_with_both_sizes_before_anything_is_unpacked(
    tmp_path, realdof, monkeypatch, job_format, times
):
    source = pack(realdof, tmp_path / 'down.zip')
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage(9, 9, 2500))
    text = refusal(source, out=tmp_path / 'out', format=job_format)
    size = sum(len(content) for name, content in contents(realdof).items() if name.endswith('.png'))
    assert f'out.part: needs {times * size / 1000:.1f} kB, but 2.5 kB are free; make room' in text
    assert sorted(contents(tmp_path / 'out.part')) == ['manifest.json']
    monkeypatch.undo()
    run(source, out=tmp_path / 'out', format=job_format)


# interruptions

SCRIPT = """
import os, resource, signal, sys
from ggkm_plugin.data import archives, preparation
from ggkm_plugin.data.preparation_plan import Job, make_plan
from ggkm_plugin.utils.errors import UserError
source, out, job_format, place, number = sys.argv[1:]
if place == 'full':
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
elif place:
    module, name = {
        'replace': (os, 'replace'), 'read': (archives.Archive, '_read'), 'examine': (preparation, '_examine'),
        'rmtree': (preparation.shutil, 'rmtree'),
    }[place]
    real, calls = getattr(module, name), []
    def killing(*arguments, **keywords):
        calls.append(1)
        if len(calls) > int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)
    setattr(module, name, killing)
try:
    preparation.prepare(make_plan(Job((source,), out, format=job_format)))
except UserError as error:
    sys.exit(str(error))
"""


def in_a_process(tmp_path, source, job_format, place='', number=0):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    command = [sys.executable, script, source, tmp_path / 'out', job_format, place, str(number)]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)


def result(out):
    """What two runs of one job have in common: files byte by byte, databases by their images."""
    files = {name: content for name, content in contents(out).items() if not name.endswith('.mdb')}
    manifest = json.loads(files.pop('manifest.json'))
    for path in sorted(out.glob('*.lmdb')):
        store = LmdbStore(str(path))
        files[path.name] = store.pairs
        for key in store.keys:
            files[f'{path.name}/{key}'] = store.image(key)[:, :].tobytes()
        del manifest['files'][f'{path.name}/data.mdb']
    return files, manifest


@pytest.mark.parametrize(
    ('job_format', 'place', 'number'),
    [
        ('folder', 'read', 3),  # in the middle of a file
        ('folder', 'replace', 0),  # before there is a word of the job
        ('folder', 'replace', 4),  # between a file and its name
        ('folder', 'examine', 2),
        ('folder', 'replace', 7),  # before the last manifest has its name
        ('folder', 'replace', 8),  # before the folder has its name
        ('raw', 'rmtree', 0),
    ],
)
def test_killed_at_any_time_the_same_command_goes_on(tmp_path, realdof, job_format, place, number):
    source = pack(realdof, tmp_path / 'down.zip')
    before = source.read_bytes()
    assert in_a_process(tmp_path, source, job_format, place, number).returncode == -9
    assert (tmp_path / 'out.part').is_dir()
    assert not (tmp_path / 'out').exists()
    done = {path: path.stat().st_ino for path in (tmp_path / 'out.part').rglob('*.png')}
    seen = []
    plan = make_plan(Job((str(source),), str(tmp_path / 'out'), format=job_format))
    original = Archive._write
    try:
        Archive._write = lambda self, member, *rest: (seen.append(member.name), original(self, member, *rest))
        prepare(plan)
    finally:
        Archive._write = original
    assert len(seen) == 6 - len(done)  # what was unpacked is not unpacked again
    run(source, out=tmp_path / 'whole', format=job_format)
    assert result(tmp_path / 'out') == result(tmp_path / 'whole')
    assert source.read_bytes() == before
    assert not (tmp_path / 'out.part').exists()


@pytest.mark.parametrize('job_format', ['folder', 'raw'])
def test_a_full_disk_is_told_and_the_same_command_goes_on(tmp_path, realdof, job_format):
    write(realdof / 'target' / '10.png', size=(100, 140))
    write(realdof / 'source' / '10.png', size=(100, 140))
    source = pack(realdof, tmp_path / 'down.zip')
    write(tmp_path / 'earlier' / 'source' / 'a.png')
    earlier = contents(tmp_path / 'earlier')
    limit = 20_000 if job_format == 'folder' else 60_000  # less than an image, or than the database
    failed = in_a_process(tmp_path, source, job_format, 'full', limit)
    assert failed.returncode == 1
    assert 'Traceback' not in failed.stderr
    assert 'cannot be written' in failed.stderr
    assert contents(tmp_path / 'earlier') == earlier
    assert not (tmp_path / 'out').exists()
    run(source, out=tmp_path / 'out', format=job_format)
    run(source, out=tmp_path / 'whole', format=job_format)
    assert result(tmp_path / 'out') == result(tmp_path / 'whole')


def test_the_real_photographs(tmp_path, shared_data):
    before = contents(shared_data / 'lfdof_pairs')
    report = run(pack(shared_data / 'lfdof_pairs', tmp_path / 'lfdof_pairs.tar.gz'), out=tmp_path / 'out', format='raw')
    assert [len(pairs) for pairs in report.pairs.values()] == [4]
    assert any('alpha' in note for note in report.notes)
    store = LmdbStore(str(tmp_path / 'out' / 'test.lmdb'))
    for lq, gt in store.pairs:
        for key, folder in ((lq, 'input'), (gt, 'ground_truth')):
            content = before[f'{folder}/{Path(key).name}.png']
            np.testing.assert_array_equal(store.image(key)[:, :], decode_image(content, key))
    cuhk = run(shared_data / 'cuhk_samples', out=tmp_path / 'cuhk')
    assert (cuhk.plan.layout, len(cuhk.pairs['test'])) == ('CUHK', 12)
    assert contents(shared_data / 'lfdof_pairs') == before
