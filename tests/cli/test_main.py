"""The command: exit codes, one clear message for each mistake, nothing overwritten."""

import logging

import cv2
import numpy as np
import pytest
import torch
from conftest import write_pairs

from ggkm_plugin import __version__
from ggkm_plugin.cli.main import main


def test_version_and_help(command):
    assert command('--version') == (0, f'ggkm_plugin {__version__}\n', '')
    code, out, _ = command('--help')
    assert code == 0
    assert all(name in out for name in ('train', 'test', 'list'))


@pytest.mark.parametrize(
    'arguments',
    [[], ['trian'], ['train'], ['list', 'netowrks'], ['profile'], ['profile', 'GGKMNet', '--repeats', '-1']],
)
def test_wrong_usage_is_2(command, arguments):
    assert command(*arguments)[0] == 2


def test_list(command):
    code, out, _ = command('list', 'losses', 'archs')
    assert code == 0
    assert [line for line in out.splitlines() if not line.startswith(' ')] == ['losses', 'archs']
    assert any(line.split()[:2] == ['GGKMNet', 'ggkm_plugin'] for line in out.splitlines())
    assert any(line.split() == ['SwinIR', 'basicsr', '1.4.2'] for line in out.splitlines())


def _break(path, content=None):
    path.write_bytes(path.read_bytes()[:200] if content is None else content)


def _no_pairs(place):
    for path in (place / 'pairs/input').iterdir():
        path.unlink()


def _other_size(place):
    cv2.imwrite(str(place / 'pairs/input/02.png'), np.zeros((50, 64, 3), np.uint8))


# what happens to the workplace, what to expect in the message, exit code
MISTAKES = {
    'folder missing': (
        lambda place: (place / 'pairs/input').rename(place / 'pairs/moved'),
        ['pairs/input', 'no such folder'],
        2,
    ),
    'folder empty': (_no_pairs, ['pairs/input', 'no image'], 2),
    'partner missing': (lambda place: (place / 'pairs/ground_truth/02.png').unlink(), ['02.png', 'ground_truth'], 2),
    'sizes differ': (_other_size, ['02.png', '50x64', '48x64'], 1),
    'image truncated': (lambda place: _break(place / 'pairs/input/02.png'), ['input/02.png', 'truncated'], 1),
    'smaller than a batch': (lambda place: None, ['batch_size_per_gpu', 'dataset_enlarge_ratio'], 2),
    'image smaller than crop': (lambda place: None, ['gt_size', '48x64'], 1),
    'crop does not fit the network': (lambda place: None, ['gt_size', 'multiple of 8'], 2),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_bad_data(command, workplace, tiny, write_options, mistake):
    harm, words, expected = MISTAKES[mistake]
    train = tiny['datasets']['train']
    train['num_worker_per_gpu'] = 1 if mistake == 'image smaller than crop' else 0  # whose message is the worker's
    if mistake == 'smaller than a batch':
        train.update(batch_size_per_gpu=9)
    elif mistake == 'image smaller than crop':
        train.update(gt_size=64)
    elif mistake == 'crop does not fit the network':
        train.update(gt_size=36)
    harm(workplace)
    code, _, err = command('train', '-opt', write_options(tiny))
    assert code == expected
    message = err.rpartition('basicsr train: ')[2]
    assert all(word in message for word in words), message


def test_a_mistake_leaves_an_earlier_run_alone(command, workplace, tiny, write_options):
    kept = workplace / 'experiments/tiny/models/net_g_latest.pth'
    kept.parent.mkdir(parents=True)
    kept.write_text('a week of training')
    tiny['datasets']['train']['dataroot_lq'] = 'nowhere'
    assert command('train', '-opt', write_options(tiny))[0] == 2
    assert kept.read_text() == 'a week of training'
    assert [path.name for path in (workplace / 'experiments').glob('[!.]*')] == ['tiny']


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['-opt', 'gone.yml'], ['gone.yml', 'no such option file']),
        (['-opt', 'tiny.yml', '--variant', 'x'], ['variant']),
        (['-opt', 'tiny.yml', '--force_yml', 'train:total_itre=3'], ['total_itre', 'Did you mean total_iter']),
        (['-opt', 'tiny.yml', '--plugin', 'nowhere_to_be_found'], ['nowhere_to_be_found']),
        (['-opt', 'tiny.yml', '--root', 'tiny.yml'], ['--root']),
    ],
)
def test_bad_arguments(command, tiny, write_options, arguments, words):
    write_options(tiny)
    code, _, err = command('train', *arguments)
    assert code == 2
    assert all(word in err for word in words), err


def test_unusable_weights(command, workplace, tiny, write_options):
    tiny['datasets'] = {'test': tiny['datasets']['val']}
    torch.save({'params': {'another.network': torch.zeros(3)}}, workplace / 'other.pth')
    (workplace / 'damaged.pth').write_bytes(b'not a checkpoint')
    for name in ('gone.pth', 'damaged.pth', 'other.pth'):
        tiny['path']['pretrain_network_g'] = name
        code, _, err = command('test', '-opt', write_options(tiny))
        assert code == 2
        assert f'path.pretrain_network_g: {name}' in err


