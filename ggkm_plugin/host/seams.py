"""The only module that knows where basicsr 1.4.2's training loop is broken, and what stands there instead.

The host's own `train_pipeline` and `test_pipeline` run; each seam is a function or class that they look up in a module
at the moment they call it. `installed` puts ours there for one command and takes them out again: importing or
registering the plugin changes none of them.

===================================================  ==========================================================
upstream place and defect                             what stands there
===================================================  ==========================================================
train.py:71,85 `load_resume_state`: needs CUDA;       `load_resume_state`: below --root, on the CPU, the newest
--auto_resume looks in the current folder; a          whole state whose network is whole too
truncated state ends the run
train.py:36 `create_train_val_dataloader`: counts     `create_train_val_dataloader`: counts whole batches, says
an incomplete batch that the loader drops, so a set   what is wrong with too small a set, and samples with
smaller than a batch trains nothing and exits 0       indices that know their epoch (`host.sampler`)
prefetch_dataloader.py:83 `CPUPrefetcher`: starts     `CPUPrefetcher`: starts them when the epoch starts
the workers twice
prefetch_dataloader.py:22 `PrefetchGenerator`: an     `PrefetchGenerator`: hands the exception to the loop
exception kills the thread, and the run hangs
dist_util.py:24 `init_dist`: `rank % 0` without a     `init_dist`: gloo without GPUs, the device by LOCAL_RANK, a
GPU; the device is chosen by global rank; ten         limit of hours (--launcher pytorch; slurm as upstream)
minutes' limit against long validations
models/base_model.py:98 DDP with device ids on the    `models.DefocusModel.model_to_device`
CPU
models/base_model.py:229,327 checkpoints written in   `models.DefocusModel.save_network` and
place, failures only logged                           `save_training_state`: temp file, then rename; failures raise
models/sr_model.py:126,132 validation through DDP on  `models.DefocusModel.test` and `nondist_validation`: bare
one rank hangs on buffers; images rounded to 8 bits   network, float images
===================================================  ==========================================================
"""

import logging
import os
import queue
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ggkm_plugin.checkpoints import read_checkpoint
from ggkm_plugin.errors import CheckpointError, DataError
from ggkm_plugin.host import registries  # noqa: F401  (the import shims come before basicsr)
from ggkm_plugin.host.sampler import EpochSampler

import basicsr.data.prefetch_dataloader as host_prefetch  # isort: skip
import basicsr.train as host_train  # isort: skip
import basicsr.utils.dist_util as host_dist  # isort: skip
import basicsr.utils.logger as host_logger  # isort: skip
import basicsr.utils.options as host_options  # isort: skip
from basicsr.data import build_dataloader, build_dataset  # isort: skip
from basicsr.utils.misc import check_resume  # isort: skip


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """The state to resume from, on the CPU, or None for a fresh start.

    With --auto_resume the newest state of the experiment that can be read and whose networks can; others are passed
    over with a word. Raises CheckpointError if `path.resume_state` itself is unusable.
    """
    if opt['auto_resume']:
        folder = Path(opt['path']['training_states'])
        numbered = [path for path in folder.glob('*.state') if path.stem.isdigit()]
        paths = sorted(numbered, key=lambda path: int(path.stem), reverse=True)
    else:
        paths = [Path(opt['path']['resume_state'])] if opt['path'].get('resume_state') else []
    for path in paths:
        try:
            state = _read_state(path, opt)
        except CheckpointError as error:
            if not opt['auto_resume']:
                raise
            print(f'Not resumed from {error}', flush=True)
            continue
        opt['path']['resume_state'] = str(path)
        check_resume(opt, state['iter'])
        return state
    if opt['auto_resume'] and paths:
        print('No training state can be used: starting anew (the earlier run is put aside, not deleted)', flush=True)
    return None


def _read_state(path: Path, opt: dict[str, Any]) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f'{path}: no such training state; correct path.resume_state')
    if not _is_whole(path):
        raise CheckpointError(f'{path}: truncated or not a training state; choose an earlier one')
    state = read_checkpoint(str(path))
    missing = {'iter', 'epoch', 'optimizers', 'schedulers'} - state.keys()
    if missing:
        raise CheckpointError(f'{path}: not a training state, it lacks {", ".join(sorted(missing))}')
    network = Path(opt['path']['models']) / f'net_g_{state["iter"]}.pth'
    if not _is_whole(network):
        raise CheckpointError(f'{path}: its network {network} is missing or truncated; choose an earlier state')
    return state


