"""Out-of-memory errors, bounds and free memory."""

import sys

import pytest
import torch

from ggkm_plugin.utils import memory
from ggkm_plugin.utils.errors import TrainingError
from ggkm_plugin.utils.memory import bounded_memory, memory_advice, release

FULL = [
    torch.OutOfMemoryError('CUDA out of memory.\nTried to allocate 2.00 GiB.'),
    MemoryError(),
    RuntimeError('CUDA error: out of memory'),
    RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
    RuntimeError('could not create a primitive'),
]


@pytest.mark.parametrize('error', FULL, ids=lambda error: str(error)[:30])
def test_a_full_memory(error):
    with (
        pytest.raises(TrainingError, match='in a step: buy more') as raised,
        memory_advice('in a step', 'buy more'),
    ):
        raise error
    assert raised.value.__cause__ is error
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('could not create a primitive descriptor for it'),
        KeyError('memory'),
    ],
)
def test_others_pass(error):
    with pytest.raises(type(error)) as raised, memory_advice('here', 'do this'):
        raise error
    assert raised.value is error


@pytest.mark.skipif(sys.platform != 'linux', reason='free memory is known on Linux only')
def test_more_than_is_free_cannot_be_allocated(monkeypatch):
    cpu = torch.device('cpu')
    monkeypatch.setattr(memory, '_available', lambda: 2**28)
    with pytest.raises(TrainingError, match='here'), memory_advice('here', 'x'), bounded_memory(cpu):
        torch.empty(2**30, dtype=torch.uint8)
    with bounded_memory(cpu):
        assert torch.ones(2**20).sum() == 2**20
    assert len(torch.empty(2**30, dtype=torch.uint8)) == 2**30  # the bound ends with the block
    with bounded_memory(torch.device('meta')):  # not bounded
        assert len(torch.empty(2**30, dtype=torch.uint8)) == 2**30


@pytest.mark.parametrize(
    ('files', 'left'),
    [
        ({'memory.max': '1000', 'memory.current': '900', 'memory.stat': 'anon 100\ninactive_file 700\n'}, 800),
        ({'memory.limit_in_bytes': '1000', 'memory.usage_in_bytes': '900', 'memory.stat': 'inactive_file 700\n'}, 800),
        ({'memory.max': 'max', 'memory.current': '900', 'memory.stat': ''}, None),
        ({'memory.max': '1000', 'memory.current': '1200', 'memory.stat': ''}, 0),
    ],
)
def test_memory_left_in_a_container(tmp_path, files, left):
    """The cache of files counts as used, but is freed when memory is needed."""
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert memory._group_left(tmp_path) == left


@pytest.mark.skipif(sys.platform != 'linux', reason='Linux only: /proc')
def test_released_memory_is_free_for_the_next_attempt():
    """Many blocks, too small for mmap, below one that is kept."""

    def own():
        with open('/proc/self/status') as status:
            return next(int(line.split()[1]) for line in status if line.startswith('VmRSS:'))

    blocks = [torch.ones(25_000) for _ in range(2000)]
    last = torch.ones(25_000)
    full = own()
    del blocks
    release(torch.device('cpu'))
    assert own() < full - 150_000  # of 200,000 kB
    assert last.sum() == 25_000