def test_train_tells_what_to_do_next(command, workplace, tiny, write_options):
    """A whole run: loss terms and float metrics in the log, checkpoints, the picture, and the closing words."""
    tiny['logger']['use_tb_logger'] = True
    code, out, _ = command('train', '-opt', write_options(tiny))
    assert code == 0
    folder = workplace / 'experiments/tiny'
    log = next(folder.glob('train_tiny_*.log')).read_text()
    for term in ('l_pix', 'l_mse', 'l_fr', 'l_ssim', 'l_sr'):
        assert log.count(f'{term}: ') == 4
    assert 'psnr' in log
    assert 'input' in log
    saved = {path.name for path in (folder / 'models').iterdir()}
    assert saved == {'net_g_2.pth', 'net_g_4.pth', 'net_g_latest.pth', 'net_g_best_psnr.pth'}
    assert {path.name for path in (folder / 'training_states').iterdir()} == {'2.state', '4.state'}
    picture = cv2.imread(str(folder / 'comparison_val.png'))
    assert min(picture.shape[:2]) > 300
    assert str(folder / 'comparison_val.png') in out
    assert 'tensorboard --logdir' in out
    assert not logging.getLogger('basicsr').handlers


def test_a_checkpoint_is_tested_from_the_file_alone(command, workplace, tiny, write_options):
    assert command('train', '-opt', write_options(tiny))[0] == 0
    tested = {**tiny, 'network_g': None, 'datasets': {'test': tiny['datasets']['val']}}
    tested['path'] = {'pretrain_network_g': 'experiments/tiny/models/net_g_latest.pth'}
    code, _, err = command('test', '-opt', write_options(tested, 'test.yml'))
    assert code == 0
    assert 'Network: GGKMNet' in err


def test_root_is_where_everything_starts(command, workplace, tiny, write_options):
    other = workplace / 'other'
    write_pairs(other / 'pairs', 2)
    path = write_options(tiny)
    code, _, _ = command('train', '-opt', path, '--root', 'other')
    assert code == 0
    assert (other / 'experiments/tiny/models/net_g_latest.pth').is_file()
    assert not (workplace / 'experiments').exists()


def test_a_local_plugin_s_arch_trains(command, workplace, tiny, write_options):
    (workplace / 'my_archs.py').write_text(
        'from torch import nn\nfrom basicsr.utils.registry import ARCH_REGISTRY\n'
        '@ARCH_REGISTRY.register()\nclass OneConv(nn.Conv2d):\n'
        '    def __init__(self):\n        super().__init__(3, 3, 3, padding=1)\n'
    )
    tiny['network_g'] = {'type': 'OneConv'}
    tiny['plugins'] = ['my_archs']
    assert command('train', '-opt', write_options(tiny))[0] == 0


def test_overrides_reach_the_run_and_are_kept_with_it(command, workplace, tiny, write_options):
    tiny['variants'] = {'short': {'train.total_iter': 2}}
    code, _, _ = command('train', '-opt', write_options(tiny), '--variant', 'short', '--force_yml', 'name=other')
    assert code == 0
    assert sorted(p.name for p in (workplace / 'experiments/other/models').iterdir()) == [
        'net_g_2.pth',
        'net_g_best_psnr.pth',
        'net_g_latest.pth',
    ]
    assert 'total_iter: 2' in (workplace / 'experiments/other/tiny.yml').read_text()


def test_a_loss_that_is_no_number_ends_the_run(command, workplace, tiny, write_options):
    tiny['train']['optim_g']['lr'] = 1e30
    code, _, err = command('train', '-opt', write_options(tiny))
    assert code == 1
    assert 'train.optim_g.lr' in err.splitlines()[-1]
    assert not (workplace / 'experiments/tiny/models/net_g_latest.pth').exists()


def test_names_that_are_not_utf8_are_saved(command, workplace, tiny, write_options):
    """OpenCV's own writer ends the process on such a name."""
    import os

    for kind in ('input', 'ground_truth'):
        source = os.fsencode(workplace / 'pairs' / kind)
        os.rename(source + b'/00.png', source + b'/\xe9.png')
    assert command('train', '-opt', write_options(tiny))[0] == 0
    tiny.update(datasets={'test': tiny['datasets']['val']}, val={'save_img': True})
    tiny['path']['pretrain_network_g'] = 'experiments/tiny/models/net_g_latest.pth'
    assert command('test', '-opt', write_options(tiny))[0] == 0
    assert len(os.listdir(workplace / 'results/tiny/visualization/val')) == 4


def test_what_nobody_foresaw_is_one_line_too(command, tiny, write_options, monkeypatch):
    """A model or arch of another package may raise anything."""
    tiny['network_g'] = {'type': 'GGKMNet', 'width': 4, 'num_groups': 2, 'num_scales': 2}
    monkeypatch.setattr('ggkm_plugin.models.defocus_model.DefocusModel.feed_data', lambda self, data: data['gone'])
    code, _, err = command('train', '-opt', write_options(tiny))
    assert code == 1
    assert "basicsr train: KeyError: 'gone'" in err
    monkeypatch.setenv('BASICSR_TRACEBACK', '1')
    with pytest.raises(KeyError):
        main(['train', '-opt', write_options(tiny)])


def test_the_next_command_is_one_that_works(command, workplace, tiny, write_options):
    write_options(tiny, 'test_mine.yml')
    tiny['variants'] = {'wide': {'network_g.width': 8}}
    code, out, _ = command('train', '-opt', write_options(tiny, 'train_mine.yml'))
    assert code == 0
    assert out.rstrip().endswith('basicsr test -opt test_mine.yml')
    code, out, _ = command('train', '-opt', 'train_mine.yml', '--variant', 'wide')
    assert code == 0
    assert 'basicsr test' not in out  # it describes the network of the file, not of the variant


def test_profile(command, tiny, write_options):
    import json

    code, out, _ = command('profile', write_options(tiny), '--size', '32x48', '--repeats', '0', '--format', 'json')
    assert code == 0
    row = json.loads(out)[0]
    assert row['inference_parameters'] < row['parameters']
    assert row['macs'] > 0
