"""Checks of the arguments of networks; each raises ValueError naming the argument."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Init = TypeVar('Init', bound=Callable[..., None])


def check_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    """Check that a value is one of the choices, and of the same type: 2.0 is not 2."""
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise ValueError(f'{name} is one of {", ".join(map(str, choices))}, not {value!r}')


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Check that a value is a whole number of at least `least`."""
    if type(value) is not int or value < least:
        raise ValueError(f'{name} is a whole number of at least {least}, not {value!r}')


def check_fields(config: Any, least: Mapping[str, int] = MappingProxyType({})) -> None:
    """Check the fields of a dataclass by their annotations.

    Literal, bool, int (at least 1, or `least`), or else three whole numbers, one per level of a U-Net.
    """
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(hint) is Literal:
            check_choice(name, value, get_args(hint))
        elif hint is bool:
            if not isinstance(value, bool):
                raise ValueError(f'{name} is true or false, not {value!r}')
        elif hint is int:
            check_whole(name, value, least.get(name, 1))
        else:
            numbers = list(value) if isinstance(value, Sequence) else []
            if len(numbers) != 3 or not all(type(n) is int and n >= 0 for n in numbers):
                raise ValueError(f'{name} has 3 whole numbers of at least 0, one per level, not {value!r}')


def takes_fields_of(config: type) -> Callable[[Init], Init]:
    """Give a constructor the signature of the dataclass to which it passes its arguments."""

    def decorate(init: Init) -> Init:
        this = next(iter(inspect.signature(init).parameters.values()))
        signature = inspect.Signature([this, *inspect.signature(config).parameters.values()])
        init.__signature__ = signature  # type: ignore[attr-defined]
        return init

    return decorate
