"""Training batches: the host's defects shown on its own code, and samples that depend on their draw alone."""

import logging
import multiprocessing
import os
import queue
import random
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from ggkm_plugin.basicsr_patches import data_loading
from ggkm_plugin.basicsr_patches.data_loading import Position
from ggkm_plugin.basicsr_patches.sampler import EpochSampler, SampleIndex
from ggkm_plugin.utils.errors import DataError

import basicsr.data.prefetch_dataloader as host_prefetch  # isort: skip
import basicsr.train as host_train  # isort: skip

LOGGER = logging.getLogger('test')


def loader_options(tiny, **train):
    tiny.update(dist=False, rank=0, world_size=1)
    tiny['datasets']['train'].update(phase='train', **train)
    tiny['datasets']['val'].update(phase='val')
    return tiny


@pytest.fixture
def stock(workplace, tiny, monkeypatch):
    """The host's own data set, which draws crops and flips from `random`; its `cpu` prefetcher as the seam has it."""
    monkeypatch.setattr(host_prefetch, 'PrefetchGenerator', data_loading.PrefetchGenerator)
    return loader_options(tiny, type='PairedImageDataset', scale=1, io_backend={'type': 'disk'}, use_rot=True)


def made(opt, resumed=None, **train):
    """(batches of an epoch at a time, what the loop would be told)"""
    opt = {**opt, 'datasets': {**opt['datasets'], 'train': {**opt['datasets']['train'], **train}}}
    return data_loading.create_train_val_dataloader(opt, LOGGER, resumed)


def drawn(loader, sampler, epoch=0):
    sampler.set_epoch(epoch)
    prefetcher = data_loading.CPUPrefetcher(loader)
    prefetcher.reset()
    return list(iter(prefetcher.next, None))


def pixels(batches):
    return [torch.stack([batch['lq'], batch['gt']]) for batch in batches]


def equal(one, other):
    return len(one) == len(other) and all(map(torch.equal, one, other))


# ---- samples


@pytest.mark.parametrize(
    'train',
    [
        {'num_worker_per_gpu': 1},
        {'num_worker_per_gpu': 2},
        {'num_worker_per_gpu': 1, 'persistent_workers': True},
        {'num_worker_per_gpu': 1, 'prefetch_mode': 'cpu', 'num_prefetch_queue': 2},
        {'num_worker_per_gpu': 0, 'prefetch_mode': 'cpu', 'num_prefetch_queue': 2},
    ],
    ids=str,
)
def test_samples_do_not_depend_on_who_loads_them(stock, train):
    """In the first epoch and in the next one, which persistent workers come to with spent generators."""
    here, there = made(stock), made(stock, **train)
    for epoch in (0, 1):
        assert equal(pixels(drawn(*here[:2], epoch)), pixels(drawn(*there[:2], epoch)))


def first_numbers(loader, sampler):
    """What the sample drawn first is given of `random`, in two epochs."""
    found = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        found.append(float(next(iter(loader))[0][0]))
    return found


def test_the_host_s_workers_start_every_epoch_alike(stock, monkeypatch):
    """The defect: the same crops at the same place of each epoch."""
    stock['datasets']['train']['num_worker_per_gpu'] = 1
    for module in (host_train, data_loading):
        monkeypatch.setattr(module, 'build_dataset', lambda opt: _Draws())
    del stock['datasets']['val']
    host, ours = (
        first_numbers(*module.create_train_val_dataloader(stock, LOGGER)[:2]) for module in (host_train, data_loading)
    )
    assert host[0] == host[1]
    assert ours[0] != ours[1]


class _Draws(Dataset):
    """Of each of the three generators a number, and which sample it was."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([random.random(), np.random.rand(), torch.rand(()), index], dtype=torch.float64)  # noqa: NPY002


def test_every_generator_follows_seed_epoch_and_draw():
    dataset, other = data_loading.SeededDataset(_Draws(), 3), data_loading.SeededDataset(_Draws(), 4)
    first = dataset[SampleIndex(0, 1, 2)]
    assert torch.equal(dataset[SampleIndex(0, 1, 2)], first)
    for changed in (dataset[SampleIndex(0, 2, 2)], dataset[SampleIndex(0, 1, 3)], other[SampleIndex(0, 1, 2)]):
        assert (changed != first)[:3].all()


@pytest.mark.parametrize('prefetch_mode', [None, 'cpu'])
def test_the_process_s_own_generators_are_untouched(stock, prefetch_mode):
    """What the network draws is no matter of the data's: also while a batch is being drawn."""
    loader, sampler, *_ = made(stock, prefetch_mode=prefetch_mode, num_prefetch_queue=1)
    expected, found = [], []
    for draws, batches in ((expected, range(4)), (found, loader)):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        for _ in batches:
            draws.append((random.random(), np.random.rand(), float(torch.rand(()))))  # noqa: NPY002
    assert found == expected
    assert sampler.epoch == 0


