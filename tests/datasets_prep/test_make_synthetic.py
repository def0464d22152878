"""make_synthetic: written pairs, interruption, and refused arguments."""

import os
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


def check_refused(capsys, arguments, code, named):
    """Check the exit code, and one line on stderr that names the fault, after the progress."""
    assert main([str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ''
    assert 'Traceback' not in err
    assert err.splitlines()[-1].startswith('make_synthetic: ')
    assert named in err


def test_pairs_are_read_by_the_paired_data_set(tmp_path, photos, capsys):
    out = tmp_path / 'new' / 'pairs'
    assert main([str(out), '--photos', photos, '--count', '3', '--max-blur-radius', '3']) == 0
    assert f'6 pairs in {out}' in capsys.readouterr().out
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


def test_scenes_depend_on_the_seed_and_not_on_their_number(tmp_path, photos):
    written = {}
    (tmp_path / 'first').mkdir()  # an empty folder may exist
    for name, seed, count in (('first', 1, 3), ('again', 1, 3), ('fewer', 1, 2), ('next', 2, 3)):
        arguments = [str(tmp_path / name), '--photos', photos, '--count', str(count), '--seed', str(seed)]
        assert main(arguments) == 0
        written[name] = contents(tmp_path / name)
    assert written['first'] == written['again']
    assert len(written['fewer']) == 8
    assert written['fewer'].items() <= written['first'].items()
    first, following = (
        {content for path, content in written[name].items() if path.startswith('input')} for name in ('first', 'next')
    )
    assert len(first) == len(following) == 6
    assert not first & following


def test_a_dry_run_and_photographs_that_are_too_small(tmp_path, photos, capsys):
    assert main([str(tmp_path / 'out'), '--photos', photos, '--builtin', '--count', '4', '--dry-run']) == 0
    assert f'32 pairs of 8 photographs would be written to {tmp_path / "out"}' in capsys.readouterr().out
    write_image(f'{photos}/a.png', np.zeros((4, 90, 3), np.uint8))
    assert main([str(tmp_path / 'out'), '--photos', photos, '--dry-run']) == 0
    printed = capsys.readouterr().out
    assert 'a.png: 4x90' in printed
    assert '1 pairs of 1 photographs' in printed
    assert not (tmp_path / 'out').exists()
    assert main([str(tmp_path / 'out'), '--photos', photos]) == 0
    assert 'a.png: 4x90' in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / 'out' / 'input').iterdir()) == ['IMG.1 ü_000.png']
    assert main([str(tmp_path / 'more'), '--photos', photos, '--crop', '36', '--max-blur-radius', '3']) == 2
    assert 'photograph' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        (['--seed', '-1'], '--seed'),
        (['--val-crop', '4'], '--val-crop'),
        (['--workers', '0'], '--workers'),
        (['--hold-out-share', '1.5'], '--hold-out-share'),
        (['--leave-out', 'nobody'], 'nobody'),
        (['--hold-out', 'nobody'], 'nobody'),
        (['--leave-out', 'a', 'IMG.1 ü'], 'leave_out'),
        (['--max-blur-radius', 'nan'], 'max_blur_radius'),
        (['--scenes', 'real', '--optics', 'foggy'], 'foggy'),
        (['--scenes', 'real', '--optics', 'basic', 'radius'], 'radius'),
        (['--scenes', 'real', '--optics', 'even_prob=often'], 'even_prob'),
        (['--scenes', 'varied', '--optics', 'basic'], 'optics'),
    ],
)
def test_a_wrong_value_is_wrong_usage(tmp_path, photos, capsys, arguments, named):
    check_refused(capsys, [tmp_path / 'out', '--photos', photos, *arguments], 2, named)
    assert not (tmp_path / 'out').exists()


def test_wrong_files_and_folders_are_named(tmp_path, photos, capsys):
    out, file, empty, used = (tmp_path / name for name in ('out', 'file', 'empty', 'used'))
    file.write_text('mine')
    empty.mkdir()
    (used / 'input').mkdir(parents=True)
    (used / 'input' / 'a_000.png').write_bytes(b'mine')
    for folder in (tmp_path / 'nowhere', empty, file):
        check_refused(capsys, [out, '--photos', folder], 1, str(folder))
    for more in ([], ['--dry-run']):
        check_refused(capsys, [used, '--photos', photos, *more], 1, str(used))
    check_refused(capsys, [file, '--photos', photos], 1, str(file))
    check_refused(capsys, [out, '--photos', photos, '--hold-out-file', tmp_path / 'gone.txt'], 1, 'gone.txt')
    check_refused(capsys, [out, '--hold-out', 'coffee'], 2, '--photos')
    check_refused(capsys, [f'{file}/out', '--photos', photos], 1, str(file))
    write_image(f'{photos}/a.jpg', np.zeros((40, 40, 3), np.uint8))
    check_refused(capsys, [out, '--photos', photos], 1, ': a.')  # a.jpg and a.png
    assert not out.exists()
    Path(photos, 'a.jpg').unlink()
    Path(photos, 'a.png').write_bytes(b'broken')
    check_refused(capsys, [out, '--photos', photos], 1, 'a.png')
    assert (file.read_text(), contents(used)) == ('mine', {'input/a_000.png': b'mine'})


