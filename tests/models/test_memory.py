"""Words in place of an allocator's, and a failed allocation in place of a killed process."""

import sys
from pathlib import Path

import pytest
import torch

from ggkm_plugin.errors import TrainingError
from ggkm_plugin.models import memory
from ggkm_plugin.models.memory import bounded_memory, memory_advice

FULL = [
    torch.OutOfMemoryError('CUDA out of memory.\nTried to allocate 2.00 GiB.'),
    MemoryError(),
    RuntimeError('CUDA error: out of memory'),
    RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'),
    RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
]


@pytest.mark.parametrize('error', FULL, ids=lambda error: str(error)[:30])
def test_a_full_memory(error):
    with (
        pytest.raises(TrainingError, match='out of memory in a step: buy more') as raised,
        memory_advice('in a step', 'buy more'),
    ):
        raise error
    assert raised.value.__cause__ is error
    assert '\n' not in str(raised.value)


def test_the_machine_s_own():
    with pytest.raises(TrainingError, match='out of memory here'), memory_advice('here', 'do this'):
        torch.empty(2**50)


@pytest.mark.parametrize('error', [RuntimeError('size mismatch'), ValueError('memory'), KeyError('x')])
def test_others_pass(error):
    with pytest.raises(type(error)) as raised, memory_advice('here', 'do this'):
        raise error
    assert raised.value is error


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells what is free')
def test_more_than_is_free_is_not_given(monkeypatch):
    """In place of a promise that the kernel breaks by killing the process."""
    cpu, text = torch.device('cpu'), Path('/proc/self/status').read_text()
    own = int(text[text.index('VmData') :].split()[1]) * 1024
    assert memory._free_memory() > own
    monkeypatch.setattr(memory, '_free_memory', lambda: own + 2**28)
    with pytest.raises(TrainingError, match='out of memory here'), memory_advice('here', 'x'), bounded_memory(cpu):
        torch.empty(2**30, dtype=torch.uint8)
    with bounded_memory(cpu):
        assert torch.ones(2**20).sum() == 2**20
    assert len(torch.empty(2**30, dtype=torch.uint8)) == 2**30  # the bound ends with the block
    with bounded_memory(torch.device('meta')):  # nor is there one for other devices
        assert len(torch.empty(2**30, dtype=torch.uint8)) == 2**30