def test_without_workers_no_thread_draws(stock, monkeypatch):
    """It would seed the generators under the hands of the network."""
    threads = []
    load = data_loading.SeededDataset.__getitem__
    monkeypatch.setattr(
        data_loading.SeededDataset,
        '__getitem__',
        lambda *args: threads.append(threading.current_thread()) or load(*args),
    )
    drawn(*made(stock, prefetch_mode='cpu', num_prefetch_queue=1)[:2])
    assert set(threads) == {threading.main_thread()}


def test_another_process_has_other_samples(stock):
    batches = []
    for rank in (0, 1):
        stock.update(dist=True, rank=rank, world_size=2)
        batches.append(pixels(drawn(*made(stock)[:2])))
    assert [len(part) for part in batches] == [2, 2]
    assert not any(torch.equal(one, other) for one in batches[0] for other in batches[1])


def test_epochs_draw_different_crops(workplace, tiny):
    loader, sampler, *_ = made(loader_options(tiny))
    epochs = [pixels(drawn(loader, sampler, epoch)) for epoch in (0, 1, 0)]
    assert equal(epochs[0], epochs[2])
    assert not equal(epochs[0], epochs[1])


def test_a_plain_data_set_takes_the_sampler_s_indices():
    dataset = TensorDataset(torch.arange(5))
    values = [int(dataset[i][0]) for i in EpochSampler(dataset, 1, 0, ratio=2)]
    assert sorted(values) == sorted([0, 1, 2, 3, 4] * 2)


# ---- where a batch stands


