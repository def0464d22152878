"""Advice on the number of threads on a busy machine."""

import os

import torch


def thread_advice() -> str | None:
    """Return advice if torch would use more threads than there are idle cores, else None.

    OpenMP threads wait for each other, so one on a busy core delays all. A training on two busy cores became 20 times
    slower. Returns None if OMP_NUM_THREADS is set or a GPU is available.
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
