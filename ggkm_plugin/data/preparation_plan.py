"""What preparing a benchmark will do: its sources listed, recognised and paired. Writes nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ggkm_plugin.data.archives import MAX_BYTES, Archive, Folder, open_archive, size_text
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
from ggkm_plugin.data.lmdb_store import key_of
from ggkm_plugin.utils.errors import DataError, OptionError, listed

FORMATS = ('folder', 'png', 'raw')


@dataclass(frozen=True)
class Job:
    """What to prepare: `layout` is a key of LAYOUTS or auto; png and raw of `format` are the codecs of an LMDB."""

    sources: tuple[str, ...]
    out: str
    layout: str = 'auto'
    format: str = 'folder'
    workers: int = 1
    skip_bad: bool = False
    max_bytes: float = MAX_BYTES
    progress: bool = False


class Place(NamedTuple):
    """A file in a source."""

    archive: Archive
    name: str

    @property
    def size(self) -> int:
        return self.archive.members[self.name].size


@dataclass
class Plan:
    """What a job will do. Images and labels go by their path in the prepared tree, which is the authors' layout."""

    job: Job
    out: Path
    layout: str
    archives: list[Archive]
    images: dict[str, Place]
    labels: dict[str, Place]
    pairs: dict[str, list[Pair]]  # of each split in the archives: `train` before any of it is held out
    faults: dict[str, str]  # what is wrong with images, as far as the listing tells

    @property
    def part(self) -> Path:
        return self.out.with_name(f'{self.out.name}.part')

    @property
    def sources(self) -> str:
        """The names of all, for messages."""
        return ', '.join(str(archive.path) for archive in self.archives)

    @property
    def num_bytes(self) -> int:
        return sum(place.size for place in (*self.images.values(), *self.labels.values()))

    def counts(self) -> dict[str, tuple[int, int]]:
        """Pairs found and published of each split that the authors distribute."""
        return {split: (len(self.pairs.get(split, ())), many) for split, many in LAYOUTS[self.layout].counts.items()}

    def not_taken(self) -> dict[str, int]:
        """How many files of each folder of the sources are no part of the set; a single file by its name."""
        taken = {(id(place.archive), place.name) for place in (*self.images.values(), *self.labels.values())}
        rest = [n for archive in self.archives for n in archive.members if (id(archive), n) not in taken]
        folders = Counter(str(PurePosixPath(name).parent) for name in rest)
        alone = {name: 1 for name in rest if folders[str(PurePosixPath(name).parent)] == 1}
        return dict(sorted([*((folder, many) for folder, many in folders.items() if many > 1), *alone.items()]))

    def ignored(self) -> list[str]:
        return sorted(name for archive in self.archives for name in archive.ignored)


def make_plan(job: Job) -> Plan:
    """List the sources, recognise the set and form the pairs. Raises OptionError or DataError; writes nothing."""
    if job.format not in FORMATS:
        raise OptionError(f'format is one of {", ".join(FORMATS)}, not {job.format!r}')
    if job.workers < 1:
        raise OptionError(f'workers is at least 1, not {job.workers}')
    if not job.max_bytes >= 1:  # nor nan
        raise OptionError(f'max-size is above 0, not {job.max_bytes / 1e9:g} GB')
    if job.layout != 'auto':
        layout_named(job.layout)
    if not job.out:
        raise OptionError('out is empty: name a new folder')
    out = Path(job.out).resolve()
    _check_out(out, job.sources)
    archives = [open_archive(source, job.max_bytes, job.progress) for source in job.sources]
    layout, images, labels = _located(job, archives)
    plan = Plan(job, out, layout, archives, images, labels, {}, {})
    for split, choices in LAYOUTS[layout].splits.items():
        folders = choices[0]
        found = matching_of(images, '', folders)
        if folders.pairing == 'sorted' or found.twins:  # which of them to leave out cannot be told
            try:
                check_matching(found, folders.lq, folders.gt, folders.pairing)
            except DataError as error:
                raise DataError(f'{plan.sources}: {error}') from None
        plan.faults |= dict.fromkeys(found.lonely, f'no partner in {folders.gt}')
        plan.faults |= dict.fromkeys(found.spare, f'no partner in {folders.lq}')
        if found.pairs:
            plan.pairs[split] = found.pairs
    plan.faults |= {name: 'empty file' for name, place in images.items() if not place.size}
    if job.format != 'folder':
        _check_keys(images)
    return plan


