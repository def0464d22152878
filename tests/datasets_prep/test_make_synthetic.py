"""The command that writes synthetic pairs: what it writes, what it refuses, and that it says so in one line."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ggkm_plugin.data import synthesis, varied_scenes
from ggkm_plugin.data.lmdb_store import LmdbStore
from ggkm_plugin.data.paired_defocus_dataset import PairedDefocusDataset
from ggkm_plugin.data.photographs import held_out
from ggkm_plugin.data.sensor import Sensor
from ggkm_plugin.datasets_prep.make_synthetic import main
from ggkm_plugin.utils.image_decoding import write_image


@pytest.fixture
def photos(tmp_path):
    """Two small photographs, one with a dotted name."""
    for seed, name in enumerate(('a.png', 'IMG.1 ü.png')):
        image = np.random.default_rng(seed).integers(0, 256, (40, 52, 3), np.uint8)
        write_image(str(tmp_path / 'photos' / name), cv2.GaussianBlur(image, (0, 0), 1))
    return str(tmp_path / 'photos')


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob('*') if path.is_file()}


def refused(capsys, arguments):
    """The exit code and what was said of it: one line on stderr, no traceback."""
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert said.out == ''
    assert said.err.startswith('make_synthetic: ')
    assert said.err.count('\n') == 1
    return code, said.err


def test_its_pairs_are_read_by_the_paired_data_set(tmp_path, photos, capsys):
    out = tmp_path / 'new' / 'pairs'
    assert main([str(out), '--photos', photos, '--count', '3', '--max-blur-radius', '3']) == 0
    said = capsys.readouterr()
    assert f'6 pairs in {out}' in said.out
    assert 'Traceback' not in said.err
    assert sorted(path.name for path in out.iterdir()) == ['ground_truth', 'input']
    opt = {'phase': 'val', 'dataroot_lq': str(out / 'input'), 'dataroot_gt': str(out / 'ground_truth')}
    dataset = PairedDefocusDataset(opt)
    assert len(dataset) == 6
    names = [Path(pair.lq).name for pair in dataset.pairs]
    assert names == [f'{name}_{scene:03d}.png' for name in ('IMG.1 ü', 'a') for scene in range(3)]
    samples = [dataset[index] for index in range(6)]
    for sample, name in zip(samples, names, strict=True):
        sharp = cv2.imdecode(np.fromfile(f'{photos}/{name[:-8]}.png', np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal((sample['gt'] * 255).round().byte().permute(1, 2, 0), sharp)
        assert sample['lq'].shape == (3, 40, 52)
        assert (sample['lq'] - sample['gt']).abs().max() > 0.02
    assert not torch.equal(samples[0]['lq'], samples[1]['lq'])  # scenes of one photograph


def test_the_same_seed_writes_the_same_files_and_others_share_no_scene(tmp_path, photos):
    written = {}
    for name, seed in (('first', 1), ('again', 1), ('next', 2)):
        assert main([str(tmp_path / name), '--photos', photos, '--count', '3', '--seed', str(seed)]) == 0
        written[name] = contents(tmp_path / name)
    assert written['first'] == written['again']
    first, following = (
        {content for path, content in written[name].items() if path.startswith('input')} for name in ('first', 'next')
    )
    assert len(first) == len(following) == 6
    assert not first & following


def test_more_scenes_keep_the_first_ones(tmp_path, photos):
    for count in (1, 2):
        assert main([str(tmp_path / f'{count}'), '--photos', photos, '--count', str(count)]) == 0
    fewer, more = contents(tmp_path / '1'), contents(tmp_path / '2')
    assert len(more) == 2 * len(fewer)
    assert {path: more[path] for path in fewer} == fewer


def test_noise_is_on_the_input_only(tmp_path, photos):
    for name, std in (('clean', '0'), ('noisy', '9')):
        assert main([str(tmp_path / name), '--photos', photos, '--noise-std', std]) == 0
    images = {
        (name, folder): cv2.imread(str(tmp_path / name / folder / 'a_000.png')).astype(float)
        for name in ('clean', 'noisy')
        for folder in ('input', 'ground_truth')
    }
    np.testing.assert_array_equal(images['clean', 'ground_truth'], images['noisy', 'ground_truth'])
    noise = images['noisy', 'input'] - images['clean', 'input']
    assert noise.std() == pytest.approx(9, rel=0.1)


def test_values_are_rounded_not_cut_off(tmp_path):
    values = np.arange(1, 256, 2, dtype=np.uint8)
    for value in values[::8]:
        write_image(str(tmp_path / 'photos' / f'{value}.png'), np.full((12, 12, 3), value, np.uint8))
    assert main([str(tmp_path / 'out'), '--photos', str(tmp_path / 'photos'), '--max-blur-radius', '3']) == 0
    for value in values[::8]:  # a blurred constant is the constant, give or take float32 rounding
        assert (cv2.imread(str(tmp_path / 'out' / 'input' / f'{value}_000.png')) == value).all()


def test_a_dry_run_writes_nothing(tmp_path, photos, capsys):
    assert main([str(tmp_path / 'out'), '--photos', photos, '--count', '4', '--dry-run']) == 0
    assert f'8 pairs of 2 photographs would be written to {tmp_path / "out"}' in capsys.readouterr().out
    assert not (tmp_path / 'out').exists()
    assert main([str(tmp_path / 'out'), '--dry-run']) == 0  # the photographs of scikit-image
    assert '2 pairs of 2 photographs' in capsys.readouterr().out


@pytest.mark.parametrize('more', [[], ['--dry-run']])
def test_a_folder_in_use_is_left_untouched(tmp_path, photos, capsys, more):
    out = tmp_path / 'out'
    (out / 'input').mkdir(parents=True)
    (out / 'input' / 'a_000.png').write_bytes(b'mine')
    code, said = refused(capsys, [out, '--photos', photos, *more])
    assert code == 1
    assert f'{out}: already there' in said
    assert contents(out) == {'input/a_000.png': b'mine'}


def test_an_empty_folder_may_be_there(tmp_path, photos):
    (tmp_path / 'out').mkdir()
    assert main([str(tmp_path / 'out'), '--photos', photos]) == 0
    assert len(contents(tmp_path / 'out')) == 4


def test_a_file_in_place_of_the_folder_or_above_it_is_told(tmp_path, photos, capsys):
    (tmp_path / 'file').write_text('mine')
    assert refused(capsys, [tmp_path / 'file', '--photos', photos])[0] == 1
    assert main([str(tmp_path / 'file' / 'out'), '--photos', photos]) == 1  # found when the first image is written
    said = capsys.readouterr()
    assert 'make_synthetic: ' in said.err
    assert 'Traceback' not in said.err
    assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.parametrize('kind', ['missing', 'empty', 'file'])
def test_photographs_that_are_not_there_are_told(tmp_path, capsys, kind):
    folder = tmp_path / 'none'
    if kind == 'empty':
        folder.mkdir()
    if kind == 'file':
        folder.write_text('a file')
    code, said = refused(capsys, [tmp_path / 'out', '--photos', folder])
    assert code == 1
    assert str(folder) in said
    assert not (tmp_path / 'out').exists()


def test_a_photograph_that_is_broken_is_named(tmp_path, photos, capsys):
    (Path(photos) / 'a.png').write_bytes(b'broken')
    assert main([str(tmp_path / 'out'), '--photos', photos]) == 1
    assert 'a.png: not a readable image' in capsys.readouterr().err


def test_a_photograph_that_is_too_small_is_skipped_and_named(tmp_path, photos, capsys):
    write_image(f'{photos}/a.png', np.zeros((4, 90, 3), np.uint8))
    assert main([str(tmp_path / 'out'), '--photos', photos, '--dry-run']) == 0
    printed = capsys.readouterr().out
    assert 'a.png: 4x90' in printed
    assert '1 pairs of 1 photographs' in printed
    assert main([str(tmp_path / 'out'), '--photos', photos]) == 0
    assert 'a.png: 4x90' in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / 'out' / 'input').iterdir()) == ['IMG.1 ü_000.png']
    assert main([str(tmp_path / 'more'), '--photos', photos, '--crop', '36', '--max-blur-radius', '3']) == 2
    assert 'leave no photograph' in capsys.readouterr().err


def test_two_photographs_of_one_name_are_told_before_one_overwrites_the_other(tmp_path, photos, capsys):
    write_image(f'{photos}/a.jpg', np.zeros((40, 40, 3), np.uint8))
    code, said = refused(capsys, [tmp_path / 'out', '--photos', photos])
    assert code == 1
    assert 'several photographs of one name: a;' in said
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['--count', '0'], '--count is at least 1, not 0'),
        (['--count', '-3'], '--count is at least 1, not -3'),
        (['--seed', '-1'], '--seed is at least 0, not -1'),
        (['--crop', '8'], '--crop is at least 16, not 8'),
        (['--val-count', '0'], '--val-count is at least 1, not 0'),
        (['--workers', '0'], '--workers is at least 1, not 0'),
        (['--leave-out', 'nobody'], 'leave_out: no photograph named nobody; there are IMG.1 ü, a'),
        (['--hold-out', 'nobody'], 'no photograph named nobody'),
        (['--leave-out', 'a', 'IMG.1 ü'], 'leave no photograph'),
        (['--max-blur-radius', '0.2'], 'max_blur_radius'),
        (['--max-blur-radius', 'nan'], 'max_blur_radius'),
        (['--noise-std', '-5'], 'noise_std'),
    ],
)
def test_a_number_that_makes_no_sense_is_wrong_usage(tmp_path, photos, capsys, arguments, says):
    code, said = refused(capsys, [tmp_path / 'out', '--photos', photos, *arguments])
    assert code == 2
    assert says.split(' .* ')[0] in said
    assert says.split(' .* ')[-1] in said
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('arguments', [[], ['out', '--count', 'two'], ['out', '--colour']])
def test_wrong_words_are_wrong_usage(capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert 'usage: make_synthetic' in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_as_a_module(tmp_path):
    command = [sys.executable, '-m', 'ggkm_plugin.datasets_prep.make_synthetic', 'out', '--photos', 'nowhere']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.strip().endswith('make_synthetic: nowhere: no such folder')


# --- varied scenes, databases, going on


VARIED = ['--scenes', 'varied', '--crop', '24', '--max-blur-radius', '3', '--format', 'raw', '--hold-out', 'a']


def samples(folder, split):
    dataset = PairedDefocusDataset({'phase': 'val', 'dataroot': str(folder), 'split': split})
    return {sample['lq_path'].rpartition('/')[2]: sample for sample in map(dataset.__getitem__, range(len(dataset)))}


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name][key], other[name][key]) for name in one for key in ('lq', 'gt')
    )


def test_databases_of_what_is_trained_on_and_of_what_is_held_out(tmp_path, photos, capsys):
    out = tmp_path / 'out'
    assert main([str(out), '--photos', photos, *VARIED, '--count', '3', '--val-count', '2']) == 0
    assert f'5 pairs in {out}: train on them with dataroot: {out}, split: train' in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ['train.lmdb', 'val.lmdb']
    assert LmdbStore(str(out / 'train.lmdb')).codec == 'raw'
    train, val = samples(out, 'train'), samples(out, 'val')
    assert list(train) == [f'IMG.1 ü_{scene:03d}.png' for scene in range(3)]
    assert list(val) == ['a_000.png', 'a_001.png']
    assert all(sample['gt'].shape == (3, 24, 24) for sample in train.values())
    assert all(sample['gt'].shape == (3, 40, 52) for sample in val.values())  # whole
    assert len({sample['gt'].numpy().tobytes() for sample in train.values()}) == 3


def test_what_is_held_out_is_in_no_training_scene(tmp_path):
    """Not in the background, not before it: the held-out photograph is the only one with red in it."""
    for name, colour in (('held', (255, 0, 0)), ('one', (0, 200, 0)), ('two', (0, 0, 200))):
        write_image(str(tmp_path / 'photos' / f'{name}.png'), np.full((60, 60, 3), colour, np.uint8))
    arguments = ['--photos', str(tmp_path / 'photos'), *VARIED[:-1], 'held', '--count', '20']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varied_scenes, 'recoloured', lambda _, picture: picture)
        patch.setattr(varied_scenes, 'random_sensor', lambda _: Sensor())
        assert main([str(tmp_path / 'out'), *arguments]) == 0
    greens = [sample['gt'][1].max() for sample in samples(tmp_path / 'out', 'train').values()]
    assert all(sample['gt'][0].max() == 0 for sample in samples(tmp_path / 'out', 'train').values())
    assert sum(green > 0 for green in greens) > 20  # in the backgrounds of 20 scenes, and before others
    (held_out,) = samples(tmp_path / 'out', 'val').values()
    assert held_out['gt'][0].max() > 0
    assert held_out['gt'][1:].max() == 0


def test_held_out_photographs_in_folders(tmp_path, photos, capsys):
    assert main([str(tmp_path / 'out'), '--photos', photos, '--hold-out', 'a']) == 0
    assert set(contents(tmp_path / 'out')) == {
        f'{split}/{side}/{name}_000.png'
        for split, name in (('train', 'IMG.1 ü'), ('val', 'a'))
        for side in ('input', 'ground_truth')
    }
    assert f'dataroot_lq: {tmp_path / "out"}/train/input' in capsys.readouterr().out


def test_photographs_of_scikit_image_beside_mine(tmp_path, photos, capsys):
    assert main([str(tmp_path / 'out'), '--photos', photos, '--builtin', '--dry-run']) == 0
    assert '8 pairs of 8 photographs' in capsys.readouterr().out


@pytest.mark.slow
def test_the_number_of_processes_makes_no_difference(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(synthesis, '_PAIRS_PER_PROCESS', 2)
    for workers in (1, 2):
        arguments = ['--photos', photos, *VARIED, '--count', '6', '--workers', str(workers)]
        assert main([str(tmp_path / f'{workers}'), *arguments]) == 0
    for split in ('train', 'val'):
        assert same(samples(tmp_path / '1', split), samples(tmp_path / '2', split))


@pytest.mark.parametrize('after', ['three pairs', 'a database'])
def test_an_interrupted_run_goes_on(tmp_path, photos, monkeypatch, capsys, after):
    arguments = ['--photos', photos, *VARIED, '--count', '5']
    assert main([str(tmp_path / 'whole'), *arguments]) == 0
    make, convert, made = synthesis._make, synthesis._convert, []

    def interrupted(job, part, place, **_):
        if after == 'three pairs' and len(made) == 3:
            raise KeyboardInterrupt
        made.append(place.name)
        make(job, part, place)

    def interrupted_conversion(job, part, split, *more):
        if split == 'val':
            raise KeyboardInterrupt
        convert(job, part, split, *more)

    out = str(tmp_path / 'out')
    with monkeypatch.context() as patch:
        patch.setattr(synthesis, '_make', interrupted)
        patch.setattr(synthesis, '_convert', interrupted_conversion)
        assert main([out, *arguments]) == 1
    assert f'{out} --photos' in capsys.readouterr().err
    assert not Path(out).exists()
    Path(f'{out}.part/val.lmdb.part-killed').mkdir()

    assert main([out, *arguments[:-1], '4']) == 1  # another set
    assert 'begun with other options' in capsys.readouterr().err
    seen = []
    monkeypatch.setattr(synthesis, '_make', lambda job, part, place: seen.append(place.name) or make(job, part, place))
    assert main([out, *arguments]) == 0
    assert not set(seen) & set(made)
    for split in ('train', 'val'):
        assert same(samples(out, split), samples(tmp_path / 'whole', split))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'photos', 'whole']
    assert sorted(os.listdir(out)) == ['train.lmdb', 'val.lmdb']


def test_names_without_a_folder_of_photographs(tmp_path, capsys):
    code, said = refused(capsys, [tmp_path / 'out', '--hold-out', 'coffee'])
    assert code == 2
    assert '--photos' in said


# --- real optics, several folders, choice of photographs


REAL = ['--scenes', 'real', '--crop', '24', '--max-blur-radius', '3', '--format', 'raw']


def test_real_scenes_of_several_folders_as_databases(tmp_path, photos):
    write_image(str(tmp_path / 'more' / 'a.webp'), np.full((50, 60, 3), 90, np.uint8))
    arguments = ['--photos', photos, str(tmp_path / 'more'), *REAL, '--count', '2', '--val-crop', '32']
    assert main([str(tmp_path / 'out'), *arguments, '--hold-out', 'more_a']) == 0
    train, val = samples(tmp_path / 'out', 'train'), samples(tmp_path / 'out', 'val')
    assert list(train) == [f'{name}_{scene:03d}.png' for name in ('IMG.1 ü', 'photos_a') for scene in range(2)]
    assert [sample['gt'].shape for sample in val.values()] == [(3, 32, 32)]
    assert main([str(tmp_path / 'again'), *arguments, '--hold-out', 'more_a']) == 0
    assert same(train, samples(tmp_path / 'again', 'train'))


def test_optics_are_of_the_pairs(tmp_path, photos):
    nothing = ['radius=0.5,0.5', 'noise_prob=0', 'compress_prob=0', 'sharp_prob=0']
    for name, words in (('none', ['basic', *nothing]), ('soft', ['basic', *nothing, 'soften_prob=1'])):
        assert main([str(tmp_path / name), '--photos', photos, *REAL, '--optics', *words]) == 0
    plain, soft = samples(tmp_path / 'none', 'train'), samples(tmp_path / 'soft', 'train')
    for name in plain:
        assert torch.equal(plain[name]['lq'], plain[name]['gt'])
        assert torch.equal(plain[name]['gt'], soft[name]['gt'])
        assert not torch.equal(soft[name]['lq'], soft[name]['gt'])


@pytest.mark.parametrize(
    ('words', 'named'),
    [
        (['--optics', 'foggy'], 'foggy'),
        (['--optics', 'basic', 'radius'], 'radius'),
        (['--optics', 'even_prob=often'], 'even_prob'),
        (['--optics', 'coma_prob=1'], 'coma_prob'),
        (['--scenes', 'varied', '--optics', 'basic'], 'optics'),
        (['--hold-out-share', '1.5'], '--hold-out-share'),
        (['--val-crop', '4'], '--val-crop'),
    ],
)
def test_optics_and_shares_out_of_range_are_wrong_usage(tmp_path, photos, capsys, words, named):
    code, message = refused(capsys, [tmp_path / 'out', '--photos', photos, *REAL, *words])
    assert code == 2
    assert named in message


def test_photographs_are_held_out_and_left_out_by_files_and_by_share(tmp_path, photos, capsys):
    for number in range(12):
        write_image(f'{photos}/photo {number}.png', np.full((40, 52, 3), 20 * number, np.uint8))
    (tmp_path / 'held.txt').write_text('# by hand\nIMG.1 ü\n\n', encoding='utf-8')
    (tmp_path / 'left.txt').write_text('photo 3\n')
    arguments = ['--photos', photos, *REAL, '--hold-out-file', str(tmp_path / 'held.txt'), '--leave-out-file',
                 str(tmp_path / 'left.txt'), '--hold-out-share', '0.4']  # fmt: skip
    expected = {'IMG.1 ü', *held_out(['a', *(f'photo {number}' for number in range(12) if number != 3)], 0.4)}
    assert 1 < len(expected) < 13
    assert main([str(tmp_path / 'out'), *arguments, '--dry-run']) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith('held out: ')]
    assert set(line.removeprefix('held out: ').split(', ')) == expected
    assert main([str(tmp_path / 'out'), *arguments]) == 0
    names = {split: {name[:-8] for name in samples(tmp_path / 'out', split)} for split in ('train', 'val')}
    assert names['val'] == expected
    assert names['train'] == {'a', 'IMG.1 ü', *(f'photo {number}' for number in range(12))} - expected - {'photo 3'}


def test_a_file_of_names_that_is_not_there_is_named(tmp_path, photos, capsys):
    code, message = refused(capsys, [tmp_path / 'out', '--photos', photos, '--hold-out-file', tmp_path / 'nobody.txt'])
    assert code == 1
    assert 'nobody.txt' in message
