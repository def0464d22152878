"""Verify a benchmark on disk and score its blurred images.

Faults are what no published copy has: unreadable images, images without a partner, pairs of two sizes or scenes, mixed
bit depths, duplicates. Warnings are differences that smaller or converted copies may have.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ggkm_plugin.data.archives import names_below
from ggkm_plugin.data.layouts import (
    LAYOUTS,
    Folders,
    Layout,
    Pair,
    detect_layout,
    layout_named,
    matching_faults,
    matching_of,
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
from ggkm_plugin.utils.image_decoding import decode_image, read_bytes, to_float

_SPLITS = ('train', 'val', 'test')
# Pixels. The estimate is off by up to 0.21 on Kodak photographs under disks of up to 10 pixels' radius (see
# tests/data/test_registration.py), and pairs of LFDOF differ by up to 0.48 (parallax).
MAX_SHIFT = 0.75
# Similarity of a pair of one scene: 0.9 and more for defocused Kodak photographs, up to 0.41 for unrelated ones.
_MIN_SIMILARITY = 0.6
# Larger than the differences between protocols.
_PSNR_TOLERANCE, _SSIM_TOLERANCE = 0.05, 0.01


@dataclass(frozen=True)
class ImageFacts:
    """An image that could be read."""

    name: str
    width: int
    height: int
    bits: int
    digest: str  # of its pixels

    @classmethod
    def of(cls, name: str, image: np.ndarray) -> 'ImageFacts':
        """Return the facts about an array (H,W,3), uint8 or uint16."""
        height, width, _ = image.shape
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest()
        return cls(name, width, height, 8 * image.itemsize, digest)


@dataclass
class PairFacts:
    """Facts about a pair, None if unknown, and its faults."""

    lq: ImageFacts | None = None
    gt: ImageFacts | None = None
    psnr: float | None = None
    ssim: float | None = None
    shift: Registration | None = None
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class InputScores:
    """Mean scores of the blurred images against the sharp ones, and the number of pairs."""

    psnr: float
    ssim: float
    pairs: int


@dataclass
class SplitReport:
    """One split. published: number of its defocused images; published_rows: (PSNR, SSIM)."""

    split: str
    place: str
    images: int
    published: int | None
    scenes: int
    sizes: dict[str, int] = field(default_factory=dict)
    bit_depths: dict[int, int] = field(default_factory=dict)
    rows: dict[str, InputScores] = field(default_factory=dict)  # `all`, and of DPDD's test split `indoor`, `outdoor`
    published_rows: list[tuple[float, float]] = field(default_factory=list)
    largest_shift: float | None = None
    pairs: list[PairFacts] = field(default_factory=list)


@dataclass
class VerificationReport:
    dataroot: str
    layout: str
    protocol: str | None
    splits: list[SplitReport] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class SplitImages(NamedTuple):
    """Images of a split by name, or by key of `store`.

    images: number of defocused ones, with or without a partner; of train with those held out.
    """

    place: str
    pairs: list[Pair]
    images: int
    store: LmdbStore | None = None
    unpaired: tuple[str, ...] = ()
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
    input_rows: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> VerificationReport:
    """Check a benchmark in a folder.

    splits: default all that exist; protocol: of the scores, default dpdnet for DPDD and restormer for the others.
    scores: score the test split and named splits. max_shift: largest shift of a pair in pixels. workers: processes;
    each holds one pair at a time. input_rows: published (PSNR, SSIM) of the test split's defocused images by layout.
    Raises DataError if there is no benchmark, OptionError if it has no such split or protocol.
    """
    named = list(splits)
    layout, available = _find_splits(dataroot, layout)
    spec = LAYOUTS[layout]
    for split in named:
        if split not in spec.all_splits:
            raise OptionError(f'split: of {layout} must be one of {", ".join(spec.all_splits)}, not "{split}"')
        if split not in available:
            raise DataError(f'{dataroot}: no split {split} of {layout}. It has {", ".join(available)}')
    protocol = find_protocol(protocol or ('dpdnet' if layout == 'DPDD' else 'restormer')).name
    report = VerificationReport(dataroot, layout, protocol if scores and spec.has_gt else None)
    for split in spec.splits:
        if split not in available and not named:
            report.warnings.append(f'{split}: missing; published with {spec.counts[split]} images')
    for split in named or available:
        images = available[split]
        scored = report.protocol if split in named or split == 'test' else None
        checks = _PairChecks(images, scored, max_shift)
        loader = DataLoader(checks, batch_size=None, num_workers=workers, collate_fn=_identity)
        facts = list(tqdm(loader, desc=split, unit='pair', disable=not progress))
        report.faults += [*images.faults, *(fault for pair in facts for fault in pair.faults)]
        published_rows = list((input_rows or {}).get(layout, ())) if split == 'test' else []
        report.splits.append(_split_report(report, spec, split, available, facts, published_rows))
    _check_bit_depths(report, spec)
    _check_duplicates(report)
    return report


def _identity(item: Any) -> Any:
    return item


# Find the images


def _find_splits(dataroot: str, layout: str) -> tuple[str, dict[str, SplitImages]]:
    """Return the layout, and the images of each split that exists, from its database or else its folders."""
    if layout != 'auto':
        layout_named(layout)
    stores = {split: LmdbStore(str(path)) for split in _SPLITS if (path := Path(dataroot, f'{split}.lmdb')).is_dir()}
    if stores:
        return _splits_of_databases(dataroot, layout, stores)
    layout = detect_layout(dataroot) if layout == 'auto' else layout
    spec, root = LAYOUTS[layout], str(Path(dataroot))
    paths = [f'{root}/{name}' for name in names_below(Path(root))]
    found = {}
    for split, choices in spec.splits.items():
        # Inputs without the folder of sharp images are this split, too: all of them lack their partner.
        in_order = sorted(choices, key=lambda folders: not Path(dataroot, folders.gt or '').is_dir())
        candidates = (_split_of_folders(root, paths, folders) for folders in in_order)
        images = next((candidate for candidate in candidates if candidate.images), None)
        if images is None:
            continue
        for part in [split, spec.held_out] if split == 'train' and spec.held_out else [split]:
            found[part] = images._replace(pairs=pairs_of_split(images.pairs, layout, part))
            images = images._replace(unpaired=(), faults=())  # reported once
    if not found:
        raise DataError(f'{dataroot}: not laid out as {layout}. Name the folder that it was unpacked into')
    return layout, {split: found[split] for split in _SPLITS if split in found}


def _splits_of_databases(
    dataroot: str, layout: str, stores: dict[str, LmdbStore]
) -> tuple[str, dict[str, SplitImages]]:
    layouts = {str(store.about.get('layout')) for store in stores.values()}
    if layout == 'auto' and len(layouts) == 1 and layouts <= set(LAYOUTS):
        layout = layouts.pop()
    elif layouts != {layout}:
        raise DataError(f'{dataroot}: its databases are of {", ".join(sorted(layouts))}, not of one {layout}')
    found = {split: SplitImages(store.path, store.pairs, len(store.pairs), store) for split, store in stores.items()}
    held_out = found.get(str(layout_named(layout).held_out))
    if held_out and 'train' in found:
        found['train'] = found['train']._replace(images=found['train'].images + held_out.images)
    return layout, found


def _split_of_folders(root: str, paths: list[str], folders: Folders) -> SplitImages:
    found = matching_of(paths, f'{root}/', folders)
    faults = matching_faults(found, f'{root}/{folders.lq}', f'{root}/{folders.gt}', folders.pairing)
    count, unpaired = len(found.pairs) + len(found.unpaired_lq), (*found.unpaired_lq, *found.unpaired_gt)
    return SplitImages(f'{root}/{folders.lq}', found.pairs, count, unpaired=unpaired, faults=tuple(faults))


# Check pairs


class _PairChecks(Dataset):
    """Facts about the pairs of a split, then about the images without a partner."""

    def __init__(self, images: SplitImages, protocol: str | None, max_shift: float) -> None:
        self.pairs = [*images.pairs, *(Pair(name, None) for name in images.unpaired)]
        self.store, self.protocol, self.max_shift = images.store, protocol, max_shift

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> PairFacts:
        facts = PairFacts()
        images = []
        for side, name in zip(('lq', 'gt'), self.pairs[index], strict=True):
            if name is None:
                continue
            try:
                image_facts, image = self._read(name)
            except DataError as error:
                facts.faults.append(str(error))
                continue
            setattr(facts, side, image_facts)
            images.append(image)
        if facts.lq and facts.gt:
            fault = self._compare(facts, *images)
            facts.faults += [f'{facts.lq.name} and its partner {facts.gt.name} {fault}'] if fault else []
        return facts

    def _read(self, name: str) -> tuple[ImageFacts, np.ndarray]:
        if self.store is None:
            image = decode_image(read_bytes(name), name)
            return ImageFacts.of(name, image), image
        self.store.check(name)
        image = self.store.image(name)[:, :]
        return ImageFacts.of(f'{self.store.path}/{name}', image), image

    def _compare(self, facts: PairFacts, lq: np.ndarray, gt: np.ndarray) -> str | None:
        """Add shift and scores to the facts. Returns the fault of the pair."""
        assert facts.lq is not None
        assert facts.gt is not None
        if lq.shape != gt.shape:
            sizes = f'{lq.shape[1]}x{lq.shape[0]} and {gt.shape[1]}x{gt.shape[0]}'
            return f'are {sizes}: both images of a pair have one size. Replace or remove them'
        if facts.lq.digest == facts.gt.digest:
            return 'are the same image. Put the defocused one in its place'
        if self.protocol is not None:
            x, y = (to_tensor(to_float(image)) for image in (lq, gt))
            facts.psnr, facts.ssim = (metric(x, y, self.protocol) for metric in (defocus_psnr, defocus_ssim))
        facts.shift = shift = registration(lq, gt)
        if shift and shift.likeness < _MIN_SIMILARITY:
            return (
                f'do not show the same scene (similarity {shift.likeness:.2f}, needed {_MIN_SIMILARITY}). '
                'Look for a missing image, after which the pairs are in disorder'
            )
        if shift and shift.distance > self.max_shift:
            return (
                f'are shifted by {shift.distance:.2f} px ({shift.rows:+.2f} down, {shift.columns:+.2f} right), more '
                f'than {self.max_shift:g}. Align or remove them, or allow more with --max-shift'
            )
        return None


# Summarize


def _images(facts: Iterable[PairFacts]) -> Iterator[ImageFacts]:
    """Yield each image once; pairs may share a sharp one."""
    yield from {image.name: image for pair in facts for image in (pair.lq, pair.gt) if image}.values()


def _split_report(
    report: VerificationReport,
    spec: Layout,
    split: str,
    available: dict[str, SplitImages],
    facts: list[PairFacts],
    published_rows: list[tuple[float, float]],
) -> SplitReport:
    images, published = available[split], spec.counts.get(split)
    scenes = len({pair.gt for pair in images.pairs if pair.gt})
    result = SplitReport(
        split, images.place, len(images.pairs), published, scenes, published_rows=published_rows, pairs=facts
    )
    if published is not None and images.images != published:
        included = f' ({spec.held_out} included)' if split == 'train' and spec.held_out in available else ''
        report.warnings.append(f'{split}: {images.images} images{included}; published with {published}')
    result.sizes = dict(Counter(f'{image.width}x{image.height}' for image in _images(facts)))
    result.bit_depths = dict(Counter(image.bits for image in _images(facts)))
    size = '{}x{}'.format(*spec.size) if spec.size else None
    other = sorted(result.sizes.keys() - {size}) if size else []
    if other:
        report.warnings.append(f'{split}: images of {listed(other)}; published with {size}')
    result.largest_shift = max((pair.shift.distance for pair in facts if pair.shift), default=None)
    _score(report, result, images)
    return result


def _score(report: VerificationReport, split: SplitReport, images: SplitImages) -> None:
    """Fill in the Input rows. Warn if that of a complete split differs from the published ones."""
    scored = {pair.lq.name: pair for pair in split.pairs if pair.lq and pair.psnr is not None}
    parts: dict[str, list[str]] = {'all': list(scored)}
    if report.layout == 'DPDD' and split.split == 'test':
        names = [pair.lq if images.store is None else f'{images.place}/{pair.lq}' for pair in images.pairs]
        try:
            parts.update(scene_kinds(report.dataroot, names) or {})
        except DataError as error:
            report.faults.append(str(error))
    for part, names in parts.items():
        pairs = [scored[name] for name in names if name in scored]
        if pairs:
            psnr, ssim = (float(np.mean([getattr(pair, key) for pair in pairs])) for key in ('psnr', 'ssim'))
            split.rows[part] = InputScores(psnr, ssim, len(pairs))
    row = split.rows.get('all')
    if row is None or images.images != split.published or not split.published_rows:
        return
    if not any(
        abs(row.psnr - psnr) <= _PSNR_TOLERANCE and abs(row.ssim - ssim) <= _SSIM_TOLERANCE
        for psnr, ssim in split.published_rows
    ):
        rows = ' or '.join(f'{psnr:.3f} dB / {ssim:.3f}' for psnr, ssim in split.published_rows)
        report.warnings.append(
            f'{split.split}: the Input row is {row.psnr:.3f} dB / {row.ssim:.3f} under {report.protocol}, published '
            f'as {rows}: another version of the data set, or images in another order'
        )


def _check_bit_depths(report: VerificationReport, spec: Layout) -> None:
    by_depth = defaultdict(list)
    for split in report.splits:
        for image in _images(split.pairs):
            by_depth[image.bits].append(image.name)
    if len(by_depth) > 1:
        few = min(by_depth, key=lambda bits: len(by_depth[bits]))
        most = max(by_depth, key=lambda bits: len(by_depth[bits]))
        report.faults.append(
            f'{report.dataroot}: {len(by_depth[few])} images of {few} bits among {len(by_depth[most])} of {most}: '
            f'{listed(by_depth[few])}. Take all of them from one source'
        )
    for bits in by_depth.keys() - {spec.bit_depth}:
        report.warnings.append(f'{bits} bits; published with {spec.bit_depth}')


def _check_duplicates(report: VerificationReport) -> None:
    """Find equal pixels under several names. Copies of a scene's sharp image are allowed, as in mirrors of LFDOF."""
    places: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)  # digest: name: split, what must differ
    for split in report.splits:
        for pair in split.pairs:
            if pair.lq:
                places[pair.lq.digest][pair.lq.name] = split.split, pair.lq.name
            if pair.gt and not (pair.lq and pair.lq.digest == pair.gt.digest):  # already a fault of the pair
                places[pair.gt.digest][pair.gt.name] = split.split, f'sharp {scene_of(pair.gt.name)}'
    for names in places.values():
        if len(set(names.values())) > 1:
            texts = [f'{name} ({split})' for name, (split, _) in names.items()]
            where = 'in several splits' if len({split for split, _ in names.values()}) > 1 else 'twice in one split'
            report.faults.append(f'one image {where}: {listed(texts)}. Remove all but one, with its partner')
