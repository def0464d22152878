"""Finds and imports what registers archs, data sets, losses, models, metrics: installed plugins, local modules."""

import importlib
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

from ggkm_plugin import __version__
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.registry import REGISTRIES

GROUP = 'basicsr.plugins'
_OURS = 'ggkm_plugin.training.registrations'

# (registry, name) -> which distribution or local module registered it
_sources: dict[tuple[str, str], str] = {}
_loaded: set[str] = set()


def _claim(source: str, package: str | None = None) -> None:
    """What is registered and not yet claimed came from `source`; only what `package` defines, if given."""
    for kind, registry in REGISTRIES.items():
        for name, target in registry:
            if package in (None, target.__module__.split('.')[0]):
                _sources.setdefault((kind, name), source)


def _load(module: str, source: str) -> None:
    """Import one plugin; if that fails nothing of it stays registered."""
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
    _claim(source)


def load_installed() -> list[str]:
    """Import basicsr's own modules, ours, and those that any distribution offers in the group `basicsr.plugins`.

    Returns a line for each that could not be imported or that collides with a registered name; the rest is loaded.
    """
    import basicsr  # noqa: F401

    _claim(f'basicsr {version("basicsr")}', 'basicsr')
    found = {point.module: point.dist for point in entry_points(group=GROUP)}
    problems = []
    # ours first, and also from a checkout that is not installed
    for module, dist in sorted({_OURS: None, **found}.items(), key=lambda item: (item[0] != _OURS, item[0])):
        try:
            _load(module, f'{dist.name} {dist.version}' if dist else f'ggkm_plugin {__version__}')
        except (Exception, SystemExit) as error:
            problems.append(f'plugin {module} of {dist.name if dist else "this checkout"} is left out: {error}')
    return problems


def load_local(modules: list[str]) -> None:
    """Import modules that the user names; the current folder is searched first.

    Raises OptionError naming the module if it is missing, fails, or collides with a registered name.
    """
    if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
        raise OptionError(f'plugins: a list of modules to import, not {modules!r}')
    if modules and (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    for module in modules:
        try:
            _load(module, f'module {module}')
        except (Exception, SystemExit) as error:
            raise OptionError(f'plugin {module}: {type(error).__name__}: {error}') from error


def registered() -> list[tuple[str, str, str]]:
    """(kind, name, source) of all that is registered, by kind and name."""
    return sorted((kind, name, source) for (kind, name), source in _sources.items())
