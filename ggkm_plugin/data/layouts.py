"""The five benchmarks as their authors distribute them, as one table, and how files become pairs."""

import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ggkm_plugin.data.archives import names_below
from ggkm_plugin.utils.errors import DataError, OptionError, listed
from ggkm_plugin.utils.image_decoding import IMAGE_SUFFIXES, image_files


class Pair(NamedTuple):
    """A defocused image and its sharp counterpart (None where a set has none)."""

    lq: str
    gt: str | None


class Folders(NamedTuple):
    """One place of a split below the root, and how files in it pair."""

    lq: str
    gt: str | None
    pairing: str  # sorted, none, or a key of PAIRINGS
    starts_with: str = ''  # of the defocused files' names; others in the folder are no part of the set


@dataclass(frozen=True)
class Layout:
    """Where a benchmark keeps its images below its root, which belong together, and what it should hold."""

    splits: dict[str, tuple[Folders, ...]]  # the authors' folders first, then those of mirrors
    counts: dict[str, int]  # defocused images as published; a train split before any is held out of it
    bit_depths: tuple[int, ...] = (8,)  # as distributed, then what else circulates
    size: tuple[int, int] | None = None  # width, height where all images have one
    scenes: dict[str, int] = field(default_factory=dict)  # sharp images, where several inputs share one
    held_out: str | None = None  # a split made of the last scenes of `train`, where the authors gave none
    masks: str | None = None  # beside the images' folder, one of blur masks by the images' names
    note: str = ''

    @property
    def has_gt(self) -> bool:
        return all(folders.gt is not None for choices in self.splits.values() for folders in choices)

    @property
    def all_splits(self) -> list[str]:
        return [*self.splits, *([self.held_out] if self.held_out else [])]


# A tree without a folder of its split's name is taken for test images: to train on test images by mistake is worse
# than not to train. The same folders are common in other sets, hence the names.
_BARE_LFDOF = {'test': tuple(Folders('input', sharp, 'scene', 'IMG_') for sharp in ('ground_truth', 'target'))}

LAYOUTS: dict[str, Layout] = {
    'DPDD': Layout(
        {
            split: (
                Folders(f'{split}_c/source', f'{split}_c/target', 'sorted'),
                Folders(f'{split}/inputC', f'{split}/target', 'sorted'),  # Restormer's mirror
            )
            for split in ('train', 'val', 'test')
        },
        counts={'train': 350, 'val': 74, 'test': 76},
        bit_depths=(16, 8),
        size=(1680, 1120),
        note='file names of source and target differ, so pairs are formed in sorted order',
    ),
    'LFDOF': Layout(
        {
            split: tuple(
                Folders(f'{folder}/input', f'{folder}/{sharp}', 'scene')
                for folder in (f'{split}_data', split)
                for sharp in ('ground_truth', 'target')
            )
            + _BARE_LFDOF.get(split, ())
            for split in ('train', 'test')
        },
        counts={'train': 11261, 'test': 725},
        size=(1008, 688),
        scenes={'train': 790, 'test': 50},
        held_out='val',
        note='input/SCENE/*.png belong to ground_truth/SCENE.png; `val` is the last 40 of 790 training scenes',
    ),
    'RealDOF': Layout(
        {'test': (Folders('source', 'target', 'name'),)},
        counts={'test': 50},
    ),
    'RTF': Layout(
        {
            'test': (
                Folders('image/0', 'GT', 'number'),
                Folders('RTFDataset/image/0', 'RTFDataset/GT', 'number'),
            )
        },
        counts={'test': 22},
        size=(360, 360),
    ),
    'CUHK': Layout(
        {'test': (Folders('image', None, 'none', starts_with='out_of_focus'),)},
        counts={'test': 704},
        masks='gt',
        note='blur masks only, no sharp images',
    ),
}

# 40 of LFDOF's 790 training scenes; a smaller tree holds out the same share.
_HELD_OUT_SHARE = 40 / 790


def _number(name: str) -> str:
    digits = re.findall(r'\d+', PurePosixPath(name).stem)
    return str(int(digits[-1])) if digits else PurePosixPath(name).stem


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def scene_of(name: str) -> str:
    """The scene of an LFDOF image: its name without suffix and aperture, `IMG_1` of `input/IMG_1_ap2_07.png`."""
    return re.sub(r'_ap\d+(_\d+)?$', '', _stem(name))


