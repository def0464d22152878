"""Prepare a benchmark: downloaded archives or folders become a checked folder tree or LMDB databases."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from ggkm_plugin.data.archives import Archive, open_archive
from ggkm_plugin.data.layouts import (
    LAYOUTS,
    Folders,
    Pair,
    find_layout,
    images_in,
    is_label_file,
    matching_faults,
    matching_of,
    pairs_of_split,
)
from ggkm_plugin.data.lmdb_store import CODECS, key_of, write_lmdb
from ggkm_plugin.utils.errors import DataError, OptionError, listed
from ggkm_plugin.utils.files import check_space, new_folder, size_text
from ggkm_plugin.utils.image_decoding import decode_image, read_bytes
from ggkm_plugin.utils.image_header import Header
from ggkm_plugin.utils.threads import map_threads

FORMATS = ('folder', *CODECS)


@dataclass(frozen=True)
class PreparationOptions:
    """Options of `basicsr prepare`. layout: a key of LAYOUTS or auto; format: folder, or the codec of an LMDB."""

    sources: tuple[str, ...]
    out: str
    layout: str = 'auto'
    format: str = 'folder'
    workers: int = 1
    skip_bad: bool = False
    progress: bool = False


class SourceFile(NamedTuple):
    archive: Archive
    name: str

    @property
    def size(self) -> int:
        return self.archive.sizes[self.name]


@dataclass
class PreparationPlan:
    """Files to take from the sources, by path in the prepared tree, which has the authors' layout."""

    options: PreparationOptions
    out: Path
    layout: str
    archives: list[Archive]
    images: dict[str, SourceFile]
    labels: dict[str, SourceFile]  # Restormer's lists of indoor and outdoor scenes
    matched: dict[str, list[Pair]]  # by split of the archives: `train` with the scenes to hold out
    faults: dict[str, str]  # of images; before `prepare` those that the listing shows

    @property
    def sources(self) -> str:
        return ', '.join(str(archive.path) for archive in self.archives)

    @property
    def pairs(self) -> dict[str, list[Pair]]:
        """The pairs without a fault, by split; splits that are held out are separate."""
        spec, splits = LAYOUTS[self.layout], {}
        for split in spec.all_splits:
            matched = self.matched.get('train' if split == spec.held_out else split, [])
            sound = [pair for pair in matched if pair.lq not in self.faults and pair.gt not in self.faults]
            splits[split] = pairs_of_split(sound, self.layout, split)
        return {split: pairs for split, pairs in splits.items() if pairs}


def make_plan(options: PreparationOptions) -> PreparationPlan:
    """List the sources, recognize the layout and form the pairs. Writes nothing. Raises OptionError or DataError."""
    if options.workers < 1:
        raise OptionError(f'workers: must be at least 1, not {options.workers}')
    if not options.out:
        raise OptionError('out: is empty. Name a new folder')
    out = Path(options.out).resolve()
    _check_out(out, options.sources)
    archives = [open_archive(source, options.progress) for source in options.sources]
    layout, images, labels = _find_files(options, archives)
    plan = PreparationPlan(options, out, layout, archives, images, labels, {}, {})
    for split, choices in LAYOUTS[layout].splits.items():
        folders = choices[0]
        found = matching_of(images, '', folders)
        if folders.pairing == 'sorted' or found.duplicates:  # then the image without a partner is unknown
            for fault in matching_faults(found, folders.lq, folders.gt, folders.pairing):
                raise DataError(f'{plan.sources}: {fault}')
        plan.faults |= dict.fromkeys(found.unpaired_lq, f'no partner in {folders.gt}')
        plan.faults |= dict.fromkeys(found.unpaired_gt, f'no partner in {folders.lq}')
        if found.pairs:
            plan.matched[split] = found.pairs
    plan.faults |= {name: 'empty file' for name, file in images.items() if not file.size}
    if options.format != 'folder':
        _check_keys(images)
    return plan


def check_faults(plan: PreparationPlan) -> None:
    """Raise DataError for faults, unless they are to be skipped, and for a split without a sound pair."""
    if plan.faults and not plan.options.skip_bad:
        texts = listed([f'{name} ({reason})' for name, reason in sorted(plan.faults.items())])
        raise DataError(
            f'{plan.sources}: {len(plan.faults)} of {len(plan.images)} images cannot be used: {texts}. Replace them, '
            'or leave them and their partners out with --skip-bad'
        )
    for split in plan.matched.keys() - plan.pairs.keys():
        raise DataError(f'{plan.sources}: the split {split} has no usable pair. Download it again')


