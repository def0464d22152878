"""What is wrong with the options of a run, found before a folder is made or an earlier run is put aside."""

import importlib.util
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from ggkm_plugin.models.step_options import StepOptions
from ggkm_plugin.utils.checkpoint import load_weights, read_checkpoint, weights_of
from ggkm_plugin.utils.config import Options, nearest
from ggkm_plugin.utils.errors import CheckpointError, OptionError, UserError
from ggkm_plugin.utils.registry import CONSTRUCTOR_ERRORS, build, check_keys, registered
from ggkm_plugin.weights import checkpoint_path

# Keys without which the host stops with a bare KeyError, or scores a network of random weights.
_REQUIRED = {
    True: (
        'name', 'model_type', 'num_gpu', 'datasets.train', 'network_g.type', 'path', 'train.optim_g.type',
        'train.optim_g.lr', 'train.scheduler.type', 'train.total_iter', 'logger.print_freq',
        'logger.save_checkpoint_freq', 'logger.use_tb_logger',
    ),
    False: (
        'name', 'model_type', 'num_gpu', 'datasets', 'network_g.type', 'path.pretrain_network_g', 'val.save_img',
    ),
}  # fmt: skip
# Keys of a data set that the host's loader reads; the data set itself need not know them.
_LOADER_KEYS = frozenset((
    'name', 'type', 'phase', 'scale', 'seed', 'io_backend', 'dataset_enlarge_ratio', 'batch_size_per_gpu',
    'num_worker_per_gpu', 'pin_memory', 'persistent_workers', 'prefetch_mode', 'num_prefetch_queue',
))  # fmt: skip
# Models of ours; and all that give one image to the network and its output to `pixel_opt`.
_OURS = ('DefocusModel', 'JDRLModel')
_IMAGE_MODELS = ('SRModel', *_OURS)
# What such a model, or the loop around it, reads; other models may read more.
_KNOWN = {
    '': (
        'name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'datasets', 'network_g', 'path', 'train', 'val',
        'logger', 'dist_params', 'find_unused_parameters', 'plugins',
    ),
    'path': ('pretrain_network_g', 'param_key_g', 'strict_load_g', 'resume_state', 'ignore_resume_networks'),
    'train': (
        'ema_decay', 'optim_g', 'scheduler', 'total_iter', 'warmup_iter', 'pixel_opt', 'perceptual_opt',
    ),
    'val': ('val_freq', 'save_img', 'suffix', 'metrics', 'pbar'),
    'logger': ('print_freq', 'save_checkpoint_freq', 'use_tb_logger', 'wandb'),
}  # fmt: skip
_KNOWN_TO_OURS = {
    '': ('sync_bn',),
    'train': tuple(field.name for field in fields(StepOptions)),
    'logger': ('keep_checkpoints',),
}
# Anything else would count as true.
_FLAGS = (
    'sync_bn', 'find_unused_parameters', 'path.strict_load_g', 'val.save_img', 'val.pbar', 'logger.use_tb_logger',
    'datasets.train.pin_memory', 'datasets.train.persistent_workers',
)  # fmt: skip


def check_options(opt: Options, is_train: bool, strict: bool = False) -> None:
    """Raises one OptionError with all faults, `strict`ly also with `doubts`. Nothing is written; plugins are loaded.

    Keys, types and registered names are checked; optimizer, scheduler and data sets are built once, and in training
    the network's loss on one crop is computed, on the CPU.
    """
    faults = [f'{key} is missing' for key in _REQUIRED[is_train] if not _has(opt, key)]
    for check in [] if faults else _checks(opt, is_train):
        try:
            check()
        except OptionError as error:
            faults.append(str(error))
    if strict:
        with suppress(*CONSTRUCTOR_ERRORS, UserError):  # of values that are faults already
            faults.extend(doubts(opt))
    if faults:
        faults = list(dict.fromkeys(faults))  # an unknown model is one to each check that asks for it
        several = f'{len(faults)} options are wrong:'
        raise OptionError(faults[0] if len(faults) == 1 else '\n  '.join([several, *faults]))


def _has(opt: Options, dotted: str) -> bool:
    value: Any = opt
    for key in dotted.split('.'):
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return value is not None


