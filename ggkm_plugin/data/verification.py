"""What is wrong with a benchmark on disk, and how its blurred images score: all of it, as data.

Faults are what no published copy has: unreadable images, images without partner, pairs of two sizes or of two scenes,
mixed bit depths, one image in two places. Warnings are what a smaller or converted copy may have.
"""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ggkm_plugin.data.layouts import (
    LAYOUTS,
    Folders,
    Layout,
    Pair,
    detect_layout,
    layout_named,
    match_names,
    pairs_of_split,
    scene_kinds,
    scene_of,
)
from ggkm_plugin.data.lmdb_store import LmdbStore
from ggkm_plugin.data.registration import Registration, registration
from ggkm_plugin.data.sampling import to_tensor
from ggkm_plugin.metrics.defocus_metrics import defocus_psnr, defocus_ssim
from ggkm_plugin.metrics.protocols import find_protocol
from ggkm_plugin.utils.errors import DataError, OptionError, listed
from ggkm_plugin.utils.image_decoding import decode_image, image_files, read_bytes, to_float

_SPLITS = ('train', 'val', 'test')
# Pixels. The estimate errs by up to 0.21 on Kodak photographs under disks of up to 10 pixels' radius (see
# tests/data/test_registration.py), and LFDOF's own pairs differ by up to 0.48: parallax.
MAX_SHIFT = 0.75
# Below it a pair does not show one scene: defocused Kodak photographs have 0.9 and more, unrelated ones up to 0.41.
_MIN_LIKENESS = 0.6
# Further from the published Input row than the protocols are from one another.
_PSNR_TOLERANCE, _SSIM_TOLERANCE = 0.05, 0.01


@dataclass(frozen=True)
class ImageFacts:
    """An image that could be read. `digest` is of its pixels; `note` of what its name belies."""

    name: str
    width: int
    height: int
    bits: int
    digest: str
    note: str | None = None


@dataclass
class PairFacts:
    """What one pair is like, None where it cannot be told, and its faults."""

    lq: ImageFacts | None = None
    gt: ImageFacts | None = None
    psnr: float | None = None
    ssim: float | None = None
    shift: Registration | None = None
    faults: list[str] = field(default_factory=list)


class Row(NamedTuple):
    """Mean scores of the blurred images against the sharp ones, and of how many pairs."""

    psnr: float
    ssim: float
    pairs: int


@dataclass
class SplitReport:
    """One split. `published` counts its defocused images, `published_rows` are (PSNR, SSIM)."""

    split: str
    place: str
    images: int
    published: int | None
    scenes: int
    sizes: dict[str, int] = field(default_factory=dict)
    bit_depths: dict[int, int] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)  # `all`, and of DPDD's test images `indoor`, `outdoor`
    published_rows: list[tuple[float, float]] = field(default_factory=list)
    largest_shift: float | None = None
    pairs: list[PairFacts] = field(default_factory=list)


@dataclass
class Report:
    dataroot: str
    layout: str
    protocol: str | None
    splits: list[SplitReport] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Tree(NamedTuple):
    """The images of a split, by name, before any is read. `store`: the database that they are keys of.

    `images`: how many defocused ones there are, with or without partner; of train with those held out of it.
    """

    place: str
    pairs: list[Pair]
    images: int
    store: LmdbStore | None = None
    alone: tuple[str, ...] = ()  # images without partner
    faults: tuple[str, ...] = ()


def verify(
    dataroot: str,
    layout: str = 'auto',
    splits: Iterable[str] = (),
    protocol: str | None = None,
    scores: bool = True,
    max_shift: float = MAX_SHIFT,
    workers: int = 0,
    progress: bool = False,
) -> Report:
    """Check the benchmark in a folder: `splits` of it, by default all that are there.

    `protocol`: of the scores, by default dpdnet for DPDD and restormer for the others; with `scores`, the splits are
    scored that have a published row or are named. `max_shift`: pixels that a pair may be shifted by. `workers`:
    processes; each holds one pair at a time. Raises DataError if no benchmark is there, OptionError if it has no such
    split or protocol.
    """
    asked_for = list(splits)
    layout, trees = _trees(dataroot, layout)
    spec = LAYOUTS[layout]
    wanted = asked_for or list(trees)
    for split in wanted:
        if split not in spec.all_splits:
            raise OptionError(f'split of {layout} is one of {", ".join(spec.all_splits)}, not {split!r}')
        if split not in trees:
            raise DataError(f'{dataroot}: there is no split {split} of {layout}, but {", ".join(trees)}')
    protocol = find_protocol(protocol or ('dpdnet' if layout == 'DPDD' else 'restormer')).name
    report = Report(dataroot, layout, protocol if scores and spec.has_gt else None)
    for split in spec.splits:
        if split not in trees and not asked_for:
            report.warnings.append(f'{split}: not there; published with {spec.counts[split]} images')
    for split in wanted:
        tree = trees[split]
        scored = report.protocol if split in asked_for or split in spec.input_rows else None
        facts = _facts(tree, scored, max_shift, workers, split if progress else None)
        report.faults += [*tree.faults, *(fault for pair in facts for fault in pair.faults)]
        report.splits.append(_split_report(report, spec, split, trees, facts))
    _check_bit_depths(report, spec)
    _check_duplicates(report)
    return report


