"""The launcher of a process, from its environment."""

import json

import pytest

from ggkm_plugin.basicsr_patches import launch
from ggkm_plugin.utils.errors import OptionError

TORCHRUN = {
    'TORCHELASTIC_RUN_ID': 'none', 'RANK': '1', 'LOCAL_RANK': '1', 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1',
    'MASTER_PORT': '29500',
}  # fmt: skip
OTHER = {key: value for key, value in TORCHRUN.items() if key != 'TORCHELASTIC_RUN_ID'}  # of mpirun, Kubernetes ...
SRUN = {
    'SLURM_JOB_ID': '7', 'SLURM_STEP_ID': '0', 'SLURM_PROCID': '1', 'SLURM_LOCALID': '1', 'SLURM_NTASKS': '4',
    'SLURM_STEP_NUM_TASKS': '4',
}  # fmt: skip
SBATCH = {'SLURM_JOB_ID': '7', 'SLURM_PROCID': '0', 'SLURM_LOCALID': '0', 'SLURM_NTASKS': '4'}
SHELL = {**SRUN, 'SLURM_PROCID': '0', 'SLURM_STEP_NUM_TASKS': '1'}  # srun --pty bash


@pytest.fixture
def environment(monkeypatch):
    def set_to(variables):
        for name in {*TORCHRUN, *SRUN, 'TORCHELASTIC_RESTART_COUNT', 'TORCHELASTIC_ERROR_FILE'}:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(('variables', 'launcher', 'count'), [
    ({}, 'none', 1),
    (TORCHRUN, 'pytorch', 2),
    (TORCHRUN | {'WORLD_SIZE': '1', 'RANK': '0'}, 'pytorch', 1),
    (OTHER, 'pytorch', 2),
    (OTHER | {'WORLD_SIZE': '1', 'RANK': '0'}, 'none', 1),
    ({'RANK': '1'}, 'none', 1),
    (SRUN, 'slurm', 4),
    (SBATCH, 'none', 1),
    (SHELL, 'none', 1),
    (SRUN | TORCHRUN, 'pytorch', 2),  # srun starts one torchrun per node
])  # fmt: skip
def test_the_launcher_is_detected(environment, variables, launcher, count):
    environment(variables)
    assert launch.started_by() == launcher
    assert launch.process_count() == count
    assert launch.choose_launcher(None) == launcher
    assert launch.choose_launcher(launcher) == launcher


@pytest.mark.parametrize(('variables', 'given'), [
    ({}, 'pytorch'),
    ({}, 'slurm'),
    (TORCHRUN, 'none'),
    (TORCHRUN, 'slurm'),
    (SRUN, 'none'),
    (SRUN, 'pytorch'),
    (SRUN | TORCHRUN, 'slurm'),
])  # fmt: skip
def test_a_launcher_that_contradicts_the_environment(environment, variables, given):
    environment(variables)
    with pytest.raises(OptionError, match='--launcher'):
        launch.choose_launcher(given)


def test_one_process_under_torchrun_may_run_without_it(environment):
    environment(TORCHRUN | {'WORLD_SIZE': '1', 'RANK': '0'})
    assert launch.choose_launcher('none') == 'none'


def test_the_first_process(environment):
    environment(TORCHRUN)
    assert (launch.first_process(), launch.first_of_machine()) == (False, False)
    environment(SRUN | {'SLURM_LOCALID': '0'})
    assert (launch.first_process(), launch.first_of_machine()) == (False, True)
    environment({})
    assert (launch.first_process(), launch.first_of_machine(), launch.restarted()) == (True, True, False)


def test_torchrun_shows_the_message(environment, tmp_path):
    environment({'TORCHELASTIC_ERROR_FILE': str(tmp_path / 'error.json')})
    launch.report_failure('what failed')
    assert json.loads((tmp_path / 'error.json').read_text())['message']['message'] == 'what failed'


@pytest.mark.parametrize('words', [['deblur', 'x.jpg'], ['check', '-opt', 'x.yml']])
def test_commands_of_one_process_are_refused_under_torchrun(environment, command, words):
    environment(TORCHRUN | {'RANK': '0', 'LOCAL_RANK': '0'})
    code, out, err = command(*words)
    assert (code, out) == (2, '')
    assert 'torchrun' in err
