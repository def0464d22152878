"""Verification: an intact copy of a benchmark has no fault, and each fault is found and named alone."""

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from ggkm_plugin.data import verification
from ggkm_plugin.data.layouts import LAYOUTS, Pair, pairs_of_layout
from ggkm_plugin.data.lmdb_store import key_of, write_lmdb
from ggkm_plugin.data.verification import verify
from ggkm_plugin.metrics.defocus_metrics import defocus_psnr, defocus_ssim
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.image_decoding import write_image


def sharp(seed, size=(24, 32), dtype=np.uint8):
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 256, (size[0] // 4, size[1] // 4, 3), np.uint8), size[::-1])
    return image.astype(dtype) * dtype(257 if dtype == np.uint16 else 1)


def blurred(image, seed=0):
    """Blur an image; the seed changes the radius, so that inputs of one scene differ."""
    return cv2.GaussianBlur(image, (0, 0), 1 + 0.2 * seed)


def write_pair(lq, gt, seed, variant=0, **more):
    image = sharp(seed, **more)
    write_image(str(lq), blurred(image, variant))
    if gt is not None:
        write_image(str(gt), image)


def build(root, layout, **more):
    """Write a small copy of a benchmark in its published layout."""
    if layout == 'DPDD':
        for place, split in enumerate(('train', 'val', 'test')):
            for i in range(3):
                lq, gt = (
                    root / f'{split}_c' / kind / f'1P0A{2 * i + k}.png' for k, kind in enumerate(('source', 'target'))
                )
                write_pair(lq, gt, 10 * place + i, **{'dtype': np.uint16, **more})
    elif layout == 'LFDOF':
        for split, scenes in (('train', 4), ('test', 2)):
            for i in range(scenes):
                scene, folder = f'IMG_{split}{i}', root / f'{split}_data'
                for ap in (1, 2):
                    lq = folder / 'input' / scene / f'{scene}_ap{ap}_0.png'
                    write_pair(lq, folder / 'ground_truth' / f'{scene}.png', scenes * 10 + i, ap, **more)
    else:
        names = {
            'RealDOF': ('source/{:02d}.png', 'target/{:02d}.png'),
            'RTF': ('image/0/image_{:02d}.png', 'GT/sharp_{:02d}.png'),
            'CUHK': ('image/out_of_focus{:04d}.jpg', None),
        }[layout]
        for i in range(1, 4):
            write_pair(root / names[0].format(i), names[1] and root / names[1].format(i), i, **more)
        if layout == 'CUHK':
            (root / 'image/motion0001.jpg').write_bytes(b'of another set')
    return root


def only_fault(report, *parts):
    """Check that the report has one fault, which names all parts."""
    assert len(report.faults) == 1, report.faults
    assert [part for part in map(str, parts) if part not in report.faults[0]] == []


@pytest.fixture
def dpdd(tmp_path):
    return build(tmp_path / 'DPDD', 'DPDD')


@pytest.fixture
def realdof(tmp_path):
    return build(tmp_path / 'RealDOF', 'RealDOF')


# intact copies


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_small_copy_has_warnings_but_no_fault(tmp_path, layout):
    root = build(tmp_path / 'set', layout)
    report = verify(str(root))
    assert (report.layout, report.faults) == (layout, [])
    images = {'LFDOF': {'train': 6, 'val': 2, 'test': 4}, 'DPDD': dict.fromkeys(('train', 'val', 'test'), 3)}
    assert {split.split: split.images for split in report.splits} == images.get(layout, {'test': 3})
    for split in report.splits:
        assert split.sizes == {'32x24': split.images + split.scenes}  # a shared sharp image counts once
        assert list(split.bit_depths) == [LAYOUTS[layout].bit_depth]
        assert set(split.rows) == ({'all'} if split.split == 'test' and layout != 'CUHK' else set())
        assert split.scenes == {'CUHK': 0, 'LFDOF': split.images // 2}.get(layout, split.images)
    published = LAYOUTS[layout].counts
    expected = {'LFDOF': {'train': '8 images (val included)', 'test': '4 images'}}.get(
        layout, dict.fromkeys(published, '3 images')
    )
    for split, images in expected.items():
        assert f'{split}: {images}; published with {published[split]}' in report.warnings
    sizes = [line for line in report.warnings if '32x24' in line]
    assert len(sizes) == (len(report.splits) if LAYOUTS[layout].size else 0)
    assert not [line for line in report.warnings if 'Input row' in line]  # too few images to compare
    json.dumps(asdict(report), allow_nan=False)


def test_a_whole_copy_has_no_warning_unless_its_input_row_is_another(realdof, monkeypatch):
    spec = LAYOUTS['RealDOF']
    monkeypatch.setitem(spec.counts, 'test', 3)
    row = verify(str(realdof)).splits[0].rows['all']
    for published, warned in ((row.psnr, 0), (row.psnr + 0.04, 0), (row.psnr - 0.06, 1)):
        report = verify(str(realdof), input_rows={'RealDOF': [(5, 0), (published, row.ssim)]})
        assert len(report.warnings) == warned
    assert f'{row.psnr:.3f}' in report.warnings[0]
    assert len(verify(str(realdof), input_rows={'RealDOF': [(row.psnr, row.ssim + 0.02)]}).warnings) == 1
    assert verify(str(realdof)).warnings == []


@pytest.mark.parametrize('protocol', [None, 'nrknet'])
def test_the_input_row_is_the_mean_of_the_pairs_under_the_protocol(realdof, protocol):
    row = verify(str(realdof), protocol=protocol).splits[0].rows['all']
    images = [[cv2.imread(f'{realdof}/{kind}/0{i}.png') for kind in ('source', 'target')] for i in (1, 2, 3)]
    for metric, value in ((defocus_psnr, row.psnr), (defocus_ssim, row.ssim)):
        assert value == pytest.approx(np.mean([metric(*pair, protocol or 'restormer') for pair in images]), abs=1e-4)
    assert row.pairs == 3


def test_indoor_and_outdoor_are_scored_apart_where_the_lists_are(dpdd, monkeypatch):
    def kinds(dataroot, names):
        names = sorted(names)
        return {'indoor': names[:1], 'outdoor': names[1:]}

    monkeypatch.setattr(verification, 'scene_kinds', kinds)
    splits = {split.split: split for split in verify(str(dpdd), splits=['val', 'test']).splits}
    assert set(splits['val'].rows) == {'all'}
    rows, pairs = splits['test'].rows, splits['test'].pairs
    assert [rows[part].pairs for part in ('all', 'indoor', 'outdoor')] == [3, 1, 2]
    assert rows['indoor'].psnr == pairs[0].psnr
    assert rows['outdoor'].ssim == pytest.approx((pairs[1].ssim + pairs[2].ssim) / 2)
    monkeypatch.undo()
    for kind in ('indoor', 'outdoor'):
        np.save(dpdd / f'{kind}_labels.npy', np.arange(3))
    only_fault(verify(str(dpdd)), dpdd, '76')


def test_a_split_may_be_absent_or_chosen(dpdd, realdof):
    report = verify(str(dpdd), splits=['val'])
    assert [split.split for split in report.splits] == ['val']
    assert not [line for line in report.warnings if line.startswith(('train', 'test'))]
    assert (verify(str(dpdd)).protocol, verify(str(realdof)).protocol) == ('dpdnet', 'restormer')
    without_scores = verify(str(realdof), scores=False)
    assert (without_scores.protocol, without_scores.splits[0].rows) == (None, {})
    (dpdd / 'val_c/target').rename(dpdd / 'elsewhere')
    only_fault(verify(str(dpdd)), f'{dpdd}/val_c/source', f'{dpdd}/val_c/target')
    for path in (dpdd / 'val_c/source').iterdir():
        path.unlink()
    report = verify(str(dpdd))
    assert report.faults == []
    assert any(warning.startswith('val: ') and '74' in warning for warning in report.warnings)
    with pytest.raises(DataError, match='val'):
        verify(str(dpdd), splits=['val'])


# faults


def test_every_image_that_cannot_be_read_is_named_whatever_the_number_of_workers(dpdd):
    broken = [dpdd / 'train_c/source/1P0A2.png', dpdd / 'test_c/target/1P0A5.png', dpdd / 'test_c/target/1P0A1.png']
    for path, content in zip(broken, (b'', broken[1].read_bytes()[:-50], b'hello'), strict=True):
        path.write_bytes(content)
    report = verify(str(dpdd), workers=2)
    assert report == verify(str(dpdd))
    assert sorted(fault.split(':')[0] for fault in report.faults) == sorted(map(str, broken))
    assert report.splits[-1].rows['all'].pairs == 1


@pytest.mark.parametrize(('side', 'other'), [('source', 'target'), ('target', 'source')])
def test_an_image_without_its_partner(realdof, side, other):
    (realdof / side / '02.png').unlink()
    report = verify(str(realdof))
    only_fault(report, f'{realdof}/{other}', f'{realdof}/{side}', '02.png')
    (realdof / other / '02.png').write_bytes(b'')  # an image without a partner is checked too
    assert ['02.png: the file is empty' in fault for fault in verify(str(realdof)).faults] == [False, True]


def test_inputs_of_a_scene_without_a_sharp_image_are_reported_once(tmp_path):
    """The training folder of LFDOF makes two splits."""
    root = build(tmp_path / 'LFDOF', 'LFDOF')
    (root / 'train_data/ground_truth/IMG_train0.png').unlink()
    report = verify(str(root))
    only_fault(report, f'{root}/train_data/input', 'IMG_train0_ap1_0.png')
    assert [len(split.pairs) for split in report.splits] == [4 + 2, 2, 4]


@pytest.mark.parametrize(
    ('name', 'image', 'named'),
    [
        ('source/02.png', sharp(2, (24, 40)), ['source/02.png', 'target/02.png', '40x24', '32x24']),
        ('source/02.png', blurred(sharp(2)).astype(np.uint16) * 257, ['source/02.png', '16 bits']),
        ('source/02.png', sharp(2), ['source/02.png', 'target/02.png']),  # the same image
        ('target/02.bmp', sharp(9), ['target', 'several images of one name', '02.']),
    ],
    ids=['size', 'bit depth', 'copy', 'two names'],
)
def test_a_wrong_image_of_a_pair(realdof, name, image, named):
    write_image(str(realdof / name), image)
    report = verify(str(realdof))
    if 'several' not in str(named):
        only_fault(report, *named)
    assert any(all(part in fault for part in named) for fault in report.faults)
    json.dumps(asdict(report), allow_nan=False)


def test_dpdd_of_8_bits_is_a_warning_and_a_missing_sharp_image_a_fault(tmp_path):
    root = build(tmp_path / 'set', 'DPDD', dtype=np.uint8)
    report = verify(str(root))
    assert report.faults == []
    assert any('8 bits' in warning for warning in report.warnings)
    (root / 'val_c/target/1P0A3.png').unlink()  # in sorted order no pair can be trusted
    only_fault(verify(str(root)), 'val_c/source', 'val_c/target')


def test_a_training_image_in_the_test_split(dpdd):
    lq, copy = dpdd / 'train_c/source/1P0A2.png', dpdd / 'test_c/source/1P0A0.png'
    write_image(str(copy), cv2.imread(str(lq), cv2.IMREAD_UNCHANGED)[..., ::-1])
    only_fault(verify(str(dpdd)), f'{lq} (train)', f'{copy} (test)')


def test_an_image_twice_in_a_split_in_another_encoding(realdof):
    image = cv2.imread(str(realdof / 'target/01.png'))
    cv2.imwrite(str(realdof / 'target/03.png'), image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    assert (realdof / 'target/03.png').read_bytes() != (realdof / 'target/01.png').read_bytes()
    only_fault(verify(str(realdof)), 'target/01.png (test)', 'target/03.png (test)')


def test_a_copy_of_the_sharp_image_for_each_input_is_no_duplicate(tmp_path):
    """A flat mirror of LFDOF."""
    for scene in range(2):
        for ap in (1, 2):
            name = f'IMG_{scene}_ap{ap}_0.png'
            write_pair(tmp_path / 'test/input' / name, tmp_path / 'test/target' / name, scene, ap)
    assert verify(str(tmp_path), 'LFDOF').faults == []
    write_image(str(tmp_path / 'test/target/IMG_1_ap1_0.png'), sharp(0))
    only_fault(verify(str(tmp_path), 'LFDOF'), 'IMG_0_ap1_0.png', 'IMG_1_ap1_0.png')


def shapes(seed):
    rng, image = np.random.default_rng(seed), np.zeros((280, 300, 3), np.uint8)
    for _ in range(300):
        center = tuple(int(c) for c in rng.integers(0, 300, 2))
        cv2.circle(image, center, int(rng.integers(3, 40)), [int(c) for c in rng.integers(0, 256, 3)], -1)
    return image


@pytest.fixture
def large(tmp_path):
    """Three pairs, large enough to measure their shift."""
    for i in (1, 2, 3):
        write_image(str(tmp_path / f'target/{i}.png'), shapes(i))
        write_image(str(tmp_path / f'source/{i}.png'), cv2.GaussianBlur(shapes(i), (0, 0), 2))
    return tmp_path


def test_pairs_in_the_wrong_order(large):
    """Blurred images of other scenes, as after a missing file in sorted pairing."""
    for i in (1, 2):
        write_image(str(large / f'source/{i}.png'), cv2.GaussianBlur(shapes(3 - i), (0, 0), 2))
    faults = verify(str(large)).faults
    assert len(faults) == 2
    assert all(f'source/{i}.png' in fault for i, fault in enumerate(faults, 1))


def test_other_folders_layouts_splits_and_protocols_are_refused(tmp_path, realdof):
    with pytest.raises(DataError, match='nowhere'):
        verify(str(tmp_path / 'nowhere'))
    with pytest.raises(DataError, match=str(realdof)):
        verify(str(realdof), 'DPDD')
    with pytest.raises(OptionError, match='DPD'):
        verify(str(realdof), 'DPD')
    with pytest.raises(OptionError, match='best'):
        verify(str(realdof), protocol='best')
    with pytest.raises(OptionError, match='dev'):
        verify(str(realdof), splits=['dev'])


# databases


def pack(root, out, layout, codec):
    out.mkdir()
    for split in LAYOUTS[layout].all_splits:
        pairs = pairs_of_layout(str(root), layout, split)
        keys = {path: key_of(str(Path(path).relative_to(root))) for pair in pairs for path in pair if path}
        files = {key: path for path, key in keys.items()}
        pairs = [Pair(keys[lq], gt and keys[gt]) for lq, gt in pairs]
        write_lmdb(str(out / f'{split}.lmdb'), files, pairs, codec, about={'layout': layout})


@pytest.mark.parametrize(('layout', 'codec'), [('DPDD', 'raw'), ('LFDOF', 'png'), ('CUHK', 'raw')])
def test_databases_have_the_report_of_their_folders(tmp_path, layout, codec):
    root, out = build(tmp_path / 'folders', layout), tmp_path / 'databases'
    pack(root, out, layout, codec)
    folders, databases = verify(str(root)), verify(str(out), workers=2)
    assert (databases.layout, databases.faults, databases.warnings) == (layout, [], folders.warnings)
    for one, two in zip(folders.splits, databases.splits, strict=True):
        assert two.place == f'{out}/{one.split}.lmdb'
        assert (one.split, one.images, one.scenes, one.sizes, one.bit_depths, one.rows) == (
            two.split, two.images, two.scenes, two.sizes, two.bit_depths, two.rows,
        )  # fmt: skip


def test_damage_in_a_database_is_named(tmp_path):
    root, out = build(tmp_path / 'folders', 'RealDOF'), tmp_path / 'databases'
    pack(root, out, 'RealDOF', 'raw')
    file = Path(out / 'test.lmdb/data.mdb')
    content, row = bytearray(file.read_bytes()), blurred(sharp(2))[3].tobytes()
    content[content.index(row)] ^= 1
    file.write_bytes(content)
    only_fault(verify(str(out)), out / 'test.lmdb', 'source/02')
    with pytest.raises(DataError, match=r'RealDOF.*DPDD'):
        verify(str(out), 'DPDD')
