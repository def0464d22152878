"""What torchrun's or slurm's environment tells a process before it has joined a group. No torch."""

import json
import os
import time


def first_process() -> bool:
    """The one of all processes that prints and writes."""
    return os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0'


def first_of_machine() -> bool:
    """The one that tells what is wrong on its machine."""
    return os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0')) == '0'


def watched() -> bool:
    """torchrun looks after this process, and ends it when another one fails."""
    return 'TORCHELASTIC_RUN_ID' in os.environ


def restarted() -> bool:
    """torchrun has started all processes again because one was lost."""
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) > 0


def report_failure(message: str) -> None:
    """Let torchrun show these words in its closing table, in place of advice on how to have a traceback."""
    path = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if path:
        content = {'message': {'message': message, 'extraInfo': {'timestamp': str(int(time.time()))}}}
        with open(path, 'w', encoding='utf-8') as file:
            json.dump(content, file)
