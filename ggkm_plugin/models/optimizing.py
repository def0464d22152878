"""Optimizers and learning-rate schedules of torch and BasicSR, by name."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler

from ggkm_plugin.utils.config import nearest
from ggkm_plugin.utils.errors import OptionError

import basicsr.models.lr_scheduler as basicsr_schedules  # isort: skip

# They need what an option file cannot give: a closure, sparse gradients, functions, a validation score; Muon needs
# weights that are all matrices.
_NOT_OPTIMIZERS = ('Optimizer', 'LBFGS', 'SparseAdam', 'Muon')
_NOT_SCHEDULES = (
    'LRScheduler', 'ReduceLROnPlateau', 'LambdaLR', 'MultiplicativeLR', 'SequentialLR', 'ChainedScheduler',
)  # fmt: skip
# BasicSR's names mean BasicSR's classes, as in its own models.
BASICSR_SCHEDULES = {
    'MultiStepLR': basicsr_schedules.MultiStepRestartLR,
    'MultiStepRestartLR': basicsr_schedules.MultiStepRestartLR,
    'CosineAnnealingRestartLR': basicsr_schedules.CosineAnnealingRestartLR,
}
_WRONG_ARGUMENTS = (TypeError, ValueError, AttributeError, AssertionError, ArithmeticError, LookupError)


def optimizers() -> dict[str, type[Optimizer]]:
    """Return the optimizers of torch.optim that a training step can use."""
    return _subclasses(torch.optim, Optimizer, _NOT_OPTIMIZERS)


def schedules() -> dict[str, type[lr_scheduler.LRScheduler]]:
    """Return BasicSR's schedules, and those of torch.optim.lr_scheduler that depend on the iteration only."""
    return {**_subclasses(lr_scheduler, lr_scheduler.LRScheduler, _NOT_SCHEDULES), **BASICSR_SCHEDULES}


def build_optimizer(name: str, params: Iterable[torch.nn.Parameter], options: dict[str, Any]) -> Optimizer:
    """Build an optimizer. Raises OptionError naming `train.optim_g`."""
    known = optimizers()
    if name not in known:
        raise OptionError(f'train.optim_g.type: no {name!r} in torch.optim.{nearest(str(name), list(known), "It has")}')
    try:
        return known[name](params, **options)  # type: ignore[call-arg]
    except _WRONG_ARGUMENTS as error:
        raise OptionError(f'train.optim_g: {name}: {error}') from error


def build_schedule(name: str, optimizer: Optimizer, options: dict[str, Any]) -> lr_scheduler.LRScheduler:
    """Build a schedule. Raises OptionError naming `train.scheduler`."""
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
