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

BLUR = '_blur'  # ends the names of blur maps
BEFORE_AFTER = 'before_after'  # ends the names of the folders that --compare writes; searches ignore them

_NO_IMAGE = 'not an image file that is read'


@dataclass(frozen=True)
class DeblurJob:
    """A photograph and the file of its result.

    pictures: files for --compare, before and after. named: by the user, not found in a folder or by a pattern.
    strength: in [0,2], see `strength`. mask: a grayscale image. blur_map: file of the 16-bit map, if it is wanted.
    kept: which of result and blur map exist and stay as they are.
    """

    source: str
    output: str
    pictures: tuple[str, str] | None = None
    named: bool = True
    strength: float = 1.0
    mask: str | None = None
    blur_map: str | None = None
    kept: tuple[str, ...] = ()

    @property
    def results(self) -> list[str]:
        return [self.output, *([self.blur_map] if self.blur_map else [])]

    @property
    def files(self) -> list[str]:
        """All files that it writes."""
        return [*self.results, *(self.pictures or ())]


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


def plan(
    inputs: Sequence[str],
    out: str | None,
    suffix: str,
    recursive: bool,
    strength: float = 1.0,
    masks: str | None = None,
    blur_map: bool = False,
) -> tuple[list[DeblurJob], list[Skipped]]:
    """Make a job for each photograph, in the order of `inputs` and sorted within each; list the files left out.

    inputs: files, folders, and patterns like `photos/*.jpg`. Folders and patterns leave out files whose name ends in
        `suffix`, which are earlier results, and files of other kinds.
    out: a file for the only input; a folder, which keeps the tree below an input folder; None: beside the photograph.
    suffix: goes between the name and its ending, unless `out` is a file.
    masks: a file for all photographs, or a folder with a mask for each, of the same name but for its ending.
    blur_map: beside each result, `NAME_blur.png`.

    Raises OptionError if an input or a mask is missing, if two have one output, or if an output is one of the inputs.
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
    is_file = out is not None and single and _names_a_file(out)
    folder = None if out is None or is_file else _checked_folder(out, single)
    jobs = []
    for found in known.values():
        path = Path(found.path)
        parent = path.parent if folder is None else folder / found.below
        output = Path(out or '') if is_file else parent / f'{path.stem}{suffix}{result_suffix(path.suffix)}'
        blur = str(output.with_name(f'{output.stem}{BLUR}.png')) if blur_map else None
        mask = None if masks is None else _mask(Path(masks), found)
        jobs.append(DeblurJob(found.path, str(output), None, found.named, strength, mask, blur))
    _check(jobs, sources)
    return jobs, skipped


def _mask(masks: Path, found: _Found) -> str:
    """Return the mask of a photograph. Raises OptionError if there is none."""
    if not masks.is_dir():
        if not masks.exists():
            raise OptionError(f'--mask {masks}: no such file or folder')
        return str(masks)
    folder, stem = masks / found.below, Path(found.path).stem
    there = sorted(file for file in folder.glob('*') if file.stem == stem and file.suffix.lower() in FORMATS)
    if len(there) != 1:
        what = f'several masks of {found.path}: {listed([file.name for file in there])}' if there else 'no mask'
        raise OptionError(f'--mask {folder}: {what}. One is needed named {stem}.png, as {found.path} is')
    return str(there[0])


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
    earlier = suffix and path.stem.removesuffix(BLUR).endswith(suffix)
    return f'named like an earlier result, with {suffix}' if earlier else None


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
        for output in job.files:
            place = os.path.realpath(output)
            if place in sources:
                raise OptionError(
                    f'{output}: would replace the photograph {sources[place]}; give another -o or --suffix'
                )
            if place in taken:
                raise OptionError(
                    f'{listed([taken[place], job.source])}: both would become {output}; deblur them into two folders'
                )
            taken[place] = job.source
