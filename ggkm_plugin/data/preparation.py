"""From downloaded archives or folders of one of the five benchmarks to a checked folder tree or LMDB.

`make_plan` lists, recognises and pairs, and writes nothing. `prepare` carries a plan out in `OUT.part`, which becomes
`OUT` when all is done; killed at any moment, the same call goes on where it stopped. Sources are only read.
"""

import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

from ggkm_plugin import __version__
from ggkm_plugin.data.archives import MAX_BYTES, Archive, Folder, open_archive, size_text, writing
from ggkm_plugin.data.decoding import decode_image, read_bytes
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
    pairs_of_split,
)
from ggkm_plugin.data.lmdb_store import key_of, write_lmdb
from ggkm_plugin.errors import DataError, OptionError, listed

FORMATS = ('folder', 'png', 'raw')
MANIFEST = 'manifest.json'
# Below OUT.part, where an archive's images wait for their conversion.
_UNPACKED = 'unpacked'
_SUFFIXES = {'JPEG': ('.jpg', '.jpeg'), 'PNG': ('.png',), 'TIFF': ('.tif', '.tiff'), 'BMP': ('.bmp',)}


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


class ImageFacts(NamedTuple):
    """What was found when an image was read."""

    size: int
    sha256: str
    width: int
    height: int
    bits: int
    kind: str  # of file, by its content, as Pillow calls it
    has_alpha: bool


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


@dataclass
class Report:
    """What was made, and what its user should know."""

    plan: Plan
    pairs: dict[str, list[Pair]]
    skipped: dict[str, str]
    notes: list[str] = field(default_factory=list)


# The plan


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
                raise DataError(f'{_sources(plan)}: {error}') from None
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
            f'{_sources(plan)}: {len(faults)} of {len(plan.images)} images cannot be used: {told}. Get them anew, or '
            'leave them and their partners out with --skip-bad'
        )
    for split, pairs in plan.pairs.items():
        if not _usable(pairs, faults):
            raise DataError(f'{_sources(plan)}: no pair of the split {split} can be used; get the archive anew')


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


def _sources(plan: Plan) -> str:
    return ', '.join(str(archive.path) for archive in plan.archives)


# Carrying it out


