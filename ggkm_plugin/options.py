"""Option files: found, read with typed values, overridden by name, and checked before anything is built."""

import copy
import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ggkm_plugin.errors import OptionError, UserError

Options = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but 1e-4 is a number."""


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$'), list('-+0123456789')
)


def packaged_folder() -> Path:
    """Where our option files are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    return next((folder for folder in (package / 'options', package.parent / 'options') if folder.is_dir()), package)


def find_option_file(name: str) -> Path:
    """The option file at this path, or else the packaged one of this name (with or without options/ and .yml).

    Raises OptionError naming the nearest packaged files.
    """
    path = Path(name)
    if path.is_file():
        return path.absolute()
    folder = packaged_folder()
    if path.parent in (Path('.'), Path('options')):
        packaged = folder / f'{path.name.removesuffix(".yml")}.yml'
        if packaged.is_file():
            return packaged
    names = sorted(file.name for file in folder.glob('*.yml'))
    raise OptionError(f'{name}: no such option file.{_nearest(path.name, names, "Packaged ones")}')


def load_options(path: Path, variant: str | None = None, overrides: list[str] | None = None) -> Options:
    """Read an option file and apply a named variant, then `a:b=value` overrides. Raises OptionError.

    A variant's run is named after it, `NAME_VARIANT`, so that variants of one file do not meet in one folder.
    """
    try:
        opt = yaml.load(path.read_text(encoding='utf-8'), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f'{path}: cannot be read ({error})') from error
    except yaml.YAMLError as error:
        raise OptionError(f'{path}: not valid YAML: {" ".join(str(error).split())}') from error
    if not isinstance(opt, dict):
        raise OptionError(f'{path}: an option file is a mapping of keys to values')
    variants = opt.pop('variants', None) or {}
    if variant is not None:
        if variant not in variants:
            raise OptionError(f'{path}: no variant {variant!r}.{_nearest(variant, list(variants), "Variants")}')
        for key, value in variants[variant].items():
            _set(opt, key.split('.'), value, new_keys=True)
        opt['name'] = f'{opt.get("name")}_{variant}'
    for entry in overrides or []:
        key, equals, value = entry.partition('=')
        if not equals:
            raise OptionError(f'--force_yml {entry}: write key:subkey=value')
        try:
            parsed = yaml.load(value, Loader=_Loader)
        except yaml.YAMLError as error:
            raise OptionError(f'--force_yml {entry}: {value!r} is not a YAML value') from error
        _set(opt, key.strip().split(':'), parsed, new_keys=False)
    return opt


def _set(opt: Options, keys: list[str], value: Any, new_keys: bool) -> None:
    """Set a nested key; unless `new_keys`, it must be there already."""
    where = opt
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if key not in where and not (last and new_keys):
            raise OptionError(
                f'no option {":".join(keys[: depth + 1])} to set.{_nearest(key, list(where), "There are")}'
            )
        if last:
            where[key] = value
        elif not isinstance(where[key], dict):
            raise OptionError(f'option {":".join(keys[: depth + 1])} has no keys below it')
        else:
            where = where[key]


