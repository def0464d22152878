"""Where basicsr 1.4.2's training loop is broken, and what stands there instead.

The host's own `train_pipeline` and `test_pipeline` run; each seam is a function or class that they look up in a module
at the moment they call it. `installed` puts ours there for one command and takes them out again: importing or
registering the plugin changes none of them.

===================================================  ==========================================================
upstream place and defect                             what stands there
===================================================  ==========================================================
train.py:71,85 `load_resume_state`: needs CUDA;       `resuming.load_resume_state`: below --root, on the CPU, the
--auto_resume looks in the current folder; a          newest whole state whose network is whole and of the same
truncated state ends the run                          moment, the same on every process
train.py:36 `create_train_val_dataloader`: counts     `data_loading.create_train_val_dataloader`: counts whole batches,
an incomplete batch that the loader drops, so a set   says what is wrong with too small a set, and goes on inside
smaller than a batch trains nothing and exits 0;      an epoch
every resumed run starts its epoch anew
data/__init__.py:95 `worker_init_fn`: the same seeds  `data_loading.SeededDataset`: each sample has its own, whatever
in every epoch                                        worker loads it
prefetch_dataloader.py:83,103 prefetchers: start      `data_loading.CPUPrefetcher`, `CUDAPrefetcher`: start them when
the workers twice                                     the epoch starts
prefetch_dataloader.py:22 `PrefetchGenerator`: an     `data_loading.PrefetchGenerator`: hands the exception to the loop
exception kills the thread, and the run hangs
dist_util.py:11 `init_dist`: `rank % 0` without a     `distributed.init_dist`: gloo without GPUs, the device of the
GPU; the device is chosen by global rank; spawned     local rank, the platform's own start method, a limit of
workers import torch again in every epoch; ten        half an hour; `distributed.group_left` leaves it and says so
minutes' limit; the group is never left               where another process is gone
misc.py:31 `make_exp_dirs`: other processes go on     `distributed.make_exp_dirs`: they wait
before the folders are there
img_util.py:114 `imfrombytes`: 16 bits cut to 8, a    `images.imfrombytes`: divided by the depth's maximum; the
damaged file is a NoneType                            error says what is wrong, `SeededDataset` with which file
degradations.py:745 `add_jpg_compression`: fractions  `images.add_jpg_compression`: rounded
of a quality, which OpenCV refuses
sr_model.py, base_model.py: no state of generators,   `models.DefocusModel`, to which `Session` hands what the loop
no signals, validation on one process, checkpoints    does not: validation sets, TensorBoard, the wish to stop
written in place, BatchNorm ...
===================================================  ==========================================================
"""

import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from ggkm_plugin.basicsr_patches import data_loading, distributed, images, resuming
from ggkm_plugin.basicsr_patches.graceful_shutdown import StopRequest
from ggkm_plugin.basicsr_patches.launch import first_process
from ggkm_plugin.utils.errors import CheckpointError, OptionError

import basicsr.data.prefetch_dataloader as host_prefetch  # isort: skip
import basicsr.models as host_models  # isort: skip
import basicsr.test as host_test  # isort: skip
import basicsr.train as host_train  # isort: skip
import basicsr.utils.logger as host_logger  # isort: skip
import basicsr.utils.options as host_options  # isort: skip


class Session:
    """One training or test: what one seam knows and another needs.

    A model that has `attach(val_loaders, tb_logger, stop)` is given the validation loaders, TensorBoard's writer (or
    None) and the `StopRequest`; one that has `save_finished_work()` is asked to when loading data fails.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.loader: data_loading.TrainLoader | None = None
        self.stop = StopRequest(announce=first_process())
        self._resumed: dict[str, Any] | None = None
        self._val_loaders: list[Any] = []
        self._tb_logger: Any = None

    @property
    def seams(self) -> tuple[tuple[Any, str, Any], ...]:
        """(module, name in it, ours)"""
        return (
            (host_train, 'load_resume_state', self.load_resume_state),
            (host_train, 'create_train_val_dataloader', self.create_train_val_dataloader),
            (host_train, 'init_tb_loggers', self.init_tb_loggers),
            (host_train, 'build_model', self.build_model),
            (host_train, 'make_exp_dirs', distributed.make_exp_dirs),
            (host_test, 'make_exp_dirs', distributed.make_exp_dirs),
            (host_train, 'CPUPrefetcher', data_loading.CPUPrefetcher),
            (host_train, 'CUDAPrefetcher', data_loading.CUDAPrefetcher),
            (host_prefetch, 'PrefetchGenerator', data_loading.PrefetchGenerator),
            (host_options, 'init_dist', distributed.init_dist),
            (images.host_degradations, 'add_jpg_compression', images.add_jpg_compression),
            *((module, 'imfrombytes', images.imfrombytes) for module in _DECODING_MODULES),
        )

    def load_resume_state(self, opt: dict[str, Any]) -> dict[str, Any] | None:
        self._resumed = resuming.load_resume_state(opt)
        return self._resumed

    def create_train_val_dataloader(self, opt: dict[str, Any], logger: logging.Logger) -> tuple[Any, ...]:
        made = data_loading.create_train_val_dataloader(opt, logger, self._resumed)
        self.loader, self._val_loaders = made[0], made[2]
        return made

    def init_tb_loggers(self, opt: dict[str, Any]) -> Any:
        self._tb_logger = _host_init_tb_loggers(opt)
        return self._tb_logger

    def build_model(self, opt: dict[str, Any]) -> Any:
        try:
            self.model = host_models.build_model(opt)
        except (AssertionError, RuntimeError, ValueError) as error:
            if not opt['dist'] or torch.cuda.is_available() or 'CUDA' not in str(error):
                raise
            raise OptionError(
                f'model_type: {opt["model_type"]} needs GPUs to train in several processes; DefocusModel does not'
            ) from error
        if hasattr(self.model, 'attach'):
            self.stop.__enter__()
            self.model.attach(self._val_loaders, self._tb_logger, self.stop)
        return self.model


_DECODING_MODULES = [
    importlib.import_module(f'basicsr.data.{name}_dataset')
    for name in ('ffhq', 'paired_image', 'realesrgan', 'realesrgan_paired', 'reds', 'single_image', 'vimeo90k')
]
_host_init_tb_loggers = host_train.init_tb_loggers


@contextmanager
def installed(more: Sequence[tuple[Any, str, Any]] = ()) -> Iterator[Session]:
    """Install every patch, and `more` of (place, name, replacement), for the length of a command.

    At the end BasicSR is as it was, its log is closed and the process group is left.
    """
    session = Session()
    _reset_logger()  # one that something else has set up would write no log file of this run
    patches = [*session.seams, *more]
    talkative, logging.raiseExceptions = logging.raiseExceptions, False  # a full disk is told by what must be kept
    originals = [(module, name, getattr(module, name)) for module, name, _ in patches]
    for module, name, ours in patches:
        setattr(module, name, ours)
    with distributed.group_left():
        try:
            yield session
        except Exception as error:
            if not isinstance(error, CheckpointError) and hasattr(session.model, 'save_finished_work'):
                session.model.save_finished_work()
            raise
        finally:
            session.stop.__exit__()
            if session.loader is not None:
                session.loader.close()
            for module, name, original in originals:
                setattr(module, name, original)
            _reset_logger()
            logging.raiseExceptions = talkative


def _reset_logger() -> None:
    """Close BasicSR's log files, and let the next `get_root_logger` set its logger up anew."""
    logger = logging.getLogger('basicsr')
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        with suppress(OSError):  # a full disk here would hide the failure of the run
            handler.close()
    host_logger.initialized_logger.pop('basicsr', None)
