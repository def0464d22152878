"""Reproducible training batches: the same samples for any number of workers, and resumed at any point of an epoch."""

import logging
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import util
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ggkm_plugin.basicsr_patches.distributed import from_first
from ggkm_plugin.basicsr_patches.generators import seed_generators, unchanged_generators
from ggkm_plugin.basicsr_patches.graceful_shutdown import ignore_stop_signals
from ggkm_plugin.basicsr_patches.sampler import EpochSampler, SampleIndex
from ggkm_plugin.utils.errors import DataError

from basicsr.data import build_dataloader, build_dataset  # isort: skip


@dataclass(frozen=True)
class Position:
    """Position of a batch in the training, stored in the batch as `position`."""

    epoch: int
    samples: int  # of this epoch, over all processes, up to and including this batch
    epoch_samples: int  # samples of the whole epoch
    waited: float  # seconds that the loop waited for the batch


class SeededDataset(Dataset):
    """Data set that seeds `random`, numpy and torch for each sample from seed, epoch and draw.

    A sample does not depend on the process that loads it, and loading does not change that process's generators.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: SampleIndex) -> Any:
        seed = int(np.random.SeedSequence([self.seed, index.epoch, index.draw]).generate_state(1)[0])
        with nullcontext() if get_worker_info() else unchanged_generators():
            seed_generators(seed)
            try:
                return self.dataset[index]
            except DataError as error:
                paths = getattr(self.dataset, 'paths', None)  # of BasicSR's data sets, whose errors name no file
                if paths is None:
                    raise
                names = paths[index].values() if isinstance(paths[index], dict) else [paths[index]]
                raise DataError(f'{" or ".join(map(str, names))}: {error}') from error


class TrainLoader:
    """BasicSR's loader with `position` added to batches that are dicts. Raises DataError if a worker dies."""

    def __init__(self, loader: DataLoader, sampler: EpochSampler) -> None:
        self.loader, self.sampler = loader, sampler
        self.images = len(sampler.dataset)  # type: ignore[arg-type]
        self.batch_size = loader.batch_size or 1
        self._end: util.Finalize | None = None

    def close(self) -> None:
        """End the worker processes, if any."""
        if self._end is not None:
            self._end()

    def _kill_at_exit(self, workers: list[Any]) -> None:
        """Kill workers when this process ends: they ignore the SIGTERM that Python sends its children then."""
        if self._end is not None:
            self._end.cancel()
        self._end = util.Finalize(self, _kill, (workers,), exitpriority=0)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        epoch, samples = self.sampler.epoch, self.sampler.first
        batches = iter(self.loader)
        self._kill_at_exit(list(getattr(getattr(batches, 'generator', batches), '_workers', ())))
        if threading.current_thread() is threading.main_thread():
            # torch's handler raises in the middle of a step when a worker dies; `next` below detects it, too
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, ConnectionError, EOFError) as error:
                # The last two: it died while it sent a batch. A worker's own errors have "Caught" in their text.
                cut_off = not isinstance(error, RuntimeError) and self.loader.num_workers > 0
                if 'Caught ' in str(error) or not (cut_off or 'DataLoader worker (pid' in str(error)):
                    raise
                raise DataError(
                    f'datasets.train: a worker died ({str(error).partition(chr(10))[0]}), probably out of memory. '
                    'Lower num_worker_per_gpu, then resume with --auto_resume'
                ) from error
            samples += self.batch_size * self.sampler.num_replicas
            if isinstance(batch, dict):
                waited = time.perf_counter() - start
                batch['position'] = Position(epoch, samples, self.sampler.total_size, waited)
            yield batch


def _kill(workers: list[Any]) -> None:
    for worker in workers:
        worker.kill()


def train_loader(opt: dict[str, Any], dataset_opt: dict[str, Any]) -> TrainLoader:
    """Build the loader of `datasets.train`. Raises DataError if the data set is smaller than one batch."""
    seed = from_first(opt['manual_seed'])  # for `manual_seed: ~` BasicSR draws another one in each process
    dataset_opt['seed'] = seed
    if dataset_opt['num_worker_per_gpu'] == 0:
        dataset_opt['persistent_workers'] = False  # torch refuses it
        if dataset_opt.get('prefetch_mode') == 'cpu':  # its thread would seed the generators that the network uses
            dataset_opt['prefetch_mode'] = None
    dataset = build_dataset(dataset_opt)
    images, ratio = len(dataset), dataset_opt.get('dataset_enlarge_ratio', 1)
    sampler = EpochSampler(dataset, opt['world_size'], opt['rank'], ratio, seed)
    loader = build_dataloader(
        SeededDataset(dataset, seed), dataset_opt, num_gpu=opt['num_gpu'], dist=opt['dist'], sampler=sampler, seed=seed
    )
    _use_own_generator(loader)
    loader.worker_init_fn = _start_worker
    if len(loader) == 0:
        wanted = (loader.batch_size or 1) * opt['world_size']
        raise DataError(
            f'datasets.train: {len(sampler)} samples are fewer than one batch of {loader.batch_size}. Lower '
            f'batch_size_per_gpu, or set dataset_enlarge_ratio to {-(-wanted // images)} or more'
        )
    return TrainLoader(loader, sampler)


