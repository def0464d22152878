"""A few steps of a training without a trace: how long it will take, and in how much memory."""

import copy
import logging
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch

# A first step that takes longer is not repeated.
_LONG = 20.0  # seconds
_STEPS = 3


@dataclass(frozen=True)
class Rehearsal:
    """Measured on this machine, in this process."""

    network: str
    parameters: int
    images: dict[str, int]  # of each data set
    batch: tuple[int, ...]  # (B,3,H,W)
    device: str
    step: float  # seconds, data reading included
    waited: float  # seconds of it that went into data reading
    memory: int  # bytes: of the GPU, or of the process
    validations: int
    validation: float  # seconds of one; 0 without

    def hours(self, total_iter: int) -> float:
        """The whole training and its validations, without saving."""
        return (total_iter * self.step + self.validations * self.validation) / 3600


def rehearse(opt: dict[str, Any]) -> Rehearsal:
    """Make a few training steps and score a validation image; `opt` as the host's parser completes it.

    Nothing is written. Raises what building and running them raises.
    """
    from basicsr.models import build_model

    from ggkm_plugin.basicsr_patches.data_loading import create_train_val_dataloader

    opt = copy.deepcopy(opt)
    train, val, train_set = opt['train'], opt.get('val'), opt['datasets']['train']
    loader, _, val_loaders, _, total = create_train_val_dataloader(opt, logging.getLogger('basicsr'))
    sets: list[Any] = [val_loader.dataset for val_loader in val_loaders]
    images = {train_set['name']: loader.images, **{dataset.opt['name']: len(dataset) for dataset in sets}}
    model = build_model(opt)
    steps: list[float] = []
    waits: list[float] = []
    batches = iter(loader)
    while len(steps) <= _STEPS and sum(steps) < _LONG:  # the first one warms up
        start = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        waits.append(time.perf_counter() - start)
        model.update_learning_rate(len(steps) + 1, warmup_iter=train.get('warmup_iter') or -1)
        model.feed_data(batch)
        model.optimize_parameters(max(1, total - _STEPS + len(steps)))  # a training in phases costs most in its last
        _wait_for(model.device)
        steps.append(time.perf_counter() - start)
    measured = slice(1 if len(steps) > 1 else 0, None)
    shape = tuple(batch['lq'].shape) if batch else tuple(model.lq.shape)
    net = model.get_bare_model(model.net_g)
    return Rehearsal(
        network=type(net).__name__,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        images=images,
        batch=shape,
        device=torch.cuda.get_device_name() if model.device.type == 'cuda' else 'cpu',
        step=statistics.mean(steps[measured]),
        waited=statistics.mean(waits[measured]),
        validations=-(-total // val['val_freq']) if val else 0,
        validation=sum(len(val_loader) * _seconds_of_an_image(model, val_loader) for val_loader in val_loaders),
        memory=torch.cuda.max_memory_reserved() if model.device.type == 'cuda' else _peak_of_process(),
    )


def _seconds_of_an_image(model: Any, val_loader: Any) -> float:
    start = time.perf_counter()
    model.feed_data(next(iter(val_loader)))
    model.test()
    _wait_for(model.device)
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize()


def _peak_of_process() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024


def table(rehearsal: Rehearsal, total_iter: int) -> str:
    """What was measured, for people."""
    batch, _, height, width = rehearsal.batch
    hours = rehearsal.hours(total_iter)
    duration = (
        f'{hours * 60:.0f} minutes' if hours < 2 else f'{hours:.0f} hours' + f' ({hours / 24:.1f} days)' * (hours > 48)
    )
    rows = {
        'network': f'{rehearsal.network}, {rehearsal.parameters:,d} parameters',
        'images': ', '.join(f'{count:,d} of {name}' for name, count in rehearsal.images.items()),
        'step': f'{rehearsal.step:.3g} s for {batch} crops of {height}x{width} ({rehearsal.waited:.2g} s of it waiting '
        f'for data), on {rehearsal.device}',
        'memory': f'{rehearsal.memory / 2**30:.1f} GiB at most',
        'validation': f'{rehearsal.validation:.3g} s each, {rehearsal.validations} of them',
        'training': f'about {duration} for {total_iter:,d} iterations',
    }
    return '\n'.join(f'{name:12}{text}' for name, text in rows.items())
