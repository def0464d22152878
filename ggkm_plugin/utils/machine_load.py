"""Notice a machine that is busy with other work."""

import os

import torch


def thread_advice() -> str | None:
    """What to set if torch would use more threads than there are idle cores, or None.

    OpenMP threads wait for each other: one that shares its core with another program holds up all others. A training on
    two busy cores became 20 times slower. There is no advice if OMP_NUM_THREADS is set or a GPU does the work.
    """
    if 'OMP_NUM_THREADS' in os.environ or torch.cuda.is_available() or not hasattr(os, 'getloadavg'):
        return None
    load, cores, threads = os.getloadavg()[0], os.cpu_count() or 1, torch.get_num_threads()
    idle = max(1, int(cores - load))
    if load < cores / 2 or threads <= idle:
        return None
    return (
        f'the machine is busy (load {load:.1f} on {cores} cores) and torch uses {threads} threads, which wait for each '
        f'other. Set OMP_NUM_THREADS={idle}'
    )
