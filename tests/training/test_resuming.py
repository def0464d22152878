"""A run that was killed or stopped, or failed on NaN, and was resumed equals an uninterrupted run bit by bit."""

import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY
from places import new_place, same, start, wait_for

pytestmark = pytest.mark.slow

# Events of `forking.watch`; a run is killed at the one in the middle of its kind.
MOMENTS = [
    'inside torch.save', 'before replace', 'after replace', 'before unlink', 'after unlink', 'before evaluate_image',
    'after evaluate_image', 'after _gradients', 'after step', 'before save_training_state', 'after save_training_state',
]  # fmt: skip


def lasting(tiny: dict) -> dict:
    """Eight iterations, epochs of three, with everything that a state must bring back."""
    tiny['network_g'].update(beta_norm='bn')
    tiny['train'].update(total_iter=8, ema_decay=0.9, grad_clip=1.0, warmup_iter=3)
    tiny['train']['optim_g'] = {'type': 'AdamW', 'lr': 0.002, 'weight_decay': 0.01}
    tiny['train']['scheduler'] = {'type': 'CosineAnnealingLR', 'T_max': 8}
    tiny['datasets']['train'].update(dataset_enlarge_ratio=1.5, noise_std=[0, 10])
    tiny['logger'].update(save_checkpoint_freq=2, keep_checkpoints=2, print_freq=2)
    tiny['val']['val_freq'] = 3
    return tiny


TRAIN = ('train', '-opt', 'run.yml')
RESUME = (*TRAIN, '--auto_resume')


def outcome(place: Path) -> dict:
    """All that training has made, in comparable form: weights, averages, optimizer, the best, the scores."""
    run = place / 'experiments/tiny'
    latest, best = (torch.load(run / f'models/net_g_{name}.pth') for name in ('latest', 'best_psnr'))
    state = torch.load(run / 'training_states/8.state')
    for content in (latest, best):
        del content['description']['saved']
    del latest['description']['metrics']  # of the last validation: one later, if the closing one was reached before
    return {
        'latest': latest,
        'best': best,
        'optimizers': state['optimizers'],
        'schedulers': state['schedulers'],
        'generators': state['generators'],
        'scores': (state['best'], state['inputs']),
        'kept': sorted(path.name for path in run.glob('*/*[0-9].*')),
    }


@pytest.fixture(scope='module')
def uninterrupted(server, tmp_path_factory):
    """Options, files and events of an uninterrupted run."""
    opt = lasting(json.loads(json.dumps(TINY)))
    place = new_place(tmp_path_factory.mktemp('runs') / 'uninterrupted', opt)
    code, printed = server.run(*TRAIN, cwd=place, kill_at=0)
    assert code == 0, printed[-3000:]
    return opt, outcome(place), (place / 'events.txt').read_text().splitlines()


