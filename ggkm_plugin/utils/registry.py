"""BasicSR's registries, and the objects that option files describe by `type` and arguments."""

import copy
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from ggkm_plugin.utils import basicsr_imports

basicsr_imports.install()

from basicsr.utils.registry import (  # noqa: E402
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    Registry,
)

from ggkm_plugin.utils.config import Options, nearest  # noqa: E402
from ggkm_plugin.utils.errors import OptionError, UserError  # noqa: E402
from ggkm_plugin.utils.schema import Faults, section_faults, signature_section  # noqa: E402

REGISTRIES: dict[str, Registry] = {
    'archs': ARCH_REGISTRY,
    'datasets': DATASET_REGISTRY,
    'losses': LOSS_REGISTRY,
    'models': MODEL_REGISTRY,
    'metrics': METRIC_REGISTRY,
}

CONSTRUCTOR_ERRORS = (
    TypeError, ValueError, LookupError, AttributeError, AssertionError, OSError, RuntimeError, ArithmeticError,
)  # fmt: skip


def registered(where: str, kind: str, spec: Any) -> Callable[..., Any]:
    """Return the class or function that a spec names. Raises OptionError with the nearest names."""
    registry = REGISTRIES[kind]
    where = where if where == 'model_type' else f'{where}.type'
    if not isinstance(spec, dict) or not isinstance(spec.get('type'), str):
        raise OptionError(f'{where}: missing, or not a name')
    name = spec['type']
    if name not in registry and f'{name}_basicsr' not in registry:  # BasicSR's own fallback
        known = nearest(name, list(registry.keys()), 'Registered are')
        raise OptionError(f'{where}: {name!r} is not registered among the {kind}.{known}')
    return registry.get(name)


def argument_section(kind: str, target: Callable[..., Any]) -> type[BaseModel] | None:
    """Return the arguments of a registered class or function as a section, None if it does not tell them."""
    if kind == 'datasets':
        return getattr(target, 'options', None)
    if kind == 'metrics':
        ignores_others = target.__module__.split('.')[0] in ('ggkm_plugin', 'basicsr')  # their **kwargs are unused
        return signature_section(target, ('img', 'img2'), strict=ignores_others)
    return signature_section(target)


def argument_faults(where: str, kind: str, spec: Options) -> Faults:
    """Return the faults of the arguments of a spec, {dotted key: message}. Raises OptionError for an unknown type."""
    section = argument_section(kind, registered(where, kind, spec))
    own = ('type', 'better') if kind == 'metrics' else ('type',)
    given = {key: value for key, value in spec.items() if key not in own}
    return section_faults(section, given, where, from_json=True) if section else {}


def build(where: str, kind: str, spec: Any) -> Any:
    """Build the network, loss or data set that a spec describes. Raises OptionError with all faults of it."""
    target = registered(where, kind, spec)
    spec = copy.deepcopy(spec)
    name = spec['type']
    try:
        if kind == 'datasets':
            return target(spec)
        faults = argument_faults(where, kind, spec)
        if faults:
            raise OptionError('\n  '.join(faults.values()))
        del spec['type']
        return target(**spec)
    except KeyError as error:
        raise OptionError(f'{where}: {name} needs the option {error}') from error
    except UserError as error:
        raise OptionError(str(error) if str(error).startswith(where) else f'{where}: {error}') from error
    except CONSTRUCTOR_ERRORS as error:
        raise OptionError(f'{where}: {name}: {error}') from error