@pytest.mark.parametrize('world_size', [1, 2])
def test_a_batch_says_where_it_stands(stock, world_size):
    stock.update(dist=world_size > 1, world_size=world_size)
    positions = [batch['position'] for batch in drawn(*made(stock)[:2], epoch=5)]
    assert all(isinstance(position, Position) and position.waited > 0 for position in positions)
    expected = [(5, 2 * world_size * (i + 1), 8) for i in range(4 // world_size)]
    assert [(position.epoch, position.samples, position.epoch_samples) for position in positions] == expected


def state_after(batches, iteration=1):
    position = batches[-1]['position']
    return {
        'epoch': position.epoch,
        'iter': iteration,
        'position': {'samples': position.samples, 'epoch_samples': position.epoch_samples},
    }


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('done', [1, 2, 3, 4])
def test_a_resumed_epoch_has_the_batches_that_are_left(stock, done, workers):
    whole = drawn(*made(stock)[:2], epoch=1)
    loader, sampler, *_ = made(stock, state_after(whole[:done]), num_worker_per_gpu=workers)
    rest = drawn(loader, sampler, epoch=1)
    assert equal(pixels(rest), pixels(whole[done:]))
    for batch, other in zip(rest, whole[done:], strict=True):
        assert batch['position'].samples == other['position'].samples
    assert equal(pixels(drawn(loader, sampler, 2)), pixels(drawn(*made(stock)[:2], epoch=2)))


@pytest.mark.parametrize('total', range(1, 12))
def test_there_are_epochs_enough_and_none_too_many(stock, total):
    """Four iterations an epoch; resumed after `done` of them in all."""
    stock['train']['total_iter'] = total
    epochs = made(stock)[3]
    assert 4 * epochs < total <= 4 * (epochs + 1)
    for done in range(1, total + 1):
        epoch, samples = divmod(done - 1, 4)
        state = {'epoch': epoch, 'iter': done, 'position': {'samples': 2 * (samples + 1), 'epoch_samples': 8}}
        assert made(stock, state)[3] == epochs


def test_a_state_of_another_data_set_starts_its_epoch_anew(stock, caplog):
    state = {'epoch': 1, 'iter': 5, 'position': {'samples': 6, 'epoch_samples': 12}}
    with caplog.at_level('WARNING', 'test'):
        loader, sampler, *_ = made(stock, state)
    assert 'starts anew' in caplog.text
    assert len(drawn(loader, sampler, 1)) == 4


def test_validation_draws_nothing_from_torch(stock):
    """A resumed run validates once more, or once less."""
    loader = made(stock)[2][0]
    before = torch.get_rng_state()
    names = [batch['lq_path'][0] for batch in loader]
    assert torch.equal(torch.get_rng_state(), before)
    assert names == sorted(names)
    assert len(names) == 4


# ---- counts


def test_host_counts_a_batch_that_is_dropped(workplace, tiny):
    """Four images in batches of three are one iteration an epoch; the host says two, so half the epochs."""
    opt = loader_options(tiny, dataset_enlarge_ratio=1, batch_size_per_gpu=3)
    loader, *_, host_epochs, _ = host_train.create_train_val_dataloader(opt, LOGGER)
    assert (len(loader), host_epochs) == (1, 2)
    loader, _, val_loaders, epochs, iterations = data_loading.create_train_val_dataloader(opt, LOGGER)
    assert (len(loader), epochs + 1, iterations, len(val_loaders)) == (1, 4, 4, 1)  # epochs are numbered from 0


def test_a_set_smaller_than_a_batch(workplace, tiny):
    """The host trains nothing and exits 0."""
    opt = loader_options(tiny, dataset_enlarge_ratio=1, batch_size_per_gpu=5)
    assert len(host_train.create_train_val_dataloader(opt, LOGGER)[0]) == 0
    with pytest.raises(DataError, match='batch_size_per_gpu, or set dataset_enlarge_ratio to 2'):
        data_loading.create_train_val_dataloader(opt, LOGGER)


def test_workers_that_stay_but_are_none(workplace, tiny):
    """torch refuses persistent_workers without workers; somebody who debugs with 0 of them need not edit two keys."""
    assert len(made(loader_options(tiny, persistent_workers=True))[0]) == 4


def test_a_validation_set_has_no_workers_to_stay(stock):
    stock['datasets']['val']['persistent_workers'] = True
    assert len(list(made(stock)[2][0])) == 4


def test_the_seed_of_the_state_goes_on(stock, caplog):
    state = {'epoch': 0, 'iter': 1, 'options': {'datasets.train': {'seed': 99}}}
    with caplog.at_level('WARNING', 'test'):
        sampler = made(stock, state)[1]
    assert sampler.seed == 99
    assert 'manual_seed: going on with 99' in caplog.text


def test_no_training_set(workplace, tiny):
    opt = loader_options(tiny)
    del opt['datasets']['train']
    with pytest.raises(UnboundLocalError):
        host_train.create_train_val_dataloader(opt, LOGGER)
    with pytest.raises(DataError, match='train'):
        data_loading.create_train_val_dataloader(opt, LOGGER)


# ---- harm


@pytest.mark.parametrize('prefetch_mode', [None, pytest.param('cpu', marks=pytest.mark.slow)])
def test_a_worker_that_is_killed(stock, prefetch_mode):
    loader, *_ = made(
        stock, num_worker_per_gpu=1, dataset_enlarge_ratio=100, prefetch_mode=prefetch_mode, num_prefetch_queue=1
    )
    batches = iter(loader)
    next(batches)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r'a loading process died.*num_worker_per_gpu.*--auto_resume'):
        for _ in batches:
            pass


@pytest.mark.parametrize('workers', [0, 1])
def test_other_errors_of_a_data_set_keep_their_kind(stock, monkeypatch, workers):
    def broken(*_):
        raise RuntimeError('my own')

    monkeypatch.setattr(data_loading.SeededDataset, '__getitem__', broken)
    with pytest.raises(RuntimeError, match='my own'):
        drawn(*made(stock, num_worker_per_gpu=workers)[:2])


LEFT = """
import ggkm_plugin
ggkm_plugin.register()
from torch.utils.data import DataLoader
from ggkm_plugin.basicsr_patches import data_loading
from ggkm_plugin.basicsr_patches.sampler import EpochSampler

images = list(range(100))
sampler = EpochSampler(images, 1, 0, 1, 0)
loader = DataLoader(
    data_loading.SeededDataset(images, 0), num_workers=2, sampler=sampler, worker_init_fn=data_loading._start_worker
)
batches = iter(data_loading.TrainLoader(loader, sampler))
next(batches)
"""


def test_a_program_that_leaves_its_loader_behind_ends():
    """Python ends its children by a signal to which loading processes do not listen, and waits for them."""
    subprocess.run([sys.executable, '-c', LEFT], check=True, timeout=60)


def _broken_batches():
    yield 'batch'
    raise DataError('broken.png: not a readable image')


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_host_hangs_after_a_bad_image():
    generator = host_prefetch.PrefetchGenerator(_broken_batches(), 2)
    assert next(generator) == 'batch'
    with pytest.raises(queue.Empty):
        generator.queue.get(timeout=0.5)


def test_a_bad_image_reaches_the_loop():
    generator = data_loading.PrefetchGenerator(_broken_batches(), 2)
    assert next(generator) == 'batch'
    with pytest.raises(DataError, match=r'broken\.png'):
        next(generator)
    assert list(data_loading.PrefetchGenerator(iter([1, 2]), 1)) == [1, 2]


# ---- prefetchers


class _CountingLoader:
    def __init__(self):
        self.starts = 0

    def __iter__(self):
        self.starts += 1
        return iter([1, 2])


def test_workers_start_once_an_epoch():
    starts = {}
    for name, prefetcher_class in (('host', host_prefetch.CPUPrefetcher), ('ours', data_loading.CPUPrefetcher)):
        loader = _CountingLoader()
        prefetcher = prefetcher_class(loader)
        prefetcher.reset()
        assert [prefetcher.next() for _ in range(3)] == [1, 2, None]
        starts[name] = loader.starts
    assert starts == {'host': 2, 'ours': 1}


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_batches_on_their_way_to_the_gpu(stock):
    stock['num_gpu'] = 1
    loader, sampler, *_ = made(stock, num_worker_per_gpu=1, prefetch_mode='cuda', pin_memory=True)
    expected = drawn(loader, sampler)
    prefetcher = data_loading.CUDAPrefetcher(loader, stock)
    for _ in range(2):
        prefetcher.reset()
        batches = list(iter(prefetcher.next, None))
        assert all(batch['lq'].is_cuda for batch in batches)
        assert equal([pair.cpu() for pair in pixels(batches)], pixels(expected))
