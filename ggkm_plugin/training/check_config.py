"""Validate a training or test config before anything is written."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import create_model

from ggkm_plugin.training import config_schema as schema
from ggkm_plugin.utils.checkpoint import load_weights, read_checkpoint, weights_of
from ggkm_plugin.utils.config import Options, nearest
from ggkm_plugin.utils.errors import CheckpointError, OptionError, UserError, listed
from ggkm_plugin.utils.registry import CONSTRUCTOR_ERRORS, argument_faults, build, registered
from ggkm_plugin.utils.schema import Faults, section_faults, signature_section
from ggkm_plugin.weights import checkpoint_path

# Models of this package, and all models that give one image to the network and its output to `pixel_opt`.
_OWN_MODELS = ('DefocusModel', 'JDRLModel')
_IMAGE_MODELS = ('SRModel', *_OWN_MODELS)
_TRAIN_FILES = {'DefocusModel': schema.DefocusTrainFile, 'JDRLModel': schema.JDRLTrainFile}

# (keys that must be free of faults, the check)
_Check = tuple[tuple[str, ...], Callable[[], object]]


def check_options(opt: Options, is_train: bool, strict: bool = False) -> None:
    """Check keys, types, registered names, files and data sets, and build what can be built.

    Raises one OptionError with all faults; if `strict`, suspicious settings (see `doubts`) count as faults. Plugins
    must be loaded. Nothing is written. In training the loss of the network on one crop is computed, on the CPU.
    """
    faults = _schema_faults(opt, is_train)
    for keys, check in _checks(opt, is_train):
        if _without_faults(faults, keys):
            try:
                check()
            except OptionError as error:
                faults[f'{keys[0]}: {error}'] = str(error)
    messages = list(faults.values())
    if strict:
        with suppress(*CONSTRUCTOR_ERRORS, UserError):  # caused by values that are faults already
            messages.extend(doubts(opt))
    messages = list(dict.fromkeys(messages))
    if messages:
        several = f'{len(messages)} options are wrong:'
        raise OptionError(messages[0] if len(messages) == 1 else '\n  '.join([several, *messages]))


def _without_faults(faults: Faults, keys: tuple[str, ...]) -> bool:
    """Whether nothing at, above or below these keys is wrong."""
    return not any(
        fault == key or fault.startswith((f'{key}.', f'{key}[', f'{key}:')) or key.startswith(f'{fault}.')
        for fault in faults
        for key in keys
    )


# ---- the schema


def _schema_faults(opt: Options, is_train: bool) -> Faults:
    """Return all faults that the file alone shows, {dotted key: message}."""
    model = opt.get('model_type')
    known_model = model in _IMAGE_MODELS  # models of other authors may read other keys
    file = _TRAIN_FILES.get(str(model), schema.TrainFile) if is_train else schema.TestFile
    faults = section_faults(file, opt, allow_unknown=not known_model)
    _try(faults, 'model_type', partial(registered, 'model_type', 'models', {'type': model}))
    specs = [('network_g', 'archs', opt.get('network_g'))]
    train, val = opt.get('train'), opt.get('val')
    if is_train and known_model and isinstance(train, dict):
        specs += [(f'train.{key}', 'losses', train.get(key)) for key in ('pixel_opt', 'perceptual_opt')]
        if not (train.get('pixel_opt') or train.get('perceptual_opt')):
            faults['train.pixel_opt'] = 'train.pixel_opt is missing: no loss to train on'
    metrics = val.get('metrics') if isinstance(val, dict) else None
    if isinstance(metrics, dict):
        specs += [(f'val.metrics.{name}', 'metrics', metric) for name, metric in metrics.items()]
    for where, kind, spec in specs:
        if spec is not None and _without_faults(faults, (where,)):
            _try(faults, where, partial(argument_faults, where, kind, spec))
    if is_train and _without_faults(faults, ('model_type', 'train.optim_g', 'train.scheduler')):
        faults |= _optimizer_faults(str(model), opt['train'])
    if _without_faults(faults, ('datasets',)):
        for phase, dataset in opt['datasets'].items():
            _try(faults, f'datasets.{phase}', partial(_dataset_faults, phase, dataset, is_train))
        names = [str(dataset.get('name')) for dataset in opt['datasets'].values()]
        for name in {name for name in names if names.count(name) > 1}:
            faults['datasets'] = f'datasets: two are named {name!r}, and would share their scores. Rename one'
    return faults


def _try(faults: Faults, where: str, check: Callable[[], Any]) -> None:
    """Add the faults that a check returns, or the one that it raises."""
    try:
        found = check()
    except OptionError as error:
        faults.setdefault(where, str(error))
    else:
        faults.update(found if isinstance(found, dict) else {})


def _optimizer_faults(model_type: str, train: Options) -> Faults:
    """Check types and arguments of optimizer and schedule, unless the model has its own way of building them."""
    from basicsr.models.base_model import BaseModel

    from ggkm_plugin.models.defocus_model import DefocusModel
    from ggkm_plugin.models.optimizing import BASICSR_SCHEDULES, optimizers, schedules

    model = registered('model_type', 'models', {'type': model_type})
    for method in ('get_optimizer', 'setup_schedulers'):
        if getattr(model, method, None) not in (getattr(BaseModel, method), getattr(DefocusModel, method)):
            return {}
    basicsr_only = getattr(model, 'get_optimizer', None) is BaseModel.get_optimizer
    faults: Faults = {}
    for key, built_for, known in (
        ('optim_g', 'params', {'Adam': optimizers()['Adam']} if basicsr_only else optimizers()),
        ('scheduler', 'optimizer', BASICSR_SCHEDULES if basicsr_only else schedules()),
    ):
        where, spec = f'train.{key}', train[key]
        if spec['type'] not in known:
            names = nearest(str(spec['type']), list(known), 'It has')
            faults[f'{where}.type'] = f'{where}.type: {model_type} has no {spec["type"]!r}.{names}'
            continue
        target: Any = known[spec['type']]
        section = signature_section(target, (built_for,))
        faults |= section_faults(section, {k: v for k, v in spec.items() if k != 'type'}, where, from_json=True)
    return faults


def _dataset_faults(phase: str, dataset: Options, is_train: bool) -> Faults:
    where, kind = f'datasets.{phase}', str(phase).split('_')[0]
    allowed = ('train', 'val') if is_train else ('test', 'val')
    if kind not in allowed or (kind == 'train' and phase != 'train'):
        raise OptionError(
            f'{where}: unknown data set. This command reads {allowed[0]}, {allowed[1]}, {allowed[1]}_2 ...'
        )
    base = schema.TrainDataSet if kind == 'train' else schema.DataSet
    section = getattr(registered(where, 'datasets', dataset), 'options', None)
    values = {**dataset, 'phase': kind}
    if section is None:  # of another author
        return section_faults(base, values, where, allow_unknown=True)
    return section_faults(create_model(section.__name__, __base__=(section, base)), values, where)


# ---- what is built from the options


def _checks(opt: Options, is_train: bool) -> Iterator[_Check]:
    """Yield checks that each raise OptionError, independent of one another."""
    train, val, datasets = (opt[key] if isinstance(opt.get(key), dict) else {} for key in ('train', 'val', 'datasets'))
    metrics = val.get('metrics')
    yield ('num_gpu',), lambda: _check_gpus(opt['num_gpu'])
    yield ('path', 'network_g'), lambda: _check_paths(opt)
    for name, metric in metrics.items() if isinstance(metrics, dict) else ():
        yield (f'val.metrics.{name}',), partial(_check_metric, f'val.metrics.{name}', metric)
    for phase in datasets:
        yield (f'datasets.{phase}', 'datasets'), partial(_check_dataset, opt, phase)
    if not is_train:
        yield ('network_g',), lambda: build('network_g', 'archs', opt['network_g'])
        return
    yield ('logger',), lambda: _check_wandb(opt['logger'])
    yield ('train', 'model_type'), lambda: _check_optimizer(opt)
    if opt.get('model_type') == 'JDRLModel':
        yield ('train.jdrl',), lambda: _check_flow(opt)
    if opt.get('model_type') in _IMAGE_MODELS and train.get('pixel_opt'):
        yield ('network_g', 'train.pixel_opt', 'datasets.train'), lambda: _check_step(opt)
    else:  # other models have losses and inputs of their own
        yield ('network_g',), lambda: build('network_g', 'archs', opt['network_g'])


def _check_gpus(num_gpu: Any) -> None:
    import torch

    available = torch.cuda.device_count()
    if num_gpu != 'auto' and num_gpu > available:
        raise OptionError(f'num_gpu: {num_gpu}, but this machine has {available} GPUs. Set num_gpu: auto')


def _check_paths(opt: Options) -> None:
    """Check that checkpoints exist and fit the network."""
    paths = opt['path']
    for key, value in paths.items():
        if value is None or not str(key).startswith(('pretrain_network', 'resume_state')):
            continue
        if not isinstance(value, str):
            raise OptionError(f'path.{key}: {value!r} is not the name of a file')
        if key.startswith('resume_state'):
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


def _check_metric(where: str, metric: Options) -> None:
    target = registered(where, 'metrics', metric)
    if metric.get('better', 'higher') not in ('higher', 'lower'):
        raise OptionError(f'{where}.better: one of higher, lower, not {metric["better"]!r}')
    arguments = {key: value for key, value in metric.items() if key not in ('type', 'better')}
    try:
        if hasattr(target, 'check'):
            target.check(**arguments)
        elif getattr(target, 'takes_float', False):
            from ggkm_plugin.metrics.protocols import find_protocol

            find_protocol(arguments.get('protocol', 'restormer'))
    except OptionError as error:
        raise OptionError(f'{where}: {error}') from error


def _check_dataset(opt: Options, phase: str) -> None:
    import torch

    where, kind, dataset = f'datasets.{phase}', phase.split('_')[0], opt['datasets'][phase]
    if dataset.get('prefetch_mode') == 'cuda' and not torch.cuda.is_available():
        raise OptionError(f'{where}.prefetch_mode: cuda, but this machine has no GPU. Set it to cpu or ~')
    if dataset.get('prefetch_mode') == 'cuda' and not dataset.get('pin_memory'):
        raise OptionError(f'{where}.prefetch_mode: cuda needs pin_memory: true')
    inherited = {key: opt[key] for key in ('scale',) if key in opt}
    built = build(where, 'datasets', {**dataset, **inherited, 'phase': kind})
    samples, batch = len(built) * dataset.get('dataset_enlarge_ratio', 1), dataset.get('batch_size_per_gpu', 1)
    if kind == 'train' and samples < batch:
        raise OptionError(
            f'{where}: {samples:g} samples are fewer than one batch of {batch}. Lower batch_size_per_gpu, or set '
            f'dataset_enlarge_ratio to {-(-batch // len(built))} or more'
        )


def _check_wandb(logger: Options) -> None:
    if (logger.get('wandb') or {}).get('project') is None:
        return
    if importlib.util.find_spec('wandb') is None:
        raise OptionError('logger.wandb: wandb is not installed. Run `pip install wandb`, or leave out its project')
    if not logger['use_tb_logger']:
        raise OptionError('logger.wandb: it mirrors TensorBoard. Set logger.use_tb_logger: true')


def _check_optimizer(opt: Options) -> None:
    """Build optimizer and schedule for one parameter, if they are of torch or BasicSR."""
    import torch

    from ggkm_plugin.models.optimizing import build_optimizer, build_schedule, optimizers, schedules

    train = opt['train']
    optim, schedule = dict(train['optim_g']), dict(train['scheduler'])
    optim_type, schedule_type = optim.pop('type'), schedule.pop('type')
    if opt['model_type'] not in _IMAGE_MODELS and not (optim_type in optimizers() and schedule_type in schedules()):
        return
    optimizer = build_optimizer(optim_type, [torch.nn.Parameter(torch.zeros(1))], optim)
    build_schedule(schedule_type, optimizer, schedule)
    if 'periods' in schedule and sum(schedule['periods']) < train['total_iter']:
        raise OptionError(
            f'train.scheduler.periods: {schedule["periods"]} end before total_iter, {train["total_iter"]}. Make their '
            'sum at least that'
        )


def _check_flow(opt: Options) -> None:
    from ggkm_plugin.models.flow import build_flow

    build_flow(opt['train']['jdrl']['flow'])


def _check_step(opt: Options) -> None:
    """Compute the loss of one black crop: whether network, loss and crop size fit, and all parameters are used."""
    import torch

    net = build('network_g', 'archs', opt['network_g'])
    loss = build('train.pixel_opt', 'losses', opt['train']['pixel_opt'])
    dataset = opt['datasets']['train']
    size = dataset.get('gt_size')
    if not isinstance(size, int) or not hasattr(registered('datasets.train', 'datasets', dataset), 'options'):
        return  # data sets of other authors may crop in another way
    crop = torch.zeros(1, 3, size, size)
    try:
        output = net.train()(crop)
        if isinstance(output, dict) and not getattr(loss, 'takes_scales', False):
            if opt['model_type'] not in _OWN_MODELS:
                raise OptionError(
                    f'train.pixel_opt: {opt["model_type"]} passes the training dict of {opt["network_g"]["type"]} to '
                    f'{opt["train"]["pixel_opt"]["type"]}, which takes an image. Set model_type: DefocusModel, or a '
                    'loss that takes the dict, such as GGKMLoss'
                )
            output = output['scales'][-1]
        value = loss(output, crop)
    except UserError as error:
        raise OptionError(str(error)) from error
    except CONSTRUCTOR_ERRORS as error:
        raise OptionError(f'network_g with train.pixel_opt, on a crop of {size}x{size}: {error}') from error
    unused = _unused_parameters(net, value)
    if unused and int(os.environ.get('WORLD_SIZE', 1)) > 1 and not opt.get('find_unused_parameters'):
        raise OptionError(_about_unused(opt, unused))


def _unused_parameters(net: Any, loss: Any) -> list[str]:
    """Return the names of trainable parameters that a loss does not depend on."""
    reached, nodes = set(), [loss.grad_fn]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        reached.add(id(getattr(node, 'variable', None)))
        new = {below for below, _ in getattr(node, 'next_functions', ()) if below is not None} - seen
        seen |= new
        nodes.extend(new)
    return [name for name, p in net.named_parameters() if p.requires_grad and id(p) not in reached]


def _about_unused(opt: Options, unused: list[str]) -> str:
    parts = listed(sorted({name.split('.')[0] for name in unused}))
    return (
        f'network_g: {len(unused)} parameters (in {parts}) get no gradient from train.pixel_opt, which stops training '
        'on several processes. Leave these parts out of the network, or set find_unused_parameters: true'
    )


# ---- suspicious settings


def doubts(opt: Options) -> Iterator[str]:
    """Yield suspicious but valid settings of options that `check_options` has passed."""
    import torch

    from ggkm_plugin.models.step_options import AMP_TYPES
    from ggkm_plugin.utils.devices import is_native

    train = opt['train']
    total, schedule = train['total_iter'], train['scheduler']
    late = [milestone for milestone in schedule.get('milestones') or [] if milestone >= total]
    if late:
        yield f'train.scheduler.milestones: {late} are never reached, since train.total_iter is {total}'
    if (train.get('warmup_iter') or 0) >= total:
        yield f'train.warmup_iter: {train["warmup_iter"]} is not below train.total_iter, {total}'
    device = torch.device('cuda' if opt['num_gpu'] != 0 and torch.cuda.is_available() else 'cpu')
    if not is_native(AMP_TYPES.get(train.get('amp'), torch.float32), device):
        yield f'train.amp: {train["amp"]} is emulated on this {device.type}, slower than none. Set train.amp: auto'
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
