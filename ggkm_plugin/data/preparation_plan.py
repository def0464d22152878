"""Plan the preparation of a benchmark: list the sources, recognize the layout and form the pairs. Writes nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ggkm_plugin.data.archives import Archive, open_archive
from ggkm_plugin.data.layouts import (
    LAYOUTS,
    Folders,
    Pair,
    check_matching,
    find_layout,
    is_label_file,
    layout_named,
    matching_of,
    names_in,
)
from ggkm_plugin.data.lmdb_store import CODECS, key_of
from ggkm_plugin.utils.errors import DataError, OptionError, listed
from ggkm_plugin.utils.files import size_text

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
    labels: dict[str, SourceFile]
    pairs: dict[str, list[Pair]]  # by split of the archives: `train` with the scenes to hold out
    faults: dict[str, str]  # by image, as far as the listing shows them

    @property
    def sources(self) -> str:
        return ', '.join(str(archive.path) for archive in self.archives)

    @property
    def files(self) -> dict[str, SourceFile]:
        return self.images | self.labels

    @property
    def num_bytes(self) -> int:
        return sum(file.size for file in self.files.values())

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of pairs found and published, by split of the authors."""
        return {split: (len(self.pairs.get(split, ())), many) for split, many in LAYOUTS[self.layout].counts.items()}

    def unused(self) -> dict[str, int]:
        """Count the files that are not part of the data set, by folder; single files by name."""
        used = {(id(file.archive), file.name) for file in self.files.values()}
        rest = [name for archive in self.archives for name in archive.sizes if (id(archive), name) not in used]
        folders = Counter(str(PurePosixPath(name).parent) for name in rest)
        single = [name for name in rest if folders[str(PurePosixPath(name).parent)] == 1]
        return dict(sorted([*((name, many) for name, many in folders.items() if many > 1), *((n, 1) for n in single)]))


def make_plan(options: PreparationOptions) -> PreparationPlan:
    """List the sources, recognize the layout and form the pairs. Raises OptionError or DataError."""
    if options.format not in FORMATS:
        raise OptionError(f'format: must be one of {", ".join(FORMATS)}, not "{options.format}"')
    if options.workers < 1:
        raise OptionError(f'workers: must be at least 1, not {options.workers}')
    if options.layout != 'auto':
        layout_named(options.layout)
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
            try:
                check_matching(found, folders.lq, folders.gt, folders.pairing)
            except DataError as error:
                raise DataError(f'{plan.sources}: {error}') from None
        plan.faults |= dict.fromkeys(found.unpaired_lq, f'no partner in {folders.gt}')
        plan.faults |= dict.fromkeys(found.unpaired_gt, f'no partner in {folders.lq}')
        if found.pairs:
            plan.pairs[split] = found.pairs
    plan.faults |= {name: 'empty file' for name, file in images.items() if not file.size}
    if options.format != 'folder':
        _check_keys(images)
    return plan


def check_faults(plan: PreparationPlan, faults: Mapping[str, str]) -> None:
    """Raise DataError for faults, unless they are to be skipped, and for a split without a usable pair."""
    if faults and not plan.options.skip_bad:
        texts = listed([f'{name} ({reason})' for name, reason in sorted(faults.items())])
        raise DataError(
            f'{plan.sources}: {len(faults)} of {len(plan.images)} images cannot be used: {texts}. Replace them, or '
            'leave them and their partners out with --skip-bad'
        )
    for split, pairs in plan.pairs.items():
        if not usable(pairs, faults):
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
        for name in sorted(names, key=lambda name: name.count('/')):
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


def _prepared_paths(names: Iterable[str], prefix: str, folders: Folders, authors: Folders) -> Iterator[tuple[str, str]]:
    """Yield the path in the authors' layout, and the name, of each image in a split's folders."""
    names = list(names)
    for name in names_in(names, prefix + folders.lq, folders.pairing == 'scene', folders.starts_with):
        yield f'{authors.lq}/{name}', f'{prefix}{folders.lq}/{name}'
    if folders.gt is not None:
        for name in names_in(names, prefix + folders.gt):
            yield f'{authors.gt}/{name}', f'{prefix}{folders.gt}/{name}'


def _check_keys(images: Iterable[str]) -> None:
    first: dict[str, str] = {}
    for name in sorted(images):
        if (other := first.setdefault(key_of(name), name)) != name:
            raise DataError(f'{other}, {name}: would have one key in the LMDB. Rename or remove one, or use folders')


def usable(pairs: Iterable[Pair], faults: Mapping[str, str]) -> list[Pair]:
    """Return the pairs without a fault."""
    return [pair for pair in pairs if pair.lq not in faults and pair.gt not in faults]


def names_of(pairs: Iterable[Pair]) -> set[str]:
    """Return all images of the pairs."""
    return {name for pair in pairs for name in pair if name is not None}


def plan_lines(plan: PreparationPlan) -> list[str]:
    """Format the plan, for a dry run."""
    result = 'a folder tree' if plan.options.format == 'folder' else f'one {plan.options.format} LMDB per split'
    lines = [f'{plan.layout} in {plan.sources}: {size_text(plan.num_bytes)}, to be prepared as {result} in {plan.out}']
    lines += [f'  {split}: {len(usable(pairs, plan.faults))} pairs' for split, pairs in plan.pairs.items()]
    return lines + common_lines(plan, plan.faults)


def common_lines(plan: PreparationPlan, skipped: Mapping[str, str]) -> list[str]:
    """Format what is missing, skipped or unused."""
    lines = []
    unlike = [f'{split} {found} of {many}' for split, (found, many) in plan.counts().items() if found != many]
    if unlike:
        lines.append(f'warning: differs from the published number of images: {", ".join(unlike)}')
    if skipped:
        texts = listed([f'{name} ({reason})' for name, reason in skipped.items()])
        lines.append(f'skipped: {len(skipped)} images: {texts}')
    unused = plan.unused()
    if unused:
        texts = listed([f'{name} ({many})' if many > 1 else name for name, many in unused.items()])
        lines.append(f'not part of the data set: {sum(unused.values())} files: {texts}')
    return lines