def _check_out(out: Path, sources: Iterable[str]) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f'{out}: exists. Name a new folder')
    for source in map(Path, sources):
        if source.is_dir() and out.is_relative_to(source.resolve()):
            raise DataError(f'{out}: is inside the source {source}. Name a folder outside')


def _find_files(
    options: PreparationOptions, archives: list[Archive]
) -> tuple[str, dict[str, SourceFile], dict[str, SourceFile]]:
    """Find the layout that all sources share. Returns it, its images, and its lists of labels, by prepared path."""
    wanted = None if options.layout == 'auto' else options.layout
    layout = ''
    images: dict[str, SourceFile] = {}
    labels: dict[str, SourceFile] = {}
    for archive in archives:
        names = _names_with_top_folder(archive)
        found = find_layout(names, str(archive.path), wanted)
        if layout and found.layout != layout:
            raise DataError(
                f'{archives[0].path} is {layout}, but {archive.path} is {found.layout}. Prepare one data set at a time'
            )
        layout = found.layout
        for split, folders in found.splits.items():
            for target, name in _prepared_paths(names, found.prefix, folders, LAYOUTS[layout].splits[split][0]):
                if target in images:
                    raise DataError(
                        f'{target}: is in {images[target].archive.path} and in {archive.path}. Name each source once'
                    )
                images[target] = SourceFile(archive, names[name])
        for name in names:
            if is_label_file(name) and name.startswith(found.prefix):
                labels.setdefault(PurePosixPath(name).name, SourceFile(archive, names[name]))
    return layout, images, labels


def _names_with_top_folder(archive: Archive) -> dict[str, str]:
    """Map names to search for to names in an archive.

    An archive `train_data.zip`, or a folder `train_data`, may hold what the authors have below `train_data/`.
    """
    tops = {folders.lq.split('/')[0] for spec in LAYOUTS.values() for each in spec.splits.values() for folders in each}
    own = archive.path.resolve().name
    own = own if archive.is_folder else own.split('.')[0]
    return {(f'{own}/{name}' if own in tops else name): name for name in archive.sizes}


def _prepared_paths(
    names: Mapping[str, str], prefix: str, folders: Folders, authors: Folders
) -> Iterator[tuple[str, str]]:
    """Yield the path in the authors' layout, and the name, of each image in a split's folders."""
    lq_folder = prefix + folders.lq
    for name in images_in(names, lq_folder, folders.pairing == 'scene', folders.starts_with):
        yield f'{authors.lq}{name.removeprefix(lq_folder)}', name
    if folders.gt is not None:
        gt_folder = prefix + folders.gt
        for name in images_in(names, gt_folder):
            yield f'{authors.gt}{name.removeprefix(gt_folder)}', name


def _check_keys(images: Iterable[str]) -> None:
    first: dict[str, str] = {}
    for name in sorted(images):
        if (other := first.setdefault(key_of(name), name)) != name:
            raise DataError(f'{other}, {name}: would have one key in the LMDB. Rename or remove one, or use folders')


def prepare(plan: PreparationPlan) -> PreparationPlan:
    """Extract, check and write the images of a plan. Returns it with all faults that were skipped.

    The output folder appears when it is complete. Raises DataError; then nothing is left behind.
    """
    check_faults(plan)
    try:
        with (
            new_folder(plan.out) as folder,
            tempfile.TemporaryDirectory(prefix=f'{plan.out.name}.unpacked-', dir=plan.out.parent) as unpacked,
        ):
            is_tree = plan.options.format == 'folder'
            files = _extract(plan, folder, folder if is_tree else Path(unpacked))
            plan = replace(plan, faults=plan.faults | _image_faults(plan, files))
            check_faults(plan)
            kept = names_of(pair for pairs in plan.pairs.values() for pair in pairs)
            for name in files.keys() - kept if is_tree else ():
                files[name].unlink()
            for split, pairs in plan.pairs.items() if not is_tree else ():
                _write_database(plan, folder, split, pairs, files)
    except OSError as error:
        raise DataError(
            f'{error.filename or plan.out}: {error.strerror or error}. Free space, or choose another folder'
        ) from error
    return plan


