"""Typed sections of option files (pydantic models), and their errors as messages with dotted keys."""

import inspect
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from typing_extensions import Self

from ggkm_plugin.utils.config import Options, nearest
from ggkm_plugin.utils.errors import OptionError, UserError

Faults = dict[str, str]  # dotted key -> message that names it


def _integral(value: Any) -> Any:
    """Read 5e5 as a whole number; YAML has it as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _not_float(value: Any) -> Any:
    if isinstance(value, float):  # which pydantic takes for an equal int
        raise ValueError('must not be a float')
    return value


def _folder_name(name: str) -> str:
    if name in ('', '.', '..') or Path(name).name != name or not name.isprintable() or len(name.encode()) > 200:
        raise ValueError('cannot name a folder. Use letters, digits, - and _')
    return name


Count = Annotated[int, Field(ge=1)]
INTEGRAL = BeforeValidator(_integral)
Iterations = Annotated[int, Field(ge=1), INTEGRAL]
Natural = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
FolderName = Annotated[str, AfterValidator(_folder_name)]
NumGpu = Literal['auto'] | Natural


class Section(BaseModel):
    """A mapping of an option file. Unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra='forbid', strict=True, frozen=True, protected_namespaces=())

    @classmethod
    def of(cls, values: Options, where: str = '') -> Self:
        """Read the keys of this section from a mapping that may have others. Raises OptionError with all faults."""
        given = {key: value for key, value in values.items() if key in cls.model_fields}
        raise_faults(list(section_faults(cls, given, where).values()))
        return cls.model_validate(given)


class Spec(Section):
    """A mapping with the `type` of a registered class or function and its arguments."""

    model_config = ConfigDict(extra='allow')
    type: str


def section_faults(
    section: type[BaseModel], values: Any, where: str = '', from_json: bool = False, allow_unknown: bool = False
) -> Faults:
    """Return the faults of a mapping, {dotted key: message}; keys start with `where`.

    `from_json` accepts lists for tuples, as annotations of Python functions have them.
    """
    try:
        if from_json:
            section.model_validate_json(json.dumps(values, default=str))
        else:
            section.model_validate(values)
    except ValidationError as error:
        return _faults(section, values, where, error, allow_unknown)
    return {}


def without_faults(faults: Faults, *keys: str) -> bool:
    """Whether nothing at, above or below these keys is wrong."""
    return not any(
        fault == key
        or fault.startswith((f'{key}.', f'{key}[', f'{key}:'))
        or key.startswith((f'{fault}.', f'{fault}['))
        for fault in faults
        for key in keys
    )


def raise_faults(messages: list[str], kind: type[UserError] = OptionError) -> None:
    """Raise one error with all messages, if there are any."""
    messages = list(dict.fromkeys(messages))
    if messages:
        several = f'{len(messages)} {"options" if kind is OptionError else "files"} are wrong:'
        raise kind(messages[0] if len(messages) == 1 else '\n  '.join([several, *messages]))


@cache
def signature_section(target: Callable[..., Any], without: tuple[str, ...] = (), strict: bool = False) -> type[Section]:
    """Return the keyword arguments of a class or function as a section.

    Types are checked for this package only: annotations of other code may be loose. `strict` refuses unknown keys even
    if there are **kwargs. `target.options_of` is the class that takes the **kwargs.
    """
    fields: dict[str, Any] = {}
    free = False
    parameters = dict(inspect.signature(target).parameters)
    if hasattr(target, 'options_of'):
        strict = True
        parameters = {**inspect.signature(target.options_of).parameters, **parameters}
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            free = not strict
        elif parameter.kind is not parameter.VAR_POSITIONAL and parameter.name not in without:
            typed = target.__module__.startswith('ggkm_plugin.') and not isinstance(parameter.annotation, str)
            annotation = parameter.annotation if typed and parameter.annotation is not parameter.empty else Any
            if get_origin(annotation) is Literal:
                annotation = Annotated[annotation, BeforeValidator(_not_float)]
            default = ... if parameter.default is parameter.empty else None  # only whether there is one counts
            # an alias, since names such as `copy` or `json` are methods of pydantic's classes
            fields[f'argument_{len(fields)}'] = (annotation, Field(default, alias=parameter.name))
    config = ConfigDict(extra='allow' if free else 'forbid', strict=True, arbitrary_types_allowed=True)
    return create_model(target.__name__, __config__=config, **fields)


def _faults(section: type[BaseModel], values: Any, where: str, error: ValidationError, allow_unknown: bool) -> Faults:
    expected: dict[str, list[str]] = {}
    inputs: dict[str, Any] = {}
    faults: Faults = {}
    for found in error.errors():
        kind, path = found['type'], _path(values, found['loc'], found['type'])
        key = dotted(where, path)
        if kind == 'missing':
            faults[key] = f'{key} is missing'
        elif kind == 'extra_forbidden':
            if allow_unknown:
                continue
            known = _keys_at(section, path[:-1])
            faults[key] = f'{key}: unknown key.{nearest(str(path[-1]), known, "Known keys")}'
        elif kind == 'value_error':
            shown = f': {found["input"]!r}' if path and not isinstance(found['input'], dict) else ':'
            faults[key] = f'{key}{shown} {found["ctx"]["error"]}'.removeprefix(': ')
        else:
            text = re.sub(r'^Input should be | or instance of \w+$', '', found['msg'])
            expected.setdefault(key, []).append(text.replace('a valid boolean', 'true or false without quotes'))
            inputs[key] = found['input']
    for key, texts in expected.items():  # several where a value may be of several types
        value = '~' if inputs[key] is None else repr(inputs[key])
        faults.setdefault(key, f'{key}: must be {" or ".join(dict.fromkeys(texts))}, not {value}')
    return faults


def dotted(where: str, path: tuple[str | int, ...]) -> str:
    """Return a path of keys and list indices as `where.key[0].key`."""
    for key in path:
        where += f'[{key}]' if isinstance(key, int) else f'.{key}' if where else str(key)
    return where


def _path(values: Any, location: tuple[str | int, ...], kind: str) -> tuple[str | int, ...]:
    """Return the keys of pydantic's location, without the names of the types that it has tried."""
    path: list[str | int] = []
    for key in location:
        if isinstance(values, dict) and key in values:
            values = values[key]
        elif isinstance(values, list | tuple) and isinstance(key, int):
            values = values[key] if key < len(values) else None
        elif kind != 'missing' or key != location[-1]:
            continue
        path.append(key)
    return tuple(path)


def _keys_at(section: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """Return the known keys of the section at a path below another."""
    fields = {field.alias or name: field for name, field in section.model_fields.items()}
    for key in path:
        if isinstance(key, str) and key in fields:
            below = _section_in(fields[key].annotation)
            fields = {f.alias or name: f for name, f in below.model_fields.items()} if below else {}
    return list(fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part))), None)