def _nearest(name: str, known: list[str], label: str) -> str:
    """' Did you mean X?' or the list of what there is."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f' Did you mean {near[0]}?'
    return f' {label}: {", ".join(sorted(known))}' if known else ''


_REQUIRED = {
    True: (
        'name',
        'model_type',
        'num_gpu',
        'datasets.train',
        'network_g.type',
        'path',
        'train.optim_g.type',
        'train.scheduler.type',
        'train.total_iter',
        'logger.print_freq',
        'logger.save_checkpoint_freq',
        'logger.use_tb_logger',
    ),
    False: ('name', 'model_type', 'num_gpu', 'datasets', 'network_g.type', 'path', 'val.save_img'),
}


def check_options(opt: Options, is_train: bool) -> None:
    """Find what is wrong with the options before a folder is made or a step is run: all faults in one OptionError.

    Keys and registered names are checked, and network, losses and data sets are built once. Plugins must be loaded.
    """
    faults = [f'{key} is missing' for key in _REQUIRED[is_train] if not _has(opt, key)]
    for check in [] if faults else _checks(opt, is_train):
        try:
            check()
        except OptionError as error:
            faults.append(str(error))
    if faults:
        raise OptionError(faults[0] if len(faults) == 1 else '\n  '.join(['', *faults]))


def _has(opt: Options, dotted: str) -> bool:
    value: Any = opt
    for key in dotted.split('.'):
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return value is not None


def _checks(opt: Options, is_train: bool) -> Iterator[Callable[[], object]]:
    """Calls that each raise OptionError for one fault; independent of one another."""
    yield partial(_check_gpus, opt['num_gpu'])
    yield partial(_registered, 'model_type', 'models', {'type': opt['model_type']})
    yield partial(_built, 'network_g', 'archs', opt['network_g'])
    yield partial(_check_paths, opt['path'])
    if is_train:
        yield partial(_check_number, 'train.total_iter', opt['train']['total_iter'], 1)
        yield partial(_check_losses, opt['train'])
        if opt['train'].get('pixel_opt'):
            yield partial(_built, 'train.pixel_opt', 'losses', opt['train']['pixel_opt'])
        if opt['train'].get('perceptual_opt'):  # not built: that may fetch its trunk
            yield partial(_registered, 'train.perceptual_opt', 'losses', opt['train']['perceptual_opt'])
    for name, metric in ((opt.get('val') or {}).get('metrics') or {}).items():
        yield partial(_registered, f'val.metrics.{name}', 'metrics', metric)
    for phase, dataset in opt['datasets'].items():
        yield partial(_check_dataset, phase, dataset, is_train)


def _check_gpus(num_gpu: object) -> None:
    import torch

    there = torch.cuda.device_count()
    if num_gpu != 'auto' and (not isinstance(num_gpu, int) or not 0 <= num_gpu <= there):
        raise OptionError(f'num_gpu: {num_gpu!r} but this machine has {there}; set num_gpu: auto')


def _check_paths(paths: Options) -> None:
    for key, value in paths.items():
        if key.startswith('pretrain_network') and value and not Path(value).expanduser().is_file():
            raise OptionError(f'path.{key}: {value}: no such file')


def _check_number(where: str, value: object, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise OptionError(f'{where}: a whole number of at least {least}, not {value!r}')


def _check_losses(train: Options) -> None:
    if not train.get('pixel_opt') and not train.get('perceptual_opt'):
        raise OptionError('train.pixel_opt is missing: no loss to train on')


def _check_dataset(phase: str, dataset: Any, is_train: bool) -> None:
    where, kind = f'datasets.{phase}', phase.split('_')[0]
    allowed = ('train', 'val') if is_train else ('test', 'val')
    if kind not in allowed:
        raise OptionError(
            f'{where}: data sets of this command are named {allowed[0]}, {allowed[1]}, {allowed[1]}_2 ...'
        )
    if not isinstance(dataset, dict) or 'name' not in dataset:
        raise OptionError(f'{where}.name is missing')
    if kind == 'train':
        _check_number(f'{where}.batch_size_per_gpu', dataset.get('batch_size_per_gpu'), 1)
        _check_number(f'{where}.num_worker_per_gpu', dataset.get('num_worker_per_gpu'), 0)
    built = _built(where, 'datasets', {**dataset, 'phase': kind})
    samples, batch = len(built) * dataset.get('dataset_enlarge_ratio', 1), dataset.get('batch_size_per_gpu', 1)
    if kind == 'train' and samples < batch:
        raise OptionError(
            f'{where}: {samples} samples are fewer than one batch of {batch}: lower batch_size_per_gpu, or set '
            f'dataset_enlarge_ratio to {-(-batch // len(built))} or more'
        )


def _registered(where: str, kind: str, spec: Any) -> Callable[..., Any]:
    """The class or function that `spec` names. Raises OptionError with the nearest names."""
    from ggkm_plugin.host.registries import REGISTRIES

    registry = REGISTRIES[kind]
    if not isinstance(spec, dict) or 'type' not in spec:
        raise OptionError(f'{where}.type is missing')
    name = spec['type']
    if name not in registry and f'{name}_basicsr' not in registry:  # the host's own fallback
        known = _nearest(str(name), list(registry.keys()), 'Registered are')
        raise OptionError(f'{where}: {name!r} is not registered among the {kind}.{known}')
    return registry.get(name)


def _built(where: str, kind: str, spec: Any) -> Any:
    """The network, loss or data set that `spec` describes. Raises OptionError naming what does not fit."""
    target = _registered(where, kind, spec)
    spec = copy.deepcopy(spec)
    name = spec['type']
    try:
        if kind == 'datasets':
            return target(spec)
        del spec['type']
        parameters = inspect.signature(target).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            for key in spec:
                if key not in parameters:
                    raise OptionError(f'{name} has no option {key}.{_nearest(key, list(parameters), "It has")}')
        return target(**spec)
    except KeyError as error:
        raise OptionError(f'{where}: {name} needs the option {error}') from error
    except UserError as error:
        raise OptionError(f'{where}: {error}') from error
    except (TypeError, ValueError, AssertionError, OSError) as error:
        raise OptionError(f'{where}: {name}: {error}') from error