def prepare(plan: Plan) -> Report:
    """Carry a plan out. Raises DataError; what was done till then is kept in OUT.part and not done again."""
    check_faults(plan, plan.faults)
    with writing(plan.part):
        plan.part.mkdir(parents=True, exist_ok=True)
    with _claimed(plan.part):
        _begin(plan)
        faults = dict(plan.faults)
        files = _fetch(plan, {name for pairs in plan.pairs.values() for name in _names(_usable(pairs, faults))})
        facts, unreadable = _examined(files, plan.job)
        faults |= unreadable
        faults |= _unequal_pairs(plan, facts, faults)
        faults |= _odd_depths(plan, facts, faults)
        check_faults(plan, faults)
        report = _report(plan, facts, faults)
        kept = {name for pairs in report.pairs.values() for name in _names(pairs)}
        if plan.job.format == 'folder':
            for name in set(files) - kept:
                with writing(files[name]):
                    files[name].unlink()
        else:
            _write_databases(report, files, facts)
        with writing(plan.part):
            if (plan.part / _UNPACKED).exists():
                shutil.rmtree(plan.part / _UNPACKED)
            _write_json(plan.part / MANIFEST, _manifest(report, {name: facts[name] for name in sorted(kept)}))
            os.replace(plan.part, plan.out)
    return report


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Raises DataError if another process works there. The kernel ends the claim with the process, however it ends."""
    import fcntl

    with writing(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f'{folder}: another process is preparing there; wait for it to end') from None
        yield
    finally:
        os.close(handle)


def _identity(plan: Plan) -> dict[str, Any]:
    """What a job makes of what, to tell whether a folder left by an interrupted one is of the same."""
    return {'layout': plan.layout, 'format': plan.job.format, 'sources': [_identified(a) for a in plan.archives]}


def _identified(archive: Archive) -> dict[str, Any]:
    listing = sorted((name, member.size, member.crc) for name, member in archive.members.items())
    size = sum(size for _, size, _ in listing) if isinstance(archive, Folder) else archive.path.stat().st_size
    digest = hashlib.sha256(json.dumps(listing).encode()).hexdigest()
    return {'name': archive.path.resolve().name, 'size': size, 'files': len(listing), 'listing_sha256': digest}


def _begin(plan: Plan) -> None:
    """Leave word in OUT.part of the job at work, or check that it is the same. Raises DataError if it is another."""
    manifest, identity = plan.part / MANIFEST, _identity(plan)
    try:
        earlier = json.loads(manifest.read_text())
    except FileNotFoundError:
        begun = {path.name for path in plan.part.iterdir()} <= {_temporary(manifest).name}
        earlier = identity if begun else None
    except (OSError, ValueError):
        earlier = None
    if not isinstance(earlier, dict) or any(earlier.get(key) != value for key, value in identity.items()):
        raise DataError(
            f'{plan.part}: left by another job (other sources, set or format); remove this folder, or name another one '
            'to write to'
        )
    if not manifest.exists():
        with writing(manifest):
            _write_json(manifest, identity)


def _fetch(plan: Plan, wanted: Iterable[str]) -> dict[str, Path]:
    """Where the wanted images lie now: unpacked or copied, or in a source folder that a conversion reads in place."""
    folder = plan.part if plan.job.format == 'folder' else plan.part / _UNPACKED
    files: dict[str, Path] = {}
    jobs: list[tuple[Archive, dict[str, Path]]] = []
    for archive in plan.archives:
        targets = {place.name: plan.part / name for name, place in plan.labels.items() if place.archive is archive}
        for name in wanted:
            place = plan.images[name]
            if place.archive is not archive:
                continue
            if isinstance(archive, Folder) and plan.job.format != 'folder':
                files[name] = archive.path / place.name
            else:
                files[name] = targets[place.name] = folder / name
        jobs.append((archive, targets))
    sizes = [(archive.members[name].size, path) for archive, targets in jobs for name, path in targets.items()]
    missing = sum(size for size, path in sizes if not path.is_file())
    waiting = sum(plan.images[name].size for name in wanted) if plan.job.format != 'folder' else 0  # at least
    _check_space(plan.part, missing + max(0, waiting - _stored_bytes(plan.part)))
    with tqdm(
        desc='unpack', total=sum(size for size, _ in sizes), unit='B', unit_scale=True, disable=not plan.job.progress
    ) as bar:
        for archive, targets in jobs:
            for member in archive.extract(targets):
                bar.update(member.size)
    return files


def _check_space(folder: Path, needed: int) -> None:
    """Raises DataError if the disk has less than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f'{folder}: needs {size_text(needed)}, but {size_text(free)} are free; make room, or choose another disk'
        )


def _stored_bytes(part: Path) -> int:
    """Bytes of the databases that are already there, finished or not."""
    return sum(file.stat().st_size for file in part.glob('*.lmdb*/data.mdb'))


def _examined(files: Mapping[str, Path], job: Job) -> tuple[dict[str, ImageFacts], dict[str, str]]:
    """Read every image. Returns what was found, and what is wrong with the unreadable ones."""
    facts: dict[str, ImageFacts] = {}
    faults: dict[str, str] = {}
    names = sorted(files)
    pool = ThreadPoolExecutor(job.workers)  # decoding and hashing leave Python's lock free
    try:
        results = pool.map(_examine, names, [files[name] for name in names])
        for name, result in tqdm(
            zip(names, results, strict=True), desc='check', total=len(names), unit='image', disable=not job.progress
        ):
            if isinstance(result, ImageFacts):
                facts[name] = result
            else:
                faults[name] = result
    finally:
        pool.shutdown(cancel_futures=True)
    return facts, faults


