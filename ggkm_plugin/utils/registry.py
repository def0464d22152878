"""BasicSR's registries, and the objects that specs in option files build from them."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

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


def check_keys(where: str, given: Options, known: set[str] | frozenset[str]) -> None:
    for key in given:
        if key not in known:
            raise OptionError(
                f'{where}: {given["type"]} has no option {key}.{nearest(str(key), list(known), "It has")}'
            )


def registered(where: str, kind: str, spec: Any) -> Callable[..., Any]:
    """The class or function that `spec` names. Raises OptionError with the nearest names."""
    registry = REGISTRIES[kind]
    if not isinstance(spec, dict) or not isinstance(spec.get('type'), str):
        raise OptionError(f'{where}.type is missing, or no name')
    name = spec['type']
    if name not in registry and f'{name}_basicsr' not in registry:  # the host's own fallback
        known = nearest(name, list(registry.keys()), 'Registered are')
        raise OptionError(f'{where}: {name!r} is not registered among the {kind}.{known}')
    return registry.get(name)


def build(where: str, kind: str, spec: Any) -> Any:
    """The network, loss or data set that `spec` describes. Raises OptionError naming what does not fit."""
    target = registered(where, kind, spec)
    spec = copy.deepcopy(spec)
    name = spec['type']
    try:
        if kind == 'datasets':
            return target(spec)
        del spec['type']
        parameters = inspect.signature(target).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            check_keys(where, {**spec, 'type': name}, set(parameters) | {'type'})
        return target(**spec)
    except KeyError as error:
        raise OptionError(f'{where}: {name} needs the option {error}') from error
    except UserError as error:
        raise OptionError(str(error) if str(error).startswith(where) else f'{where}: {error}') from error
    except CONSTRUCTOR_ERRORS as error:
        raise OptionError(f'{where}: {name}: {error}') from error
