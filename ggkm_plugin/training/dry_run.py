"""Dry run: time and memory of a few training steps."""

import copy
import logging
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch

# Seconds; a first step that takes longer is not repeated.
_LONG = 20.0
_STEPS = 3


@dataclass(frozen=True)
class Measurement:
    """Measurements of a dry run, on this machine and in this process."""

    network: str
    parameters: int
    images: dict[str, int]  # of each data set
    batch: tuple[int, ...]  # (B,3,H,W)
    device: str
    step: float  # seconds, including reading data
    waited: float  # seconds of it spent on reading data
    memory: int  # bytes of the GPU, or of the process
    validations: int
    validation: float  # seconds of one; 0 without validation

    def hours(self, total_iter: int) -> float:
        """Return the time of the whole training with its validations, without saving."""
        return (total_iter * self.step + self.validations * self.validation) / 3600


def measure(opt: dict[str, Any]) -> Measurement:
    """Run a few training steps and one validation image; `opt` as BasicSR's parser completes it.

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
    while len(steps) <= _STEPS and sum(steps) < _LONG:  # the first one is a warm-up
        start = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        waits.append(time.perf_counter() - start)
        model.update_learning_rate(len(steps) + 1, warmup_iter=train.get('warmup_iter') or -1)
        model.feed_data(batch)
        model.optimize_parameters(max(1, total - _STEPS + len(steps)))  # the last phase of a training costs most
        _wait_for(model.device)
        steps.append(time.perf_counter() - start)
    measured = slice(1 if len(steps) > 1 else 0, None)
    shape = tuple(batch['lq'].shape) if batch else tuple(model.lq.shape)
    net = model.get_bare_model(model.net_g)
    return Measurement(
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


def table(measured: Measurement, total_iter: int) -> str:
    """Format a measurement for the terminal."""
    batch, _, height, width = measured.batch
    hours = measured.hours(total_iter)
    duration = (
        f'{hours * 60:.0f} minutes' if hours < 2 else f'{hours:.0f} hours' + f' ({hours / 24:.1f} days)' * (hours > 48)
    )
    rows = {
        'network': f'{measured.network}, {measured.parameters:,d} parameters',
        'images': ', '.join(f'{count:,d} of {name}' for name, count in measured.images.items()),
        'step': f'{measured.step:.3g} s for {batch} crops of {height}x{width} ({measured.waited:.2g} s of it waiting '
        f'for data), on {measured.device}',
        'memory': f'{measured.memory / 2**30:.1f} GiB at most',
        'validation': f'{measured.validation:.3g} s each, {measured.validations} of them',
        'training': f'about {duration} for {total_iter:,d} iterations',
    }
    return '\n'.join(f'{name:12}{text}' for name, text in rows.items())
