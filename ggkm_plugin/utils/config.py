"""Option files: find and read them, with base files, variants and overrides."""

import difflib
import os
import re
from pathlib import Path
from typing import Any

import yaml

from ggkm_plugin.utils.errors import OptionError

Options = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but 1e-4 is a number and duplicate keys are errors."""

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
    """Return the folder of the packaged option files: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return next((folder for folder in (package / 'options', package.parent / 'options') if folder.is_dir()), package)


def find_option_file(name: str, folder: Path = Path()) -> Path:
    """Return the option file at a path relative to `folder`, or else the packaged one of this name.

    A packaged name may omit options/ and .yml. Raises OptionError naming the nearest packaged files.
    """
    path = Path(name)
    try:
        if (folder / path).is_file():
            return (folder / path).absolute()
    except OSError as error:
        raise OptionError(f'{name[:80]}: {error.strerror}') from error
    if (folder / path).is_dir():
        raise OptionError(f'{name}: a folder, not an option file')
    options = packaged_folder()
    if path.parent in (Path('.'), Path('options')):
        packaged = options / f'{path.name.removesuffix(".yml")}.yml'
        if packaged.is_file():
            return packaged
    names = sorted(file.name for file in options.glob('*.yml'))
    raise OptionError(f'{name}: no such option file.{nearest(path.name, names, "Packaged ones")}')


def load_options(path: Path, variant: str | None = None, overrides: list[str] | None = None) -> Options:
    """Read an option file and apply a named variant, then `a:b=value` overrides. Raises OptionError.

    The run of a variant is named `NAME_VARIANT` and has its own folder.
    """
    opt, variants = read_options(path)
    if variant is not None:
        if variant not in variants:
            known = nearest(variant, list(variants), 'Variants') or ' The file has no `variants:`'
            raise OptionError(f'{path}: no variant {variant!r}.{known}')
        change(opt, variants[variant])
        if opt.get('name') is not None:
            opt['name'] = f'{opt["name"]}_{variant}'
    for key, value in parse_assignments('--force_yml', overrides or [], 'key:subkey=value').items():
        _set(opt, key.split(':'), value, new_keys=False)
    _expand_home(opt.get('path'), ('pretrain_network', 'resume_state'))
    for dataset in opt['datasets'].values() if isinstance(opt.get('datasets'), dict) else ():
        sources = dataset.get('sources') if isinstance(dataset, dict) else None
        for section in (dataset, *(sources if isinstance(sources, list) else ())):
            _expand_home(section, ('dataroot',))
    return opt


def read_options(path: Path) -> tuple[Options, dict[str, Options]]:
    """Return an option file merged into its base files, and its variants {name: {dotted.key: value}}.

    `base: FILE` names another option file, relative to this one or packaged. Mappings are merged key by key; a mapping
    of another `type` and any other value replace the base's. `without: [dotted.key, ...]` drops keys of the base.
    `name` is never inherited: two files of one name would share an experiment folder. Raises OptionError.
    """
    opt = _with_base(path, ())
    variants = opt.pop('variants', None) or {}
    if not isinstance(variants, dict) or not all(isinstance(changes, dict) for changes in variants.values()):
        raise OptionError(f'{path}: variants: a mapping of names to mappings of dotted.keys to values')
    return opt, variants


def _with_base(path: Path, derived: tuple[Path, ...]) -> Options:
    """Read a file merged into its bases; `derived` are the files that inherit from it, for detecting circles."""
    opt = _parse(path)
    base, without = opt.pop('base', None), opt.pop('without', None) or []
    if base is None and not without:
        return opt
    if not isinstance(base, str):
        raise OptionError(f'{path}: base: the name of an option file, not {base!r}')
    if not isinstance(without, list) or not all(isinstance(key, str) for key in without):
        raise OptionError(f'{path}: without: a list of dotted.keys of the base, not {without!r}')
    base_path = find_option_file(str(Path(base).expanduser()), path.parent).resolve()
    chain = (*derived, path.resolve())
    if base_path in chain:
        raise OptionError(f'{path}: base: {base} inherits from this file. Remove one of the two `base` keys')
    inherited = _with_base(base_path, chain)
    if 'name' not in opt:
        inherited.pop('name', None)
    for key in without:
        _remove(inherited, key.split('.'), f'{path}: without')
    return _merged(inherited, opt)


def _merged(base: Any, changes: Any) -> Any:
    """Merge mappings recursively, unless `changes` is of another `type`."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    if changes.get('type', base.get('type')) != base.get('type'):
        return changes
    return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}


def _remove(opt: Options, keys: list[str], where: str) -> None:
    section: Any = opt
    for key in keys[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
    if not isinstance(section, dict) or keys[-1] not in section:
        known = nearest(keys[-1], list(section), 'It has') if isinstance(section, dict) else ''
        raise OptionError(f'{where}: the base has no key {".".join(keys)}.{known}')
    del section[keys[-1]]


def _parse(path: Path) -> Options:
    try:
        opt = yaml.load(path.read_text(encoding='utf-8'), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f'{path}: cannot be read ({error}); it must be UTF-8 text') from error
    except (yaml.YAMLError, RecursionError) as error:
        raise OptionError(f'{path}: not valid YAML: {" ".join(str(error).split())}') from error
    if not isinstance(opt, dict):
        raise OptionError(f'{path}: an option file is a mapping of keys to values')
    return opt


def change(opt: Options, changes: Options) -> None:
    """Apply a variant in place: set dotted keys, of which the last part may be new. Raises OptionError."""
    for key, value in changes.items():
        _set(opt, str(key).split('.'), value, new_keys=True)


def parse_assignments(where: str, entries: list[str], form: str = 'key=value') -> dict[str, Any]:
    """Parse key=value words with YAML values; the last of equal keys counts. `where` starts error messages."""
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


def parse_named(where: str, text: str) -> tuple[str, dict[str, Any]]:
    """Parse ``NAME[,KEY=VALUE]``, such as ``GGKMNet,width=8,enc_blocks=[1,1,1]``. Raises OptionError."""
    name, *words = re.split(r',(?=\s*\w*\s*=)', text)
    if not name.strip().isidentifier():
        raise OptionError(f'{where} {text}: write NAME or NAME,KEY=VALUE')
    options = parse_assignments(f'{where} {text}:', words)
    if len(options) < len(words):
        raise OptionError(f'{where} {text}: a key is set twice')
    return name.strip(), options


def _expand_home(section: Any, prefixes: tuple[str, ...]) -> None:
    """Expand ~ in the paths of a section, in place; BasicSR expands only some of them."""
    for key, value in section.items() if isinstance(section, dict) else ():
        if str(key).startswith(prefixes) and isinstance(value, str):
            section[key] = os.path.expanduser(value)


def _set(opt: Options, keys: list[str], value: Any, new_keys: bool) -> None:
    """Set a nested key; unless `new_keys`, it must exist."""
    section = opt
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if key not in section and not (last and new_keys):
            raise OptionError(
                f'no option {":".join(keys[: depth + 1])} to set.{nearest(key, list(section), "There are")}'
            )
        if last:
            section[key] = value
        elif not isinstance(section[key], dict):
            raise OptionError(f'option {":".join(keys[: depth + 1])} has no keys below it')
        else:
            section = section[key]


def nearest(name: str, known: list[str], label: str) -> str:
    """Return ' Did you mean X?', or the list of known names if none is near."""
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name, known, n=1)
    near = near or [folded[other] for other in difflib.get_close_matches(name.casefold(), list(folded), n=1)]
    if near:
        return f' Did you mean {near[0]}?'
    return f' {label}: {", ".join(sorted(known))}' if known else ''
