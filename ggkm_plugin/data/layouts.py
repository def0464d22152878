"""The five benchmarks as their authors distribute them, as one table, and how files become pairs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ggkm_plugin.data.decoding import image_files
from ggkm_plugin.errors import DataError, OptionError, listed


class Pair(NamedTuple):
    """A defocused image and its sharp counterpart (None where a set has none)."""

    lq: str
    gt: str | None


@dataclass(frozen=True)
class Layout:
    """Where a benchmark keeps its images below its root, and which belong together."""

    splits: dict[str, tuple[tuple[str, str | None], ...]]  # split: (defocused, sharp folder), older mirrors after
    pairing: str  # a key of PAIRINGS
    held_out: str | None = None  # a split made of the last scenes of `train`, where the authors gave none
    note: str = ''


LAYOUTS: dict[str, Layout] = {
    'DPDD': Layout(
        {
            split: ((f'{split}_c/source', f'{split}_c/target'), (f'{split}/inputC', f'{split}/target'))
            for split in ('train', 'val', 'test')
        },
        pairing='sorted',
        note='file names of source and target differ, so pairs are formed in sorted order',
    ),
    'LFDOF': Layout(
        {split: ((f'{split}_data/input', f'{split}_data/ground_truth'),) for split in ('train', 'test')},
        pairing='scene',
        held_out='val',
        note='input/SCENE/*.png belong to ground_truth/SCENE.png; `val` is the last 40 of 790 training scenes',
    ),
    'RealDOF': Layout({'test': (('source', 'target'),)}, pairing='name'),
    'RTF': Layout({'test': (('image/0', 'GT'), ('RTFDataset/image/0', 'RTFDataset/GT'))}, pairing='number'),
    'CUHK': Layout({'test': (('image', None),)}, pairing='none', note='blur masks only, no sharp images'),
}

# 40 of LFDOF's 790 training scenes; a smaller tree holds out the same share.
_HELD_OUT_SHARE = 40 / 790


def _number(path: str) -> str:
    digits = re.findall(r'\d+', Path(path).stem)
    return str(int(digits[-1])) if digits else Path(path).stem


def _stem(path: str) -> str:
    return Path(path).stem


# Keys of a defocused and of a sharp file that are equal if they belong together.
PAIRINGS: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    'name': (_stem, _stem),
    'number': (_number, _number),
    'scene': (lambda path: Path(path).parent.name, _stem),
}


def pairs_in_folders(lq_folder: str, gt_folder: str, pairing: str = 'name') -> list[Pair]:
    """Pairs of two folders, sorted by the defocused file. Several defocused files may share a sharp one.

    `pairing`: name (equal stems), number (equal last numbers), scene (the subfolder is the sharp file's stem) or
    sorted (one to one, in sorted order). Raises DataError naming files that lack their partner, OptionError for
    another pairing.
    """
    if pairing != 'sorted' and pairing not in PAIRINGS:
        raise OptionError(f'pairing is one of sorted, {", ".join(PAIRINGS)}, not {pairing!r}')
    lq_paths = image_files(lq_folder, recursive=pairing == 'scene')
    gt_paths = image_files(gt_folder)
    if pairing == 'sorted':
        if len(lq_paths) != len(gt_paths):
            raise DataError(
                f'{len(lq_paths)} images in {lq_folder} but {len(gt_paths)} in {gt_folder}: pairs are formed in sorted '
                'order, so the folders must hold equally many; add what is missing or remove what is too many'
            )
        return [Pair(*pair) for pair in zip(lq_paths, gt_paths, strict=True)]
    lq_key, gt_key = PAIRINGS[pairing]
    sharp = {gt_key(path): path for path in gt_paths}
    twins = [Path(path).name for path in gt_paths if sharp[gt_key(path)] != path]
    if twins:
        raise DataError(
            f'{gt_folder}: several images of one name (pairing: {pairing}): {listed(twins)}; keep one of each'
        )
    lonely = [path for path in lq_paths if lq_key(path) not in sharp]
    if lonely:
        raise DataError(
            f'{len(lonely)} of {len(lq_paths)} images in {lq_folder} have no partner in {gt_folder} (pairing: '
            f'{pairing}): {listed([Path(path).name for path in lonely])}. Add the partners, remove these files, or '
            'set `pairing: sorted` if both folders are in the same order'
        )
    used = {lq_key(path) for path in lq_paths}
    spare = [Path(path).name for key, path in sharp.items() if key not in used]
    if spare:
        raise DataError(
            f'{len(spare)} of {len(gt_paths)} images in {gt_folder} have no partner in {lq_folder} (pairing: '
            f'{pairing}): {listed(spare)}. Add the partners or remove these files'
        )
    return [Pair(path, sharp[lq_key(path)]) for path in lq_paths]


def pairs_of_layout(dataroot: str, layout: str, split: str) -> list[Pair]:
    """All pairs of a benchmark's split below `dataroot`. Raises OptionError or DataError, saying what was expected."""
    if layout not in LAYOUTS:
        raise OptionError(f'layout is one of {", ".join(LAYOUTS)}, not {layout!r}')
    spec = LAYOUTS[layout]
    splits = [*spec.splits, *([spec.held_out] if spec.held_out else [])]
    if split not in splits:
        raise OptionError(f'split of {layout} is one of {", ".join(splits)}, not {split!r}')
    source = 'train' if split == spec.held_out else split
    lq_folder, gt_folder = _existing_folders(Path(dataroot), layout, spec.splits[source])
    if gt_folder is None:
        return [Pair(path, None) for path in image_files(lq_folder)]
    pairs = pairs_in_folders(lq_folder, gt_folder, spec.pairing)
    if spec.held_out and source == 'train':
        scenes = sorted({str(pair.gt) for pair in pairs})
        held_out = set(scenes[-max(1, round(len(scenes) * _HELD_OUT_SHARE)) :])
        pairs = [pair for pair in pairs if (pair.gt in held_out) == (split == spec.held_out)]
        if not pairs:
            raise DataError(f'{lq_folder}: only {len(scenes)} scene, which the split `{spec.held_out}` takes')
    return pairs


def _existing_folders(root: Path, layout: str, choices: tuple[tuple[str, str | None], ...]) -> tuple[str, str | None]:
    if not root.is_dir():
        raise DataError(f'{root}: no such folder; set dataroot to the folder that {layout} was unpacked into')
    for lq, gt in choices:
        if (root / lq).is_dir() and (gt is None or (root / gt).is_dir()):
            return str(root / lq), None if gt is None else str(root / gt)
    expected = ', or '.join(lq if gt is None else f'{lq} and {gt}' for lq, gt in choices)
    raise DataError(f'{root}: not laid out as {layout}: expected the folders {expected} in it')
