"""Option file of a comparison: parsed and validated before anything runs."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggkm_plugin.classical.methods import Method, method
from ggkm_plugin.metrics.protocols import find_protocol
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.config import Options, nearest
from ggkm_plugin.utils.errors import DataError, OptionError, UserError
from ggkm_plugin.utils.registry import DATASET_REGISTRY, METRIC_REGISTRY

# Names that results use beside the models'; a network's blur map is called `NAME blur map`.
BLUR_MAP, BLUR_MASK = ' blur map', 'blur mask'
RESERVED = ('input', 'gt', BLUR_MASK)
# Instead of the path of weights: those that come with the package, and none, the arch's own start from seed 0.
PACKAGED, UNTRAINED = 'packaged', 'untrained'
_SHOWN_DIGITS = {'psnr': 3, 'ssim': 4, 'mae': 4, 'lpips': 4}
_COLORS = ('rgb', 'bgr')
_KEYS = (
    'name', 'protocol', 'metrics', 'lpips', 'models', 'datasets', 'noise', 'published', 'bootstrap', 'save_images',
    'complexity', 'num_gpu', 'plugins',
)  # fmt: skip
_MODEL_KEYS = ('name', 'network_g', 'weights', 'param_key', 'size_multiple', 'color', 'range', 'drop_from')
_METHOD_KEYS = ('name', 'method', 'settings')
# What the host's loader reads; a data set need not know them.
_LOADER_KEYS = ('name', 'type', 'phase', 'seed', 'io_backend')


@dataclass(frozen=True)
class Metric:
    """A metric of this package: its short name, registered type, digits in tables, and options."""

    name: str
    label: str  # in tables; LPIPS with its network, since they give different numbers
    type: str
    better: str  # higher or lower
    digits: int
    options: dict[str, Any]

    def as_option(self, protocol: str) -> dict[str, Any]:
        """As an entry of `val.metrics`."""
        return {'type': self.type, 'protocol': protocol, **self.options}


@dataclass(frozen=True)
class Entry:
    """A network to compare, and the images it takes; networks of this package take RGB in [0,1] of any size."""

    name: str
    network: Options | None  # None: as the checkpoint describes itself
    weights: str  # a path, the name of packaged weights, PACKAGED or UNTRAINED
    param_key: str | None = None  # default: see `restoration.load`
    size_multiple: int | None = None  # default: what the arch declares, else 1
    color: str = 'rgb'
    range: tuple[float, float] = (0.0, 1.0)
    drop_from: str | None = None  # the model whose clean scores the loss by noise is measured from; default: itself


@dataclass(frozen=True)
class MethodEntry:
    """A classical method to compare, with its settings; it has neither network nor weights."""

    name: str
    method: Method


@dataclass(frozen=True)
class Images:
    """A data set: the options it is built with, and the clean one that a noisy one is made of."""

    name: str
    options: Options
    clean: str | None = None
    noise_std: float | None = None  # in 8-bit steps


@dataclass(frozen=True)
class Comparison:
    """The options of a comparison."""

    name: str
    protocol: str
    metrics: tuple[Metric, ...]
    models: tuple[Entry | MethodEntry, ...]
    datasets: tuple[Images, ...]
    published: bool
    bootstrap_samples: int
    bootstrap_seed: int
    save_images: bool
    complexity: bool
    num_gpu: str | int


def parse(opt: Options, noise: bool = False) -> Comparison:
    """Parse the options; with `noise` each data set is also compared at every level of the option noise.

    Plugins must be loaded. Raises one OptionError with all faults. Missing weights and images are not faults of the
    file: the rest is compared without them.
    """
    faults: list[str] = []
    for key in opt:
        if key not in _KEYS:
            faults.append(f'{key} is no option of a comparison.{nearest(str(key), list(_KEYS), "There are")}')
    for key in ('name', 'protocol', 'models', 'datasets'):
        if not opt.get(key):
            faults.append(f'{key} is missing')
    name = opt.get('name')
    if name and not _names_a_file(name):
        faults.append(f'name: {name!r} cannot name a folder; use letters, digits, - and _')
    protocol = str(opt.get('protocol'))
    known_protocol = not opt.get('protocol') or _tried(faults, find_protocol, protocol) is not None
    metrics = _metrics(opt, protocol if known_protocol else '', faults) if opt.get('protocol') else []
    models = _models(opt.get('models') or [], faults)
    levels = _noise(opt.get('noise'), noise, faults)
    datasets = _datasets(opt.get('datasets') or {}, levels, faults)
    bootstrap = opt.get('bootstrap') or {}
    if not isinstance(bootstrap, dict) or not set(bootstrap) <= {'samples', 'seed'}:
        faults.append(f'bootstrap: {{samples: N, seed: N}}, not {bootstrap!r}')
        bootstrap = {}
    samples, seed = bootstrap.get('samples', 2000), bootstrap.get('seed', 0)
    if not _is_whole(samples, 1):
        faults.append(f'bootstrap.samples: a whole number of at least 1, not {samples!r}')
    if not _is_whole(seed, 0):
        faults.append(f'bootstrap.seed: a whole number of at least 0, not {seed!r}')
    flags = {key: opt.get(key, True) for key in ('published', 'save_images', 'complexity')}
    faults += [f'{key}: true or false, not {value!r}' for key, value in flags.items() if not isinstance(value, bool)]
    num_gpu = opt.get('num_gpu', 'auto')
    if num_gpu != 'auto' and not _is_whole(num_gpu, 0):
        faults.append(f'num_gpu: auto, or 0 for the CPU, not {num_gpu!r}')
    if faults:
        several = f'{len(faults)} options are wrong:'
        raise OptionError(faults[0] if len(faults) == 1 else '\n  '.join([several, *faults]))
    return Comparison(
        name=str(name),
        protocol=protocol,
        metrics=tuple(metrics),
        models=tuple(models),
        datasets=tuple(datasets),
        bootstrap_samples=samples,
        bootstrap_seed=seed,
        num_gpu=num_gpu,
        **flags,
    )


def _tried(faults: list[str], call: Any, *arguments: Any, where: str = '', **options: Any) -> Any:
    """What the call returns; None, and one more fault, if it raises a UserError."""
    try:
        return call(*arguments, **options)
    except UserError as error:
        faults.append(f'{where}{error}')
        return None


def _metrics(opt: Options, protocol: str, faults: list[str]) -> list[Metric]:
    names, lpips = opt.get('metrics') or [], opt.get('lpips') or {}
    if not isinstance(names, list):
        faults.append(f'metrics: a list of {", ".join(_SHOWN_DIGITS)}, not {names!r}')
        return []
    if not isinstance(lpips, dict) or not set(lpips) <= {'net', 'trunk'}:
        faults.append(f'lpips: {{net: alex, vgg or squeeze, trunk: FILE}}, not {lpips!r}')
        return []
    metrics = []
    for name in dict.fromkeys(map(str, names)):
        if name not in _SHOWN_DIGITS:
            faults.append(f'metrics: {name!r} is unknown.{nearest(name, list(_SHOWN_DIGITS), "Metrics")}')
            continue
        function = METRIC_REGISTRY.get(f'defocus_{name}')
        options = {key: value for key, value in lpips.items() if value is not None} if name == 'lpips' else {}
        if protocol and hasattr(function, 'check'):
            where = f'metrics: {name}: '
            _tried(faults, function.check, protocol=protocol, where=where, **options)
        better = getattr(function, 'better', 'higher')
        label = f'LPIPS-{options.get("net", "alex")}' if name == 'lpips' else name.upper()
        metrics.append(Metric(name, label, f'defocus_{name}', better, _SHOWN_DIGITS[name], options))
    return metrics


def _models(given: Any, faults: list[str]) -> list[Entry | MethodEntry]:
    if not isinstance(given, list) or not all(isinstance(spec, dict) for spec in given):
        faults.append('models: a list of {name, network_g, weights ...} or {name, method, settings}')
        return []
    entries: list[Entry | MethodEntry] = []
    for index, spec in enumerate(given):
        where, before = f'models[{index}]', len(faults)
        if 'colour' in spec:
            warnings.warn(f'{where}.colour is called color now', FutureWarning, stacklevel=2)
            spec = {('color' if key == 'colour' else key): value for key, value in spec.items()}
        name, known = spec.get('name'), _METHOD_KEYS if 'method' in spec else _MODEL_KEYS
        for key in spec:
            if key not in known:
                kind = 'a classical method' if 'method' in spec else 'a model'
                faults.append(f'{where}: {key} is no option of {kind}.{nearest(str(key), list(known), "It has")}')
        if not _names_a_file(name) or name in RESERVED or name.endswith(BLUR_MAP):
            faults.append(f'{where}.name: {name!r} cannot name a picture; use letters, digits, - and _')
        elif name.casefold() in [entry.name.casefold() for entry in entries]:  # some file systems know no case
            faults.append(f'{where}.name: {name} is the name of another model too')
        entry = _method(where, spec, faults) if 'method' in spec else _network(where, spec, faults)
        if entry and len(faults) == before:
            entries.append(entry)
    names = [spec.get('name') for spec in given]
    for index, spec in enumerate(given):
        if spec.get('drop_from') is not None and spec['drop_from'] not in names:
            faults.append(f'models[{index}].drop_from: the name of a model, not {spec["drop_from"]!r}')
    return entries


def _method(where: str, spec: Options, faults: list[str]) -> MethodEntry | None:
    settings = spec.get('settings')
    if settings is not None and not isinstance(settings, dict):
        faults.append(f'{where}.settings: a mapping of keys to values, not {settings!r}')
        return None
    found = _tried(faults, method, spec['method'], settings, where=f'{where}: ')
    return found and MethodEntry(str(spec.get('name')), found)


def _network(where: str, spec: Options, faults: list[str]) -> Entry:
    network, weights = spec.get('network_g'), spec.get('weights')
    if weights is None and network is None:
        weights = PACKAGED
    if not isinstance(weights, str) or not weights:
        faults.append(f'{where}.weights is missing: the path of a checkpoint, or {UNTRAINED}')
    if weights == UNTRAINED and network is None:
        faults.append(f'{where}.network_g is missing: there is no checkpoint to say what {spec.get("name")} is')
    if network is not None:  # its arguments are tried out now, not in the third hour
        _tried(faults, registry.build, f'{where}.network_g', 'archs', network)
    if not isinstance(spec.get('param_key'), str | None):
        faults.append(f'{where}.param_key: a key of the checkpoint such as params_ema, not {spec["param_key"]!r}')
    if spec.get('size_multiple') is not None and not _is_whole(spec['size_multiple'], 1):
        faults.append(f'{where}.size_multiple: a whole number of at least 1, not {spec["size_multiple"]!r}')
    if spec.get('color', 'rgb') not in _COLORS:
        faults.append(f'{where}.color: {" or ".join(_COLORS)}, not {spec["color"]!r}')
    limits = spec.get('range', [0, 1])
    if not isinstance(limits, list) or len(limits) != 2 or not _are_rising(limits):
        faults.append(f'{where}.range: [value of black, value of white], not {limits!r}')
        limits = [0, 1]
    return Entry(
        str(spec.get('name')),
        network,
        str(Path(str(weights)).expanduser()),
        spec.get('param_key'),
        spec.get('size_multiple'),
        spec.get('color', 'rgb'),
        (float(limits[0]), float(limits[1])),
        spec.get('drop_from'),
    )


def _noise(levels: Any, wanted: bool, faults: list[str]) -> list[float]:
    if not wanted:
        return []
    if not levels or not isinstance(levels, list) or not all(_is_number(level) and level > 0 for level in levels):
        faults.append(f'noise: for --noise a list of standard deviations in 8-bit steps, not {levels!r}')
        return []
    return list(dict.fromkeys(levels))


def _datasets(given: Any, levels: list[float], faults: list[str]) -> list[Images]:
    if not isinstance(given, dict) or not all(isinstance(spec, dict) for spec in given.values()):
        faults.append('datasets: a mapping of names to data sets')
        return []
    found: list[Images] = []
    for name, spec in given.items():
        where, before = f'datasets.{name}', len(faults)
        if not _names_a_file(name):
            faults.append(f'{where}: {name!r} cannot name a folder; use letters, digits, - and _')
        kind = spec.get('type')
        if kind not in DATASET_REGISTRY:
            known = nearest(str(kind), list(DATASET_REGISTRY.keys()), 'Registered are')
            faults.append(f'{where}.type: {kind!r} is not registered among the datasets.{known}')
            continue
        options = {**spec, 'name': name, 'phase': 'test'}
        keys: frozenset[str] = getattr(DATASET_REGISTRY.get(kind), 'option_keys', frozenset())
        for key in options if keys else ():  # others than ours do not say what they read
            if key not in keys and key not in _LOADER_KEYS:
                faults.append(f'{where}: {kind} has no option {key}.{nearest(str(key), sorted(keys), "It has")}')
        if len(faults) == before and not _options_wrong(where, options, faults):
            found.append(Images(name, options))
            found += [_noisy(found[-1], level) for level in levels if 'noise_std' in keys]
    names = [images.name.casefold() for images in found]
    twice = sorted({images.name for images in found if names.count(images.name.casefold()) > 1})
    faults += [f'datasets: {name} is the name of another data set too, with or without noise' for name in twice]
    return found


def _options_wrong(where: str, options: Options, faults: list[str]) -> bool:
    """Whether the options, not the folders that they name, are wrong."""
    try:
        registry.build(where, 'datasets', options)
    except OptionError as error:
        if not isinstance(error.__cause__, DataError):
            faults.append(str(error))
            return True
    return False


def _noisy(images: Images, std: float) -> Images:
    """The same noise in every comparison: it depends on the seed and the image's number."""
    options = {'seed': 0, **images.options, 'noise_std': std}
    return Images(f'{images.name}_noise{std:g}', options, images.name, float(std))


def _names_a_file(name: object) -> bool:
    if not isinstance(name, str) or name in ('', '.', '..') or name.startswith('.'):
        return False
    return Path(name).name == name and name.isprintable() and len(name.encode()) <= 100


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_rising(limits: list[Any]) -> bool:
    return _is_number(limits[0]) and _is_number(limits[1]) and limits[0] < limits[1]
