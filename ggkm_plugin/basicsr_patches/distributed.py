"""What the processes of one run agree on: their group, whose files are whose, and small values handed round."""

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
from ggkm_plugin.utils import registry  # noqa: F401  (the import shims come before basicsr)
from ggkm_plugin.utils.errors import LostProcessError, TrainingError

import basicsr.utils.dist_util as host_dist  # isort: skip
import basicsr.utils.misc as host_misc  # isort: skip

T = TypeVar('T')

# NCCL's own limit, ten minutes, is shorter than writing a large checkpoint to a slow disk may take. It is also what a
# process waits for one that never comes back, before torchrun starts all again.
_TIME_LIMIT = timedelta(minutes=30)
# How gloo says that the other side is gone; NCCL raises a DistError.
_GONE = ('Connection closed by peer', 'Connection reset by peer', 'Broken pipe')


def init_dist(launcher: str, backend: str | None = None, port: int | None = None, **kwargs: Any) -> None:
    """Join the process group: NCCL on the GPU of the local rank beside gloo on the CPU, or gloo alone without GPUs.

    The host's option files ask for `nccl`, which is what they get where there are GPUs.
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
    """A prefix for the keys of this group alone, the same on all its processes.

    torchrun's machines count their restarts each for itself and keep one store. By their counts, as torch does, a
    process that was started again would find the addresses of a group that is gone, and wait for it.
    """
    mine = uuid.uuid4().hex
    if rank > 0:
        store.set(f'hello/{rank}', mine)
        prefix = store.get(f'welcome/{mine}').decode()  # waits; only a living first process can know this key
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
            if name and name not in welcomed:  # one of an earlier group never answers
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
            f'process {rank} of this machine has no GPU: there are {count}. Start {count} processes a machine, or hide '
            'the GPUs with CUDA_VISIBLE_DEVICES='
        )
    return rank


# Groups that were left. Their last owner would be the model's DistributedDataParallel, which takes gloo's threads down
# with Python's lock in its hand, while they may still want it for what they hold of the last collective: it hangs.
_left: list[Any] = []


@contextmanager
def group_left() -> Iterator[None]:
    """Leave the group after the block. Raises LostProcessError in place of what a collective says of a lost process.

    After a failure NCCL's group is left standing: taking it down would wait for the others, which wait for this one.
    """
    failed = True
    try:
        yield
        failed = False
    except Exception as error:
        lost = isinstance(error, distributed.DistError) or any(words in str(error) for words in _GONE)
        if lost and rank_and_size()[1] > 1:
            raise LostProcessError(
                'another process of this run is gone; its own words, or its machine, say why. The same command goes '
                'on, a training with --auto_resume'
            ) from error
        raise
    finally:
        joined = distributed.is_available() and distributed.is_initialized()
        if joined and (not failed or distributed.get_backend() == 'gloo'):
            _left.append(distributed.group.WORLD)
            distributed.destroy_process_group()


def _environment_from_slurm(port: int | None) -> None:
    """torchrun's variables for a process that srun has started."""
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
    """The host's, on the first process; the others wait until the folders are there."""
    host_misc.make_exp_dirs(opt)
    barrier()


def rank_and_size() -> tuple[int, int]:
    """This process's number, and how many there are: (0, 1) outside a group."""
    return host_dist.get_dist_info()


def barrier() -> None:
    """Wait for the other processes."""
    if rank_and_size()[1] > 1:
        distributed.barrier()


def from_first(value: T) -> T:
    """The value that the first process gave."""
    if rank_and_size()[1] == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def gathered(value: T) -> list[T]:
    """The values of all processes, in the order of their ranks."""
    size = rank_and_size()[1]
    if size == 1:
        return [value]
    values: list[Any] = [None] * size
    distributed.all_gather_object(values, value)
    return values


def any_of(flags: torch.Tensor) -> torch.Tensor:
    """Each of a few flags (0 or 1, float), raised if it is on any process."""
    if rank_and_size()[1] > 1:
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
    return flags


def spread_buffers(*nets: nn.Module) -> None:
    """Give every process the first one's buffers: the running statistics of BatchNorm differ between them."""
    if rank_and_size()[1] > 1:
        for net in nets:
            for buffer in net.buffers():
                distributed.broadcast(buffer, 0)
