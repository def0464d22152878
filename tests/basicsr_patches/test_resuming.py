"""Choice of the training state to resume from."""

import os

import pytest
import torch

from ggkm_plugin.basicsr_patches import resuming
from ggkm_plugin.utils.errors import CheckpointError, OptionError


@pytest.fixture
def experiment(tmp_path):
    """Options of an experiment with states and networks of iterations 2 and 4."""
    states, models = tmp_path / 'experiments/x/training_states', tmp_path / 'experiments/x/models'
    states.mkdir(parents=True)
    models.mkdir()
    for iteration in (2, 4):
        torch.save({'epoch': 0, 'iter': iteration, 'optimizers': [], 'schedulers': []}, states / f'{iteration}.state')
        torch.save({'params': {}}, models / f'net_g_{iteration}.pth')
    path = {'training_states': str(states), 'models': str(models), 'resume_state': None}
    return {'name': 'x', 'auto_resume': True, 'network_g': {}, 'path': path, 'train': {'total_iter': 4}}


def test_resumes_the_newest_state_on_the_cpu_from_any_folder(experiment):
    assert resuming.load_resume_state(experiment)['iter'] == 4
    assert experiment['path']['pretrain_network_g'].endswith('net_g_4.pth')


@pytest.mark.parametrize('victim', ['training_states/4.state', 'models/net_g_4.pth'])
@pytest.mark.parametrize('harm', ['truncated', 'missing', 'damaged', 'other file', 'incomplete'])
def test_a_damaged_state_is_skipped(experiment, tmp_path, capsys, victim, harm):
    path = tmp_path / 'experiments/x' / victim
    content = bytearray(path.read_bytes())
    if harm == 'truncated':
        path.write_bytes(content[:200])
    elif harm == 'other file':
        path.write_text('not a checkpoint')
    elif harm == 'missing':
        path.unlink()
    elif harm == 'damaged':
        torch.save({'params': {'w': torch.rand(1000)}}, path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    else:  # a state without its optimizers
        torch.save({'epoch': 0, 'iter': 4}, tmp_path / 'experiments/x/training_states/4.state')
    assert resuming.load_resume_state(experiment)['iter'] == 2
    if (victim, harm) != ('training_states/4.state', 'missing'):
        assert '4.state' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['notes.state', 'nan.state', '9'])
def test_other_files_beside_the_states(experiment, tmp_path, name):
    (tmp_path / 'experiments/x/training_states' / name).write_text('mine')
    assert resuming.load_resume_state(experiment)['iter'] == 4


def test_without_an_intact_state_training_starts_again(experiment, tmp_path):
    for path in (tmp_path / 'experiments/x/training_states').iterdir():
        path.write_bytes(b'')
    assert resuming.load_resume_state(experiment) is None


def test_a_named_state_that_is_damaged_is_an_error(experiment, tmp_path):
    experiment.update(auto_resume=False)
    path = tmp_path / 'experiments/x/training_states/4.state'
    experiment['path']['resume_state'] = str(path)
    assert resuming.load_resume_state(experiment)['iter'] == 4
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r'4\.state'):
        resuming.load_resume_state(experiment)


def test_a_hostile_state_is_not_executed(experiment, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'harmed'),)

    torch.save({'iter': Hostile()}, tmp_path / 'experiments/x/training_states/6.state')
    assert resuming.load_resume_state(experiment)['iter'] == 4
    assert not (tmp_path / 'harmed').exists()


def test_a_state_after_total_iter_is_refused(experiment):
    """Its scores would be recorded as those of iteration 3."""
    experiment['train']['total_iter'] = 3
    with pytest.raises(OptionError, match=r'total_iter: 3.*4\.state'):
        resuming.load_resume_state(experiment)
