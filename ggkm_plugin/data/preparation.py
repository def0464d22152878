"""Prepare a benchmark: downloaded archives or folders become a checked folder tree or LMDB databases."""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ggkm_plugin import __version__
from ggkm_plugin.data.image_facts import ImageFacts, read_facts
from ggkm_plugin.data.layouts import LAYOUTS, Pair, pairs_of_split
from ggkm_plugin.data.lmdb_store import key_of, write_lmdb
from ggkm_plugin.data.preparation_plan import PreparationPlan, check_faults, common_lines, names_of, usable
from ggkm_plugin.utils.errors import DataError, listed
from ggkm_plugin.utils.files import check_space, new_folder, write_whole
from ggkm_plugin.utils.image_decoding import read_bytes
from ggkm_plugin.utils.threads import map_threads

_MANIFEST = 'manifest.json'
_SPACE = 'Free space, or choose another disk'


class _CheckedImage(NamedTuple):
    facts: ImageFacts
    num_bytes: int
    sha256: str  # of the file


@dataclass
class PreparationReport:
    """Result of `prepare`: pairs by split, skipped images with the reason, notes."""

    plan: PreparationPlan
    pairs: dict[str, list[Pair]]
    skipped: dict[str, str]
    notes: list[str]


def prepare(plan: PreparationPlan) -> PreparationReport:
    """Extract, check and write the images of a plan.

    The output folder appears when it is complete. Raises DataError; then nothing is left behind.
    """
    check_faults(plan, plan.faults)
    try:
        with (
            new_folder(plan.out) as folder,
            tempfile.TemporaryDirectory(prefix=f'{plan.out.name}.unpacked-', dir=plan.out.parent) as unpacked,
        ):
            return _prepare(plan, folder, Path(unpacked))
    except OSError as error:
        raise DataError(
            f'{error.filename or plan.out}: {error.strerror or error}. Free space, or choose another folder'
        ) from error


def _prepare(plan: PreparationPlan, folder: Path, unpacked: Path) -> PreparationReport:
    options, faults = plan.options, dict(plan.faults)
    wanted = {name for pairs in plan.pairs.values() for name in names_of(usable(pairs, faults))}
    files = _extract(plan, wanted, folder, folder if options.format == 'folder' else unpacked)
    checked, unreadable = _check_images(files, options.workers, options.progress)
    faults |= unreadable
    faults |= _unequal_pairs(plan, checked, faults)
    faults |= _unusual_depths(plan, checked, faults)
    check_faults(plan, faults)
    report = _report(plan, checked, faults)
    kept = names_of(pair for pairs in report.pairs.values() for pair in pairs)
    if options.format == 'folder':
        for name in set(files) - kept:
            files[name].unlink()
    else:
        _write_databases(report, folder, files, checked)
    manifest = _manifest(report, {name: checked[name] for name in sorted(kept)})
    write_whole(folder / _MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + '\n')
    return report


def _extract(plan: PreparationPlan, wanted: Iterable[str], folder: Path, place: Path) -> dict[str, Path]:
    """Copy images below `place` and labels into `folder`. Returns the path of each image.

    Images of a source folder are not copied for a database.
    """
    is_tree = plan.options.format == 'folder'
    files = {name: place / name for name in wanted}
    needed = sum(plan.images[name].size for name in wanted) * (1 if is_tree else 2)  # unpacked, and at least stored
    check_space(folder, needed, _SPACE)
    copies = []
    for archive in plan.archives:
        targets = {file.name: folder / name for name, file in plan.labels.items() if file.archive is archive}
        for name, target in files.items():
            file = plan.images[name]
            if file.archive is archive and (is_tree or not archive.is_folder):
                targets[file.name] = target
            elif file.archive is archive:
                files[name] = archive.path / file.name
        copies.append((archive, targets))
    count = sum(len(targets) for _, targets in copies)
    with tqdm(desc='copy', total=count, unit='file', disable=not (plan.options.progress and count)) as bar:
        for archive, targets in copies:
            for _ in archive.extract(targets):
                bar.update()
    return files


def _check_images(
    files: Mapping[str, Path], workers: int, progress: bool
) -> tuple[dict[str, _CheckedImage], dict[str, str]]:
    """Read all images. Returns facts about the readable ones, and the faults of the others."""

    def check(name: str) -> _CheckedImage | str:
        try:
            content = read_bytes(str(files[name]))
            facts, _ = read_facts(name, content)
        except DataError as error:
            return str(error).removeprefix(f'{name}: ')
        return _CheckedImage(facts, len(content), hashlib.sha256(content).hexdigest())

    names = sorted(files)
    found = map_threads(check, names, workers)
    found = tqdm(found, desc='check', total=len(names), unit='image', disable=not progress)
    results = dict(zip(names, found, strict=True))
    checked = {name: result for name, result in results.items() if not isinstance(result, str)}
    return checked, {name: result for name, result in results.items() if isinstance(result, str)}


