"""Option files: found, read with typed values, overridden by name, and checked before anything is built."""

import copy
import difflib
import inspect
import re
from collections.abc import Iterator
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
    """Read an option file and apply a named variant, then `a:b=value` overrides. Raises OptionError."""
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
            raise OptionError(f'no option {":".join(keys[:depth + 1])} to set.{_nearest(key, list(where), "There are")}')
        if last:
            where[key] = value
        elif not isinstance(where[key], dict):
            raise OptionError(f'option {":".join(keys[:depth + 1])} has no keys below it')
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
        'name', 'model_type', 'num_gpu', 'datasets.train', 'network_g.type', 'path', 'train.optim_g.type',
        'train.scheduler.type', 'train.total_iter', 'logger.print_freq', 'logger.save_checkpoint_freq',
        'logger.use_tb_logger',
    ),
    False: ('name', 'model_type', 'num_gpu', 'datasets', 'network_g.type', 'path', 'val.save_img'),
}


def check_options(opt: Options, is_train: bool) -> None:
    """Find what is wrong with the options before a folder is made or a step is run: all faults in one OptionError.

    Keys and registered names are checked, and network, losses and data sets are built once. Plugins must be loaded.
    """
    faults = [f'{key} is missing' for key in _REQUIRED[is_train] if not _has(opt, key)]
    if not faults:
        faults = list(_faults(opt, is_train))
    if faults:
        raise OptionError('; '.join(faults) if len(faults) == 1 else '\n  ' + '\n  '.join(faults))


def _has(opt: Options, dotted: str) -> bool:
    value: Any = opt
    for key in dotted.split('.'):
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return value is not None


def _faults(opt: Options, is_train: bool) -> Iterator[str]:
    import torch

    gpus = torch.cuda.device_count()
    if opt['num_gpu'] != 'auto' and (not isinstance(opt['num_gpu'], int) or not 0 <= opt['num_gpu'] <= gpus):
        yield f'num_gpu: {opt["num_gpu"]!r} but this machine has {gpus}; set num_gpu: auto'
    yield from _fault('model_type', 'models', {'type': opt['model_type']}, build=False)
    yield from _fault('network_g', 'archs', opt['network_g'])
    for key, value in opt['path'].items():
        if key.startswith('pretrain_network') and value and not Path(value).expanduser().is_file():
            yield f'path.{key}: {value}: no such file'
    if is_train:
        if not isinstance(opt['train']['total_iter'], int) or opt['train']['total_iter'] < 1:
            yield f'train.total_iter: a whole number of at least 1, not {opt["train"]["total_iter"]!r}'
        losses = [key for key in ('pixel_opt', 'perceptual_opt') if opt['train'].get(key)]
        if not losses:
            yield 'train.pixel_opt is missing: no loss to train on'
        for key in losses:
            # a perceptual loss reads its trunk when built, which is not for a check
            yield from _fault(f'train.{key}', 'losses', opt['train'][key], build=key == 'pixel_opt')
    for name, metric in ((opt.get('val') or {}).get('metrics') or {}).items():
        yield from _fault(f'val.metrics.{name}', 'metrics', metric, build=False)
    for phase, dataset in opt['datasets'].items():
        yield from _dataset_faults(phase, dataset, is_train)


def _dataset_faults(phase: str, dataset: Any, is_train: bool) -> Iterator[str]:
    where = f'datasets.{phase}'
    kind = phase.split('_')[0]
    if kind not in (('train', 'val') if is_train else ('test', 'val')):
        yield f'{where}: the sets of this command are named {"train, val" if is_train else "test"} or {kind}_...'
        return
    if not isinstance(dataset, dict) or 'name' not in dataset:
        yield f'{where}.name is missing'
        return
    if kind == 'train':
        for key in ('batch_size_per_gpu', 'num_worker_per_gpu'):
            if not isinstance(dataset.get(key), int) or dataset[key] < (key == 'batch_size_per_gpu'):
                yield f'{where}.{key}: a whole number, not {dataset.get(key)!r}'
                return
    yield from _fault(where, 'datasets', {**dataset, 'phase': kind}, unpack=False)


def _fault(where: str, kind: str, spec: Any, build: bool = True, unpack: bool = True) -> Iterator[str]:
    """What is wrong with one registered thing and its arguments."""
    from ggkm_plugin.host.registries import REGISTRIES

    registry = REGISTRIES[kind]
    if not isinstance(spec, dict) or 'type' not in spec:
        yield f'{where}.type is missing'
        return
    name = spec['type']
    if name not in registry:
        known = _nearest(str(name), list(registry.keys()), 'Registered are')
        yield f'{where}: {name!r} is not registered among the {kind}.{known}'
        return
    if not build:
        return
    target = registry.get(name)
    arguments = {key: value for key, value in copy.deepcopy(spec).items() if key != 'type'}
    if unpack:
        signature = inspect.signature(target)
        open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        unknown = [key for key in arguments if key not in signature.parameters and not open_ended]
        for key in unknown:
            yield f'{where}: {name} has no option {key}.{_nearest(key, list(signature.parameters), "It has")}'
        if unknown:
            return
    try:
        target(**arguments) if unpack else target(copy.deepcopy(spec))
    except UserError as error:
        yield f'{where}: {error}'
    except KeyError as error:
        yield f'{where}: {name} needs the option {error}'
    except (TypeError, ValueError, AssertionError, OSError) as error:
        yield f'{where}: {name}: {error}'