# Which images there are


def _trees(dataroot: str, layout: str) -> tuple[str, dict[str, Tree]]:
    """The layout, and the images of each split that is there: its database, or else its folders."""
    if layout != 'auto':
        layout_named(layout)
    stores = {split: LmdbStore(str(path)) for split in _SPLITS if (path := Path(dataroot, f'{split}.lmdb')).is_dir()}
    if stores:
        made_of = {str(store.about.get('layout')) for store in stores.values()}
        if layout == 'auto' and len(made_of) == 1 and made_of <= set(LAYOUTS):
            layout = made_of.pop()
        elif made_of != {layout}:
            raise DataError(f'{dataroot}: its databases were made of {", ".join(sorted(made_of))}, not of one {layout}')
        trees = {split: Tree(store.path, store.pairs, len(store.pairs), store) for split, store in stores.items()}
        held_out = trees.get(str(layout_named(layout).held_out))
        if held_out and 'train' in trees:
            trees['train'] = trees['train']._replace(images=trees['train'].images + held_out.images)
        return layout, trees
    layout = detect_layout(dataroot) if layout == 'auto' else layout
    spec = LAYOUTS[layout]
    trees = {}
    for split, choices in spec.splits.items():
        # Inputs whose sharp folder is gone are still the split: all of them lack their partner.
        in_order = sorted(choices, key=lambda folders: not Path(dataroot, folders.gt or '').is_dir())
        tree = next((tree for folders in in_order if (tree := _folder_tree(dataroot, folders))), None)
        if tree is None:
            continue
        parts = [split, spec.held_out] if split == 'train' and spec.held_out else [split]
        for part in parts:
            trees[part] = tree._replace(pairs=pairs_of_split(tree.pairs, layout, part))
            tree = tree._replace(alone=(), faults=())  # told once
    if not trees:
        raise DataError(f'{dataroot}: not laid out as {layout}; name the folder that it was unpacked into')
    return layout, {split: trees[split] for split in _SPLITS if split in trees}


def _folder_tree(dataroot: str, folders: Folders) -> Tree | None:
    """What lies in a split's folders; None if the folder of defocused images is missing or empty."""
    lq_folder = Path(dataroot, folders.lq)
    gt_folder = None if folders.gt is None else Path(dataroot, folders.gt)
    lq_names = [n for n in _names(lq_folder, folders.pairing == 'scene') if n.startswith(folders.starts_with)]
    if not lq_names:
        return None
    gt_names = [] if gt_folder is None else _names(gt_folder)
    found = match_names(lq_names, gt_names, folders.pairing)
    faults = []
    for folder, others, alone in ((lq_folder, gt_folder, found.lonely), (gt_folder, lq_folder, found.spare)):
        if alone:
            faults.append(
                f'{folder}: {len(alone)} images without a partner in {others} (pairing: {folders.pairing}): '
                f'{listed(alone)}; add the partners or remove these'
            )
    if found.twins:
        faults.append(f'{gt_folder}: several images of one name: {listed(found.twins)}; keep one of each')
    return Tree(
        str(lq_folder),
        [Pair(str(lq_folder / lq), None if gt is None else str(Path(str(gt_folder), gt))) for lq, gt in found.pairs],
        len(lq_names),
        alone=tuple(
            f'{folder}/{n}' for folder, ns in ((lq_folder, found.lonely), (gt_folder, found.spare)) for n in ns
        ),
        faults=tuple(faults),
    )


def _names(folder: Path, recursive: bool = False) -> list[str]:
    try:
        return [Path(path).relative_to(folder).as_posix() for path in image_files(str(folder), recursive)]
    except DataError:
        return []