def check_faults(plan: Plan, faults: Mapping[str, str]) -> None:
    """Raises DataError listing the faults, unless the job is to leave such images out; and if no pair is left then."""
    if faults and not plan.job.skip_bad:
        told = listed([f'{name} ({reason})' for name, reason in sorted(faults.items())])
        raise DataError(
            f'{plan.sources}: {len(faults)} of {len(plan.images)} images cannot be used: {told}. Get them anew, or '
            'leave them and their partners out with --skip-bad'
        )
    for split, pairs in plan.pairs.items():
        if not usable(pairs, faults):
            raise DataError(f'{plan.sources}: no pair of the split {split} can be used; get the archive anew')


def _check_out(out: Path, sources: Iterable[str]) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f'{out}: already there and left as it is; name a new folder')
    for source in map(Path, sources):
        if source.is_dir() and out.is_relative_to(source.resolve()):
            raise DataError(f'{out}: lies in {source}, and sources are never changed; name a folder outside')


def _located(job: Job, archives: list[Archive]) -> tuple[str, dict[str, Place], dict[str, Place]]:
    """The set that all sources belong to, and where its images and lists of labels are, by their canonical path."""
    wanted = None if job.layout == 'auto' else job.layout
    layout = ''
    images: dict[str, Place] = {}
    labels: dict[str, Place] = {}
    for archive in archives:
        spelled = _below_own_name(archive)
        found = find_layout(spelled, str(archive.path), wanted)
        if layout and found.layout != layout:
            raise DataError(
                f'{archives[0].path} is {layout}, but {archive.path} is {found.layout}: prepare one set at a time'
            )
        layout = found.layout
        for split, folders in found.splits.items():
            for target, name in _canonical(spelled, found.prefix, folders, LAYOUTS[layout].splits[split][0]):
                if target in images:
                    raise DataError(
                        f'{target} is in {images[target].archive.path} and in {archive.path}: name each archive once'
                    )
                images[target] = Place(archive, spelled[name])
        for name in sorted(spelled, key=lambda name: name.count('/')):
            if is_label_file(name) and name.startswith(found.prefix):
                labels.setdefault(PurePosixPath(name).name, Place(archive, spelled[name]))
    return layout, images, labels


def _below_own_name(archive: Archive) -> dict[str, str]:
    """Members by the name under which to look for them.

    An archive `train_data.zip`, or a folder of that name, may hold what the authors have below `train_data/`.
    """
    tops = {folders.lq.split('/')[0] for spec in LAYOUTS.values() for each in spec.splits.values() for folders in each}
    own = archive.path.resolve().name
    own = own if isinstance(archive, Folder) else own.split('.')[0]
    return {(f'{own}/{name}' if own in tops else name): name for name in archive.members}


def _canonical(names: Iterable[str], prefix: str, folders: Folders, authors: Folders) -> Iterator[tuple[str, str]]:
    """Path in the authors' layout, and name, of each image that a split's folders hold."""
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
            raise DataError(f'{other} and {name} would have one key in the LMDB; rename or remove one, or use folders')


def usable(pairs: Iterable[Pair], faults: Mapping[str, str]) -> list[Pair]:
    """The pairs of which neither image has a fault."""
    return [pair for pair in pairs if pair.lq not in faults and pair.gt not in faults]


def names_of(pairs: Iterable[Pair]) -> Iterator[str]:
    """Every image of the pairs; a shared one as often as it is shared."""
    return (name for pair in pairs for name in pair if name is not None)


def plan_lines(plan: Plan) -> list[str]:
    """The plan in words, for a dry run."""
    what = 'a folder tree' if plan.job.format == 'folder' else f'an LMDB of codec {plan.job.format} for each split'
    lines = [f'{plan.layout} in {plan.sources}: {size_text(plan.num_bytes)} of images, to become {what} in {plan.out}']
    kept = {split: usable(pairs, plan.faults) for split, pairs in plan.pairs.items()}
    lines += [f'  {split}: {len(pairs)} pairs' for split, pairs in kept.items()]
    return lines + common_lines(plan, plan.faults)


def common_lines(plan: Plan, skipped: Mapping[str, str]) -> list[str]:
    """What is missing, left out or no part of the set, in words."""
    lines = []
    unlike = [f'{split} {found} of {many}' for split, (found, many) in plan.counts().items() if found != many]
    if unlike:
        lines.append(f'warning: not the published number of images: {", ".join(unlike)}')
    if skipped:
        told = listed([f'{name} ({reason})' for name, reason in skipped.items()])
        lines.append(f'left out: {len(skipped)} images: {told}')
    not_taken = plan.not_taken()
    if not_taken:
        told = listed([f'{name} ({many})' if many > 1 else name for name, many in not_taken.items()])
        lines.append(f'no part of the set: {sum(not_taken.values())} files: {told}')
    if plan.ignored():
        lines.append(f'hidden or left by systems: {len(plan.ignored())} files: {listed(plan.ignored())}')
    return lines
