"""Training batches: samples that depend on their draw only, resuming, counts, failures; and BasicSR's defects."""

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
from torch.utils.data import Dataset

from ggkm_plugin.basicsr_patches import data_loading
from ggkm_plugin.basicsr_patches.data_loading import Position
from ggkm_plugin.basicsr_patches.sampler import SampleIndex
from ggkm_plugin.utils.errors import DataError

import basicsr.data.prefetch_dataloader as basicsr_prefetch  # isort: skip

LOGGER = logging.getLogger('test')


def loader_options(tiny, **train):
    tiny.update(dist=False, rank=0, world_size=1)
    tiny['datasets']['train'].update(phase='train', **train)
    tiny['datasets']['val'].update(phase='val')
    return tiny


@pytest.fixture
def stock(workplace, tiny, monkeypatch):
    """Options of BasicSR's own data set, which draws crops and flips from `random`."""
    monkeypatch.setattr(basicsr_prefetch, 'PrefetchGenerator', data_loading.PrefetchGenerator)
    return loader_options(tiny, type='PairedImageDataset', scale=1, io_backend={'type': 'disk'}, use_rot=True)


def made(opt, resumed=None, **train):
    """Build the loader and what comes with it, with changed options of the training set."""
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
        {'num_worker_per_gpu': 0, 'persistent_workers': True},  # torch refuses it
        {'num_worker_per_gpu': 2},
        {'num_worker_per_gpu': 1, 'persistent_workers': True},
        {'num_worker_per_gpu': 1, 'prefetch_mode': 'cpu', 'num_prefetch_queue': 2},
        {'num_worker_per_gpu': 0, 'prefetch_mode': 'cpu', 'num_prefetch_queue': 2},
    ],
    ids=str,
)
def test_samples_do_not_depend_on_the_workers(stock, train):
    here, there = made(stock), made(stock, **train)
    epochs = []
    for epoch in (0, 1):
        epochs.append(pixels(drawn(*here[:2], epoch)))
        assert equal(epochs[-1], pixels(drawn(*there[:2], epoch)))
    assert not equal(*epochs)


class _Draws(Dataset):
    """A number of each generator, and the index of the sample."""

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
def test_loading_leaves_the_generators_of_the_process(stock, prefetch_mode):
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
    """A thread would seed the generators while the network draws."""
    threads = []
    load = data_loading.SeededDataset.__getitem__
    monkeypatch.setattr(
        data_loading.SeededDataset,
        '__getitem__',
        lambda *args: threads.append(threading.current_thread()) or load(*args),
    )
    drawn(*made(stock, prefetch_mode='cpu', num_prefetch_queue=1)[:2])
    assert set(threads) == {threading.main_thread()}


# ---- resuming


@pytest.mark.parametrize('world_size', [1, 2])
def test_a_batch_has_its_position(stock, world_size):
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


@pytest.mark.parametrize(('done', 'workers'), [(1, 0), (3, 1), (4, 0)])
def test_a_resumed_epoch_has_the_remaining_batches(stock, done, workers):
    whole = drawn(*made(stock)[:2], epoch=1)
    loader, sampler, *_ = made(stock, state_after(whole[:done]), num_worker_per_gpu=workers)
    rest = drawn(loader, sampler, epoch=1)
    assert equal(pixels(rest), pixels(whole[done:]))
    for batch, other in zip(rest, whole[done:], strict=True):
        assert batch['position'].samples == other['position'].samples
    assert equal(pixels(drawn(loader, sampler, 2)), pixels(drawn(*made(stock)[:2], epoch=2)))


@pytest.mark.parametrize('total', [1, 3, 4, 5, 8, 11])
def test_the_number_of_epochs(stock, total):
    """Four iterations per epoch, resumed after `done` iterations."""
    stock['train']['total_iter'] = total
    epochs = made(stock)[3]
    assert 4 * epochs < total <= 4 * (epochs + 1)
    for done in range(1, total + 1):
        epoch, samples = divmod(done - 1, 4)
        state = {'epoch': epoch, 'iter': done, 'position': {'samples': 2 * (samples + 1), 'epoch_samples': 8}}
        assert made(stock, state)[3] == epochs


