"""From downloaded archives or folders of one of the five benchmarks to a checked folder tree or LMDB.

`prepare` carries a plan (`preparation_plan.make_plan`) out in `OUT.part`, which becomes `OUT` when all is done; killed
at any moment, the same call goes on where it stopped. Sources are only read.
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
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

from ggkm_plugin import __version__
from ggkm_plugin.data.archives import Archive, Folder, size_text, writing
from ggkm_plugin.data.layouts import LAYOUTS, Pair, pairs_of_split
from ggkm_plugin.data.lmdb_store import key_of, write_lmdb
from ggkm_plugin.data.preparation_plan import Job, Plan, check_faults, common_lines, names_of, usable
from ggkm_plugin.utils.errors import DataError, listed
from ggkm_plugin.utils.files import unfinished, write_whole
from ggkm_plugin.utils.hashing import digest, file_digest
from ggkm_plugin.utils.image_decoding import decode_image, read_bytes

MANIFEST = 'manifest.json'
# Below OUT.part, where an archive's images wait for their conversion.
_UNPACKED = 'unpacked'
_SUFFIXES = {'JPEG': ('.jpg', '.jpeg'), 'PNG': ('.png',), 'TIFF': ('.tif', '.tiff'), 'BMP': ('.bmp',)}


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
class Report:
    """What was made, and what its user should know."""

    plan: Plan
    pairs: dict[str, list[Pair]]
    skipped: dict[str, str]
    notes: list[str] = field(default_factory=list)


def prepare(plan: Plan) -> Report:
    """Carry a plan out. Raises DataError; what was done till then is kept in OUT.part and not done again."""
    check_faults(plan, plan.faults)
    with writing(plan.part):
        plan.part.mkdir(parents=True, exist_ok=True)
    with _claimed(plan.part):
        _begin(plan)
        faults = dict(plan.faults)
        files = _fetch(plan, {name for pairs in plan.pairs.values() for name in names_of(usable(pairs, faults))})
        facts, unreadable = _examined(files, plan.job)
        faults |= unreadable
        faults |= _unequal_pairs(plan, facts, faults)
        faults |= _odd_depths(plan, facts, faults)
        check_faults(plan, faults)
        report = _report(plan, facts, faults)
        kept = {name for pairs in report.pairs.values() for name in names_of(pairs)}
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
    name = archive.path.resolve().name
    return {'name': name, 'size': size, 'files': len(listing), 'listing_sha256': digest(listing)}


def _begin(plan: Plan) -> None:
    """Leave word in OUT.part of the job at work, or check that it is the same. Raises DataError if it is another."""
    manifest, identity = plan.part / MANIFEST, _identity(plan)
    try:
        earlier = json.loads(manifest.read_text())
    except FileNotFoundError:
        begun = {path.name for path in plan.part.iterdir()} <= {unfinished(manifest).name}
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
    sha256 = hashlib.sha256(content).hexdigest()
    return ImageFacts(len(content), sha256, width, height, 8 * image.itemsize, kind, 'A' in mode)


def _header(content: bytes, name: str) -> tuple[str, str]:
    """Kind of file and mode of pixels as Pillow calls them; empty where it does not know."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.format or '', image.mode
    except Image.DecompressionBombError:
        raise DataError(f'{name}: more pixels than a photograph has') from None
    except (OSError, SyntaxError, ValueError):
        return '', ''


def _unequal_pairs(plan: Plan, facts: Mapping[str, ImageFacts], faults: Mapping[str, str]) -> dict[str, str]:
    unequal = {}
    for pairs in plan.pairs.values():
        for lq, gt in usable(pairs, faults):
            if gt is not None and facts[lq][2:4] != facts[gt][2:4]:
                (width, height), (gt_width, gt_height) = facts[lq][2:4], facts[gt][2:4]
                unequal[lq] = f'{width}x{height}, but its partner {gt} is {gt_width}x{gt_height}'
    return unequal


def _odd_depths(plan: Plan, facts: Mapping[str, ImageFacts], faults: Mapping[str, str]) -> dict[str, str]:
    """Images of another bit depth than most of their split; of two equally frequent ones the greater is meant."""
    odd: dict[str, str] = {}
    for split, pairs in plan.pairs.items():
        names = set(names_of(usable(pairs, faults)))
        counts = Counter(facts[name].bits for name in names)
        usual = max(counts, key=lambda bits: (counts[bits], bits), default=0)
        told = ' and '.join(f'{many} of {bits} bits' for bits, many in sorted(counts.items()))
        odd |= {name: f'{facts[name].bits} bits; {split} has {told}' for name in names if facts[name].bits != usual}
    return odd


def _report(plan: Plan, facts: Mapping[str, ImageFacts], faults: Mapping[str, str]) -> Report:
    """The pairs of all splits, held-out ones too, what is left out, and what is worth knowing of the rest."""
    spec = LAYOUTS[plan.layout]
    sound = {split: usable(pairs, faults) for split, pairs in plan.pairs.items()}
    pairs = {}
    for split in spec.all_splits:
        of_split = pairs_of_split(sound.get('train' if split == spec.held_out else split, []), plan.layout, split)
        if of_split:
            pairs[split] = of_split
    kept = set(names_of(pair for of_split in pairs.values() for pair in of_split))
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
    kept = {name for pairs in report.pairs.values() for name in names_of(pairs)}
    needed = sum(_stored_size(facts[name], codec) for name in kept)
    _check_space(plan.part, max(0, needed - _stored_bytes(plan.part)))
    for split, pairs in report.pairs.items():
        path = plan.part / f'{split}.lmdb'
        if path.exists():
            continue
        write_lmdb(
            str(path),
            {key_of(name): str(files[name]) for name in names_of(pairs)},
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
            path.relative_to(plan.part).as_posix(): {'size': path.stat().st_size, 'sha256': file_digest(path)}
            for path in sorted(others)
        },
        'skipped': report.skipped,
        'not_taken': plan.not_taken(),
        'ignored': plan.ignored(),
        'notes': report.notes,
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Complete or not at all."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + '\n')


def report_lines(report: Report) -> list[str]:
    """What was made, in words."""
    plan = report.plan
    lines = [f'{plan.layout} in {plan.out}, as {plan.job.format}:']
    lines += [f'  {split}: {len(pairs)} pairs' for split, pairs in report.pairs.items()]
    return [*lines, *common_lines(plan, report.skipped), *(f'note: {note}' for note in report.notes)]
