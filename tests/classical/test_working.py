"""Jobs on threads: completion, progress and failure."""

import threading
import time

import pytest

from ggkm_plugin.classical.working import done_by_threads


def test_all_jobs_are_done_with_progress():
    done, steps = set(), []
    done_by_threads('adding', lambda a, b: done.add(a + b), [(n, 1) for n in range(20)], lambda *s: steps.append(s), 3)
    assert done == set(range(1, 21))
    assert steps == [('adding', n, 20) for n in range(1, 21)]


def test_jobs_that_wait_when_one_fails_are_canceled():
    begun, failed = [], threading.Event()

    def do(n):
        begun.append(n)
        if n == 0:
            failed.set()
            raise KeyError('first')
        failed.wait()
        time.sleep(0.01)  # time to cancel the others

    with pytest.raises(KeyError, match='first'):
        done_by_threads('failing', do, [(n,) for n in range(1000)], workers=2)
    assert len(begun) < 1000