def _checks(opt: Options, is_train: bool) -> Iterator[Callable[[], object]]:
    """Calls that each raise OptionError for one fault; independent of one another."""
    for key in ('datasets', 'path', 'val', 'train', 'logger'):
        if not isinstance(opt.get(key) or {}, dict):
            yield partial(_fail, f'{key}: a mapping of keys to values, not {opt[key]!r}')
            return
    if opt['model_type'] in _IMAGE_MODELS:
        for section in _KNOWN:
            yield partial(_check_section, section, opt)
        for key in _FLAGS:
            yield partial(_check_flag, key, opt)
    yield partial(_check_name, 'name', opt['name'])
    yield partial(_check_gpus, opt['num_gpu'])
    if opt.get('manual_seed') is not None:
        yield partial(_check_number, 'manual_seed', opt['manual_seed'], 0, 2**32 - 1)
    yield partial(registered, 'model_type', 'models', {'type': opt['model_type']})
    yield partial(_check_paths, opt)
    if is_train:
        yield from _training_checks(opt)
    else:
        yield partial(build, 'network_g', 'archs', opt['network_g'])
    metrics = (opt.get('val') or {}).get('metrics') or {}
    if not isinstance(metrics, dict):
        yield partial(_fail, f'val.metrics: a mapping of names to metrics, not {metrics!r}')
    else:
        for name, metric in metrics.items():
            yield partial(_check_name, 'val.metrics', name)  # the weights of its best are named after it
            yield partial(_check_metric, f'val.metrics.{name}', metric)
    if not opt['datasets']:
        yield partial(_fail, 'datasets: none is given')
    names = [dataset.get('name') for dataset in opt['datasets'].values() if isinstance(dataset, dict)]
    for name in {str(name) for name in names if names.count(name) > 1}:
        yield partial(_fail, f'datasets: two are named {name}, and so would be their scores; rename one')
    for phase, dataset in opt['datasets'].items():
        yield partial(
            _check_dataset, str(phase), dataset, is_train, {key: opt[key] for key in ('scale',) if key in opt}
        )


def _training_checks(opt: Options) -> Iterator[Callable[[], object]]:
    train = opt['train']
    yield partial(_check_number, 'train.total_iter', train['total_iter'], 1)
    for key in ('print_freq', 'save_checkpoint_freq'):
        yield partial(_check_number, f'logger.{key}', opt['logger'][key], 1)
    if opt.get('val') is not None:
        yield partial(_check_number, 'val.val_freq', opt['val'].get('val_freq'), 1)
        if 'save_img' not in opt['val']:
            yield partial(_fail, 'val.save_img is missing')
    if opt['model_type'] in _IMAGE_MODELS:
        decay = train.get('ema_decay', 0)
        if not isinstance(decay, int | float) or not 0 <= decay < 1:
            yield partial(_fail, f'train.ema_decay: a number of at least 0 and below 1, not {decay!r}')
    if 'warmup_iter' in train:
        yield partial(_check_number, 'train.warmup_iter', train['warmup_iter'], -1)
    if opt['model_type'] in _OURS:
        yield partial(StepOptions.of, train)
        if opt['logger'].get('keep_checkpoints') is not None:
            yield partial(_check_number, 'logger.keep_checkpoints', opt['logger']['keep_checkpoints'], 1)
    if opt['model_type'] == 'JDRLModel':
        yield partial(_check_jdrl, train)
    yield partial(_check_wandb, opt['logger'])
    yield partial(_check_optimizer, opt['model_type'], train)
    if train.get('perceptual_opt'):  # not built: that may fetch its trunk
        yield partial(registered, 'train.perceptual_opt', 'losses', train['perceptual_opt'])
    if opt['model_type'] not in _IMAGE_MODELS:  # others have losses and inputs of their own
        yield partial(build, 'network_g', 'archs', opt['network_g'])
    elif train.get('pixel_opt'):
        yield partial(_check_step, opt)
    else:
        if not train.get('perceptual_opt'):
            yield partial(_fail, 'train.pixel_opt is missing: no loss to train on')
        yield partial(build, 'network_g', 'archs', opt['network_g'])