@pytest.mark.parametrize('moment', MOMENTS)
def test_killed_at_any_moment(server, uninterrupted, tmp_path, moment):
    """Inside the write of a checkpoint, between its files, in a step, in a validation."""
    opt, expected, events = uninterrupted
    place = new_place(tmp_path / 'killed', opt)
    of_kind = [number for number, event in enumerate(events, start=1) if event == moment]
    kill_at = of_kind[len(of_kind) // 2]
    code, printed = server.run(*TRAIN, cwd=place, kill_at=kill_at)
    assert code == -signal.SIGKILL, printed[-2000:]
    code, printed = server.run(*RESUME, cwd=place)
    assert code == 0, printed[-3000:]
    made = outcome(place)
    assert [key for key in expected if not same(expected[key], made[key])] == []


def test_killed_again_and_again(server, uninterrupted, tmp_path):
    """The same command, until it comes to its end: none gets further than one checkpoint."""
    opt, expected, _ = uninterrupted
    place = new_place(tmp_path / 'killed', opt)
    codes = []
    while len(codes) < 10 and 0 not in codes:
        codes.append(server.run(*RESUME, cwd=place, kill_at=45)[0])
    assert set(codes) == {-signal.SIGKILL, 0}
    assert len(codes) >= 4
    made = outcome(place)
    assert [key for key in expected if not same(expected[key], made[key])] == []


# ---- signals


def endless(tiny: dict) -> dict:
    tiny['train']['total_iter'] = 100000
    tiny['datasets']['train'].update(dataset_enlarge_ratio=50, num_worker_per_gpu=2)
    tiny['logger'].update(save_checkpoint_freq=50000, print_freq=1)
    tiny['val']['val_freq'] = 100000
    return tiny


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
def test_a_signal_to_the_whole_group_saves_and_ends(server, tiny, tmp_path, name):
    """As Ctrl-C and a cluster send it: to the loading processes as well."""
    place = new_place(tmp_path / 'place', endless(tiny))
    process = start(place, *TRAIN)
    wait_for(process, 'iter:       3')
    os.killpg(process.pid, signal.Signals[name])
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert f'{name}: finishing this step' in printed
    assert 'Traceback' not in printed
    states = list((place / 'experiments/tiny/training_states').iterdir())
    assert len(states) == 1
    assert f'stopped by a signal after iteration {states[0].stem}' in printed
    assert printed.splitlines()[-1].endswith('basicsr train -opt run.yml --auto_resume')
    tiny['train']['total_iter'] = int(states[0].stem) + 1
    (place / 'run.yml').write_text(yaml.safe_dump(tiny))
    code, printed = server.run(*RESUME, cwd=place)
    assert code == 0, printed[-3000:]
    assert f'iter: {states[0].stem}.' in printed


def test_a_signal_in_a_validation(server, tiny, tmp_path):
    """The step before it is saved, and the validation is made up for at the start of the resumed run."""
    tiny['val']['val_freq'] = 3
    place = new_place(
        tmp_path / 'place',
        tiny,
        slow='import time\nfrom ggkm_plugin.evaluation.evaluator import Evaluator\n'
        'evaluate = Evaluator.evaluate_image\n'
        'def slowly(self, *args):\n'
        "    print('seeing', flush=True)\n    time.sleep(0.5)\n    return evaluate(self, *args)\n"
        'Evaluator.evaluate_image = slowly\n',
    )
    process = start(place, *TRAIN, '--plugin', 'slow')
    wait_for(process, 'seeing')
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert 'stopped by a signal after iteration 3' in printed
    code, printed = server.run(*RESUME, cwd=place)
    assert code == 0, printed[-3000:]
    assert 'best: ' in printed.partition('iter:       4')[0]


def test_a_second_signal_ends_at_once(tiny, tmp_path):
    place = new_place(tmp_path / 'place', endless(tiny))
    (place / 'stuck.py').write_text(
        'import time\nfrom ggkm_plugin.models.defocus_model import DefocusModel\n'
        'def stuck(self, iteration):\n'
        "    print('stuck', flush=True)\n    time.sleep(60)\n"
        'DefocusModel.optimize_parameters = stuck\n'
    )
    process = start(place, *TRAIN, '--plugin', 'stuck')
    wait_for(process, 'stuck')
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 1


# ---- harm


def test_a_worker_that_dies(server, tiny, tmp_path):
    """Named, with what to do; the steps before it are saved."""
    place = new_place(tmp_path / 'place', endless(tiny))
    process = start(place, *TRAIN)
    wait_for(process, 'iter:       3')
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert 'num_worker_per_gpu' in printed.splitlines()[-1]
    assert 'Saved the steps up to iteration' in printed
    assert len(list((place / 'experiments/tiny/training_states').iterdir())) == 1


def test_a_damaged_image_in_the_middle_of_an_epoch(server, tiny, tmp_path):
    """Earlier steps are saved. With the image repaired the run ends as an uninterrupted one."""
    opt = lasting(tiny)
    opt['logger']['save_checkpoint_freq'] = 100
    whole = new_place(tmp_path / 'whole', opt)
    assert server.run(*TRAIN, cwd=whole)[0] == 0
    place = new_place(tmp_path / 'place', opt)
    image = place / 'pairs/input/03.png'
    content = image.read_bytes()
    image.write_bytes(content[:100])
    code, printed = server.run(*TRAIN, '--skip-image-check', cwd=place)
    assert code == 1
    assert 'input/03.png: not a readable image' in printed
    image.write_bytes(content)
    code, printed = server.run(*RESUME, cwd=place)
    assert code == 0, printed[-3000:]
    assert same(outcome(whole)['latest'], outcome(place)['latest'])


def test_a_full_disk_before_the_first_checkpoint(server, tiny, tmp_path):
    """The log cannot be written either: that says nothing, the checkpoint that must be kept says it once."""
    place = new_place(tmp_path / 'place', lasting(tiny))
    (place / 'full.py').write_text(
        'import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2048, resource.RLIM_INFINITY))\n'
    )
    (place / 'printed.txt').write_text('')
    process = start(place, *TRAIN, '--plugin', 'full')
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert 'Traceback' not in printed
    assert 'net_g_2.pth: cannot be written' in printed.splitlines()[-1]
    code, printed = server.run(*RESUME, cwd=place)
    assert code == 0, printed[-3000:]


def test_weights_of_another_moment(server, tiny, tmp_path):
    """A network that was saved again, at an iteration with an older state, does not match that state."""
    place = new_place(tmp_path / 'place', lasting(tiny))
    assert server.run(*TRAIN, cwd=place)[0] == 0
    models = place / 'experiments/tiny/models'
    shutil.copy(models / 'net_g_6.pth', models / 'net_g_8.pth')
    code, printed = server.run(*RESUME, cwd=place)
    assert code == 0
    assert 'net_g_8.pth was saved at another time' in printed
    assert 'iter: 6.' in printed


# ---- other options


@pytest.fixture(scope='module')
def finished(server, tmp_path_factory):
    place = new_place(tmp_path_factory.mktemp('runs') / 'finished', lasting(json.loads(json.dumps(TINY))))
    assert server.run(*TRAIN, cwd=place)[0] == 0
    return place


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / 'copy')
    return tmp_path / 'copy'