def _is_whole(path: Path) -> bool:
    """torch's files are zip archives: their end is there, and every member has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError):
        return False


def create_train_val_dataloader(
    opt: dict[str, Any], logger: logging.Logger
) -> tuple[DataLoader, EpochSampler, list[DataLoader], int, int]:
    """(train loader, its sampler, validation loaders, epochs, iterations). Raises DataError if no batch is whole."""
    train_loader, sampler, val_loaders = None, None, []
    seed = _same_on_all_ranks(opt['manual_seed'])
    for phase, dataset_opt in opt['datasets'].items():
        if phase == 'train':
            dataset_opt['seed'] = seed
            if dataset_opt['num_worker_per_gpu'] == 0:
                dataset_opt['persistent_workers'] = False  # torch refuses it
            dataset = build_dataset(dataset_opt)
            images, ratio = len(dataset), dataset_opt.get('dataset_enlarge_ratio', 1)
            sampler = EpochSampler(dataset, opt['world_size'], opt['rank'], ratio, seed)
            train_loader = build_dataloader(
                dataset, dataset_opt, num_gpu=opt['num_gpu'], dist=opt['dist'], sampler=sampler, seed=seed
            )
        elif phase.split('_')[0] == 'val':
            dataset = build_dataset(dataset_opt)
            val_loaders.append(
                build_dataloader(
                    dataset, dataset_opt, num_gpu=opt['num_gpu'], dist=opt['dist'], seed=opt['manual_seed']
                )
            )
            logger.info(f'Number of val images in {dataset_opt["name"]}: {len(dataset)}')
    if train_loader is None or sampler is None:
        raise DataError('datasets: no `train` set to train on')
    per_epoch = len(train_loader)
    if per_epoch == 0:
        wanted = train_loader.batch_size * opt['world_size']
        raise DataError(
            f'datasets.train: {len(sampler)} samples are fewer than one batch of {train_loader.batch_size}: lower '
            f'batch_size_per_gpu, or set dataset_enlarge_ratio to {-(-wanted // images)} or more'
        )
    total_iters = int(opt['train']['total_iter'])
    total_epochs = -(-total_iters // per_epoch)
    logger.info(
        f'Training: {images} images, batches of {train_loader.batch_size}, {per_epoch} iterations an '
        f'epoch, {total_epochs} epochs, {total_iters} iterations'
    )
    return train_loader, sampler, val_loaders, total_epochs, total_iters


def _same_on_all_ranks(seed: int) -> int:
    """Rank 0's: the host draws another one on each rank for `manual_seed: ~`, and the ranks' samples would overlap."""
    seeds = [seed]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(seeds)
    return seeds[0]


class CPUPrefetcher:
    """The host's interface over a loader; an epoch's iterator, and with it the workers, starts at `reset`."""

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.batches: Iterator[Any] = iter(())

    def next(self) -> Any | None:
        return next(self.batches, None)

    def reset(self) -> None:
        self.batches = iter(self.loader)


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


def init_dist(launcher: str, backend: str | None = None, **kwargs: Any) -> None:
    """Join the process group: NCCL on the GPU that LOCAL_RANK names, gloo where there is no GPU. Slurm: as the host.

    The other ranks wait while rank 0 validates, so the time limit is hours, not NCCL's ten minutes.
    """
    if launcher != 'pytorch':
        _host_init_dist(launcher, backend or 'nccl', **kwargs)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', 0)))
    backend = backend or ('nccl' if torch.cuda.is_available() else 'gloo')
    torch.distributed.init_process_group(backend, timeout=_LONGEST_VALIDATION, **kwargs)


_host_init_dist = host_dist.init_dist
_LONGEST_VALIDATION = timedelta(hours=12)

# (module, name in it, ours)
SEAMS: tuple[tuple[Any, str, Any], ...] = (
    (host_train, 'load_resume_state', load_resume_state),
    (host_train, 'create_train_val_dataloader', create_train_val_dataloader),
    (host_train, 'CPUPrefetcher', CPUPrefetcher),
    (host_prefetch, 'PrefetchGenerator', PrefetchGenerator),
    (host_options, 'init_dist', init_dist),
)


@contextmanager
def installed() -> Iterator[None]:
    """Every seam in place for the length of a command; then the host as it was, its log closed, its group left."""
    originals = [(module, name, getattr(module, name)) for module, name, _ in SEAMS]
    for module, name, ours in SEAMS:
        setattr(module, name, ours)
    try:
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)
        logger = logging.getLogger('basicsr')
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        host_logger.initialized_logger.pop('basicsr', None)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
