"""Launcher, rank and restarts from the environment variables of torchrun and Slurm. Does not import torch."""

import json
import os
import time

from ggkm_plugin.utils.errors import OptionError

_PYTORCH = ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')


def started_by() -> str:
    """Return the launcher that started this process: pytorch, slurm or none.

    An interactive Slurm shell and a batch script count as none: only srun with several tasks starts one process per
    task.
    """
    environment = os.environ
    if watched() or (all(name in environment for name in _PYTORCH) and environment['WORLD_SIZE'] != '1'):
        return 'pytorch'
    tasks = environment.get('SLURM_STEP_NUM_TASKS', environment.get('SLURM_NTASKS', '1'))
    return 'slurm' if {'SLURM_STEP_ID', 'SLURM_PROCID'} <= environment.keys() and tasks != '1' else 'none'


def process_count() -> int:
    """Return the number of processes that were started together."""
    variables = {'pytorch': ('WORLD_SIZE',), 'slurm': ('SLURM_STEP_NUM_TASKS', 'SLURM_NTASKS'), 'none': ()}
    return next((int(os.environ[name]) for name in variables[started_by()] if name in os.environ), 1)


def choose_launcher(given: str | None) -> str:
    """Return `given`, or the launcher that started this process. Raises OptionError if they contradict."""
    found = started_by()
    if given is None:
        return found
    if (given == 'none' and process_count() > 1) or (given == 'slurm' and watched()):
        starter = {'pytorch': 'torchrun', 'slurm': 'srun'}[found]
        raise OptionError(
            f'--launcher {given}: {starter} started this process as one of {process_count()}. Leave --launcher out, or '
            f'run the command without {starter}'
        )
    if given != 'none':
        check_started_by(given)
    return given


def check_started_by(launcher: str) -> None:
    """Raise OptionError if the launcher has not started this process."""
    starter, variable = ('srun', 'SLURM_PROCID') if launcher == 'slurm' else ('torchrun', 'RANK')
    if variable not in os.environ:
        raise OptionError(
            f'--launcher {launcher}: not started by {starter} ({variable} is not set). See docs/distributed.md, or '
            'leave --launcher out for one process'
        )


def first_process() -> bool:
    """Whether this process has global rank 0, which prints and writes files."""
    return os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0'


def first_of_machine() -> bool:
    """Whether this process has local rank 0, which prints the errors of its machine."""
    return os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0')) == '0'


def watched() -> bool:
    """Whether torchrun started this process. torchrun ends it when another one fails."""
    return 'TORCHELASTIC_RUN_ID' in os.environ


def restarted() -> bool:
    """Whether torchrun has started all processes again because one was lost."""
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) > 0


def report_failure(message: str) -> None:
    """Write a message for torchrun's final error report."""
    path = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if path:
        content = {'message': {'message': message, 'extraInfo': {'timestamp': str(int(time.time()))}}}
        with open(path, 'w', encoding='utf-8') as file:
            json.dump(content, file)