# What a defocused file may call its sharp one, best first, and what the sharp file is called; names are relative to
# their folder. A scene is the subfolder (as distributed), the name before `_ap` or, where a mirror keeps a copy of the
# sharp image for each input, the equal name.
PAIRINGS: dict[str, tuple[Callable[[str], tuple[str, ...]], Callable[[str], str]]] = {
    'name': (lambda name: (_stem(name),), _stem),
    'number': (lambda name: (_number(name),), _number),
    'scene': (lambda name: (PurePosixPath(name).parent.name, scene_of(name), _stem(name)), _stem),
}


class Matching(NamedTuple):
    """Which names of two folders belong together, and which are left over."""

    pairs: list[Pair]
    lonely: list[str]  # defocused without a sharp one
    spare: list[str]  # sharp without a defocused one
    twins: list[str]  # sharp, of a name that another has too


def match_names(lq_names: Iterable[str], gt_names: Iterable[str], pairing: str) -> Matching:
    """Pairs of the names in two folders, sorted by the defocused one. In unequal numbers `sorted` pairs none."""
    lq_names, gt_names = sorted(lq_names), sorted(gt_names)
    if pairing == 'none':
        return Matching([Pair(name, None) for name in lq_names], [], [], [])
    if pairing == 'sorted':
        if len(lq_names) != len(gt_names):
            return Matching([], lq_names, gt_names, [])
        return Matching([Pair(*pair) for pair in zip(lq_names, gt_names, strict=True)], [], [], [])
    candidates, gt_key = PAIRINGS[pairing]
    sharp = {gt_key(name): name for name in gt_names}
    pairs, lonely = [], []
    for name in lq_names:
        partner = next((sharp[key] for key in candidates(name) if key in sharp), None)
        if partner is None:
            lonely.append(name)
        else:
            pairs.append(Pair(name, partner))
    used = {pair.gt for pair in pairs}
    spare = [name for name in sharp.values() if name not in used]
    return Matching(pairs, lonely, spare, [name for name in gt_names if sharp[gt_key(name)] != name])


def pairs_in_folders(lq_folder: str, gt_folder: str, pairing: str = 'name', starts_with: str = '') -> list[Pair]:
    """Pairs of two folders, sorted by the defocused file. Several defocused files may share a sharp one.

    Defocused files whose names do not begin with `starts_with` are left out, if others do.

    `pairing`: name (equal stems), number (equal last numbers), scene (the subfolder, or the name before `_ap`, is the
    sharp file's stem) or sorted (one to one, in sorted order). Raises DataError naming files that lack their partner,
    OptionError for another pairing.
    """
    if pairing != 'sorted' and pairing not in PAIRINGS:
        raise OptionError(f'pairing is one of sorted, {", ".join(PAIRINGS)}, not {pairing!r}')
    lq_names = _image_names(lq_folder, recursive=pairing == 'scene', starts_with=starts_with)
    found = match_names(lq_names, _image_names(gt_folder), pairing)
    check_matching(found, lq_folder, gt_folder, pairing)
    return [Pair(os.path.join(lq_folder, lq), os.path.join(gt_folder, str(gt))) for lq, gt in found.pairs]


def check_matching(found: Matching, lq_folder: str, gt_folder: str | None, pairing: str) -> None:
    """Raises DataError naming the images that lack their partner, or of which a folder has two of one name."""
    num_pairs, lonely, spare = len(found.pairs), found.lonely, found.spare
    if pairing == 'sorted' and (lonely or spare):
        raise DataError(
            f'{len(lonely)} images in {lq_folder} but {len(spare)} in {gt_folder}: pairs are formed in sorted '
            'order, so the folders must hold equally many; add what is missing or remove what is too many'
        )
    if found.twins:
        raise DataError(
            f'{gt_folder}: several images of one name (pairing: {pairing}): {_named(found.twins)}; keep one of each'
        )
    if lonely:
        raise DataError(
            f'{len(lonely)} of {num_pairs + len(lonely)} images in {lq_folder} have no partner in {gt_folder} '
            f'(pairing: {pairing}): {_named(lonely)}. Add the partners, remove these files, or set `pairing: sorted` '
            'if both folders are in the same order'
        )
    if spare:
        num_sharp = len({pair.gt for pair in found.pairs}) + len(spare)
        raise DataError(
            f'{len(spare)} of {num_sharp} images in {gt_folder} have no partner in {lq_folder} (pairing: '
            f'{pairing}): {_named(spare)}. Add the partners or remove these files'
        )


