"""What torchrun's or slurm's environment tells a process before it has joined a group. No torch."""

import os


def first_process() -> bool:
    """The one of all processes that prints and writes."""
    return os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0'


def restarted() -> bool:
    """torchrun has started all processes again because one was lost."""
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) > 0
