"""Key prefixes of process groups in a store with keys of earlier groups."""

import threading

from torch import distributed

from ggkm_plugin.basicsr_patches.distributed import meet


def _group(store, size: int) -> list[str]:
    prefixes = [''] * size

    def join(rank: int) -> None:
        prefixes[rank] = meet(store, rank, size)

    threads = [threading.Thread(target=join, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return prefixes


def test_every_group_has_keys_of_its_own():
    store = distributed.HashStore()
    store.set('hello/1', 'of an earlier process')
    groups = [_group(store, 3) for _ in range(3)]
    assert all(len(set(group)) == 1 for group in groups)
    assert len({group[0] for group in groups}) == 3


def test_a_single_process_does_not_wait():
    assert meet(distributed.HashStore(), 0, 1)
