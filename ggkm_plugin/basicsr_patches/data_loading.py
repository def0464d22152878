"""Training batches that can be had again: the same samples from any number of workers, from any point of an epoch."""

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
from ggkm_plugin.basicsr_patches.graceful_shutdown import leave_stopping_to_the_parent
from ggkm_plugin.basicsr_patches.sampler import EpochSampler, SampleIndex
from ggkm_plugin.utils.errors import DataError

from basicsr.data import build_dataloader, build_dataset  # isort: skip


@dataclass(frozen=True)
class Position:
    """Where a batch stands in the training; travels in it as `position`."""

    epoch: int
    samples: int  # of the epoch, over all processes, up to and with this batch
    epoch_samples: int  # all of the epoch's
    waited: float  # seconds that the loop waited for the batch


class SeededDataset(Dataset):
    """A data set whose use of `random`, numpy's and torch's generators depends on seed, epoch and draw alone.

    So samples do not depend on which process loads them, nor the process on which samples it loads.
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
                paths = getattr(self.dataset, 'paths', None)  # of the host's data sets, whose errors name no file
                if paths is None:
                    raise
                names = paths[index].values() if isinstance(paths[index], dict) else [paths[index]]
                raise DataError(f'{" or ".join(map(str, names))}: {error}') from error


class TrainLoader:
    """The host's loader; a batch that is a dict carries its `position`. Raises DataError if a worker dies."""

    def __init__(self, loader: DataLoader, sampler: EpochSampler) -> None:
        self.loader, self.sampler = loader, sampler
        self.images = len(sampler.dataset)  # type: ignore[arg-type]
        self.batch_size = loader.batch_size or 1
        self._end: util.Finalize | None = None

    def close(self) -> None:
        """End the loading processes, if there are any."""
        if self._end is not None:
            self._end()

    def _keep(self, workers: list[Any]) -> None:
        """See to their end: they do not listen to the SIGTERM by which python, at its own exit, would end them."""
        if self._end is not None:
            self._end.cancel()
        self._end = util.Finalize(self, _kill, (workers,), exitpriority=0)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        epoch, samples = self.sampler.epoch, self.sampler.first
        batches = iter(self.loader)
        self._keep(list(getattr(getattr(batches, 'generator', batches), '_workers', ())))
        if threading.current_thread() is threading.main_thread():
            # torch raises a worker's death wherever the loop is, in the middle of a step; `next` below tells it too
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, ConnectionError, EOFError) as error:
                # the latter where it died while it handed a batch over; a worker's own errors are 'Caught' there
                cut_off = not isinstance(error, RuntimeError) and self.loader.num_workers > 0
                if 'Caught ' in str(error) or not (cut_off or 'DataLoader worker (pid' in str(error)):
                    raise
                raise DataError(
                    f'a loading process died ({str(error).partition(chr(10))[0]}): is the memory full? Lower '
                    'datasets.train.num_worker_per_gpu, then go on with --auto_resume'
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
    """The loader of `datasets.train`. Raises DataError if no batch is whole."""
    seed = from_first(opt['manual_seed'])  # the host draws another one in each process for `manual_seed: ~`
    dataset_opt['seed'] = seed
    if dataset_opt['num_worker_per_gpu'] == 0:
        dataset_opt['persistent_workers'] = False  # torch refuses it
        if dataset_opt.get('prefetch_mode') == 'cpu':  # its thread would seed the generators while the network draws
            dataset_opt['prefetch_mode'] = None
    dataset = build_dataset(dataset_opt)
    images, ratio = len(dataset), dataset_opt.get('dataset_enlarge_ratio', 1)
    sampler = EpochSampler(dataset, opt['world_size'], opt['rank'], ratio, seed)
    loader = build_dataloader(
        SeededDataset(dataset, seed), dataset_opt, num_gpu=opt['num_gpu'], dist=opt['dist'], sampler=sampler, seed=seed
    )
    _keep_to_itself(loader)
    loader.worker_init_fn = _start_worker
    if len(loader) == 0:
        wanted = (loader.batch_size or 1) * opt['world_size']
        raise DataError(
            f'datasets.train: {len(sampler)} samples are fewer than one batch of {loader.batch_size}: lower '
            f'batch_size_per_gpu, or set dataset_enlarge_ratio to {-(-wanted // images)} or more'
        )
    return TrainLoader(loader, sampler)


def val_loader(opt: dict[str, Any], dataset_opt: dict[str, Any]) -> DataLoader:
    """The loader of a validation set: one image at a time, in order."""
    dataset = build_dataset(dataset_opt)
    dataset_opt = {**dataset_opt, 'persistent_workers': False}  # the host starts none here, and torch refuses it then
    loader = build_dataloader(dataset, dataset_opt, num_gpu=opt['num_gpu'], dist=opt['dist'], seed=opt['manual_seed'])
    _keep_to_itself(loader)
    return loader


def _keep_to_itself(loader: DataLoader) -> None:
    """Starting an epoch must not draw from torch's generator: a resumed run starts one more."""
    loader.generator = torch.Generator().manual_seed(0)


def _start_worker(_: int) -> None:
    """In place of the host's, which seeds every worker alike in each epoch: `SeededDataset` seeds each sample."""
    leave_stopping_to_the_parent()


def create_train_val_dataloader(
    opt: dict[str, Any], logger: logging.Logger, resumed: dict[str, Any] | None = None
) -> tuple[TrainLoader, EpochSampler, list[DataLoader], int, int]:
    """(train loader, its sampler, validation loaders, last epoch, iterations); `resumed` is the state to go on from.

    Raises DataError if there is no training set or no batch of it is whole.
    """
    seed = (resumed or {}).get('options', {}).get('datasets.train', {}).get('seed')
    if seed not in (None, opt['manual_seed']):  # for `manual_seed: ~` the host has drawn another one
        logger.warning(f'manual_seed: going on with {seed}, that of the state')
        opt['manual_seed'] = seed
    loader, val_loaders = None, []
    for phase, dataset_opt in opt['datasets'].items():
        if phase == 'train':
            loader = train_loader(opt, dataset_opt)
        elif phase.split('_')[0] == 'val':
            val_loaders.append(val_loader(opt, dataset_opt))
            logger.info(f'Number of val images in {dataset_opt["name"]}: {len(val_loaders[-1])}')
    if loader is None:
        raise DataError('datasets: no `train` set to train on')
    total = int(opt['train']['total_iter'])
    epoch, left = 0, len(loader)
    position = (resumed or {}).get('position')
    if resumed:
        epoch = resumed['epoch']
        if position and position['epoch_samples'] == loader.sampler.total_size:
            loader.sampler.resume(epoch, position['samples'])
            left = (loader.sampler.total_size - position['samples']) // opt['world_size'] // loader.batch_size
        else:
            logger.warning('The state says nothing of this data set: the epoch starts anew')
    after = total - (resumed['iter'] if resumed else 0) - left  # iterations after this epoch
    last_epoch = epoch + max(0, -(-after // len(loader)))
    logger.info(
        f'Training: batches of {loader.batch_size} on {opt["world_size"]} process(es), {len(loader)} iterations an '
        f'epoch, {last_epoch + 1} epochs, {total} iterations'
    )
    return loader, loader.sampler, val_loaders, last_epoch, total


class CPUPrefetcher:
    """The host's interface over a loader; an epoch's iterator, and with it the workers, starts at `reset`."""

    def __init__(self, loader: TrainLoader) -> None:
        self.loader = loader
        self.batches: Iterator[Any] = iter(())

    def next(self) -> Any | None:
        return next(self.batches, None)

    def reset(self) -> None:
        self.batches = iter(self.loader)


class CUDAPrefetcher:
    """The same, with the next batch on its way to the GPU while this one is worked on. Needs pinned memory."""

    def __init__(self, loader: TrainLoader, opt: dict[str, Any]) -> None:
        self.loader = loader
        self.stream = torch.cuda.Stream()
        self.batches: Iterator[Any] = iter(())
        self.ahead: Any | None = None

    def next(self) -> Any | None:
        torch.cuda.current_stream().wait_stream(self.stream)
        batch = self.ahead
        for value in batch.values() if batch else ():
            if torch.is_tensor(value):  # its memory must outlive the work that is queued on it
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
    """Draws batches ahead in a thread; what goes wrong there is raised where the batch is taken."""

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
