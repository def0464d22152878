"""Plugins that register archs, data sets, losses, models or metrics: installed distributions and local modules."""

import importlib
import re
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from ggkm_plugin import __version__
from ggkm_plugin.utils import basicsr_imports
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.registry import OWN_MODULES, REGISTRIES

GROUP = 'basicsr.plugins'
_OWN = 'ggkm_plugin.training.registrations'

_KINDS = {'ARCH': 'archs', 'DATASET': 'datasets', 'LOSS': 'losses', 'METRIC': 'metrics', 'MODEL': 'models'}
_REGISTRATION = re.compile(
    r"^@(ARCH|DATASET|LOSS|METRIC|MODEL)_REGISTRY\.register\((?:suffix='(\w+)')?\)\n(?:@.*\n)*(?:class|def) (\w+)",
    re.MULTILINE,
)

# (kind, name) -> the plugin that registered it
_sources: dict[tuple[str, str], str] = {}
_loaded: set[str] = set()


def load_installed() -> list[str]:
    """Import basicsr, this package's archs, losses ..., and the modules of the entry-point group `basicsr.plugins`.

    Returns a message for each plugin that cannot be imported or collides with a registered name.
    """
    import basicsr  # noqa: F401  (first, so that no plugin takes its names)

    importlib.import_module(_OWN)
    problems = []
    for module, source in _installed().items():
        try:
            _load(module, source)
        except (Exception, SystemExit) as error:
            problems.append(f'plugin {module} of {source}: not loaded: {error}')
    return problems


def load_local(modules: list[str]) -> None:
    """Import the user's modules. The current folder is searched first.

    Raises OptionError naming the module if it is missing, fails, or collides with a registered name.
    """
    if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
        raise OptionError(f'plugins: must be a list of modules to import, not {modules!r}')
    if not modules:
        return
    load_installed()
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    for module in modules:
        try:
            _load(module, f'module {module}')
        except (Exception, SystemExit) as error:
            raise OptionError(f'plugin {module}: {type(error).__name__}: {error}') from error


def registered(modules: Sequence[str] = ()) -> tuple[list[tuple[str, str, str]], list[str]]:
    """List (kind, name, source) of all registered names, local modules among them, and the problems of plugins.

    Names of basicsr and of this package are known without importing them, which takes seconds; plugins are imported.
    """
    problems = load_installed() if modules or _installed() else []
    load_local(list(modules))
    found = dict.fromkeys(basicsr_names(), f'basicsr {basicsr_imports.VERSION}')
    found |= dict.fromkeys(OWN_MODULES, f'ggkm_plugin {__version__}') | _sources
    return sorted((kind, name, source) for (kind, name), source in found.items()), problems


def basicsr_names() -> list[tuple[str, str]]:
    """List (kind, name) of all that basicsr registers, read from its source."""
    names = []
    for path in basicsr_imports.basicsr_folder().rglob('*.py'):
        for kind, suffix, name in _REGISTRATION.findall(path.read_text(encoding='utf-8')):
            names.append((_KINDS[kind], f'{name}_{suffix}' if suffix else name))
    return names


def _installed() -> dict[str, str]:
    """Return the modules of other distributions' plugins: {module: distribution}."""
    points = ((point.module, point.dist) for point in entry_points(group=GROUP))
    return {module: f'{dist.name} {dist.version}' if dist else module for module, dist in points if module != _OWN}


def _load(module: str, source: str) -> None:
    """Import a plugin. If that fails, its names are removed from the registries."""
    if module in _loaded:
        return
    before = {kind: dict(registry._obj_map) for kind, registry in REGISTRIES.items()}
    try:
        importlib.import_module(module)
    except BaseException:
        for kind, registry in REGISTRIES.items():
            registry._obj_map.clear()
            registry._obj_map.update(before[kind])
        raise
    _loaded.add(module)
    for kind, registry in REGISTRIES.items():
        _sources.update({(kind, name): source for name in set(registry.keys()) - set(before[kind])})