# What each is like


class _Checks(Dataset):
    """The facts of a split's pairs, then of the images alone; what one worker does at a time."""

    def __init__(self, tree: Tree, protocol: str | None, max_shift: float) -> None:
        self.pairs = [*tree.pairs, *(Pair(name, None) for name in tree.alone)]
        self.store, self.protocol, self.max_shift = tree.store, protocol, max_shift

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> PairFacts:
        names, facts = self.pairs[index], PairFacts()
        images = []
        for side, name in zip(('lq', 'gt'), names, strict=True):
            if name is None:
                continue
            try:
                image, note = self._read(name)
            except DataError as error:
                facts.faults.append(str(error))
                continue
            height, width, _ = image.shape
            digest = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
            setattr(facts, side, ImageFacts(self._shown(name), width, height, 8 * image.itemsize, digest, note))
            images.append(image)
        if len(images) == 2:
            self._compare(facts, *images)
        return facts

    def _read(self, name: str) -> tuple[np.ndarray, str | None]:
        if self.store is not None:
            self.store.check(name)
            return self.store.image(name)[:, :], None
        content = read_bytes(name)
        return decode_image(content, name), _belied(content, name)

    def _shown(self, name: str) -> str:
        return name if self.store is None else f'{self.store.path}/{name}'

    def _compare(self, facts: PairFacts, lq: np.ndarray, gt: np.ndarray) -> None:
        assert facts.lq is not None
        assert facts.gt is not None
        both = f'{facts.lq.name} and its partner {facts.gt.name}'
        if lq.shape != gt.shape:
            sizes = f'{lq.shape[1]}x{lq.shape[0]} and {gt.shape[1]}x{gt.shape[0]}'
            facts.faults.append(f'{both} are {sizes}: both images of a pair have one size; replace or remove them')
            return
        if facts.lq.digest == facts.gt.digest:
            facts.faults.append(f'{both} are the same image; put the defocused one in its place')
            return
        facts.shift = registration(lq, gt)
        if facts.shift and facts.shift.likeness < _MIN_LIKENESS:
            facts.faults.append(
                f'{both} do not show the same scene (likeness {facts.shift.likeness:.2f}, at least {_MIN_LIKENESS} '
                'in a pair): look for a missing image, after which the pairs are in disorder'
            )
        elif facts.shift and facts.shift.distance > self.max_shift:
            facts.faults.append(
                f'{both} are shifted by {facts.shift.distance:.2f} px ({facts.shift.rows:+.2f} down, '
                f'{facts.shift.columns:+.2f} right), more than {self.max_shift:g}: align them, remove them or allow '
                'more with --max-shift'
            )
        if self.protocol is not None:
            x, y = (to_tensor(to_float(image)) for image in (lq, gt))
            facts.psnr, facts.ssim = (metric(x, y, self.protocol) for metric in (defocus_psnr, defocus_ssim))


