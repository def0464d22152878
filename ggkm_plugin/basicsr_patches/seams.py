"""Defects of basicsr 1.4.2's training loop, and the replacements installed during a command.

BasicSR's own `train_pipeline` and `test_pipeline` run. They look up functions and classes when they call them.
`installed` replaces these during one command and restores them. Importing or registering the plugin replaces nothing.

===================================================  ==========================================================
upstream place and defect                             replacement
===================================================  ==========================================================
train.py:71,85 `load_resume_state`: needs CUDA;       `resuming.load_resume_state`: below --root, on the CPU, the
--auto_resume looks in the current folder; a          newest intact state whose network is intact and was saved
truncated state ends the run                          with it, the same on every process
train.py:36 `create_train_val_dataloader`: counts     `data_loading.create_train_val_dataloader`: counts whole batches,
an incomplete batch that the loader drops, so a set   refuses a data set smaller than a batch, resumes inside an
smaller than a batch trains nothing and exits 0;      epoch
every resumed run starts its epoch again
data/__init__.py:95 `worker_init_fn`: the same seeds  `data_loading.SeededDataset`: seeds each sample, whatever worker
in every epoch                                        loads it
prefetch_dataloader.py:83,103 prefetchers: start      `data_loading.CPUPrefetcher`, `CUDAPrefetcher`: start them when
the workers twice                                     the epoch starts
prefetch_dataloader.py:22 `PrefetchGenerator`: an     `data_loading.PrefetchGenerator`: raises it in the loop
exception kills the thread, and the run hangs
dist_util.py:11 `init_dist`: `rank % 0` without a     `distributed.init_dist`: gloo without GPUs, the device of the
GPU; the device is chosen by global rank; spawned     local rank, the platform's start method, a timeout of half an
workers import torch again in every epoch; a timeout  hour; `distributed.group_left` destroys the group and reports
of ten minutes; the group is never destroyed          a lost process
misc.py:31 `make_exp_dirs`: other processes continue  `distributed.make_exp_dirs`: they wait
before the folders exist
img_util.py:114 `imfrombytes`: 16 bits cut to 8, a    `images.imfrombytes`: divided by the depth's maximum; a damaged
damaged file is a NoneType                            file is an error, in which `SeededDataset` names the file
degradations.py:745 `add_jpg_compression`: fractional  `images.add_jpg_compression`: rounded
quality, which OpenCV refuses
options.py:94,190 `open`, logger.py:180               UTF-8 in every locale
`FileHandler`: files in the locale's encoding
sr_model.py, base_model.py: no state of generators,   `models.DefocusModel`. `Session` passes it what BasicSR's loop
no signals, validation on one process, checkpoints    does not: validation sets, TensorBoard, the stop request
written in place, BatchNorm ...
===================================================  ==========================================================
"""

import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from ggkm_plugin.basicsr_patches import data_loading, distributed, images, resuming
from ggkm_plugin.basicsr_patches.graceful_shutdown import StopRequest
from ggkm_plugin.basicsr_patches.launch import first_process
from ggkm_plugin.utils.errors import CheckpointError, OptionError
from ggkm_plugin.utils.registry import MODEL_REGISTRY

import basicsr.data.prefetch_dataloader as basicsr_prefetch  # isort: skip
import basicsr.models as basicsr_models  # isort: skip
import basicsr.test as basicsr_test  # isort: skip
import basicsr.train as basicsr_train  # isort: skip
import basicsr.utils.logger as basicsr_logger  # isort: skip
import basicsr.utils.options as basicsr_options  # isort: skip


class Session:
    """State of one training or test that is shared between patches.

    If the model has `attach(val_loaders, tb_logger, stop)`, it is called with the validation loaders, TensorBoard's
    writer (or None) and the `StopRequest`; if it has `save_finished_work()`, that is called when loading data fails.
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
        """The patches: (module, name in it, replacement)."""
        return (
            (basicsr_train, 'load_resume_state', self.load_resume_state),
            (basicsr_train, 'create_train_val_dataloader', self.create_train_val_dataloader),
            (basicsr_train, 'init_tb_loggers', self.init_tb_loggers),
            (basicsr_train, 'build_model', self.build_model),
            (basicsr_train, 'make_exp_dirs', distributed.make_exp_dirs),
            (basicsr_test, 'make_exp_dirs', distributed.make_exp_dirs),
            (basicsr_train, 'CPUPrefetcher', data_loading.CPUPrefetcher),
            (basicsr_train, 'CUDAPrefetcher', data_loading.CUDAPrefetcher),
            (basicsr_prefetch, 'PrefetchGenerator', data_loading.PrefetchGenerator),
            (basicsr_options, 'init_dist', distributed.init_dist),
            (basicsr_options, 'open', _UTF8_OPEN),
            (basicsr_logger, 'logging', _UTF8_LOGGING),
            (images.basicsr_degradations, 'add_jpg_compression', images.add_jpg_compression),
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
        self._tb_logger = _basicsr_init_tb_loggers(opt)
        return self._tb_logger

    def build_model(self, opt: dict[str, Any]) -> Any:
        kind = MODEL_REGISTRY.get(opt['model_type'])
        # BasicSR's own wraps networks for the current GPU.
        needs_gpu = getattr(kind, 'model_to_device', None) is basicsr_models.base_model.BaseModel.model_to_device
        if opt['dist'] and needs_gpu and not torch.cuda.is_available():
            raise OptionError(
                f'model_type: {opt["model_type"]} needs GPUs to train in several processes. Use DefocusModel'
            )
        self.model = basicsr_models.build_model(opt)
        if hasattr(self.model, 'attach'):
            self.stop.__enter__()
            self.model.attach(self._val_loaders, self._tb_logger, self.stop)
        return self.model


_DECODING_MODULES = [
    importlib.import_module(f'basicsr.data.{name}_dataset')
    for name in ('ffhq', 'paired_image', 'realesrgan', 'realesrgan_paired', 'reds', 'single_image', 'vimeo90k')
]
_UTF8_OPEN = partial(open, encoding='utf-8', errors='surrogateescape')
_UTF8_LOGGING = SimpleNamespace(
    **{**vars(logging), 'FileHandler': partial(logging.FileHandler, encoding='utf-8', errors='backslashreplace')}
)
_basicsr_init_tb_loggers = basicsr_train.init_tb_loggers


@contextmanager
def installed(more: Sequence[tuple[Any, str, Any]] = ()) -> Iterator[Session]:
    """Install every patch, and `more` of (module or class, name, replacement), during a command.

    At the end the patches are removed, the log is closed and the process group is left.
    """
    session = Session()
    _reset_logger()  # a logger that was set up before would write no log file of this run
    patches = [*session.seams, *more]
    raising, logging.raiseExceptions = logging.raiseExceptions, False  # a full disk is reported by the checkpoints
    originals = [(module, name, getattr(module, name, None)) for module, name, _ in patches]
    for module, name, replacement in patches:
        setattr(module, name, replacement)
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
                if original is None:  # a builtin that the module looks up, such as open
                    delattr(module, name)
                else:
                    setattr(module, name, original)
            _reset_logger()
            logging.raiseExceptions = raising


def _reset_logger() -> None:
    """Close BasicSR's log files, and let the next `get_root_logger` set up its logger again."""
    logger = logging.getLogger('basicsr')
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        with suppress(OSError):  # a full disk here would hide the failure of the run
            handler.close()
    basicsr_logger.initialized_logger.pop('basicsr', None)