def test_a_finished_run_is_resumed_to_nothing_new(server, finished, copy):
    before = outcome(copy)
    code, printed = server.run(*RESUME, cwd=copy)
    assert code == 0, printed[-2000:]
    assert same(before, outcome(copy))


def test_a_changed_learning_rate_is_named(server, copy):
    """With the rate that is used, also when the run is resumed again."""
    for total, rate in ((9, 0.5), (10, 0.5), (11, 0.002)):
        changes = (f'train:optim_g:lr={rate}', f'train:total_iter={total}')
        code, printed = server.run(*RESUME, '--force_yml', *changes, cwd=copy)
        assert code == 0, printed[-2000:]
        named = [line for line in printed.splitlines() if 'train.optim_g.lr is' in line]
        assert len(named) == (rate != 0.002)
        assert all(f'is {rate} in the option file, 0.002 in the state' in line for line in named)
        assert f'train.total_iter is {total} in the option file, {total - 1} in the state' in printed
        state = torch.load(copy / f'experiments/tiny/training_states/{total}.state')
        assert state['optimizers'][0]['param_groups'][0]['initial_lr'] == 0.002


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ('network_g:width=8', 'width is 8 here, 4 there'),
        ('train:optim_g:type=Adam', 'train.optim_g.type'),
        ('train:scheduler:type=CosineAnnealingWarmRestarts', 'train.scheduler'),
        ('train:total_iter=7', 'train.total_iter: 7, but'),
    ],
)
def test_what_cannot_be_gone_on_with(server, copy, change, words):
    """Refused before any folder is renamed."""
    before = sorted(path.name for path in copy.rglob('*') if path.suffix in ('.pth', '.state'))
    code, printed = server.run(*RESUME, '--force_yml', 'train:total_iter=9', change, cwd=copy)
    assert code == 2
    assert words in printed.splitlines()[-1]
    assert sorted(path.name for path in copy.rglob('*') if path.suffix in ('.pth', '.state')) == before


@pytest.mark.parametrize('resumed_workers', [0, 1])
def test_its_loading_processes_do_not_keep_a_killed_run_s_place(server, tiny, tmp_path, resumed_workers):
    """They outlive it by seconds; and how many there are is no other training."""
    lasting(tiny)['datasets']['train']['num_worker_per_gpu'] = 1
    place = new_place(tmp_path / 'place', tiny)
    assert server.run(*TRAIN, cwd=place, kill_at=37)[0] == -signal.SIGKILL
    code, printed = server.run(
        *RESUME, '--force_yml', f'datasets:train:num_worker_per_gpu={resumed_workers}', cwd=place
    )
    assert code == 0, printed[-2000:]
    assert 'Resuming training' in printed
    assert 'the state that is resumed' not in printed


def test_a_drawn_seed_is_part_of_the_state(server, tiny, tmp_path):
    """With `manual_seed: ~` BasicSR draws one for each start; the samples must not change."""
    lasting(tiny)['manual_seed'] = None
    whole, killed = tmp_path / 'whole', new_place(tmp_path / 'killed', tiny)
    assert server.run(*TRAIN, cwd=killed, kill_at=37)[0] == -signal.SIGKILL
    shutil.copytree(killed, whole)
    for place in (killed, whole):
        code, printed = server.run(*RESUME, cwd=place)
        assert code == 0, printed[-2000:]
        assert 'manual_seed' in printed
    assert same(outcome(whole), outcome(killed))


def test_two_trainings_of_one_name(tiny, server, tmp_path):
    place = new_place(tmp_path / 'place', endless(tiny))
    process = start(place, *TRAIN)
    wait_for(process, 'iter:       1')
    code, printed = server.run(*TRAIN, cwd=place)
    process.kill()
    process.communicate()
    assert code == 2
    assert str(process.pid) in printed
    assert socket.gethostname() in printed
    assert [path.name for path in (place / 'experiments').glob('tiny*')] == ['tiny']


def test_loading_processes_end_with_the_run(tiny, tmp_path):
    """They ignore the signals that a cluster sends them, but not the end of a run that failed."""
    tiny['datasets']['train']['num_worker_per_gpu'] = 2
    place = new_place(tmp_path / 'place', tiny)
    (place / 'pairs/input/02.png').write_bytes(b'')
    process = start(place, *TRAIN, '--skip-image-check')
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert 'input/02.png: the file is empty' in printed.splitlines()[-1]