def _belied(content: bytes, name: str) -> str | None:
    """What a file is, if its suffix says something else."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = image.format
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None  # OpenCV reads it, Pillow does not
    says = Image.registered_extensions().get(Path(name).suffix.lower())
    kind = 'JPEG' if kind == 'MPO' else kind  # what cameras write with the suffix .jpg
    return None if kind == says else f'{name}: holds {kind}, though its name says {says}'


def _facts(tree: Tree, protocol: str | None, max_shift: float, workers: int, bar: str | None) -> list[PairFacts]:
    checks = _Checks(tree, protocol, max_shift)
    loader = DataLoader(checks, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    return list(tqdm(loader, desc=bar, unit='pair', disable=bar is None))


def _as_it_is(facts: Any) -> Any:
    return facts


# What they are together


def _images(facts: Iterable[PairFacts]) -> Iterator[ImageFacts]:
    """Each once, though pairs may share a sharp one."""
    yield from {image.name: image for pair in facts for image in (pair.lq, pair.gt) if image}.values()


def _split_report(
    report: Report, spec: Layout, split: str, trees: dict[str, Tree], facts: list[PairFacts]
) -> SplitReport:
    tree = trees[split]
    published = spec.counts.get(split)
    scenes = len({pair.gt for pair in tree.pairs if pair.gt})
    result = SplitReport(split, tree.place, len(tree.pairs), published, scenes, pairs=facts)
    if published is not None and tree.images != published:
        included = f' ({spec.held_out} included)' if split == 'train' and spec.held_out in trees else ''
        report.warnings.append(f'{split}: {tree.images} images{included}; published with {published}')
    result.sizes = dict(Counter(f'{image.width}x{image.height}' for image in _images(facts)))
    result.bit_depths = dict(Counter(image.bits for image in _images(facts)))
    size = '{}x{}'.format(*spec.size) if spec.size else None
    other = sorted(result.sizes.keys() - {size}) if size else []
    if other:
        report.warnings.append(f'{split}: images of {listed(other)}; published with {size}')
    report.notes += [image.note for image in _images(facts) if image.note]
    result.largest_shift = max((pair.shift.distance for pair in facts if pair.shift), default=None)
    _score(report, spec, result, tree, complete=tree.images == published)
    return result


def _score(report: Report, spec: Layout, split: SplitReport, tree: Tree, complete: bool) -> None:
    """Fill in the Input rows, and warn if that of a complete split is far from the published ones."""
    scored = {pair.lq.name: pair for pair in split.pairs if pair.lq and pair.psnr is not None}
    parts: dict[str, list[str]] = {'all': list(scored)}
    if report.layout == 'DPDD' and split.split == 'test':
        names = [pair.lq if tree.store is None else f'{tree.place}/{pair.lq}' for pair in tree.pairs]
        try:
            parts.update(scene_kinds(report.dataroot, names) or {})
        except DataError as error:
            report.faults.append(str(error))
    for part, names in parts.items():
        pairs = [scored[name] for name in names if name in scored]
        if pairs:
            psnr, ssim = (float(np.mean([getattr(pair, key) for pair in pairs])) for key in ('psnr', 'ssim'))
            split.rows[part] = Row(psnr, ssim, len(pairs))
    split.published_rows = [(row.psnr, row.ssim) for row in spec.input_rows.get(split.split, ())]
    row = split.rows.get('all')
    if (
        row
        and complete
        and split.published_rows
        and not any(
            abs(row.psnr - psnr) <= _PSNR_TOLERANCE and abs(row.ssim - ssim) <= _SSIM_TOLERANCE
            for psnr, ssim in split.published_rows
        )
    ):
        rows = ' or '.join(f'{psnr:.3f} dB / {ssim:.3f}' for psnr, ssim in split.published_rows)
        report.warnings.append(
            f'{split.split}: the Input row, {row.psnr:.3f} dB / {row.ssim:.3f} under {report.protocol}, is not the '
            f'published one, {rows}: another version of the set, or images in another order'
        )


def _check_bit_depths(report: Report, spec: Layout) -> None:
    by_depth = defaultdict(list)
    for split in report.splits:
        for image in _images(split.pairs):
            by_depth[image.bits].append(image.name)
    if len(by_depth) > 1:
        few = min(by_depth, key=lambda bits: len(by_depth[bits]))
        most = max(by_depth, key=lambda bits: len(by_depth[bits]))
        report.faults.append(
            f'{report.dataroot}: {len(by_depth[few])} images of {few} bits among {len(by_depth[most])} of {most}: '
            f'{listed(by_depth[few])}; get all of them from one source'
        )
    for bits in by_depth.keys() - {spec.bit_depths[0]}:
        report.warnings.append(f'{bits} bits; published with {spec.bit_depths[0]}')


def _check_duplicates(report: Report) -> None:
    """Equal pixels under several names; a set may keep copies of a scene's sharp image, as mirrors of LFDOF do."""
    places: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)  # digest: name: split, what must differ
    for split in report.splits:
        for pair in split.pairs:
            if pair.lq:
                places[pair.lq.digest][pair.lq.name] = split.split, pair.lq.name
            if pair.gt and not (pair.lq and pair.lq.digest == pair.gt.digest):  # a fault of the pair, told there
                places[pair.gt.digest][pair.gt.name] = split.split, f'sharp {scene_of(pair.gt.name)}'
    for names in places.values():
        if len(set(names.values())) > 1:
            told = [f'{name} ({split})' for name, (split, _) in names.items()]
            between = 'in several splits' if len({split for split, _ in names.values()}) > 1 else 'twice in one split'
            report.faults.append(f'one image {between}: {listed(told)}; remove all but one, with its partner')


def as_json(report: Report) -> dict[str, Any]:
    """The whole report in types of JSON."""
    content = asdict(report)
    for split in content['splits']:
        split['rows'] = {part: row._asdict() for part, row in split['rows'].items()}
        for pair in split['pairs']:
            pair['shift'] = pair['shift'] and pair['shift']._asdict()
    return content