def _fail(message: str) -> None:
    raise OptionError(message)


def _check_name(where: str, name: object) -> None:
    """It becomes a folder's name, and an earlier folder of that name is put aside."""
    if not isinstance(name, str) or name in ('', '.', '..') or Path(name).name != name or not name.isprintable():
        raise OptionError(f'{where}: {name!r} cannot name a folder; use letters, digits, - and _')
    if len(name.encode()) > 200:
        raise OptionError(f'{where}: {name[:40]}... is too long for a folder')


def _check_gpus(num_gpu: object) -> None:
    import torch

    there = torch.cuda.device_count()
    if num_gpu != 'auto' and (not isinstance(num_gpu, int) or not 0 <= num_gpu <= there):
        raise OptionError(f'num_gpu: {num_gpu!r} but this machine has {there}; set num_gpu: auto')


def _check_paths(opt: Options) -> None:
    """Checkpoints exist and fit the network."""
    paths = opt['path']
    for key, value in paths.items():
        if value is None or not str(key).startswith(('pretrain_network', 'resume_state')):
            continue
        if not isinstance(value, str):
            raise OptionError(f'path.{key}: {value!r} is not the name of a file')
        if str(key).startswith('resume_state'):
            if not Path(value).expanduser().is_file():
                raise OptionError(f'path.{key}: {value}: no such file')
            continue
        try:
            path = checkpoint_path(value)
            content = read_checkpoint(path)
            if key == 'pretrain_network_g':
                net = build('network_g', 'archs', opt['network_g'])
                state = weights_of(content, path, paths.get('param_key_g'))
                load_weights(net, state, path, paths.get('strict_load_g', True))
        except CheckpointError as error:
            raise OptionError(f'path.{key}: {error}') from error


def _check_flag(dotted: str, opt: Options) -> None:
    value: Any = opt
    for key in dotted.split('.'):
        value = value.get(key) if isinstance(value, dict) else None
    if value is not None and not isinstance(value, bool):
        raise OptionError(f'{dotted}: true or false, not {value!r}')


def _check_number(where: str, value: object, least: int, most: float = float('inf')) -> None:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool) or not least <= value <= most:  # type: ignore[operator]
        raise OptionError(f'{where}: a whole number of at least {least}, not {value!r}')


def _check_section(section: str, opt: Options) -> None:
    """Keys that nothing reads: a slip of the pen, which would be passed over in silence."""
    given = (opt.get(section) or {}) if section else opt
    known = [*_KNOWN[section], *(_KNOWN_TO_OURS.get(section, ()) if opt['model_type'] in _OURS else ())]
    known += ['jdrl'] * (section == 'train' and opt['model_type'] == 'JDRLModel')
    wrong = [key for key in given if key not in known]
    if wrong:
        where = f'{section}.' if section else ''
        hints = (
            f'{where}{key} is no option of {opt["model_type"]}.{nearest(str(key), known, "There are")}' for key in wrong
        )
        raise OptionError('\n  '.join(hints))


def _check_jdrl(train: Options) -> None:
    from ggkm_plugin.models.flow import build_flow
    from ggkm_plugin.models.jdrl_model import JDRLOptions

    build_flow(JDRLOptions.of(train).flow)


def _check_wandb(logger: Options) -> None:
    if (logger.get('wandb') or {}).get('project') is None:
        return
    if importlib.util.find_spec('wandb') is None:
        raise OptionError('logger.wandb: wandb is not installed; `pip install wandb`, or leave out its project')
    if not logger['use_tb_logger']:
        raise OptionError('logger.wandb mirrors TensorBoard: set logger.use_tb_logger: true')


