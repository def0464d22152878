"""Work on threads: all of it is done, a failure ends it, and it is told in order."""

import threading
import time

import pytest

from ggkm_plugin.classical.working import done_by_threads


def test_all_jobs_are_done_and_told():
    done, told = set(), []
    done_by_threads('adding', lambda a, b: done.add(a + b), [(n, 1) for n in range(20)], lambda *s: told.append(s), 3)
    assert done == set(range(1, 21))
    assert told == [('adding', n, 20) for n in range(1, 21)]


def test_what_has_not_begun_when_one_fails_does_not_begin():
    begun, failed = [], threading.Event()

    def do(n):
        begun.append(n)
        if n == 0:
            failed.set()
            raise KeyError('first')
        failed.wait()
        time.sleep(0.01)  # so that there is time to be told

    with pytest.raises(KeyError, match='first'):
        done_by_threads('failing', do, [(n,) for n in range(1000)], workers=2)
    assert len(begun) < 1000


def test_no_jobs_no_words():
    told = []
    done_by_threads('nothing', print, [], lambda *step: told.append(step))
    assert told == []