def val_loader(opt: dict[str, Any], dataset_opt: dict[str, Any]) -> DataLoader:
    """Build the loader of a validation set: one image at a time, in order."""
    dataset = build_dataset(dataset_opt)
    dataset_opt = {**dataset_opt, 'persistent_workers': False}  # torch refuses it without workers
    loader = build_dataloader(dataset, dataset_opt, num_gpu=opt['num_gpu'], dist=opt['dist'], seed=opt['manual_seed'])
    _use_own_generator(loader)
    return loader


def _use_own_generator(loader: DataLoader) -> None:
    """Let the start of an epoch draw nothing from torch's generator, since a resumed run starts one more epoch."""
    loader.generator = torch.Generator().manual_seed(0)


def _start_worker(_: int) -> None:
    """Replace BasicSR's function, which sets the same seeds in each epoch. `SeededDataset` seeds each sample."""
    ignore_stop_signals()


def create_train_val_dataloader(
    opt: dict[str, Any], logger: logging.Logger, resumed: dict[str, Any] | None = None
) -> tuple[TrainLoader, EpochSampler, list[DataLoader], int, int]:
    """Build (train loader, its sampler, validation loaders, last epoch, iterations). `resumed`: a training state.

    Raises DataError if there is no training set or it is smaller than one batch.
    """
    seed = (resumed or {}).get('options', {}).get('datasets.train', {}).get('seed')
    if seed not in (None, opt['manual_seed']):  # for `manual_seed: ~` BasicSR has drawn another one
        logger.warning(f'manual_seed: using {seed}, the seed of the resumed state')
        opt['manual_seed'] = seed
    loader, val_loaders = None, []
    for phase, dataset_opt in opt['datasets'].items():
        if phase == 'train':
            loader = train_loader(opt, dataset_opt)
        elif phase.split('_')[0] == 'val':
            val_loaders.append(val_loader(opt, dataset_opt))
            logger.info(f'Number of val images in {dataset_opt["name"]}: {len(val_loaders[-1])}')
    if loader is None:
        raise DataError('datasets: no `train` set. Add datasets.train')
    total = int(opt['train']['total_iter'])
    epoch, left = 0, len(loader)
    position = (resumed or {}).get('position')
    if resumed:
        epoch = resumed['epoch']
        if position and position['epoch_samples'] == loader.sampler.total_size:
            loader.sampler.resume(epoch, position['samples'])
            left = (loader.sampler.total_size - position['samples']) // opt['world_size'] // loader.batch_size
        else:
            logger.warning('The training state has no position in this data set. The epoch starts from its beginning')
    after = total - (resumed['iter'] if resumed else 0) - left  # iterations after this epoch
    last_epoch = epoch + max(0, -(-after // len(loader)))
    logger.info(
        f'Training: batches of {loader.batch_size} on {opt["world_size"]} process(es), {len(loader)} iterations an '
        f'epoch, {last_epoch + 1} epochs, {total} iterations'
    )
    return loader, loader.sampler, val_loaders, last_epoch, total


class CPUPrefetcher:
    """BasicSR's prefetcher interface over a loader. `reset` starts an epoch and its workers, once."""

    def __init__(self, loader: TrainLoader) -> None:
        self.loader = loader
        self.batches: Iterator[Any] = iter(())

    def next(self) -> Any | None:
        return next(self.batches, None)

    def reset(self) -> None:
        self.batches = iter(self.loader)


class CUDAPrefetcher:
    """`CPUPrefetcher` that copies the next batch to the GPU during the current step. Needs pinned memory."""

    def __init__(self, loader: TrainLoader, opt: dict[str, Any]) -> None:
        self.loader = loader
        self.stream = torch.cuda.Stream()
        self.batches: Iterator[Any] = iter(())
        self.ahead: Any | None = None

    def next(self) -> Any | None:
        torch.cuda.current_stream().wait_stream(self.stream)
        batch = self.ahead
        for value in batch.values() if batch else ():
            if torch.is_tensor(value):  # keeps its memory until the queued kernels have run
                value.record_stream(torch.cuda.current_stream())
        self._fetch()
        return batch

    def reset(self) -> None:
        self.batches = iter(self.loader)
        self._fetch()

    def _fetch(self) -> None:
        self.ahead = next(self.batches, None)
        if self.ahead is not None:
            with torch.cuda.stream(self.stream):
                self.ahead = {
                    key: value.to('cuda', non_blocking=True) if torch.is_tensor(value) else value
                    for key, value in self.ahead.items()
                }


class PrefetchGenerator(threading.Thread):
    """Thread that loads batches ahead. Its exceptions are raised by `next`."""

    def __init__(self, generator: Iterator[Any], num_prefetch_queue: int) -> None:
        super().__init__(daemon=True)
        self.queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(num_prefetch_queue)
        self.generator = generator
        self.start()

    def run(self) -> None:
        try:
            for batch in self.generator:
                self.queue.put((batch, None))
            self.queue.put((None, StopIteration()))
        except BaseException as error:
            self.queue.put((None, error))

    def __iter__(self) -> 'PrefetchGenerator':
        return self

    def __next__(self) -> Any:
        batch, error = self.queue.get()
        if error is not None:
            raise error
        return batch