def _check_optimizer(model_type: str, train: Options) -> None:
    """Build optimizer and schedule as the model does, on one number; models that build their own way are left alone."""
    import torch
    from basicsr.models.base_model import BaseModel

    from ggkm_plugin.models.defocus_model import DefocusModel
    from ggkm_plugin.models.optimizing import HOST_SCHEDULES, build_optimizer, build_schedule

    model = registered('model_type', 'models', {'type': model_type})
    for method in ('get_optimizer', 'setup_schedulers'):
        if getattr(model, method, None) not in (getattr(BaseModel, method), getattr(DefocusModel, method)):
            return
    optim, schedule = dict(train['optim_g']), dict(train['scheduler'])
    optim_type, schedule_type = optim.pop('type'), schedule.pop('type')
    if model.get_optimizer is BaseModel.get_optimizer:  # type: ignore[attr-defined]
        if optim_type != 'Adam':
            raise OptionError(f'train.optim_g.type: {model_type} has Adam, not {optim_type!r}; DefocusModel has more')
        if schedule_type not in HOST_SCHEDULES:
            known = nearest(str(schedule_type), list(HOST_SCHEDULES), 'It has')
            raise OptionError(f'train.scheduler.type: {model_type} has no {schedule_type!r}.{known}')
    milestones = schedule.get('milestones', [])
    if not isinstance(milestones, list) or not all(isinstance(milestone, int) for milestone in milestones):
        raise OptionError(f'train.scheduler.milestones: a list of iterations, not {milestones!r}')
    optimizer = build_optimizer(optim_type, [torch.nn.Parameter(torch.zeros(1))], optim)
    build_schedule(schedule_type, optimizer, schedule)
    if 'periods' in schedule and sum(schedule['periods']) < train['total_iter']:
        raise OptionError(
            f'train.scheduler.periods: {schedule["periods"]} end before total_iter, {train["total_iter"]}; '
            'make their sum at least that'
        )


def doubts(opt: Options) -> Iterator[str]:
    """What a long training would hardly want, though it runs: of options that `check_options` has passed."""
    train = opt['train']
    total, schedule = train['total_iter'], train['scheduler']
    late = [milestone for milestone in schedule.get('milestones') or [] if milestone >= total]
    if late:
        yield f'train.scheduler.milestones: {late} are never reached, since train.total_iter is {total}'
    if (train.get('warmup_iter') or 0) >= total:
        yield f'train.warmup_iter: {train["warmup_iter"]} is not below train.total_iter, {total}'
    alone = sum(train['jdrl'][key] for key in ('warp_iter', 'reblur_iter')) if opt['model_type'] == 'JDRLModel' else 0
    if alone >= total:
        yield f'train.jdrl: warp_iter and reblur_iter, {alone} together, leave none of {total} iterations to train both'
    for phase, dataset in opt['datasets'].items():
        if phase != 'train' and dataset.get('split') == 'test':
            yield f'datasets.{phase}: the test split is scored in training; no best weights are chosen on it'
        yield from _doubts_about_counts(f'datasets.{phase}', dataset)


def _doubts_about_counts(where: str, dataset: Options) -> list[str]:
    from ggkm_plugin.data.layouts import LAYOUTS

    spec = LAYOUTS.get(str(dataset.get('layout')))
    split = dataset.get('split', where.rpartition('.')[2])
    if spec is None or spec.held_out or split not in spec.counts:  # a held-out split has no published count
        return []
    count = len(build(where, 'datasets', {**dataset, 'phase': where.rpartition('.')[2].split('_')[0]}))
    expected = spec.counts[split]
    return [] if count == expected else [f'{where}: {count} images, where {dataset["layout"]} has {expected}']


def _check_step(opt: Options) -> None:
    """The loss of the network on one black crop: whether network, loss and crop size fit together."""
    import torch

    net = build('network_g', 'archs', opt['network_g'])
    loss = build('train.pixel_opt', 'losses', opt['train']['pixel_opt'])
    dataset = opt['datasets']['train']
    size = dataset.get('gt_size') if isinstance(dataset, dict) else None
    ours = hasattr(registered('datasets.train', 'datasets', dataset), 'option_keys')  # others may crop otherwise
    if not ours or not isinstance(size, int) or size < 1:
        return
    crop = torch.zeros(1, 3, size, size)
    try:
        with torch.no_grad():
            output = net.train()(crop)
            if isinstance(output, dict) and not getattr(loss, 'takes_scales', False):
                if opt['model_type'] not in _OURS:
                    raise OptionError(
                        f'train.pixel_opt: {opt["train"]["pixel_opt"]["type"]} takes an image, but {opt["model_type"]} '
                        f'gives it the training output of {opt["network_g"]["type"]}, a dict. Set model_type: '
                        'DefocusModel, or train.pixel_opt.type: GGKMLoss'
                    )
                output = output['scales'][-1]
            loss(output, crop)
    except UserError as error:
        raise OptionError(str(error)) from error
    except CONSTRUCTOR_ERRORS as error:
        raise OptionError(f'network_g with train.pixel_opt, on a crop of {size}x{size}: {error}') from error