def _examine(name: str, path: Path) -> ImageFacts | str:
    """What is found in an image's file, or why it cannot be used."""
    try:
        content = read_bytes(str(path))
        kind, mode = _header(content, name)
        height, width, _ = (image := decode_image(content, name)).shape
    except DataError as error:
        return str(error).removeprefix(f'{name}: ')
    digest = hashlib.sha256(content).hexdigest()
    return ImageFacts(len(content), digest, width, height, 8 * image.itemsize, kind, 'A' in mode)


def _header(content: bytes, name: str) -> tuple[str, str]:
    """Kind of file and mode of pixels as Pillow calls them; empty where it does not know."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.format or '', image.mode
    except Image.DecompressionBombError:
        raise DataError(f'{name}: more pixels than a photograph has') from None
    except (OSError, SyntaxError, ValueError):
        return '', ''


def _usable(pairs: Iterable[Pair], faults: Mapping[str, str]) -> list[Pair]:
    return [pair for pair in pairs if pair.lq not in faults and pair.gt not in faults]


def _names(pairs: Iterable[Pair]) -> Iterator[str]:
    return (name for pair in pairs for name in pair if name is not None)


def _unequal_pairs(plan: Plan, facts: Mapping[str, ImageFacts], faults: Mapping[str, str]) -> dict[str, str]:
    unequal = {}
    for pairs in plan.pairs.values():
        for lq, gt in _usable(pairs, faults):
            if gt is not None and facts[lq][2:4] != facts[gt][2:4]:
                (width, height), (gt_width, gt_height) = facts[lq][2:4], facts[gt][2:4]
                unequal[lq] = f'{width}x{height}, but its partner {gt} is {gt_width}x{gt_height}'
    return unequal


def _odd_depths(plan: Plan, facts: Mapping[str, ImageFacts], faults: Mapping[str, str]) -> dict[str, str]:
    """Images of another bit depth than most of their split; of two equally frequent ones the greater is meant."""
    odd: dict[str, str] = {}
    for split, pairs in plan.pairs.items():
        names = set(_names(_usable(pairs, faults)))
        counts = Counter(facts[name].bits for name in names)
        usual = max(counts, key=lambda bits: (counts[bits], bits), default=0)
        told = ' and '.join(f'{many} of {bits} bits' for bits, many in sorted(counts.items()))
        odd |= {name: f'{facts[name].bits} bits; {split} has {told}' for name in names if facts[name].bits != usual}
    return odd


def _report(plan: Plan, facts: Mapping[str, ImageFacts], faults: Mapping[str, str]) -> Report:
    """The pairs of all splits, held-out ones too, what is left out, and what is worth knowing of the rest."""
    spec = LAYOUTS[plan.layout]
    usable = {split: _usable(pairs, faults) for split, pairs in plan.pairs.items()}
    pairs = {}
    for split in spec.all_splits:
        of_split = pairs_of_split(usable.get('train' if split == spec.held_out else split, []), plan.layout, split)
        if of_split:
            pairs[split] = of_split
    kept = set(_names(pair for of_split in pairs.values() for pair in of_split))
    skipped = dict(faults)
    skipped |= {name: 'its partner is left out' for name in plan.images if name not in kept and name not in faults}
    return Report(plan, pairs, dict(sorted(skipped.items())), _notes(plan, facts, sorted(kept)))


def _is_misnamed(name: str, kind: str) -> bool:
    suffixes = _SUFFIXES.get(kind)
    return suffixes is not None and PurePosixPath(name).suffix.lower() not in suffixes


def _notes(plan: Plan, facts: Mapping[str, ImageFacts], kept: list[str]) -> list[str]:
    """Irregularities that do no harm."""
    misnamed = [f'{name} ({facts[name].kind})' for name in kept if _is_misnamed(name, facts[name].kind)]
    alpha = [name for name in kept if facts[name].has_alpha]
    depths = sorted({facts[name].bits for name in kept})
    notes = []
    if misnamed:
        notes.append(f'{len(misnamed)} files are of another kind than their suffix says: {listed(misnamed)}')
    if alpha:
        notes.append(f'{len(alpha)} images have an alpha channel, which is not read: {listed(alpha)}')
    usual = LAYOUTS[plan.layout].bit_depths[0]
    if depths != [usual]:
        notes.append(f'{" and ".join(map(str, depths))} bits; {plan.layout} is distributed with {usual}')
    return notes


def _write_databases(report: Report, files: Mapping[str, Path], facts: Mapping[str, ImageFacts]) -> None:
    """One LMDB for each split, those that an interrupted run has finished left as they are."""
    plan, codec = report.plan, report.plan.job.format
    kept = {name for pairs in report.pairs.values() for name in _names(pairs)}
    needed = sum(_stored_size(facts[name], codec) for name in kept)
    _check_space(plan.part, max(0, needed - _stored_bytes(plan.part)))
    for split, pairs in report.pairs.items():
        path = plan.part / f'{split}.lmdb'
        if path.exists():
            continue
        write_lmdb(
            str(path),
            {key_of(name): str(files[name]) for name in _names(pairs)},
            [Pair(key_of(lq), None if gt is None else key_of(gt)) for lq, gt in pairs],
            codec,
            workers=plan.job.workers,
            progress=plan.job.progress,
            about={'layout': plan.layout, 'split': split},
        )


def _stored_size(facts: ImageFacts, codec: str) -> int:
    """Bytes of an image in an LMDB, at most: a PNG is stored as it is, another kind of file encoded anew."""
    if codec == 'png' and facts.kind == 'PNG':
        return facts.size
    return facts.width * facts.height * 3 * facts.bits // 8


def _manifest(report: Report, facts: Mapping[str, ImageFacts]) -> dict[str, Any]:
    plan = report.plan
    others = [*(plan.part / name for name in plan.labels), *plan.part.glob('*.lmdb/data.mdb')]
    return {
        **_identity(plan),
        'made_by': f'ggkm_plugin {__version__}',
        'pairs': {split: len(pairs) for split, pairs in report.pairs.items()},
        'counts': {split: {'found': found, 'expected': many} for split, (found, many) in plan.counts().items()},
        'images': {
            name: {
                'size': fact.size,
                'sha256': fact.sha256,
                'width': fact.width,
                'height': fact.height,
                'bits': fact.bits,
            }
            for name, fact in facts.items()
        },
        'files': {
            path.relative_to(plan.part).as_posix(): {'size': path.stat().st_size, 'sha256': _sha256(path)}
            for path in sorted(others)
        },
        'skipped': report.skipped,
        'not_taken': plan.not_taken(),
        'ignored': plan.ignored(),
        'notes': report.notes,
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(partial(file.read, 1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def _temporary(path: Path) -> Path:
    return path.with_name(f'.{path.name}.part')


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Complete or not at all."""
    temporary = _temporary(path)
    text = json.dumps(content, indent=1, ensure_ascii=False) + '\n'
    temporary.write_text(text, 'utf-8', 'backslashreplace')  # of names in no known encoding
    os.replace(temporary, path)


# What is told


def plan_lines(plan: Plan) -> list[str]:
    """The plan in words, for a dry run."""
    what = 'a folder tree' if plan.job.format == 'folder' else f'an LMDB of codec {plan.job.format} for each split'
    lines = [
        f'{plan.layout} in {_sources(plan)}: {size_text(plan.num_bytes)} of images, to become {what} in {plan.out}'
    ]
    usable = {split: _usable(pairs, plan.faults) for split, pairs in plan.pairs.items()}
    lines += [f'  {split}: {len(pairs)} pairs' for split, pairs in usable.items()]
    return lines + _shared_lines(plan, plan.faults)


def report_lines(report: Report) -> list[str]:
    """What was made, in words."""
    plan = report.plan
    lines = [f'{plan.layout} in {plan.out}, as {plan.job.format}:']
    lines += [f'  {split}: {len(pairs)} pairs' for split, pairs in report.pairs.items()]
    return [*lines, *_shared_lines(plan, report.skipped), *(f'note: {note}' for note in report.notes)]


def _shared_lines(plan: Plan, skipped: Mapping[str, str]) -> list[str]:
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
