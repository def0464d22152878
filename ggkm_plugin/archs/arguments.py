"""Checks of the arguments of networks by their annotations."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ggkm_plugin.utils.schema import section_faults, signature_section

Init = TypeVar('Init', bound=Callable[..., None])


def check_arguments(target: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise ValueError that names the arguments which do not fit the annotations of a constructor or dataclass."""
    faults = section_faults(signature_section(target, ('self',)), given, from_json=True)
    if faults:
        raise ValueError('\n  '.join(faults.values()))


def checked(init: Init) -> Init:
    """Check the arguments of a constructor before it runs."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **options: Any) -> None:
        given = dict(signature.bind(self, *args, **options).arguments)
        check_arguments(init, {**given.pop('options', {}), **{key: given[key] for key in given if key != 'self'}})
        init(self, *args, **options)

    return wrapper  # type: ignore[return-value]


def takes_fields_of(config: type) -> Callable[[Init], Init]:
    """Give a constructor the signature of the dataclass to which it passes its arguments."""

    def decorate(init: Init) -> Init:
        this = next(iter(inspect.signature(init).parameters.values()))
        signature = inspect.Signature([this, *inspect.signature(config).parameters.values()])
        init.__signature__ = signature  # type: ignore[attr-defined]
        return init

    return decorate
