"""Freed memory is reused, counted and returned; in subprocesses, since the allocator is global."""

import subprocess
import sys

import pytest

from ggkm_plugin.utils import allocator

pytestmark = pytest.mark.skipif(allocator._glibc() is None, reason='the C library is not glibc')

# Frees 40 blocks of 32 MB in turn; prints whether memory is kept, cleared pages, and freed bytes before and after.
PROGRAM = """
import resource, sys
from ggkm_plugin.utils import allocator
kept = allocator.keep_freed_memory() if sys.argv[1] == 'keep' else False
import torch
torch.set_num_threads(1)
from ggkm_plugin.utils.memory import free_bytes, release
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**25, dtype=torch.uint8)
before = faults()
for _ in range(40):
    torch.ones(2**25, dtype=torch.uint8)
cleared = faults() - before
freed = allocator.freed_bytes()
release(torch.device('cpu'))
print(kept, cleared, freed, allocator.freed_bytes())
"""


def run(mode):
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, mode],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    kept, *numbers = done.stdout.split()
    return kept == 'True', *map(int, numbers)


def test_freed_memory_is_used_again():
    kept, cleared, freed, _ = run('keep')
    assert kept
    assert cleared < 8 * 2**25 / 4096
    assert freed >= 2**25
    kept, cleared, freed, _ = run('leave')
    assert not kept
    assert cleared > 20 * 2**25 / 4096
    assert freed < 2**25


def test_the_environment_has_priority_and_other_systems_are_unchanged(monkeypatch):
    monkeypatch.setenv('MALLOC_TRIM_THRESHOLD_', '1000000')
    assert not allocator.keep_freed_memory()
    monkeypatch.delenv('MALLOC_TRIM_THRESHOLD_')
    monkeypatch.setattr(allocator, '_glibc', lambda: None)
    assert not allocator.keep_freed_memory()
    assert allocator.freed_bytes() == 0
    allocator.trim()
