"""Option file of a comparison: parsed and validated before anything runs."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator
from typing_extensions import Self

from ggkm_plugin.classical.methods import Method, method
from ggkm_plugin.data.options import dataset_faults
from ggkm_plugin.evaluation.alignment import SUFFIX
from ggkm_plugin.metrics.protocols import find_protocol
from ggkm_plugin.metrics.selection import missing_metrics, needs_reference
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.errors import DataError, OptionError, UserError
from ggkm_plugin.utils.schema import (
    Count,
    Faults,
    FolderName,
    Natural,
    NumGpu,
    Positive,
    Section,
    raise_faults,
    section_faults,
    without_faults,
)

# Names that results use beside the models'; a network's blur map is called `NAME blur map`.
BLUR_MAP, BLUR_MASK = ' blur map', 'blur mask'
RESERVED = ('input', 'gt', BLUR_MASK)
# Instead of the path of weights: those that come with the package, and none, the arch's own start from seed 0.
PACKAGED, UNTRAINED = 'packaged', 'untrained'
_SHOWN_DIGITS = {'psnr': 3, 'ssim': 4, 'mae': 4, 'lpips': 4, 'niqe': 3, 'arniqa': 3}


def _file_name(name: str) -> str:
    if name.startswith('.') or len(name.encode()) > 100:
        raise ValueError('cannot name a file. Use letters, digits, - and _')
    return name


def _model_name(name: str) -> str:
    if name in RESERVED or name.endswith(BLUR_MAP):
        raise ValueError('is the name of another picture. Choose another')
    return name


def _value_range(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] >= limits[1]:
        raise ValueError('must be [value of black, value of white]')
    return limits


FileName = Annotated[FolderName, AfterValidator(_file_name)]
ModelName = Annotated[FileName, AfterValidator(_model_name)]
_FROM_LIST = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class Entry(Section):
    """A network to compare, and the images it takes; networks of this package take RGB in [0,1] of any size."""

    name: ModelName
    # None: as the checkpoint describes itself
    network: Annotated[dict[str, Any], WithJsonSchema({'kind': 'archs'})] | None = Field(None, alias='network_g')
    # a path, the name of packaged weights, PACKAGED (default without network_g) or UNTRAINED
    weights: Annotated[str, Field(min_length=1), AfterValidator(lambda path: str(Path(path).expanduser()))]
    param_key: str | None = None  # default: see `restoration.load`
    size_multiple: Count | None = None  # default: what the arch declares, else 1
    color: Literal['rgb', 'bgr'] = 'rgb'
    range: Annotated[tuple[_Finite, _Finite], _FROM_LIST, AfterValidator(_value_range)] = (0.0, 1.0)
    drop_from: str | None = None  # the model whose clean scores the loss by noise is measured from; default: itself

    @model_validator(mode='before')
    @classmethod
    def _defaults(cls, spec: Any) -> Any:
        if not isinstance(spec, dict):
            return spec
        if 'colour' in spec:
            warnings.warn(f'models: {spec.get("name")}: colour is called color now', FutureWarning, stacklevel=2)
            spec = {('color' if key == 'colour' else key): value for key, value in spec.items()}
        if spec.get('network_g') is None and spec.get('weights') is None:
            spec = {**spec, 'weights': PACKAGED}
        return spec

    @model_validator(mode='after')
    def _described(self) -> Self:
        if self.weights == UNTRAINED and self.network is None:
            raise ValueError('network_g is missing, since no checkpoint describes the network')
        return self


class MethodSpec(Section):
    name: ModelName
    method: str
    settings: dict[str, Any] | None = None


class Lpips(Section):
    net: Literal['alex', 'vgg', 'squeeze'] | None = None
    trunk: str | None = None


class Bootstrap(Section):
    samples: Count = 2000
    seed: Natural = 0


def _kind_of_model(spec: Any) -> str:
    return '<method>' if isinstance(spec, dict) and 'method' in spec else '<network>'


class CompareFile(Section):
    """An option file of a comparison."""

    name: FileName
    protocol: str
    metrics: list[Literal['psnr', 'ssim', 'mae', 'lpips', 'niqe', 'arniqa']] | None = None
    lpips: Lpips | None = None
    align: Literal['shift'] | None = None  # also score each result registered to its ground truth by a shift
    models: list[  # empty: only the blurred images are scored
        Annotated[
            Annotated[Entry, Tag('<network>')] | Annotated[MethodSpec, Tag('<method>')], Discriminator(_kind_of_model)
        ]
    ]
    datasets: Annotated[
        dict[FileName, Annotated[dict[str, Any], WithJsonSchema({'kind': 'datasets'})]], Field(min_length=1)
    ]
    noise: list[Positive] | None = None
    published: bool = True
    bootstrap: Bootstrap | None = None
    save_images: bool = True
    complexity: bool = True
    num_gpu: NumGpu = 'auto'
    plugins: list[str] | None = None


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
        """Return the metric as an entry of `val.metrics`."""
        return {'type': self.type, 'protocol': protocol, **self.options}


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
    """A valid option file of a comparison, and what it names."""

    file: CompareFile
    metrics: list[Metric]
    models: list[Entry | MethodEntry]
    datasets: list[Images]

    @property
    def bootstrap(self) -> Bootstrap:
        return self.file.bootstrap or Bootstrap()

    @property
    def skipped(self) -> list[str]:
        """Metrics that cannot be computed here, with the reasons."""
        missing = missing_metrics({metric.name: metric.as_option(self.file.protocol) for metric in self.metrics})
        return [f'metrics: {name} is skipped: {reason}' for name, reason in missing.items()]


def parse(opt: Options, noise: bool = False) -> Comparison:
    """Parse the options; with `noise` each data set is also compared at every level of the option noise.

    Plugins must be loaded. Raises one OptionError with all faults. Missing weights and images are not faults of the
    file: the rest is compared without them.
    """
    faults = section_faults(CompareFile, opt)
    if noise and not opt.get('noise'):
        faults.setdefault('noise', 'noise is missing: --noise needs standard deviations in 8-bit steps')
    levels = list(dict.fromkeys(opt['noise'])) if noise and without_faults(faults, 'noise') else []
    _tried(faults, ('protocol',), lambda: find_protocol(opt['protocol']))
    metrics = _metrics(opt, faults) if without_faults(faults, 'metrics', 'lpips') else []
    models = _models(opt['models'], faults) if 'models' not in faults else []
    datasets = _datasets(opt['datasets'], levels, faults) if 'datasets' not in faults else []
    raise_faults(list(faults.values()))
    return Comparison(CompareFile.model_validate(opt), metrics, models, datasets)


def _tried(faults: Faults, keys: tuple[str, ...], call: Callable[[], Any], where: str = '') -> Any:
    """Call if nothing is wrong at these keys; a UserError is one more fault, and None is returned."""
    if not without_faults(faults, *keys):
        return None
    try:
        return call()
    except UserError as error:
        faults[keys[0]] = f'{where}{error}'
        return None


def _metrics(opt: Options, faults: Faults) -> list[Metric]:
    lpips = {key: value for key, value in (opt.get('lpips') or {}).items() if value is not None}
    metrics = []
    for name in dict.fromkeys(opt.get('metrics') or []):
        function: Any = registry.registered('metrics', 'metrics', {'type': f'defocus_{name}'})
        options = lpips if name == 'lpips' else {}
        if hasattr(function, 'check'):
            check = partial(function.check, protocol=opt['protocol'], net=options.get('net', 'alex'))
            _tried(faults, ('metrics', 'protocol'), check, f'metrics: {name}: ')
        label = f'LPIPS-{options.get("net", "alex")}' if name == 'lpips' else name.upper()
        better = getattr(function, 'better', 'higher')
        metrics.append(Metric(name, label, f'defocus_{name}', better, _SHOWN_DIGITS[name], options))
    if opt.get('align'):
        metrics += [
            replace(one, name=one.name + SUFFIX, label=f'{one.label} aligned')
            for one in metrics
            if needs_reference(one.as_option(opt['protocol']))
        ]
    return metrics


def _models(given: list[Options], faults: Faults) -> list[Entry | MethodEntry]:
    entries: list[Entry | MethodEntry] = []
    names = [spec.get('name') for spec in given if isinstance(spec, dict)]
    folded = [str(name).casefold() for name in names]  # some file systems ignore case
    for index, spec in enumerate(given):
        where = f'models[{index}]'
        name, network = (spec.get(key) if isinstance(spec, dict) else None for key in ('name', 'network_g'))
        if str(name).casefold() in folded[:index]:
            faults.setdefault(f'{where}.name', f'{where}.name: {name} is the name of another model too')
        if isinstance(network, dict):  # its arguments are tried now rather than after hours
            _tried(faults, (f'{where}.network_g',), partial(registry.build, f'{where}.network_g', 'archs', network))
        if not without_faults(faults, where):
            continue
        if 'method' in spec:
            found = _tried(faults, (where,), partial(method, spec['method'], spec.get('settings')), f'{where}: ')
            entries += [MethodEntry(spec['name'], found)] if found else []
        else:
            entries.append(Entry.model_validate(spec))
            if spec.get('drop_from') not in (None, *names):
                faults[where] = f'{where}.drop_from: must be the name of a model, not {spec["drop_from"]!r}'
    return entries


def _datasets(given: dict[str, Any], levels: list[float], faults: Faults) -> list[Images]:
    found: list[Images] = []
    for name, spec in given.items():
        where, options = f'datasets.{name}', {**spec, 'name': name, 'phase': 'test'} if isinstance(spec, dict) else {}
        faults |= _tried(faults, (where,), partial(dataset_faults, where, options)) or {}
        if without_faults(faults, where) and not _options_wrong(where, options, faults):
            found.append(Images(name, options))
            section = registry.argument_section('datasets', registry.registered(where, 'datasets', options))
            noisy = section is not None and 'noise_std' in section.model_fields
            found += [_noisy(found[-1], level) for level in levels if noisy]
    names = [images.name.casefold() for images in found]
    for name in sorted({images.name for images in found if names.count(images.name.casefold()) > 1}):
        faults[f'datasets.{name}'] = f'datasets: {name} is the name of another data set too, with or without noise'
    return found


def _options_wrong(where: str, options: Options, faults: Faults) -> bool:
    """Whether the options, not the folders that they name, are wrong."""
    try:
        registry.build(where, 'datasets', options)
    except OptionError as error:
        if not isinstance(error.__cause__, DataError):
            faults[where] = str(error)
            return True
    return False


def _noisy(images: Images, std: float) -> Images:
    """Return the data set with noise, the same in every comparison: it depends on the seed and the image's number."""
    options = {'seed': 0, **images.options, 'noise_std': std}
    return Images(f'{images.name}_noise{std:g}', options, images.name, float(std))
