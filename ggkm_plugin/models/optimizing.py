"""Optimizers and learning-rate schedules of torch and of the host, by name."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler

from ggkm_plugin.utils.config import nearest
from ggkm_plugin.utils.errors import OptionError

import basicsr.models.lr_scheduler as basicsr_schedules  # isort: skip

# They need more than an option file can give: a closure, sparse gradients, functions, the validation's score; or, as
# Muon, weights that are all matrices.
_NOT_OPTIMIZERS = ('Optimizer', 'LBFGS', 'SparseAdam', 'Muon')
_NOT_SCHEDULES = (
    'LRScheduler', 'ReduceLROnPlateau', 'LambdaLR', 'MultiplicativeLR', 'SequentialLR', 'ChainedScheduler',
)  # fmt: skip
# The host's names mean the host's classes, as in its own models.
BASICSR_SCHEDULES = {
    'MultiStepLR': basicsr_schedules.MultiStepRestartLR,
    'MultiStepRestartLR': basicsr_schedules.MultiStepRestartLR,
    'CosineAnnealingRestartLR': basicsr_schedules.CosineAnnealingRestartLR,
}
_WRONG_ARGUMENTS = (TypeError, ValueError, AttributeError, AssertionError, ArithmeticError, LookupError)


def optimizers() -> dict[str, type[Optimizer]]:
    """Those of torch.optim that a training step can use."""
    return _subclasses(torch.optim, Optimizer, _NOT_OPTIMIZERS)


def schedules() -> dict[str, type[lr_scheduler.LRScheduler]]:
    """The host's, and those of torch.optim.lr_scheduler that go by the iteration alone."""
    return {**_subclasses(lr_scheduler, lr_scheduler.LRScheduler, _NOT_SCHEDULES), **BASICSR_SCHEDULES}


def build_optimizer(name: str, params: Iterable[torch.nn.Parameter], options: dict[str, Any]) -> Optimizer:
    """Raises OptionError naming `train.optim_g` and what does not fit."""
    known = optimizers()
    if name not in known:
        raise OptionError(f'train.optim_g.type: no {name!r} in torch.optim.{nearest(str(name), list(known), "It has")}')
    try:
        return known[name](params, **options)  # type: ignore[call-arg]
    except _WRONG_ARGUMENTS as error:
        raise OptionError(f'train.optim_g: {name}: {error}') from error


def build_schedule(name: str, optimizer: Optimizer, options: dict[str, Any]) -> lr_scheduler.LRScheduler:
    """Raises OptionError naming `train.scheduler` and what does not fit."""
    known = schedules()
    if name not in known:
        raise OptionError(f'train.scheduler.type: no {name!r}.{nearest(str(name), list(known), "There are")}')
    try:
        return known[name](optimizer, **options)
    except _WRONG_ARGUMENTS as error:
        raise OptionError(f'train.scheduler: {name}: {error}') from error


def _subclasses(module: Any, base: type, without: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(module).items()
        if inspect.isclass(member) and issubclass(member, base) and not name.startswith('_') and name not in without
    }
