"""Jobs on threads: completion, progress and failure."""

import threading
import time

import pytest

from ggkm_plugin.classical.working import done_by_threads


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
