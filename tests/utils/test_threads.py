"""The parallel map over threads."""

import threading

import pytest

from ggkm_plugin.utils.threads import map_threads


@pytest.mark.parametrize(('workers', 'count'), [(3, 0), (1, 50), (3, 50)])
def test_results_come_in_order(workers, count):
    assert list(map_threads(lambda item: item * item, range(count), workers)) == [k * k for k in range(count)]


def test_few_items_are_in_progress():
    started = []
    for yielded, _ in enumerate(map_threads(started.append, range(100), 4)):
        assert len(started) - yielded <= 8


def test_work_is_done_in_parallel():
    barrier = threading.Barrier(3, timeout=20)
    assert len(list(map_threads(lambda _: barrier.wait(), range(3), 3))) == 3


def test_an_error_reaches_the_caller_and_ends_the_work():
    started = []

    def fail(item):
        started.append(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match='0'):
        list(map_threads(fail, range(1000), 2))
    assert len(started) <= 4
