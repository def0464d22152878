"""Functions in a process of their own."""

import os

import pytest

from ggkm_plugin.benchmarks import processes
from ggkm_plugin.utils.errors import OptionError


@pytest.mark.parametrize(('function', 'argument'), [(exec, "raise KeyError('gone')"), (os._exit, 3)])
def test_a_failure_is_reported(function, argument):
    with pytest.raises(processes.Failed):
        processes.in_new_process(function, argument)


def test_the_peak_is_that_of_the_process_alone():
    before = processes.peak_bytes()
    held = bytes([1]) * (before + (200 << 20))
    assert processes.peak_bytes() > len(held)
    assert processes.in_new_process(processes.peak_bytes) < len(held)


def test_memory_is_measured_on_linux_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, '_STATUS', tmp_path / 'status')
    with pytest.raises(OptionError):
        processes.check_proc()
