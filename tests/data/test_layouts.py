"""Layouts of the benchmarks: recognition, pairing, held-out scenes, and errors that name the folder."""

import numpy as np
import pytest

from ggkm_plugin.data.layouts import (
    LAYOUTS,
    Pair,
    detect_layout,
    find_layout,
    pairs_in_folders,
    pairs_of_layout,
    scene_kinds,
)
from ggkm_plugin.utils.errors import DataError, OptionError


def plant(root, *names):
    """Create empty files below a folder, in the order given."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def relative(pairs, root):
    prefix = f'{root}/'
    return [(pair.lq.removeprefix(prefix), pair.gt and pair.gt.removeprefix(prefix)) for pair in pairs]


def lfdof_tree(root, num_scenes, split='train'):
    """Create scenes IMG_0001, ..., with one to three apertures each."""
    for scene in range(1, num_scenes + 1):
        name = f'IMG_{scene:04d}'
        plant(root, f'{split}_data/ground_truth/{name}.png')
        plant(root, *(f'{split}_data/input/{name}/{name}_ap{k}_{7 * k:02d}.png' for k in range(1, 2 + scene % 3)))


# DPDD


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_dpdd_pairs_by_order_since_its_names_differ(tmp_path, split):
    # as distributed: the number of the target is lower by one or two
    plant(tmp_path, *(f'{split}_c/source/{name}.png' for name in ('1P0A1927', '1P0A0945', '1P0A0917', '1P0A1002')))
    plant(tmp_path, *(f'{split}_c/target/{name}.png' for name in ('1P0A0916', '1P0A1000', '1P0A1926', '1P0A0944')))
    plant(tmp_path, f'{split}_l/source/1P0A0917.png', f'{split}_r/source/1P0A0917.png')
    assert relative(pairs_of_layout(str(tmp_path), 'DPDD', split), tmp_path / f'{split}_c') == [
        ('source/1P0A0917.png', 'target/1P0A0916.png'),
        ('source/1P0A0945.png', 'target/1P0A0944.png'),
        ('source/1P0A1002.png', 'target/1P0A1000.png'),
        ('source/1P0A1927.png', 'target/1P0A1926.png'),
    ]


def test_the_authors_folders_come_before_the_mirrors(tmp_path):
    plant(tmp_path, 'test/inputC/a.png', 'test/target/a.png', 'test_c/source/b.png', 'test_c/target/b.png')
    assert relative(pairs_of_layout(str(tmp_path), 'DPDD', 'test'), tmp_path) == [
        ('test_c/source/b.png', 'test_c/target/b.png')
    ]


# LFDOF


def test_lfdof_pairs_many_inputs_with_one_scene(tmp_path):
    lfdof_tree(tmp_path, 3, 'test')
    root = tmp_path / 'test_data'
    assert relative(pairs_of_layout(str(tmp_path), 'LFDOF', 'test'), root) == [
        ('input/IMG_0001/IMG_0001_ap1_07.png', 'ground_truth/IMG_0001.png'),
        ('input/IMG_0001/IMG_0001_ap2_14.png', 'ground_truth/IMG_0001.png'),
        ('input/IMG_0002/IMG_0002_ap1_07.png', 'ground_truth/IMG_0002.png'),
        ('input/IMG_0002/IMG_0002_ap2_14.png', 'ground_truth/IMG_0002.png'),
        ('input/IMG_0002/IMG_0002_ap3_21.png', 'ground_truth/IMG_0002.png'),
        ('input/IMG_0003/IMG_0003_ap1_07.png', 'ground_truth/IMG_0003.png'),
    ]


def test_lfdof_holds_out_the_last_40_of_790_scenes(tmp_path):
    lfdof_tree(tmp_path, 790)
    train, val = (pairs_of_layout(str(tmp_path), 'LFDOF', split) for split in ('train', 'val'))
    scenes = {split: sorted({pair.gt[-8:-4] for pair in pairs}) for split, pairs in (('train', train), ('val', val))}
    assert scenes['val'] == [f'{scene:04d}' for scene in range(751, 791)]
    assert scenes['train'] == [f'{scene:04d}' for scene in range(1, 751)]
    whole = pairs_in_folders(f'{tmp_path}/train_data/input', f'{tmp_path}/train_data/ground_truth', 'scene')
    assert sorted(train + val) == whole
    assert len(train) + len(val) == len(set(train + val)) == len(list(tmp_path.glob('train_data/input/*/*.png')))


def test_a_smaller_lfdof_holds_out_its_share_and_at_least_a_scene(tmp_path):
    for num_scenes, held_out in ((2, 1), (60, 3)):
        lfdof_tree(tmp_path / str(num_scenes), num_scenes)
        root = str(tmp_path / str(num_scenes))
        train, val = ({pair.gt for pair in pairs_of_layout(root, 'LFDOF', split)} for split in ('train', 'val'))
        assert (len(train), len(val)) == (num_scenes - held_out, held_out)
        assert max(train) < min(val)


def test_one_scene_is_too_few_to_train_and_hold_out(tmp_path):
    lfdof_tree(tmp_path, 1)
    with pytest.raises(DataError, match=r'train_data.*val'):
        pairs_of_layout(str(tmp_path), 'LFDOF', 'train')


@pytest.mark.parametrize(('folder', 'sharp'), [('test_data', 'ground_truth'), ('test', 'target')])
def test_a_flat_lfdof_pairs_by_the_name_before_the_aperture(tmp_path, folder, sharp):
    plant(tmp_path, *(f'{folder}/input/IMG_{k}_ap{a}_0{a}.png' for k in (1, 11) for a in (1, 2)))
    plant(tmp_path, *(f'{folder}/{sharp}/IMG_{k}.png' for k in (1, 11)))
    assert relative(pairs_of_layout(str(tmp_path), 'LFDOF', 'test'), tmp_path / folder) == [
        (f'input/IMG_{k}_ap{a}_0{a}.png', f'{sharp}/IMG_{k}.png') for k in (11, 1) for a in (1, 2)
    ]


def test_a_flat_lfdof_may_keep_a_sharp_copy_for_each_input_and_still_holds_out_scenes(tmp_path):
    names = [f'IMG_{scene}_ap{a}_07.png' for scene in range(10, 13) for a in (1, 2, 3)]
    plant(tmp_path, *(f'train/{folder}/{name}' for folder in ('input', 'target') for name in names))
    train, val = (relative(pairs_of_layout(str(tmp_path), 'LFDOF', s), tmp_path / 'train') for s in ('train', 'val'))
    assert train == [(f'input/{name}', f'target/{name}') for name in names[:6]]
    assert val == [(f'input/{name}', f'target/{name}') for name in names[6:]]


def test_an_lfdof_without_a_splits_folder_is_for_testing_only(tmp_path):
    plant(tmp_path, 'input/IMG_1/IMG_1_ap1_07.png', 'ground_truth/IMG_1.png')
    with pytest.raises(DataError, match='LFDOF'):
        pairs_of_layout(str(tmp_path), 'LFDOF', 'train')


# mirrors, RealDOF, RTF, CUHK


@pytest.mark.parametrize(
    ('layout', 'names', 'pairs'),
    [
        (
            'DPDD',
            [f'test/{name}.png' for name in ('inputC/b', 'inputC/a', 'target/c', 'target/d', 'inputL/a', 'inputR/a')],
            [(f'test/inputC/{lq}.png', f'test/target/{gt}.png') for lq, gt in ('ac', 'bd')],
        ),
        (
            'RealDOF',
            [f'{folder}/{k:02d}.png' for k in (10, 2, 1) for folder in ('target', 'source')],
            [(f'source/{k}.png', f'target/{k}.png') for k in ('01', '02', '10')],
        ),
        (
            'RTF',
            [f'RTFDataset/{name}_{k}.png' for k in ('22', '01', '09') for name in ('image/0/image', 'GT/sharp')]
            + ['RTFDataset/image/1/image_01.png'],
            [(f'RTFDataset/image/0/image_{k}.png', f'RTFDataset/GT/sharp_{k}.png') for k in ('01', '09', '22')],
        ),
        (
            'LFDOF',  # without the folder of a split
            ['input/IMG_1/IMG_1_ap1_07.png', 'ground_truth/IMG_1.png'],
            [('input/IMG_1/IMG_1_ap1_07.png', 'ground_truth/IMG_1.png')],
        ),
        (
            'CUHK',
            [f'image/out_of_focus000{k}' for k in ('3.jpg', '1.JPG')] + ['gt/out_of_focus0001.png'],
            [(f'image/out_of_focus000{k}', None) for k in ('1.JPG', '3.jpg')],
        ),
    ],
)
def test_pairs_of_a_test_split(tmp_path, layout, names, pairs):
    plant(tmp_path, *names)
    assert relative(pairs_of_layout(str(tmp_path), layout, 'test'), tmp_path) == pairs


# pairings of two folders


@pytest.mark.parametrize(
    ('pairing', 'lq', 'gt'),
    [
        ('name', ['IMG.1.jpg', 'IMG.2.jpg'], ['IMG.1.png', 'IMG.2.png']),  # all but the last suffix
        ('number', ['run2_img_12.png', 'run2_img_7.png'], ['sharp_0012.png', 'sharp_0007.png']),
        ('sorted', ['a.png'], ['b.png']),
    ],
)
def test_pairing_of_two_folders_without_their_subfolders(tmp_path, pairing, lq, gt):
    plant(tmp_path, *(f'lq/{name}' for name in lq), *(f'gt/{name}' for name in gt), 'lq/old/b.png', 'gt/old/b.png')
    assert pairs_in_folders(f'{tmp_path}/lq', f'{tmp_path}/gt', pairing) == [
        Pair(f'{tmp_path}/lq/{one}', f'{tmp_path}/gt/{two}') for one, two in zip(lq, gt, strict=True)
    ]


@pytest.mark.parametrize(('more', 'fewer'), [('lq', 'gt'), ('gt', 'lq')])
def test_images_without_a_partner_are_named_five_at_most(tmp_path, more, fewer):
    plant(tmp_path, *(f'{more}/{k}.png' for k in range(8)), f'{fewer}/3.png')
    with pytest.raises(DataError, match=f'{tmp_path}/{more}: 7 .*{tmp_path}/{fewer}') as error:
        pairs_in_folders(f'{tmp_path}/lq', f'{tmp_path}/gt')
    assert [k for k in range(8) if f'{k}.png' in str(error.value)] == [0, 1, 2, 4, 5]


def test_two_sharp_images_of_one_name_are_refused(tmp_path):
    plant(tmp_path, 'lq/a_1.png', 'gt/a_1.png', 'gt/a_1.jpg')
    with pytest.raises(DataError, match=r'gt: .*a_1\.(png|jpg)'):
        pairs_in_folders(f'{tmp_path}/lq', f'{tmp_path}/gt')


def test_sorted_pairing_refuses_unequal_counts(tmp_path):
    plant(tmp_path, 'val_c/source/a.png', 'val_c/target/a.png', 'val_c/target/b.png')
    with pytest.raises(DataError, match=r'1 .*val_c/source .*2 .*val_c/target'):
        pairs_of_layout(str(tmp_path), 'DPDD', 'val')


# errors


def test_an_unknown_layout_split_or_pairing_is_named(tmp_path):
    plant(tmp_path, 'source/a.png', 'target/a.png')
    for layout, split, named in (('dpdd', 'test', 'dpdd'), ('RealDOF', 'train', 'train'), ('LFDOF', 'all', 'all')):
        with pytest.raises(OptionError, match=named):
            pairs_of_layout(str(tmp_path), layout, split)
    with pytest.raises(OptionError, match='order'):
        pairs_in_folders(f'{tmp_path}/source', f'{tmp_path}/target', 'order')


@pytest.mark.parametrize(('layout', 'split'), [('DPDD', 'val'), ('CUHK', 'test')])
def test_the_folders_that_a_layout_needs_are_named(tmp_path, layout, split):
    with pytest.raises(DataError, match=f'nowhere.*{layout}'):
        pairs_of_layout(str(tmp_path / 'nowhere'), layout, split)
    needed = [folder for pair in LAYOUTS[layout].splits[split] for folder in (pair.lq, pair.gt) if folder]
    if LAYOUTS[layout].has_gt:  # half of a tree is not enough
        plant(tmp_path, f'{needed[0]}/a.png')
    with pytest.raises(DataError, match=layout) as error:
        pairs_of_layout(str(tmp_path), layout, split)
    assert [folder for folder in needed if folder not in str(error.value)] == []


# recognition

NAMES = {
    'DPDD': [f'{split}_{view}/source/{k}.png' for split in ('train', 'val', 'test') for view in 'clr' for k in (1, 2)]
    + [f'{split}_c/target/{k}.png' for split in ('train', 'val', 'test') for k in (0, 3)],
    'LFDOF': [f'{split}_data/input/IMG_{k}/IMG_{k}_ap1_07.png' for split in ('train', 'test') for k in (1, 2)]
    + [f'{split}_data/ground_truth/IMG_{k}.png' for split in ('train', 'test') for k in (1, 2)],
    'RealDOF': [f'{folder}/0{k}.png' for folder in ('source', 'target') for k in (1, 2)],
    'RTF': [f'{folder}_0{k}.png' for folder in ('image/0/image', 'GT/sharp') for k in (1, 2)],
    'CUHK': ['image/out_of_focus0001.JPG', 'image/out_of_focus0002.jpg', 'gt/out_of_focus0001.png'],
}


@pytest.mark.parametrize('layout', NAMES)
@pytest.mark.parametrize('above', ['', 'DPDD/dd dp/'])
def test_each_set_is_recognized_below_any_folders(tmp_path, layout, above):
    names = [above + name for name in NAMES[layout]] + ['README.txt', f'{above}LICENSE']
    found = find_layout(names, 'x.zip')
    assert (found.layout, found.prefix) == (layout, above)
    assert list(found.splits) == list(LAYOUTS[layout].splits)
    plant(tmp_path, *NAMES[layout])
    assert detect_layout(str(tmp_path)) == layout


@pytest.mark.parametrize(
    ('names', 'layout'),
    [
        (['test/inputC/1.png', 'test/inputL/1.png', 'test/target/1.png'], 'DPDD'),
        (['test_c/source/1.png', 'test_c/target/1.png'], 'DPDD'),  # where RealDOF's folders are too
        (['train/input/IMG_1_ap1_07.png', 'train/target/IMG_1.png'], 'LFDOF'),
        (['input/IMG_1_ap1_07.png', 'target/IMG_1.png'], 'LFDOF'),
        (['RTFDataset/image/0/image_01.png', 'RTFDataset/GT/sharp_01.png'], 'RTF'),
    ],
)
def test_mirrors_and_parts_of_a_set_are_recognized(names, layout):
    found = find_layout(names, 'x.zip')
    assert (found.layout, found.prefix) == (layout, '')


@pytest.mark.parametrize(
    'names',
    [
        ['input/a_000.png', 'ground_truth/a_000.png'],  # of make_synthetic
        ['source/1P0A0917.png', 'target/1P0A0916.png'],  # DPDD's test_c, but without its name
        ['image/holiday.jpg'],
        [f'source/{k}.png' for k in '123'] + [f'target/{k}.png' for k in '345'],  # one that pairs is chance
        ['image/0/image_01.png', 'GT/sharp_02.png'],
        ['test_c/source/.1.png', 'test_c/target/._1.png'],
        ['__MACOSX/source/1.png', '__MACOSX/target/1.png'],
        ['source/1.txt', 'target/1.txt'],
        [],
    ],
)
def test_other_folders_are_not_taken_for_a_set(names):
    with pytest.raises(DataError, match=r'x\.zip'):
        find_layout(names, 'x.zip')


def test_a_folder_without_a_set_is_described(tmp_path):
    with pytest.raises(DataError, match='nowhere'):
        detect_layout(str(tmp_path / 'nowhere'))
    plant(tmp_path, 'DPDD/test_c/source/1.png', 'holidays/1.png')
    with pytest.raises(DataError, match=rf'^{tmp_path}: .*DPDD, holidays'):
        detect_layout(str(tmp_path))


def test_a_layout_named_by_the_user():
    names = [*NAMES['RealDOF'], *(f'x/{name}' for name in NAMES['RTF'])]
    assert find_layout(names, 'x.zip', 'RTF').prefix == 'x/'
    with pytest.raises(DataError, match=r'x\.zip.*CUHK'):
        find_layout(names, 'x.zip', 'CUHK')
    with pytest.raises(DataError, match=r'x\.zip.*DPDD.*train_c/source and train_c/target'):
        find_layout(['a.png'], 'x.zip', 'DPDD')


def test_two_sets_side_by_side_are_refused():
    names = [*(f'a/{name}' for name in NAMES['DPDD']), *(f'b/{name}' for name in NAMES['RTF'])]
    with pytest.raises(DataError, match=r'x\.zip.*DPDD in a/, RTF in b/'):
        find_layout(names, 'x.zip')
    twice = [*(f'png8/{name}' for name in NAMES['DPDD']), *(f'png16/{name}' for name in NAMES['DPDD'])]
    with pytest.raises(DataError, match=r'x\.zip.*DPDD in png\d+/, DPDD in png\d+/'):
        find_layout(twice, 'x.zip', 'DPDD')


def test_a_set_in_a_subfolder_is_named(tmp_path):
    plant(tmp_path, *(f'data/DPDD/{name}' for name in NAMES['DPDD']))
    with pytest.raises(DataError, match=f'{tmp_path}/data/DPDD'):
        detect_layout(str(tmp_path))


# indoor and outdoor scenes

TEST_NAMES = [f'{k:03d}.png' for k in range(76)]


@pytest.mark.parametrize('place', ['.', 'test_c'])
def test_scene_kinds_come_from_the_lists_of_the_mirror(tmp_path, place):
    order = np.random.default_rng(0).permutation(76)
    (tmp_path / place).mkdir(exist_ok=True)
    np.save(tmp_path / place / 'indoor_labels.npy', order[:37])
    assert scene_kinds(str(tmp_path), TEST_NAMES) is None
    np.save(tmp_path / place / 'outdoor_labels.npy', order[37:])
    assert scene_kinds(str(tmp_path), reversed(TEST_NAMES)) == {
        'indoor': [f'{k:03d}.png' for k in sorted(order[:37])],
        'outdoor': [f'{k:03d}.png' for k in sorted(order[37:])],
    }


@pytest.mark.parametrize(
    ('indoor', 'outdoor'),
    [
        (range(37), range(36, 75)),  # not disjoint
        (range(38), range(38, 76)),
        (range(37), range(38, 77)),  # out of range
        (np.array([print], object), range(37, 76)),  # would be unpickled
        (b'broken', range(37, 76)),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, indoor, outdoor):
    for kind, labels in (('indoor', indoor), ('outdoor', outdoor)):
        if isinstance(labels, bytes):
            (tmp_path / f'{kind}_labels.npy').write_bytes(labels)
        else:
            np.save(tmp_path / f'{kind}_labels.npy', np.asarray(labels))
    with pytest.raises(DataError, match='indoor_labels'):
        scene_kinds(str(tmp_path), TEST_NAMES)
