"""Option files: found, read with typed values, and overridden by name."""

import difflib
import os
import re
from pathlib import Path
from typing import Any

import yaml

from ggkm_plugin.utils.errors import OptionError

Options = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but 1e-4 is a number, and a key that is given twice a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != '<<']
        for place, key in enumerate(keys):
            if key.value in (other.value for other in keys[:place]):
                raise yaml.constructor.ConstructorError(None, None, f'{key.value} is given twice', key.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$'), list('-+0123456789')
)


def packaged_folder() -> Path:
    """Where our option files are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return next((folder for folder in (package / 'options', package.parent / 'options') if folder.is_dir()), package)


def find_option_file(name: str) -> Path:
    """The option file at this path, or else the packaged one of this name (with or without options/ and .yml).

    Raises OptionError naming the nearest packaged files.
    """
    path = Path(name)
    try:
        if path.is_file():
            return path.absolute()
    except OSError as error:
        raise OptionError(f'{name[:80]}: {error.strerror}') from error
    if path.is_dir():
        raise OptionError(f'{name}: a folder, not an option file')
    folder = packaged_folder()
    if path.parent in (Path('.'), Path('options')):
        packaged = folder / f'{path.name.removesuffix(".yml")}.yml'
        if packaged.is_file():
            return packaged
    names = sorted(file.name for file in folder.glob('*.yml'))
    raise OptionError(f'{name}: no such option file.{nearest(path.name, names, "Packaged ones")}')


def load_options(path: Path, variant: str | None = None, overrides: list[str] | None = None) -> Options:
    """Read an option file and apply a named variant, then `a:b=value` overrides. Raises OptionError.

    A variant's run is named after it, `NAME_VARIANT`, so that variants of one file do not meet in one folder.
    """
    opt, variants = read_options(path)
    if variant is not None:
        if variant not in variants:
            known = nearest(variant, list(variants), 'Variants') or ' The file has no `variants:`'
            raise OptionError(f'{path}: no variant {variant!r}.{known}')
        change(opt, variants[variant])
        opt['name'] = f'{opt.get("name")}_{variant}'
    for key, value in parse_assignments('--force_yml', overrides or [], 'key:subkey=value').items():
        _set(opt, key.split(':'), value, new_keys=False)
    _expand_home(opt.get('path'), ('pretrain_network', 'resume_state'))
    for dataset in opt['datasets'].values() if isinstance(opt.get('datasets'), dict) else ():
        sources = dataset.get('sources') if isinstance(dataset, dict) else None
        for section in (dataset, *(sources if isinstance(sources, list) else ())):
            _expand_home(section, ('dataroot',))
    return opt


def read_options(path: Path) -> tuple[Options, dict[str, Options]]:
    """What the file says, and its variants: {name: {dotted.key: value}}. Raises OptionError."""
    try:
        opt = yaml.load(path.read_text(encoding='utf-8'), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f'{path}: cannot be read ({error}); it must be UTF-8 text') from error
    except (yaml.YAMLError, RecursionError) as error:
        raise OptionError(f'{path}: not valid YAML: {" ".join(str(error).split())}') from error
    if not isinstance(opt, dict):
        raise OptionError(f'{path}: an option file is a mapping of keys to values')
    variants = opt.pop('variants', None) or {}
    if not isinstance(variants, dict) or not all(isinstance(changes, dict) for changes in variants.values()):
        raise OptionError(f'{path}: variants: a mapping of names to mappings of dotted.keys to values')
    return opt, variants


def change(opt: Options, changes: Options) -> None:
    """Set dotted keys in place, as a variant does: the last may be new. Raises OptionError."""
    for key, value in changes.items():
        _set(opt, str(key).split('.'), value, new_keys=True)


def parse_assignments(where: str, entries: list[str], form: str = 'key=value') -> dict[str, Any]:
    """key=value words, values as YAML has them, of one key the last. `where` begins messages. Raises OptionError."""
    values: dict[str, Any] = {}
    for entry in entries:
        key, equals, text = (part.strip() for part in entry.partition('='))
        if not key or not equals:
            raise OptionError(f'{where} {entry}: write {form}')
        try:
            values[key] = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, KeyError, ValueError, RecursionError) as error:  # `!!bool x` is a KeyError
            raise OptionError(f'{where} {entry}: {text!r} is not a YAML value') from error
    return values


def _expand_home(section: Any, prefixes: tuple[str, ...]) -> None:
    """~ in the paths of a section, in place: the host expands some of them, and later."""
    for key, value in section.items() if isinstance(section, dict) else ():
        if str(key).startswith(prefixes) and isinstance(value, str):
            section[key] = os.path.expanduser(value)


def _set(opt: Options, keys: list[str], value: Any, new_keys: bool) -> None:
    """Set a nested key; unless `new_keys`, it must be there already."""
    where = opt
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if key not in where and not (last and new_keys):
            raise OptionError(
                f'no option {":".join(keys[: depth + 1])} to set.{nearest(key, list(where), "There are")}'
            )
        if last:
            where[key] = value
        elif not isinstance(where[key], dict):
            raise OptionError(f'option {":".join(keys[: depth + 1])} has no keys below it')
        else:
            where = where[key]


def nearest(name: str, known: list[str], label: str) -> str:
    """' Did you mean X?' or the list of what there is."""
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name, known, n=1)
    near = near or [folded[other] for other in difflib.get_close_matches(name.casefold(), list(folded), n=1)]
    if near:
        return f' Did you mean {near[0]}?'
    return f' {label}: {", ".join(sorted(known))}' if known else ''
