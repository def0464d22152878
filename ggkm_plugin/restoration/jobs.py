"""Plan a batch: find the photographs and name their results, before anything is read or written."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggkm_plugin.restoration.image_io import FORMATS, READ_ONLY, result_suffix
from ggkm_plugin.utils.errors import OptionError, listed
from ggkm_plugin.utils.files import nearest_there
from ggkm_plugin.utils.image_decoding import find_images

BEFORE_AFTER = 'before_after'  # ends the names of the folders that --compare writes; searches ignore them

_NO_IMAGE = 'not an image file that is read'


@dataclass(frozen=True)
class DeblurJob:
    """A photograph and the file of its result.

    pictures: files for --compare, before and after. named: by the user, not found in a folder or by a pattern.
    """

    source: str
    output: str
    pictures: tuple[str, str] | None = None
    named: bool = True


@dataclass(frozen=True)
class Skipped:
    """A file that gets no result, though nothing failed, and the reason."""

    source: str
    reason: str


@dataclass(frozen=True)
class _Found:
    path: str
    below: str = '.'  # its folder below the input folder
    named: bool = True


def plan(inputs: Sequence[str], out: str | None, suffix: str, recursive: bool) -> tuple[list[DeblurJob], list[Skipped]]:
    """Make a job for each photograph, in the order of `inputs` and sorted within each; list the files left out.

    inputs: files, folders, and patterns like `photos/*.jpg`. Folders and patterns leave out files whose name ends in
        `suffix`, which are earlier results, and files of other kinds.
    out: a file for the only input; a folder, which keeps the tree below an input folder; None: beside the photograph.
    suffix: goes between the name and its ending, unless `out` is a file.

    Raises OptionError if an input is missing, if two have one output, or if an output is one of the inputs.
    """
    if any(separator in suffix for separator in (os.sep, os.altsep or os.sep, '\0')):
        raise OptionError(f'--suffix {suffix!r}: a part of a file name, without a folder')
    if out == '':
        raise OptionError('--out is empty; . is the current folder')
    skipped: list[Skipped] = []
    every = [found for given in inputs for found in _find(given, suffix, recursive, skipped)]
    known: dict[str, _Found] = {}
    for found in every:
        known.setdefault(os.path.realpath(found.path), found)
    sources = {place: found.path for place, found in known.items()}
    single = len(inputs) == 1 and Path(inputs[0]).is_file()
    if out is not None and single and _names_a_file(out):
        jobs = [DeblurJob(inputs[0], out)]
    else:
        folder = None if out is None else _checked_folder(out, single)
        jobs = []
        for found in known.values():
            path = Path(found.path)
            parent = path.parent if folder is None else folder / found.below
            output = parent / f'{path.stem}{suffix}{result_suffix(path.suffix)}'
            jobs.append(DeblurJob(found.path, str(output), named=found.named))
    _check(jobs, sources)
    return jobs, skipped


def _find(given: str, suffix: str, recursive: bool, skipped: list[Skipped]) -> Iterator[_Found]:
    """Find the photographs of one input; add what is left out to `skipped`. Raises OptionError."""
    if not given:
        raise OptionError('an input has an empty name; . is the current folder')
    path = Path(given)
    if not path.is_dir() and (path.exists() or path.is_symlink()):
        yield _Found(given)
        return
    if path.is_dir():
        files = {file: file.relative_to(path) for file in find_images(path, recursive, suffixes=None)}
    elif glob.has_magic(given):
        matches = (Path(name) for name in sorted(glob.glob(given, recursive=True)))
        files = {file: file for file in matches if not file.is_dir()}
    else:
        raise OptionError(f'{given}: no such file or folder')
    reasons = {file: _reason(below, suffix) for file, below in files.items() if not _is_picture(below)}
    skipped += [Skipped(str(file), reason) for file, reason in reasons.items() if reason]
    photographs = [file for file, reason in reasons.items() if not reason]
    if not photographs:
        deeper = ' --recursive also looks into the folders in it' if path.is_dir() and not recursive else ''
        kinds = ', '.join([*FORMATS, *(kind for kind, result in READ_ONLY.items() if result == '.png')])
        raise OptionError(f'{given}: no photograph found (looked for {kinds} and camera raw).{deeper}')
    for file in photographs:
        yield _Found(str(file), str(files[file].parent) if path.is_dir() else '.', named=False)


def _is_picture(path: Path) -> bool:
    return any(part.endswith(BEFORE_AFTER) for part in path.parts[:-1])


def _reason(path: Path, suffix: str) -> str | None:
    """Return why a file that was found is left out, None if it is not."""
    if path.suffix.lower() not in {**FORMATS, **READ_ONLY}:
        return _NO_IMAGE
    return f'named like an earlier result, with {suffix}' if suffix and path.stem.endswith(suffix) else None


def _names_a_file(out: str) -> bool:
    return not out.endswith(os.sep) and not Path(out).is_dir() and Path(out).suffix.lower() in FORMATS


def _checked_folder(out: str, single: bool) -> Path:
    folder = Path(out)
    if not folder.is_dir():
        if folder.suffix.lower() in FORMATS and not out.endswith(os.sep):
            raise OptionError(f'-o {out}: names a file, but there is more than one photograph; name a folder')
        if single and folder.suffix and not out.endswith(os.sep):
            raise OptionError(f'-o {out}: end a file in one of {", ".join(FORMATS)}, and a folder in {os.sep}')
    there = nearest_there(folder)
    if not there.is_dir():
        raise OptionError(f'-o {out}: {there} is a file, not a folder')
    return folder


def _check(jobs: Sequence[DeblurJob], sources: dict[str, str]) -> None:
    taken: dict[str, str] = {}
    for job in jobs:
        place = os.path.realpath(job.output)
        if place in sources:
            raise OptionError(
                f'{job.output}: would replace the photograph {sources[place]}; give another -o or --suffix'
            )
        if place in taken:
            raise OptionError(
                f'{listed([taken[place], job.source])}: both would become {job.output}; deblur them into two folders'
            )
        taken[place] = job.source
