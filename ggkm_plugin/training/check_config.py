"""Validate a training or test config before anything is written."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ggkm_plugin.basicsr_patches.launch import process_count
from ggkm_plugin.data.options import dataset_faults
from ggkm_plugin.metrics.selection import missing_metrics
from ggkm_plugin.training import config_schema as schema
from ggkm_plugin.training.check_data import image_faults
from ggkm_plugin.utils.checkpoint import load_weights, read_checkpoint, weights_of
from ggkm_plugin.utils.config import Options, nearest
from ggkm_plugin.utils.errors import CheckpointError, DataError, OptionError, UserError, listed
from ggkm_plugin.utils.registry import CONSTRUCTOR_ERRORS, argument_faults, build, registered
from ggkm_plugin.utils.schema import Faults, raise_faults, section_faults, signature_section, without_faults
from ggkm_plugin.weights import checkpoint_path

# Models of this package, and all models that call `pixel_opt` with the output of the network on one image.
_OWN_MODELS = ('DefocusModel', 'JDRLModel')
_IMAGE_MODELS = ('SRModel', *_OWN_MODELS)
_TRAIN_FILES = {'DefocusModel': schema.DefocusTrainFile, 'JDRLModel': schema.JDRLTrainFile}

# (keys that must be free of faults, the check); it raises OptionError, and may return warnings
_Check = tuple[tuple[str, ...], Callable[[], list[str] | None]]


def check_options(opt: Options, is_train: bool, strict: bool = False, images: bool = False) -> list[str]:
    """Check keys, types, registered names, files and data sets, and build what can be built.

    Returns warnings about suspicious but valid settings; if `strict`, they are faults. Raises one OptionError with all
    faults, DataError if only images have any. Plugins must be loaded. Nothing is written. In training the loss of the
    network on one crop is computed, on the CPU. `images` also checks the headers of all images. Metrics without their
    files are warnings, never faults.
    """
    faults = _schema_faults(opt, is_train)
    warnings: list[str] = []
    datasets: dict[str, Any] = {}
    for keys, check in _checks(opt, is_train, datasets):
        if without_faults(faults, *keys):
            try:
                warnings += check() or []
            except OptionError as error:
                faults[f'{keys[0]}: {error}'] = str(error)
    wrong = [*faults.values(), *(warnings if strict else ())]
    bad_files = image_faults(datasets) if images else []
    raise_faults([*wrong, *bad_files], OptionError if wrong else DataError)
    return [*warnings, *_skipped_metrics(opt)]


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
        if spec is not None and without_faults(faults, where):
            _try(faults, where, partial(argument_faults, where, kind, spec))
    if is_train and without_faults(faults, 'model_type', 'train.optim_g', 'train.scheduler'):
        faults |= _optimizer_faults(str(model), opt['train'])
    if without_faults(faults, 'datasets'):
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
    return dataset_faults(where, {**dataset, 'phase': kind}, base)


# ---- objects built from the options


def _checks(opt: Options, is_train: bool, built: dict[str, Any]) -> Iterator[_Check]:
    """Yield checks, independent of one another. Data sets are added to `built`."""
    train, val, datasets = (opt[key] if isinstance(opt.get(key), dict) else {} for key in ('train', 'val', 'datasets'))
    metrics = val.get('metrics')
    yield ('num_gpu',), lambda: _check_gpus(opt['num_gpu'])
    yield ('path', 'network_g'), lambda: _check_paths(opt)
    for name, metric in metrics.items() if isinstance(metrics, dict) else ():
        yield (f'val.metrics.{name}',), partial(_check_metric, f'val.metrics.{name}', metric)
    for phase in datasets:
        yield (f'datasets.{phase}', 'datasets'), partial(_check_dataset, opt, phase, built)
    if not is_train:
        yield ('network_g',), lambda: _check_network(opt)
        return
    yield ('logger',), lambda: _check_wandb(opt['logger'])
    yield ('train', 'model_type'), lambda: _check_optimizer(opt)
    yield ('train', 'num_gpu'), lambda: _check_amp(opt)
    if opt.get('model_type') == 'JDRLModel':
        yield ('train.jdrl', 'train.total_iter'), lambda: _check_flow(opt)
    if opt.get('model_type') in _IMAGE_MODELS and train.get('pixel_opt'):
        yield ('network_g', 'train.pixel_opt', 'datasets.train'), lambda: _check_step(opt)
    else:  # other models have losses and inputs of their own
        yield ('network_g',), lambda: _check_network(opt)


def _check_network(opt: Options) -> None:
    build('network_g', 'archs', opt['network_g'])


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


def _skipped_metrics(opt: Options) -> list[str]:
    metrics = (opt.get('val') or {}).get('metrics') or {}
    return [f'val.metrics.{name} is skipped: {reason}' for name, reason in missing_metrics(metrics).items()]


def _check_dataset(opt: Options, phase: str, all_built: dict[str, Any]) -> list[str]:
    import torch

    from ggkm_plugin.data.layouts import LAYOUTS

    where, kind, dataset = f'datasets.{phase}', phase.split('_')[0], opt['datasets'][phase]
    if dataset.get('prefetch_mode') == 'cuda' and not torch.cuda.is_available():
        raise OptionError(f'{where}.prefetch_mode: cuda, but this machine has no GPU. Set it to cpu or ~')
    if dataset.get('prefetch_mode') == 'cuda' and not dataset.get('pin_memory'):
        raise OptionError(f'{where}.prefetch_mode: cuda needs pin_memory: true')
    inherited = {key: opt[key] for key in ('scale',) if key in opt}
    built = all_built[where] = build(where, 'datasets', {**dataset, **inherited, 'phase': kind})
    samples, batch = len(built) * dataset.get('dataset_enlarge_ratio', 1), dataset.get('batch_size_per_gpu', 1)
    if kind == 'train' and samples < batch:
        raise OptionError(
            f'{where}: {samples:g} samples are fewer than one batch of {batch}. Lower batch_size_per_gpu, or set '
            f'dataset_enlarge_ratio to {-(-batch // len(built))} or more'
        )
    warnings = []
    layout, split = LAYOUTS.get(str(dataset.get('layout'))), dataset.get('split', kind)
    if 'train' in opt and kind == 'val' and split == 'test':
        warnings.append(f'{where}: the test split is scored in training; no best weights are chosen on it')
    # The published count of a train split includes the held-out scenes.
    if layout and not layout.held_out and len(built) != layout.counts.get(split, len(built)):
        warnings.append(
            f'{where}: {len(built)} images, but {dataset["layout"]} has {layout.counts[split]}. Scores on a part of it '
            'cannot be compared with published ones; `basicsr verify` lists what is missing'
        )
    return warnings


def _check_wandb(logger: Options) -> None:
    if not isinstance(logger.get('wandb'), dict) or logger['wandb'].get('project') is None:
        return
    if not logger['use_tb_logger'] or importlib.util.find_spec('wandb') is None:
        raise OptionError(
            'logger.wandb: it mirrors TensorBoard. Set logger.use_tb_logger: true and run `pip install wandb`, or '
            'remove its project'
        )


def _check_optimizer(opt: Options) -> list[str]:
    """Build optimizer and schedule for one parameter, if they are of torch or BasicSR, and compare lengths."""
    import torch

    from ggkm_plugin.models.optimizing import build_optimizer, build_schedule, optimizers, schedules

    train = opt['train']
    total, warmup, late = train['total_iter'], train.get('warmup_iter', -1), train['scheduler'].get('milestones') or []
    late = [milestone for milestone in late if milestone >= total]
    warnings = []
    if late:
        warnings.append(f'train.scheduler.milestones: {late} are never reached, since train.total_iter is {total}')
    if warmup >= total:
        warnings.append(f'train.warmup_iter: {warmup} is not below train.total_iter, {total}')
    optim, schedule = dict(train['optim_g']), dict(train['scheduler'])
    optim_type, schedule_type = optim.pop('type'), schedule.pop('type')
    if opt['model_type'] not in _IMAGE_MODELS and not (optim_type in optimizers() and schedule_type in schedules()):
        return warnings
    optimizer = build_optimizer(optim_type, [torch.nn.Parameter(torch.zeros(1))], optim)
    build_schedule(schedule_type, optimizer, schedule)
    if 'periods' in schedule and sum(schedule['periods']) < total:
        raise OptionError(
            f'train.scheduler.periods: {schedule["periods"]} end before train.total_iter, {total}. Make their sum at '
            'least that'
        )
    return warnings


def _check_amp(opt: Options) -> list[str]:
    import torch

    from ggkm_plugin.models.step_options import AMP_TYPES
    from ggkm_plugin.utils.devices import is_native

    amp = opt['train'].get('amp')
    device = torch.device('cuda' if opt['num_gpu'] != 0 and torch.cuda.is_available() else 'cpu')
    if is_native(AMP_TYPES.get(amp, torch.float32), device):
        return []
    return [f'train.amp: {amp} is emulated on this {device.type}, and slower than none. Set train.amp: auto']


def _check_flow(opt: Options) -> list[str]:
    from ggkm_plugin.models.flow import build_flow

    jdrl, total = opt['train']['jdrl'], opt['train']['total_iter']
    build_flow(jdrl['flow'])
    alone = jdrl['warp_iter'] + jdrl['reblur_iter']
    if alone < total:
        return []
    return [f'train.jdrl: warp_iter and reblur_iter are {alone} together, so none of {total} iterations trains both']


def _check_step(opt: Options) -> list[str]:
    """Compute the loss of one black crop: whether network, loss and crop size fit, and all parameters are used."""
    import torch

    from ggkm_plugin.losses.common import loss_input

    net = build('network_g', 'archs', opt['network_g'])
    loss = build('train.pixel_opt', 'losses', opt['train']['pixel_opt'])
    dataset = opt['datasets']['train']
    size = dataset.get('gt_size')
    if not isinstance(size, int) or not hasattr(registered('datasets.train', 'datasets', dataset), 'options'):
        return []  # data sets of other authors may crop in another way
    crop = torch.zeros(1, 3, size, size)
    try:
        output = net.train()(crop)
        taken = loss_input(loss, output)
        if taken is not output and opt['model_type'] not in _OWN_MODELS:
            raise OptionError(
                f'train.pixel_opt: {opt["model_type"]} passes the training dict of {opt["network_g"]["type"]} to '
                f'{opt["train"]["pixel_opt"]["type"]}, which takes an image. Set model_type: DefocusModel, or a '
                'loss that takes the dict, such as GGKMLoss'
            )
        value = loss(taken, crop)
    except UserError as error:
        raise OptionError(str(error)) from error
    except CONSTRUCTOR_ERRORS as error:
        raise OptionError(f'network_g with train.pixel_opt, on a crop of {size}x{size}: {error}') from error
    unused = _unused_parameters(net, value)
    if not unused or opt.get('find_unused_parameters'):
        return []
    parts = sorted({name.split('.')[0] for name in unused})
    hint = ' (network_g.self_reconstruction: false)' if parts == ['srm'] else ''
    message = (
        f'network_g: {len(unused)} parameters ({listed(parts)}) get no gradient from train.pixel_opt. Leave these '
        f'parts out of the network{hint}, or set find_unused_parameters: true'
    )
    if process_count() > 1:
        raise OptionError(f'{message}, since training runs on several processes')
    return [message]


def _unused_parameters(net: Any, loss: Any) -> list[str]:
    """Return the names of trainable parameters that a loss does not depend on."""
    reached, nodes = set(), [loss.grad_fn]
    visited = set(nodes)
    while nodes:
        node = nodes.pop()
        reached.add(id(getattr(node, 'variable', None)))
        new = {below for below, _ in getattr(node, 'next_functions', ()) if below is not None} - visited
        visited |= new
        nodes.extend(new)
    return [name for name, p in net.named_parameters() if p.requires_grad and id(p) not in reached]