# --- varied scenes, databases, interruption


VARIED = ['--scenes', 'varied', '--crop', '24', '--max-blur-radius', '3', '--format', 'raw', '--hold-out', 'a']


def samples(folder, split):
    dataset = PairedDefocusDataset({'phase': 'val', 'dataroot': str(folder), 'split': split})
    return {sample['lq_path'].rpartition('/')[2]: sample for sample in map(dataset.__getitem__, range(len(dataset)))}


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name][key], other[name][key]) for name in one for key in ('lq', 'gt')
    )


def test_databases_for_training_and_of_held_out_photographs(tmp_path, photos, capsys):
    out = tmp_path / 'out'
    assert main([str(out), '--photos', photos, *VARIED, '--count', '3', '--val-count', '2']) == 0
    assert f'dataroot: {out}, split: train' in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ['train.lmdb', 'val.lmdb']
    assert LmdbStore(str(out / 'train.lmdb')).codec == 'raw'
    train, val = samples(out, 'train'), samples(out, 'val')
    assert list(train) == [f'IMG.1 ü_{scene:03d}.png' for scene in range(3)]
    assert list(val) == ['a_000.png', 'a_001.png']
    assert all(sample['gt'].shape == (3, 24, 24) for sample in train.values())
    assert all(sample['gt'].shape == (3, 40, 52) for sample in val.values())  # whole
    assert len({sample['gt'].numpy().tobytes() for sample in train.values()}) == 3


def test_held_out_photographs_are_in_no_training_scene(tmp_path):
    """Only the held-out photograph has red pixels."""
    for name, color in (('held', (255, 0, 0)), ('one', (0, 200, 0)), ('two', (0, 0, 200))):
        write_image(str(tmp_path / 'photos' / f'{name}.png'), np.full((60, 60, 3), color, np.uint8))
    arguments = ['--photos', str(tmp_path / 'photos'), *VARIED[:-1], 'held', '--count', '20']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varied_scenes, 'recolored', lambda _, picture: picture)
        patch.setattr(varied_scenes, 'random_sensor', lambda _: Sensor())
        assert main([str(tmp_path / 'out'), *arguments]) == 0
    greens = [sample['gt'][1].max() for sample in samples(tmp_path / 'out', 'train').values()]
    assert all(sample['gt'][0].max() == 0 for sample in samples(tmp_path / 'out', 'train').values())
    assert sum(green > 0 for green in greens) > 20  # in the backgrounds of 20 scenes, and in front of others
    (held_out,) = samples(tmp_path / 'out', 'val').values()
    assert held_out['gt'][0].max() > 0
    assert held_out['gt'][1:].max() == 0


@pytest.mark.slow
def test_pairs_do_not_depend_on_the_number_of_processes(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(synthesis, '_PAIRS_PER_PROCESS', 2)
    for workers in (1, 2):
        arguments = ['--photos', photos, *VARIED, '--count', '6', '--workers', str(workers)]
        assert main([str(tmp_path / f'{workers}'), *arguments]) == 0
    for split in ('train', 'val'):
        assert same(samples(tmp_path / '1', split), samples(tmp_path / '2', split))


@pytest.mark.parametrize('function', ['write_image', '_convert'])
def test_an_interrupted_run_leaves_nothing(tmp_path, photos, monkeypatch, capsys, function):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthesis, function, interrupt)
    check_refused(capsys, [tmp_path / 'out', '--photos', photos, *VARIED], 1, 'interrupted')
    assert os.listdir(tmp_path) == ['photos']


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


def test_optics_change_the_pairs(tmp_path, photos):
    nothing = ['radius=0.5,0.5', 'noise_prob=0', 'compress_prob=0', 'sharp_prob=0']
    for name, words in (('none', ['basic', *nothing]), ('soft', ['basic', *nothing, 'soften_prob=1'])):
        assert main([str(tmp_path / name), '--photos', photos, *REAL, '--optics', *words]) == 0
    plain, soft = samples(tmp_path / 'none', 'train'), samples(tmp_path / 'soft', 'train')
    for name in plain:
        assert torch.equal(plain[name]['lq'], plain[name]['gt'])
        assert torch.equal(plain[name]['gt'], soft[name]['gt'])
        assert not torch.equal(soft[name]['lq'], soft[name]['gt'])


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