def test_a_state_of_another_data_set_starts_its_epoch_again(stock, caplog):
    state = {'epoch': 1, 'iter': 5, 'position': {'samples': 6, 'epoch_samples': 12}}
    with caplog.at_level('WARNING', 'test'):
        loader, sampler, *_ = made(stock, state)
    assert len(caplog.records) == 1
    assert len(drawn(loader, sampler, 1)) == 4


def test_validation_draws_nothing_from_torch(stock):
    """A resumed run may validate more often or less often."""
    stock['datasets']['val']['persistent_workers'] = True  # torch refuses it without workers
    loader = made(stock)[2][0]
    before = torch.get_rng_state()
    names = [batch['lq_path'][0] for batch in loader]
    assert torch.equal(torch.get_rng_state(), before)
    assert names == sorted(names)
    assert len(names) == 4


# ---- counts


def test_a_dropped_batch_is_not_counted(workplace, tiny):
    """Four images in batches of three are one iteration per epoch. BasicSR counts two, and so half the epochs."""
    opt = loader_options(tiny, dataset_enlarge_ratio=1, batch_size_per_gpu=3)
    loader, _, val_loaders, epochs, iterations = data_loading.create_train_val_dataloader(opt, LOGGER)
    assert (len(loader), epochs + 1, iterations, len(val_loaders)) == (1, 4, 4, 1)  # epochs are numbered from 0


def test_a_data_set_smaller_than_a_batch_is_refused(workplace, tiny):
    """BasicSR trains nothing and exits with 0."""
    opt = loader_options(tiny, dataset_enlarge_ratio=1, batch_size_per_gpu=5)
    with pytest.raises(DataError, match=r'datasets\.train'):
        data_loading.create_train_val_dataloader(opt, LOGGER)


def test_the_seed_of_the_state_is_used(stock, caplog):
    state = {'epoch': 0, 'iter': 1, 'options': {'datasets.train': {'seed': 99}}}
    with caplog.at_level('WARNING', 'test'):
        sampler = made(stock, state)[1]
    assert sampler.seed == 99
    assert 'manual_seed' in caplog.text


def test_no_training_set(workplace, tiny):
    opt = loader_options(tiny)
    del opt['datasets']['train']
    with pytest.raises(DataError, match='train'):
        data_loading.create_train_val_dataloader(opt, LOGGER)


# ---- failures


@pytest.mark.slow
def test_a_worker_that_is_killed(stock):
    """Under a prefetching thread; `training/test_resuming` has it without."""
    loader, *_ = made(stock, num_worker_per_gpu=1, dataset_enlarge_ratio=100, prefetch_mode='cpu', num_prefetch_queue=1)
    batches = iter(loader)
    next(batches)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(DataError, match='num_worker_per_gpu'):
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


def test_a_program_with_an_open_loader_ends():
    """At exit Python sends its children a signal that workers ignore, and waits for them."""
    subprocess.run([sys.executable, '-c', LEFT], check=True, timeout=60)


def _broken_batches():
    yield 'batch'
    raise DataError('broken.png: not a readable image')


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_damaged_image_is_raised_in_the_loop():
    """BasicSR's generator waits forever."""
    generator = basicsr_prefetch.PrefetchGenerator(_broken_batches(), 2)
    assert next(generator) == 'batch'
    with pytest.raises(queue.Empty):
        generator.queue.get(timeout=0.5)
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


def test_workers_start_once_per_epoch():
    starts = {}
    for name, prefetcher_class in (('BasicSR', basicsr_prefetch.CPUPrefetcher), ('patch', data_loading.CPUPrefetcher)):
        loader = _CountingLoader()
        prefetcher = prefetcher_class(loader)
        prefetcher.reset()
        assert [prefetcher.next() for _ in range(3)] == [1, 2, None]
        starts[name] = loader.starts
    assert starts == {'BasicSR': 2, 'patch': 1}


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_batches_on_the_gpu(stock):
    stock['num_gpu'] = 1
    loader, sampler, *_ = made(stock, num_worker_per_gpu=1, prefetch_mode='cuda', pin_memory=True)
    expected = drawn(loader, sampler)
    prefetcher = data_loading.CUDAPrefetcher(loader, stock)
    for _ in range(2):
        prefetcher.reset()
        batches = list(iter(prefetcher.next, None))
        assert all(batch['lq'].is_cuda for batch in batches)
        assert equal([pair.cpu() for pair in pixels(batches)], pixels(expected))