def pairs_of_layout(dataroot: str, layout: str, split: str) -> list[Pair]:
    """All pairs of a benchmark's split below `dataroot`. Raises OptionError or DataError, saying what was expected."""
    spec = layout_named(layout)
    if split not in spec.all_splits:
        raise OptionError(f'split of {layout} is one of {", ".join(spec.all_splits)}, not {split!r}')
    folders = _existing_folders(Path(dataroot), layout, spec.splits['train' if split == spec.held_out else split])
    lq_folder = os.path.join(dataroot, folders.lq)
    if folders.gt is None:
        names = _image_names(lq_folder, starts_with=folders.starts_with)
        return [Pair(os.path.join(lq_folder, name), None) for name in names]
    pairs = pairs_in_folders(
        lq_folder, os.path.join(dataroot, folders.gt), folders.pairing, starts_with=folders.starts_with
    )
    pairs = pairs_of_split(pairs, layout, split)
    if not pairs:
        raise DataError(f'{lq_folder}: only 1 scene, which the split `{spec.held_out}` takes')
    return pairs


def pairs_of_split(pairs: list[Pair], layout: str, split: str) -> list[Pair]:
    """Of all pairs in a split's folders those that count: train without the held-out scenes, or these alone."""
    held_out = LAYOUTS[layout].held_out
    if held_out is None or split not in ('train', held_out):
        return pairs
    scenes = sorted({scene_of(str(pair.gt)) for pair in pairs})
    last = set(scenes[-max(1, round(len(scenes) * _HELD_OUT_SHARE)) :])
    return [pair for pair in pairs if (scene_of(str(pair.gt)) in last) == (split == held_out)]


def mask_of(image: str, layout: str) -> Path | None:
    """The file with the blur mask of a benchmark's image file, None where there is none."""
    masks = LAYOUTS[layout].masks if layout in LAYOUTS else None
    path = Path(image)
    mask = path.parent.parent / str(masks) / f'{path.stem}.png'
    return mask if masks and mask.is_file() else None


def layout_named(layout: str) -> Layout:
    """The table's entry. Raises OptionError if there is none."""
    if layout not in LAYOUTS:
        raise OptionError(f'layout is one of {", ".join(LAYOUTS)}, not {layout!r}')
    return LAYOUTS[layout]


def _existing_folders(root: Path, layout: str, choices: tuple[Folders, ...]) -> Folders:
    if not root.is_dir():
        raise DataError(f'{root}: no such folder; set dataroot to the folder that {layout} was unpacked into')
    for folders in choices:
        if (root / folders.lq).is_dir() and (folders.gt is None or (root / folders.gt).is_dir()):
            return folders
    expected = ', or '.join(_both(folders) for folders in choices)
    raise DataError(f'{root}: not laid out as {layout}: expected the folders {expected} in it')


def _both(folders: Folders) -> str:
    return folders.lq if folders.gt is None else f'{folders.lq} and {folders.gt}'


def _image_names(folder: str, recursive: bool = False, starts_with: str = '') -> list[str]:
    """Images named as they should be, or all of them where none is: a folder that the user named is not doubted."""
    names = [Path(path).relative_to(folder).as_posix() for path in image_files(folder, recursive)]
    return [name for name in names if name.startswith(starts_with)] or names


def _named(names: list[str]) -> str:
    return listed([PurePosixPath(name).name for name in names])


# Recognising a set


class Found(NamedTuple):
    """A benchmark recognised among relative names."""

    layout: str
    prefix: str  # the folders above it, '' or ending in '/'
    splits: dict[str, Folders]


def detect_layout(dataroot: str) -> str:
    """The benchmark that lies in a folder, a key of LAYOUTS.

    Raises DataError with what was looked for and seen if there is none, if several fit, or if it lies further down.
    """
    root = Path(dataroot)
    if not root.is_dir():
        raise DataError(
            f'{dataroot}: {"not a folder" if root.exists() else "no such folder"}; set dataroot to a folder'
        )
    try:
        names = list(names_below(root))
    except OSError as error:
        raise DataError(f'{error.filename}: {error.strerror}') from error
    found = find_layout(names, dataroot)
    if found.prefix:
        place = root / found.prefix
        raise DataError(f'{dataroot}: {found.layout} lies further down: set dataroot to {place}')
    return found.layout


