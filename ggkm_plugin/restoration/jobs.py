"""Which photographs are deblurred into which files: found and checked before anything is read or written."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggkm_plugin.restoration.encoding import KINDS
from ggkm_plugin.utils.errors import OptionError, listed
from ggkm_plugin.utils.files import nearest_there
from ggkm_plugin.utils.image_decoding import find_images

# What the name of a folder ends in that holds photographs and results for --compare; searches leave it out.
BEFORE_AFTER = 'before_after'


@dataclass(frozen=True)
class Job:
    """A photograph and the file for its result; for --compare, files for pictures of both that a browser can show."""

    source: str
    output: str
    pictures: tuple[str, str] | None = None


def plan(inputs: Sequence[str], out: str | None, suffix: str, recursive: bool) -> list[Job]:
    """One job for each photograph, in the order of `inputs` and sorted within each.

    inputs: files, folders, and patterns like `photos/*.jpg`. In folders and patterns, what has `suffix` at the end of
        its name already is left out: it is an earlier result.
    out: a file for the only input; a folder, in which what was found below an input folder keeps its place; None for
        beside the photograph.
    suffix: between the name and its ending, unless `out` is a file.

    Raises OptionError if an input is not there, if two have one output, or if an output is one of the inputs.
    """
    if any(separator in suffix for separator in (os.sep, os.altsep or os.sep, '\0')):
        raise OptionError(f'--suffix {suffix!r}: a part of a file name, without a folder')
    if out == '':
        raise OptionError('--out is empty; . is the current folder')
    found = list(dict.fromkeys(item for given in inputs for item in _found(given, suffix, recursive)))
    known = {os.path.realpath(path): (path, below) for path, below in reversed(found)}  # the first of each stays
    found = [item for item in found if known[os.path.realpath(item[0])] == item]
    folder = None
    if out is not None:
        single = len(inputs) == 1 and Path(inputs[0]).is_file()
        if single and _names_a_file(out):
            jobs = [Job(found[0][0], out)]
            _check(jobs, known)
            return jobs
        folder = _checked_folder(out, single)
    jobs = []
    for path, below in found:
        name = Path(path)
        parent = name.parent if folder is None else folder / below
        jobs.append(Job(path, str(parent / f'{name.stem}{suffix}{name.suffix}')))
    _check(jobs, known)
    return jobs


def _found(given: str, suffix: str, recursive: bool) -> Iterator[tuple[str, str]]:
    """(photograph, its folder below the input folder) of one word of the command line. Raises OptionError."""
    path = Path(given)
    if not given:
        raise OptionError('an input has an empty name; . is the current folder')
    if path.is_dir():
        below = [image for image in find_images(path, recursive) if not _is_ours(image.relative_to(path), suffix)]
        if not below:
            deeper = '' if recursive else '; --recursive also looks into the folders in it'
            raise OptionError(f'{given}: no photograph in this folder (looked for {", ".join(KINDS)}){deeper}')
        yield from ((str(image), str(image.relative_to(path).parent)) for image in below)
    elif path.exists() or path.is_symlink():
        yield given, '.'
    else:
        matches = sorted(glob.glob(given, recursive=True)) if glob.has_magic(given) else []
        files = [name for name in matches if Path(name).suffix.lower() in KINDS and not Path(name).is_dir()]
        files = [name for name in files if not _is_ours(Path(name), suffix)]
        if not files:
            raise OptionError(
                f'{given}: {"matches no photograph" if glob.has_magic(given) else "no such file or folder"}'
            )
        yield from ((name, '.') for name in files)


def _is_ours(path: Path, suffix: str) -> bool:
    return any(part.endswith(BEFORE_AFTER) for part in path.parts[:-1]) or bool(suffix and path.stem.endswith(suffix))


def _names_a_file(out: str) -> bool:
    return not out.endswith(os.sep) and not Path(out).is_dir() and Path(out).suffix.lower() in KINDS


def _checked_folder(out: str, single: bool) -> Path:
    folder = Path(out)
    if not folder.is_dir():
        if folder.suffix.lower() in KINDS and not out.endswith(os.sep):
            raise OptionError(f'-o {out}: names a file, but there is more than one photograph; name a folder')
        if single and folder.suffix and not out.endswith(os.sep):
            raise OptionError(f'-o {out}: end a file in one of {", ".join(KINDS)}, and a folder in {os.sep}')
    there = nearest_there(folder)
    if not there.is_dir():
        raise OptionError(f'-o {out}: {there} is a file, not a folder')
    return folder


def _check(jobs: Sequence[Job], sources: dict[str, tuple[str, str]]) -> None:
    taken: dict[str, str] = {}
    for job in jobs:
        place = os.path.realpath(job.output)
        if place in sources:
            raise OptionError(
                f'{job.output}: would replace the photograph {sources[place][0]}; give another -o or --suffix'
            )
        if place in taken:
            raise OptionError(
                f'{listed([taken[place], job.source])}: both would become {job.output}; deblur them into two folders'
            )
        taken[place] = job.source
