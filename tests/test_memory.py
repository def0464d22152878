"""Words in place of an allocator's."""

import pytest
import torch

from ggkm_plugin.errors import TrainingError
from ggkm_plugin.memory import memory_advice

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