def find_layout(names: Collection[str], source: str, layout: str | None = None) -> Found:
    """The benchmark (or `layout`) that relative POSIX names, as of an archive, belong to; below any leading folders.

    Folders count if they hold images that pair by the layout's rule. Where one fit lies inside another (`train_c/` of
    DPDD has RealDOF's `source` and `target`), the one with more images, then the one nearer to the root, is meant.
    Raises DataError, naming `source`, if nothing fits or if several sets lie side by side.
    """
    if layout is not None:
        layout_named(layout)
    images = {name for name in names if is_image(name)}
    by_folder = _images_by_folder(images)
    fits = [(found, covered) for key in ([layout] if layout else LAYOUTS) for found, covered in _fits(key, by_folder)]
    if not fits:
        raise DataError(_misfit(source, by_folder, layout))
    fits.sort(key=lambda fit: (-len(fit[1]), fit[0].prefix.count('/')))
    best, covered = fits[0]
    # one that shares files with the best is a part or a misreading of it; one that shares none is another set
    others = [fit for fit, its in fits[1:] if not its & covered]
    if others:
        places = [f'{fit.layout} in {fit.prefix or "."}' for fit in (best, *others)]
        raise DataError(
            f'{source}: several sets fit: {listed(places)}; name the folder of one, or set which it is '
            '(--set, or `layout:` in an option file)'
        )
    return best


def names_in(names: Iterable[str], folder: str, recursive: bool = False, starts_with: str = '') -> list[str]:
    """Of relative POSIX names the images in `folder`, relative to it and sorted; below it too if `recursive`."""
    inside = (name[len(folder) + 1 :] for name in names if name.startswith(f'{folder}/'))
    return sorted(
        name for name in inside if is_image(name) and name.startswith(starts_with) and (recursive or '/' not in name)
    )


