"""Dry run: time and memory of a few training steps."""

import copy
import logging
import resource
import statistics
import sys
import time
from typing import Any

import torch

# Seconds; a first step that takes longer is not repeated.
_LONG = 20.0
_STEPS = 3


def measure(opt: dict[str, Any]) -> str:
    """Run a few training steps and one validation image; `opt` as BasicSR's parser completes it.

    Returns a table for the terminal: time and memory on this machine and in this process, and the time of the whole
    training with its validations, without saving. Nothing is written. Raises what building and running them raises.
    """
    from basicsr.models import build_model

    from ggkm_plugin.basicsr_patches.data_loading import create_train_val_dataloader

    opt = copy.deepcopy(opt)
    train, val, train_set = opt['train'], opt.get('val'), opt['datasets']['train']
    loader, _, val_loaders, _, total = create_train_val_dataloader(opt, logging.getLogger('basicsr'))
    images = [(loader.images, train_set['name'])]
    sets: list[Any] = [val_loader.dataset for val_loader in val_loaders]
    images += [(len(dataset), dataset.opt['name']) for dataset in sets]
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
        crops = batch['lq'].shape
        model.update_learning_rate(len(steps) + 1, warmup_iter=train.get('warmup_iter') or -1)
        model.feed_data(batch)
        model.optimize_parameters(max(1, total - _STEPS + len(steps)))  # the last phase of a training costs most
        _wait_for(model.device)
        steps.append(time.perf_counter() - start)
    measured = slice(1 if len(steps) > 1 else 0, None)
    step, waited = statistics.mean(steps[measured]), statistics.mean(waits[measured])
    validations = -(-total // val['val_freq']) if val else 0
    validation = sum(len(val_loader) * _seconds_of_an_image(model, val_loader) for val_loader in val_loaders)
    hours = (total * step + validations * validation) / 3600
    days = f' ({hours / 24:.1f} days)' if hours > 48 else ''
    duration = f'{hours * 60:.0f} minutes' if hours < 2 else f'{hours:.0f} hours{days}'
    net, (count, _, height, width) = model.get_bare_model(model.net_g), crops
    on_gpu = model.device.type == 'cuda'
    device = torch.cuda.get_device_name() if on_gpu else 'cpu'
    memory = torch.cuda.max_memory_reserved() if on_gpu else _peak_of_process()
    rows = {
        'network': f'{type(net).__name__}, {sum(parameter.numel() for parameter in net.parameters()):,d} parameters',
        'images': ', '.join(f'{number:,d} of {name}' for number, name in images),
        'step': f'{step:.3g} s for {count} crops of {height}x{width} ({waited:.2g} s of it waiting for data), '
        f'on {device}',
        'memory': f'{memory / 2**30:.1f} GiB at most',
        'validation': f'{validation:.3g} s each, {validations} of them',
        'training': f'about {duration} for {total:,d} iterations',
    }
    return '\n'.join(f'{name:12}{text}' for name, text in rows.items())


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
