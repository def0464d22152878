"""Advice on threads on a busy machine."""

import os

import pytest
import torch

from ggkm_plugin.utils.machine_load import thread_advice


@pytest.fixture
def machine(monkeypatch):
    def make(load, cores, threads, gpu=False):
        monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
        monkeypatch.setattr(os, 'getloadavg', lambda: (load, 0.0, 0.0))
        monkeypatch.setattr(os, 'cpu_count', lambda: cores)
        monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)

    return make


@pytest.mark.parametrize(('load', 'cores', 'threads', 'advised'), [
    (0.2, 2, 2, None),
    (3.5, 2, 2, 1),
    (5.0, 8, 8, 3),
    (5.0, 8, 2, None),
    (30.0, 64, 4, None),  # a container with four of the cores
])  # fmt: skip
def test_threads_on_a_busy_machine(machine, load, cores, threads, advised):
    machine(load, cores, threads)
    advice = thread_advice()
    assert advice is None if advised is None else f'OMP_NUM_THREADS={advised}' in advice


def test_no_advice_with_a_gpu_or_a_set_number(machine, monkeypatch):
    machine(4.0, 2, 2, gpu=True)
    assert thread_advice() is None
    machine(4.0, 2, 2)
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    assert thread_advice() is None


def test_a_command_prints_it(machine, command, tiny, write_options):
    machine(4.0, 2, 2)
    tiny['train']['total_iter'] = 1
    code, _, err = command('train', '-opt', write_options(tiny))
    assert code == 0
    assert err.count('OMP_NUM_THREADS=1') == 1
