"""Distributed helpers: process group, folders made by rank 0, small collectives."""

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from ggkm_plugin.basicsr_patches.launch import check_started_by
from ggkm_plugin.utils import registry  # noqa: F401  (its import shims must precede basicsr)
from ggkm_plugin.utils.errors import LostProcessError, TrainingError

import basicsr.utils.dist_util as basicsr_dist  # isort: skip
import basicsr.utils.misc as basicsr_misc  # isort: skip

T = TypeVar('T')

# Writing a large checkpoint to a slow disk may take longer than NCCL's default of ten minutes. A process also waits
# this long for a lost one, before torchrun restarts all.
_TIME_LIMIT = timedelta(minutes=30)
# Parts of gloo's messages about a lost process; NCCL raises a DistError.
_GONE = ('Connection closed by peer', 'Connection reset by peer', 'Broken pipe')


def init_dist(launcher: str, backend: str | None = None, port: int | None = None, **kwargs: Any) -> None:
    """Join the process group: NCCL on the GPU of the local rank beside gloo on the CPU, or gloo alone without GPUs.

    BasicSR's option files ask for `nccl`; without GPUs they get gloo.
    """
    check_started_by(launcher)
    if launcher == 'slurm':
        _environment_from_slurm(port)
    if torch.cuda.is_available():
        torch.cuda.set_device(_device(launcher))
    if backend in (None, 'nccl'):
        backend = 'cpu:gloo,cuda:nccl' if torch.cuda.is_available() else 'gloo'
    if os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True' and launcher == 'pytorch':
        rank, size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
        store = distributed.TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), timeout=_TIME_LIMIT)
        own = distributed.PrefixStore(meet(store, rank, size), store)
        kwargs.update(store=own, rank=rank, world_size=size)
    distributed.init_process_group(backend, timeout=_TIME_LIMIT, **kwargs)


def meet(store: distributed.Store, rank: int, size: int) -> str:
    """Return a key prefix for this group, the same on all its processes.

    torchrun keeps one store over restarts, but counts restarts per machine. With a prefix from this count, as in torch,
    a restarted process could find the addresses of an earlier group and wait for it.
    """
    mine = uuid.uuid4().hex
    if rank > 0:
        store.set(f'hello/{rank}', mine)
        prefix = store.get(f'welcome/{mine}').decode()  # waits: only rank 0 of this group knows this key
        store.set(f'{prefix}/here/{rank}', '')
        return prefix
    others = range(1, size)
    welcomed: set[str] = set()
    deadline = time.monotonic() + _TIME_LIMIT.total_seconds()
    while not all(store.check([f'{mine}/here/{other}']) for other in others):
        if time.monotonic() > deadline:
            raise LostProcessError('the other processes of this run have not come')
        for other in others:
            name = store.get(f'hello/{other}').decode() if store.check([f'hello/{other}']) else ''
            if name and name not in welcomed:  # one of an earlier group does not answer
                store.set(f'welcome/{name}', mine)
                welcomed.add(name)
        time.sleep(0.02)
    return mine


def _device(launcher: str) -> int:
    rank, count = int(os.environ.get('LOCAL_RANK', 0)), torch.cuda.device_count()
    if launcher == 'slurm' and count == 1:
        return 0  # slurm may show each task a GPU of its own
    if rank >= count:
        raise TrainingError(
            f'local rank {rank}: this machine has {count} GPUs only. Start {count} processes per machine, or train on '
            'CPUs with CUDA_VISIBLE_DEVICES='
        )
    return rank


# Keeps destroyed groups alive. Otherwise DistributedDataParallel, their last owner, joins gloo's threads while it holds
# the GIL, which they may need: a deadlock.
_left: list[Any] = []


@contextmanager
def group_left() -> Iterator[None]:
    """Leave the process group after the block. Raises LostProcessError where a collective failed for a lost process.

    After a failure an NCCL group is not destroyed: that would wait for processes that wait for this one.
    """
    failed = True
    try:
        yield
        failed = False
    except Exception as error:
        lost = isinstance(error, distributed.DistError) or any(words in str(error) for words in _GONE)
        if lost and rank_and_size()[1] > 1:
            raise LostProcessError(
                'another process of this run has ended. See its log for the reason. Run the same command again, a '
                'training with --auto_resume'
            ) from error
        raise
    finally:
        joined = distributed.is_available() and distributed.is_initialized()
        if joined and (not failed or distributed.get_backend() == 'gloo'):
            _left.append(distributed.group.WORLD)
            distributed.destroy_process_group()


def _environment_from_slurm(port: int | None) -> None:
    """Set torchrun's variables in a process started by srun."""
    environment = os.environ
    environment['RANK'], environment['WORLD_SIZE'] = environment['SLURM_PROCID'], environment['SLURM_NTASKS']
    environment['LOCAL_RANK'] = environment['SLURM_LOCALID']
    if 'MASTER_ADDR' not in environment:
        nodes = ['scontrol', 'show', 'hostnames', environment['SLURM_NODELIST']]
        environment['MASTER_ADDR'] = subprocess.run(nodes, check=True, capture_output=True, text=True).stdout.split()[0]
    if port is not None:
        environment['MASTER_PORT'] = str(port)
    environment.setdefault('MASTER_PORT', '29500')


def make_exp_dirs(opt: dict[str, Any]) -> None:
    """Make the folders of a run on rank 0; the other processes wait until they exist."""
    basicsr_misc.make_exp_dirs(opt)
    barrier()


def rank_and_size() -> tuple[int, int]:
    """Return rank and world size: (0, 1) outside a group."""
    return basicsr_dist.get_dist_info()


def barrier() -> None:
    """Wait for the other processes."""
    if rank_and_size()[1] > 1:
        distributed.barrier()


def from_first(value: T) -> T:
    """Return the value of rank 0."""
    if rank_and_size()[1] == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def gathered(value: T) -> list[T]:
    """Return the values of all processes, ordered by rank."""
    size = rank_and_size()[1]
    if size == 1:
        return [value]
    values: list[Any] = [None] * size
    distributed.all_gather_object(values, value)
    return values


def any_of(flags: torch.Tensor) -> torch.Tensor:
    """Combine flags (0 or 1, float) over processes: 1 where any process has 1."""
    if rank_and_size()[1] > 1:
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
    return flags


def spread_buffers(*nets: nn.Module) -> None:
    """Broadcast the buffers of rank 0: BatchNorm's running statistics differ between processes."""
    if rank_and_size()[1] > 1:
        for net in nets:
            for buffer in net.buffers():
                distributed.broadcast(buffer, 0)