def _extract(plan: PreparationPlan, folder: Path, place: Path) -> dict[str, Path]:
    """Copy images below `place` and labels into `folder`. Returns the path of each image.

    Images of a source folder are not copied for a database.
    """
    is_tree = place == folder
    names = names_of(pair for pairs in plan.pairs.values() for pair in pairs)
    needed = sum(plan.images[name].size for name in names) * (1 if is_tree else 2)  # unpacked, and at least stored
    check_space(folder, needed, 'Free space, or choose another disk')
    files, copies = {}, []
    for archive in plan.archives:
        targets = {file.name: folder / name for name, file in plan.labels.items() if file.archive is archive}
        for name in names:
            file = plan.images[name]
            if file.archive is archive and (is_tree or not archive.is_folder):
                files[name] = targets[file.name] = place / name
            elif file.archive is archive:
                files[name] = archive.path / file.name
        copies.append((archive, targets))
    count = sum(len(targets) for _, targets in copies)
    with tqdm(desc='copy', total=count, unit='file', disable=not (plan.options.progress and count)) as bar:
        for archive, targets in copies:
            for _ in archive.extract(targets):
                bar.update()
    return files


def _image_faults(plan: PreparationPlan, files: Mapping[str, Path]) -> dict[str, str]:
    """Decode all images. Returns the faults of unreadable ones, and of pairs of two sizes or bit depths."""

    def check(name: str) -> Header | str:
        try:
            image = decode_image(read_bytes(str(files[name])), name)
        except DataError as error:
            return str(error).removeprefix(f'{name}: ')
        return Header((image.shape[0], image.shape[1], 3), image.dtype)

    found = map_threads(check, files, plan.options.workers)
    found = tqdm(found, desc='check', total=len(files), unit='image', disable=not plan.options.progress)
    headers = dict(zip(files, found, strict=True))
    faults = {name: header for name, header in headers.items() if isinstance(header, str)}
    for lq, gt in (pair for pairs in plan.pairs.values() for pair in pairs):
        if gt is not None and faults.keys().isdisjoint((lq, gt)) and headers[lq] != headers[gt]:
            texts = [
                '{1}x{0}, {2} bits'.format(*headers[name].shape[:2], 8 * headers[name].itemsize) for name in (lq, gt)
            ]
            faults[lq] = f'{texts[0]}, but its partner {gt} has {texts[1]}'
    return faults


def _write_database(
    plan: PreparationPlan, folder: Path, split: str, pairs: list[Pair], files: Mapping[str, Path]
) -> None:
    write_lmdb(
        str(folder / f'{split}.lmdb'),
        {key_of(name): str(files[name]) for name in names_of(pairs)},
        [Pair(key_of(lq), None if gt is None else key_of(gt)) for lq, gt in pairs],
        plan.options.format,
        workers=plan.options.workers,
        progress=plan.options.progress,
        about={'layout': plan.layout, 'split': split},
    )


def names_of(pairs: Iterable[Pair]) -> set[str]:
    """Return all images of the pairs."""
    return {name for pair in pairs for name in pair if name is not None}


def plan_lines(plan: PreparationPlan) -> list[str]:
    """Format a plan, or the result of `prepare`: pairs of each split, skipped images, files of other data."""
    files = [*plan.images.values(), *plan.labels.values()]
    size, result = size_text(sum(file.size for file in files)), plan.options.format
    result = 'a folder tree' if result == 'folder' else f'one {result} LMDB per split'
    lines = [f'{plan.layout} in {plan.sources}: {size}, as {result} in {plan.out}']
    lines += [f'  {split}: {len(pairs)} pairs' for split, pairs in plan.pairs.items()]
    counts = [(split, len(plan.matched.get(split, ())), many) for split, many in LAYOUTS[plan.layout].counts.items()]
    unlike = [f'{split} {found} of {many}' for split, found, many in counts if found != many]
    if unlike:
        lines.append(f'warning: differs from the published number of images: {", ".join(unlike)}')
    kept = names_of(pair for pairs in plan.pairs.values() for pair in pairs)
    skipped = sorted(plan.images.keys() - kept)
    if skipped:
        texts = listed([f'{name} ({plan.faults.get(name, "its partner is skipped")})' for name in skipped])
        lines.append(f'skipped: {len(skipped)} images: {texts}')
    used = {(id(file.archive), file.name) for file in files}
    unused = [name for archive in plan.archives for name in archive.sizes if (id(archive), name) not in used]
    if unused:
        lines.append(f'not part of the data set: {len(unused)} files: {listed(unused)}')
    return lines