def _unequal_pairs(
    plan: PreparationPlan, checked: Mapping[str, _CheckedImage], faults: Mapping[str, str]
) -> dict[str, str]:
    unequal = {}
    for pairs in plan.pairs.values():
        for lq, gt in usable(pairs, faults):
            if gt is not None and checked[lq].facts.size != checked[gt].facts.size:
                sizes = ['{}x{}'.format(*checked[name].facts.size) for name in (lq, gt)]
                unequal[lq] = f'{sizes[0]}, but its partner {gt} is {sizes[1]}'
    return unequal


def _unusual_depths(
    plan: PreparationPlan, checked: Mapping[str, _CheckedImage], faults: Mapping[str, str]
) -> dict[str, str]:
    """Find images of another bit depth than most of their split; of equally frequent depths the greater is usual."""
    unusual: dict[str, str] = {}
    for split, pairs in plan.pairs.items():
        depths = {name: checked[name].facts.bits for name in names_of(usable(pairs, faults))}
        counts = Counter(depths.values())
        usual = max(counts, key=lambda bits: (counts[bits], bits), default=0)
        text = ' and '.join(f'{many} of {bits} bits' for bits, many in sorted(counts.items()))
        unusual |= {name: f'{bits} bits; {split} has {text}' for name, bits in depths.items() if bits != usual}
    return unusual


def _report(
    plan: PreparationPlan, checked: Mapping[str, _CheckedImage], faults: Mapping[str, str]
) -> PreparationReport:
    """Form the pairs of all splits, held-out ones too, and collect skipped images and notes."""
    spec = LAYOUTS[plan.layout]
    pairs = {}
    for split in spec.all_splits:
        of_folders = plan.pairs.get('train' if split == spec.held_out else split, [])
        if of_split := pairs_of_split(usable(of_folders, faults), plan.layout, split):
            pairs[split] = of_split
    kept = names_of(pair for of_split in pairs.values() for pair in of_split)
    skipped = {name: faults.get(name, 'its partner is skipped') for name in sorted(plan.images) if name not in kept}
    return PreparationReport(plan, pairs, skipped, _notes(plan, [checked[name].facts for name in sorted(kept)]))


def _notes(plan: PreparationPlan, images: list[ImageFacts]) -> list[str]:
    """Describe harmless irregularities."""
    notes = []
    if misnamed := [image.note for image in images if image.note]:
        notes.append(f'{len(misnamed)} files with the suffix of another format: {listed(misnamed)}')
    if alpha := [image.name for image in images if image.has_alpha]:
        notes.append(f'{len(alpha)} images have an alpha channel, which is not read: {listed(alpha)}')
    depths, usual = sorted({image.bits for image in images}), LAYOUTS[plan.layout].bit_depths[0]
    if depths != [usual]:
        notes.append(f'{" and ".join(map(str, depths))} bits; {plan.layout} is distributed with {usual}')
    return notes


def _write_databases(
    report: PreparationReport, folder: Path, files: Mapping[str, Path], checked: Mapping[str, _CheckedImage]
) -> None:
    """Write one LMDB per split."""
    options = report.plan.options
    kept = [names_of(pairs) for pairs in report.pairs.values()]
    needed = sum(_stored_bytes(checked[name], options.format) for names in kept for name in names)
    check_space(folder, needed, _SPACE)
    for split, pairs in report.pairs.items():
        write_lmdb(
            str(folder / f'{split}.lmdb'),
            {key_of(name): str(files[name]) for name in names_of(pairs)},
            [Pair(key_of(lq), None if gt is None else key_of(gt)) for lq, gt in pairs],
            options.format,
            workers=options.workers,
            progress=options.progress,
            about={'layout': report.plan.layout, 'split': split},
        )


def _stored_bytes(image: _CheckedImage, codec: str) -> int:
    """Return the largest possible size of an image in a database."""
    if codec == 'png' and image.facts.format == 'PNG':
        return image.num_bytes
    return image.facts.width * image.facts.height * 3 * image.facts.bits // 8


def _manifest(report: PreparationReport, images: Mapping[str, _CheckedImage]) -> dict:
    plan = report.plan
    return {
        'made_by': f'ggkm_plugin {__version__}',
        'layout': plan.layout,
        'format': plan.options.format,
        'sources': [archive.path.resolve().name for archive in plan.archives],
        'pairs': {split: len(pairs) for split, pairs in report.pairs.items()},
        'counts': {split: {'found': found, 'expected': many} for split, (found, many) in plan.counts().items()},
        'images': {
            name: {
                'size': image.num_bytes,
                'sha256': image.sha256,
                'width': image.facts.width,
                'height': image.facts.height,
                'bits': image.facts.bits,
            }
            for name, image in images.items()
        },
        'skipped': report.skipped,
        'not_taken': plan.unused(),
        'notes': report.notes,
    }


def report_lines(report: PreparationReport) -> list[str]:
    """Format the result."""
    plan = report.plan
    lines = [f'{plan.layout} in {plan.out}, as {plan.options.format}:']
    lines += [f'  {split}: {len(pairs)} pairs' for split, pairs in report.pairs.items()]
    return [*lines, *common_lines(plan, report.skipped), *(f'note: {note}' for note in report.notes)]