def _check_metric(where: str, metric: Any) -> None:
    target = registered(where, 'metrics', metric)
    parameters = inspect.signature(target).parameters
    known = {name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
    needed = {name for name in known if parameters[name].default is inspect.Parameter.empty} - {'img', 'img2'}
    if getattr(target, 'takes_float', False) or known == set(parameters):  # **kwargs of others may mean something
        check_keys(where, metric, known | {'type', 'better'})
    if metric.get('better', 'higher') not in ('higher', 'lower'):
        raise OptionError(f'{where}.better: higher or lower, not {metric["better"]!r}')
    for name in needed - metric.keys():
        raise OptionError(f'{where}: {metric["type"]} needs the option {name}')
    if hasattr(target, 'check'):
        try:
            target.check(**{key: value for key, value in metric.items() if key not in ('type', 'better')})
        except OptionError as error:
            raise OptionError(f'{where}: {error}') from error
    elif 'protocol' in metric and 'protocol' in known:
        from ggkm_plugin.metrics.protocols import find_protocol

        try:
            find_protocol(str(metric['protocol']))
        except OptionError as error:
            raise OptionError(f'{where}: {error}') from error


def _check_dataset(phase: str, dataset: Any, is_train: bool, inherited: Options) -> None:
    where, kind = f'datasets.{phase}', phase.split('_')[0]
    allowed = ('train', 'val') if is_train else ('test', 'val')
    if kind not in allowed or (kind == 'train' and phase != 'train'):
        raise OptionError(f'{where}: the data sets of this command are {allowed[0]}, {allowed[1]}, {allowed[1]}_2 ...')
    if not isinstance(dataset, dict) or 'name' not in dataset:
        raise OptionError(f'{where}.name is missing')
    _check_name(f'{where}.name', dataset['name'])
    ratio = dataset.get('dataset_enlarge_ratio', 1)
    if kind == 'train':
        _check_number(f'{where}.batch_size_per_gpu', dataset.get('batch_size_per_gpu'), 1)
        _check_number(f'{where}.num_worker_per_gpu', dataset.get('num_worker_per_gpu'), 0)
        if not isinstance(ratio, int | float) or not 0 < ratio < float('inf'):
            raise OptionError(f'{where}.dataset_enlarge_ratio: a number above 0, not {ratio!r}')
        _check_prefetching(where, dataset)
    target = registered(where, 'datasets', dataset)
    if hasattr(target, 'option_keys'):
        check_keys(where, dataset, target.option_keys | _LOADER_KEYS)
    built = build(where, 'datasets', {**dataset, **inherited, 'phase': kind})
    batch = dataset.get('batch_size_per_gpu', 1)
    if kind == 'train' and len(built) * ratio < batch:
        raise OptionError(
            f'{where}: {len(built) * ratio:g} samples are fewer than one batch of {batch}: lower batch_size_per_gpu, '
            f'or set dataset_enlarge_ratio to {-(-batch // len(built))} or more'
        )


def _check_prefetching(where: str, dataset: Options) -> None:
    import torch

    mode = dataset.get('prefetch_mode')
    if mode not in (None, 'cpu', 'cuda'):
        raise OptionError(f'{where}.prefetch_mode: cpu, cuda or ~, not {mode!r}')
    if mode == 'cpu':
        _check_number(f'{where}.num_prefetch_queue', dataset.get('num_prefetch_queue', 1), 1)
    if mode == 'cuda' and not torch.cuda.is_available():
        raise OptionError(f'{where}.prefetch_mode: cuda, but this machine has no GPU; set it to cpu or ~')
    if mode == 'cuda' and dataset.get('pin_memory') is not True:
        raise OptionError(f'{where}.prefetch_mode: cuda needs pin_memory: true')