def is_image(name: str) -> bool:
    """By its suffix in any case; what is hidden, or macOS's shadow of a file, is none."""
    path = PurePosixPath(name)
    hidden = any(part.startswith('.') or part == '__MACOSX' for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def matching_of(names: Iterable[str], prefix: str, folders: Folders) -> Matching:
    """Pairs among relative names, whole names again, by the rule of `folders` below `prefix`."""
    names = list(names)
    lq_folder = prefix + folders.lq
    lq_names = names_in(names, lq_folder, folders.pairing == 'scene', folders.starts_with)
    gt_folder = None if folders.gt is None else prefix + folders.gt
    found = match_names(lq_names, [] if gt_folder is None else names_in(names, gt_folder), folders.pairing)
    return Matching(
        [Pair(f'{lq_folder}/{lq}', gt if gt is None else f'{gt_folder}/{gt}') for lq, gt in found.pairs],
        [f'{lq_folder}/{name}' for name in found.lonely],
        [f'{gt_folder}/{name}' for name in found.spare],
        [f'{gt_folder}/{name}' for name in found.twins],
    )


def _images_by_folder(images: Iterable[str]) -> dict[str, list[str]]:
    """Images in each folder and in those below it."""
    by_folder: dict[str, list[str]] = {}
    for name in images:
        for parent in PurePosixPath(name).parents:
            by_folder.setdefault(str(parent), []).append(name)
    return by_folder


def _prefixes(by_folder: Iterable[str], folder: str) -> list[str]:
    """What stands before `folder` wherever it is among the folders."""
    return [name[: -len(folder)] for name in by_folder if f'/{name}'.endswith(f'/{folder}')]


def _fits(layout: str, by_folder: dict[str, list[str]]) -> list[tuple[Found, set[str]]]:
    """Where a layout fits, with the images it would take."""
    fits: dict[str, tuple[Found, set[str]]] = {}
    for split, choices in LAYOUTS[layout].splits.items():
        for folders in choices:
            for prefix in _prefixes(by_folder, folders.lq):
                found, covered = fits.get(prefix, (Found(layout, prefix, {}), set()))
                if split in found.splits:  # in the authors' folders, which come before a mirror's
                    continue
                images = _images_of(by_folder, prefix, folders)
                if images:
                    found.splits[split] = folders
                    fits[prefix] = found, covered | images
    return list(fits.values())


def _images_of(by_folder: dict[str, list[str]], prefix: str, folders: Folders) -> set[str]:
    """The images that a split's folders take, or none if fewer than half pair: then the folders are another set's."""
    gt_images = [] if folders.gt is None else by_folder.get(prefix + folders.gt, [])
    matching = matching_of([*by_folder[prefix + folders.lq], *gt_images], prefix, folders)
    if folders.pairing == 'sorted' and matching.lonely and matching.spare:
        return {*matching.lonely, *matching.spare}  # unequal numbers: still this set, though not a whole one
    if len(matching.pairs) <= len(matching.lonely):  # chance: names of another set that happen to be equal
        return set()
    return {name for pair in matching.pairs for name in pair if name} | {*matching.lonely, *matching.spare}


def _misfit(source: str, by_folder: dict[str, list[str]], layout: str | None) -> str:
    """Which folders of each layout there are and which not, best first, and what is there instead."""
    lines = []
    for key in [layout] if layout else LAYOUTS:
        wanted = [folders for choices in LAYOUTS[key].splits.values() for folders in choices]
        each = list(dict.fromkeys(name for folders in wanted for name in (folders.lq, folders.gt) if name))
        there = [name for name in each if _prefixes(by_folder, name)]
        missing = [name for name in each if name not in there]
        if there:
            says = f'lacks {listed(missing)}' if missing else 'lacks names that pair in it'
            lines.append((len(missing) - len(there), f'{key} has {listed(there)}, {says}'))
    top = sorted({name.split('/')[0] for name in by_folder if name != '.'})
    seen = f'folders {listed(top)}' if top else f'{len(by_folder.get(".", []))} images and no folder of them'
    near = '; '.join(line for _, line in sorted(lines)[:3]) or f'no folder of {layout or ", ".join(LAYOUTS)} is in it'
    looked = f'not laid out as {layout}' if layout else 'fits none of the data sets'
    return (
        f'{source}: {looked}: {near}. Seen: {seen}. '
        'Name the folder that the set was unpacked into, or set which it is (--set, or `layout:` in an option file)'
    )


# Indoor and outdoor scenes of DPDD's test split

_SCENE_KINDS = {'indoor': 37, 'outdoor': 39}


def scene_kinds(dataroot: str, test_names: Iterable[str]) -> dict[str, list[str]] | None:
    """DPDD's test images by kind of scene, `indoor` and `outdoor`, where Restormer's lists lie beside them; else None.

    `test_names`: the defocused images of the test split; the lists are indices into them in sorted order. Looked for in
    the root and in the test folder. Raises DataError if a list is damaged or does not fit the images.
    """
    names = sorted(test_names)
    files = [file for kind in _SCENE_KINDS if (file := _label_file(Path(dataroot), kind))]
    if not files:
        return None
    if len(files) < len(_SCENE_KINDS):
        raise DataError(f'{files[0]}: the list of the other scenes (indoor or outdoor) is missing beside it')
    labels = {kind: _read_labels(file) for kind, file in zip(_SCENE_KINDS, files, strict=True)}
    every = [index for indices in labels.values() for index in indices]
    counts = {kind: len(indices) for kind, indices in labels.items()}
    if counts != _SCENE_KINDS or sorted(every) != list(range(len(names))):
        told = ' and '.join(f'{count} {kind}' for kind, count in counts.items())
        raise DataError(
            f'{files[0].parent}: its lists name {told} scenes of {len(names)} test images; they must be 37 and 39 '
            'different indices into 76 images: get both lists and the test split from one source, or remove the lists'
        )
    return {kind: [names[index] for index in indices] for kind, indices in labels.items()}


def is_label_file(name: str) -> bool:
    """Whether a file is one of Restormer's two lists."""
    return PurePosixPath(name).name in [f'{kind}_labels.npy' for kind in _SCENE_KINDS]


def _label_file(root: Path, kind: str) -> Path | None:
    places = (root, root / 'test', root / 'test_c')
    return next((file for place in places if (file := place / f'{kind}_labels.npy').is_file()), None)


def _read_labels(file: Path) -> list[int]:
    try:
        indices = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f'{file}: not a readable list of indices ({error}); replace or remove it') from error
    if not isinstance(indices, np.ndarray) or indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise DataError(f'{file}: not a list of whole numbers; replace or remove it')
    return sorted(int(index) for index in indices)
