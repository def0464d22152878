"""Layouts of the five benchmarks, their detection, and the pairing of files."""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ggkm_plugin.data.archives import names_below
from ggkm_plugin.utils.errors import DataError, OptionError, listed
from ggkm_plugin.utils.image_decoding import IMAGE_SUFFIXES, image_files


class Pair(NamedTuple):
    """A defocused image and its sharp counterpart (None if the data set has none)."""

    lq: str
    gt: str | None


class Folders(NamedTuple):
    """Folders of a split below the root, and the pairing of their files."""

    lq: str
    gt: str | None
    pairing: str  # sorted, none, or a key of PAIRINGS
    starts_with: str = ''  # of the defocused files' names; the folder may hold images of other kinds


@dataclass(frozen=True)
class Layout:
    """Folders, pairing and published properties of a benchmark."""

    splits: dict[str, tuple[Folders, ...]]  # the authors' folders first, then those of mirrors
    counts: dict[str, int]  # published number of defocused images; of train with those held out
    bit_depth: int = 8  # as distributed
    size: tuple[int, int] | None = None  # width, height if equal for all images
    held_out: str | None = None  # a split made of the last scenes of `train`, if the authors have none
    masks: str | None = None  # folder of blur masks with the images' names, beside the images' folder

    @property
    def has_gt(self) -> bool:
        return all(folders.gt is not None for choices in self.splits.values() for folders in choices)

    @property
    def all_splits(self) -> list[str]:
        return [*self.splits, *([self.held_out] if self.held_out else [])]


# A tree without the name of a split is read as test images, so that nobody trains on test images by mistake. Other
# data sets have the same folders, hence the prefix of the file names.
_BARE_LFDOF = {'test': tuple(Folders('input', sharp, 'scene', 'IMG_') for sharp in ('ground_truth', 'target'))}

LAYOUTS: dict[str, Layout] = {
    'DPDD': Layout(  # file names of source and target differ, hence the sorted order
        {
            split: (
                Folders(f'{split}_c/source', f'{split}_c/target', 'sorted'),
                Folders(f'{split}/inputC', f'{split}/target', 'sorted'),  # Restormer's mirror
            )
            for split in ('train', 'val', 'test')
        },
        counts={'train': 350, 'val': 74, 'test': 76},
        bit_depth=16,
        size=(1680, 1120),
    ),
    'LFDOF': Layout(  # input/SCENE/*.png belong to ground_truth/SCENE.png
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
        held_out='val',  # the last 40 of 790 training scenes
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
    """Return the scene of an LFDOF image: its name without suffix and aperture, `IMG_1` of `input/IMG_1_ap2_07.png`."""
    return re.sub(r'_ap\d+(_\d+)?$', '', _stem(name))


# Keys of sharp files that a defocused file may belong to, best first, and the key of a sharp file; names are relative
# to their folder. A scene is the subfolder (as distributed), the name before `_ap`, or the equal name (in mirrors with
# a copy of the sharp image for each input).
PAIRINGS: dict[str, tuple[Callable[[str], tuple[str, ...]], Callable[[str], str]]] = {
    'name': (lambda name: (_stem(name),), _stem),
    'number': (lambda name: (_number(name),), _number),
    'scene': (lambda name: (PurePosixPath(name).parent.name, scene_of(name), _stem(name)), _stem),
}


class Matching(NamedTuple):
    """Pairs of the names in two folders, and names that do not pair."""

    pairs: list[Pair]
    unpaired_lq: list[str]
    unpaired_gt: list[str]
    duplicates: list[str]  # sharp ones with the key of another


def match_names(lq_names: Iterable[str], gt_names: Iterable[str], pairing: str) -> Matching:
    """Pair the images of two folders by their names or paths, sorted by the defocused one.

    `sorted` pairs nothing if their numbers differ, `none` pairs each with None.
    """
    lq_names, gt_names = sorted(lq_names), sorted(gt_names)
    if pairing == 'none':
        return Matching([Pair(name, None) for name in lq_names], [], [], [])
    if pairing == 'sorted':
        if len(lq_names) != len(gt_names):
            return Matching([], lq_names, gt_names, [])
        return Matching([Pair(*pair) for pair in zip(lq_names, gt_names, strict=True)], [], [], [])
    candidates, gt_key = PAIRINGS[pairing]
    sharp = {gt_key(name): name for name in gt_names}
    pairs, unpaired = [], []
    for name in lq_names:
        partner = next((sharp[key] for key in candidates(name) if key in sharp), None)
        if partner is None:
            unpaired.append(name)
        else:
            pairs.append(Pair(name, partner))
    used = {pair.gt for pair in pairs}
    unused = [name for name in sharp.values() if name not in used]
    return Matching(pairs, unpaired, unused, [name for name in gt_names if sharp[gt_key(name)] != name])


def matching_faults(found: Matching, lq_folder: str, gt_folder: str | None, pairing: str) -> list[str]:
    """Return messages about images without a partner, and about sharp images of one name."""
    if pairing == 'sorted' and (found.unpaired_lq or found.unpaired_gt):
        return [
            f'{len(found.unpaired_lq)} images in {lq_folder} but {len(found.unpaired_gt)} in {gt_folder}: pairs are '
            'formed in sorted order, so that both folders must hold equally many. Add or remove images'
        ]
    faults = []
    if found.duplicates:
        faults.append(
            f'{gt_folder}: several images of one name (pairing: {pairing}): {_listed(found.duplicates)}. Keep one '
            'of each'
        )
    for folder, other, names in ((lq_folder, gt_folder, found.unpaired_lq), (gt_folder, lq_folder, found.unpaired_gt)):
        if names:
            faults.append(
                f'{folder}: {len(names)} images without a partner in {other} (pairing: {pairing}): {_listed(names)}. '
                'Add the partners, remove these files, or set `pairing: sorted` if both folders are in the same order'
            )
    return faults


def pairs_in_folders(lq_folder: str, gt_folder: str, pairing: str = 'name') -> list[Pair]:
    """Pair the images of two folders, sorted by the defocused file. Several defocused files may share a sharp one.

    pairing: name (equal stems), number (equal last numbers), scene (the subfolder, or the name before `_ap`, is the
    sharp file's stem) or sorted (one to one, in sorted order).
    Raises DataError naming files without a partner, OptionError for an unknown pairing.
    """
    if pairing != 'sorted' and pairing not in PAIRINGS:
        raise OptionError(f'pairing: must be one of sorted, {", ".join(PAIRINGS)}, not "{pairing}"')
    return _pairs_of(Folders(lq_folder, gt_folder, pairing), Path())


def _pairs_of(folders: Folders, root: Path) -> list[Pair]:
    lq_folder, gt_folder = str(root / folders.lq), folders.gt and str(root / folders.gt)
    images = image_files(lq_folder, recursive=folders.pairing == 'scene')
    images = [path for path in images if Path(path).name.startswith(folders.starts_with)] or images
    found = match_names(images, image_files(gt_folder) if gt_folder else [], folders.pairing)
    for fault in matching_faults(found, lq_folder, gt_folder, folders.pairing):
        raise DataError(fault)
    return found.pairs


def pairs_of_layout(dataroot: str, layout: str, split: str) -> list[Pair]:
    """Return the pairs of a split below `dataroot`. Raises OptionError or DataError naming the expected folders."""
    spec, root = layout_named(layout), Path(dataroot)
    if split not in spec.all_splits:
        raise OptionError(f'split: of {layout} must be one of {", ".join(spec.all_splits)}, not "{split}"')
    if not root.is_dir():
        raise DataError(f'{root}: no such folder. Set dataroot to the folder that {layout} was unpacked into')
    choices = spec.splits['train' if split == spec.held_out else split]
    for folders in choices:
        if all((root / folder).is_dir() for folder in folders[:2] if folder):
            pairs = pairs_of_split(_pairs_of(folders, root), layout, split)
            if not pairs:
                raise DataError(f'{root / folders.lq}: only 1 scene, which belongs to the split `{spec.held_out}`')
            return pairs
    raise DataError(f'{root}: does not have the layout of {layout}. It must have the folders {_expected(choices)}')


def _expected(choices: Iterable[Folders]) -> str:
    return ', or '.join(' and '.join(filter(None, folders[:2])) for folders in choices)


def pairs_of_split(pairs: list[Pair], layout: str, split: str) -> list[Pair]:
    """Select the pairs of a split: of `train` those without the held-out scenes, of the held-out split these only."""
    held_out = LAYOUTS[layout].held_out
    if held_out is None or split not in ('train', held_out):
        return pairs
    scenes = sorted({scene_of(str(pair.gt)) for pair in pairs})
    last = set(scenes[-max(1, round(len(scenes) * _HELD_OUT_SHARE)) :])
    return [pair for pair in pairs if (scene_of(str(pair.gt)) in last) == (split == held_out)]


def mask_of(image: str, layout: str) -> Path | None:
    """Return the path of the blur mask of an image file, None if it has none."""
    masks = LAYOUTS[layout].masks if layout in LAYOUTS else None
    path = Path(image)
    mask = path.parent.parent / str(masks) / f'{path.stem}.png'
    return mask if masks and mask.is_file() else None


def layout_named(layout: str) -> Layout:
    """Look up a layout. Raises OptionError if it is unknown."""
    if layout not in LAYOUTS:
        raise OptionError(f'layout: must be one of {", ".join(LAYOUTS)}, not "{layout}"')
    return LAYOUTS[layout]


def _listed(names: list[str]) -> str:
    return listed([PurePosixPath(name).name for name in names])


# Detection of a layout


class Found(NamedTuple):
    """A layout found among relative names."""

    layout: str
    prefix: str  # path of the folder that it is in, '' or ending in '/'
    splits: dict[str, Folders]


def detect_layout(dataroot: str) -> str:
    """Detect the benchmark in a folder, a key of LAYOUTS.

    Raises DataError if there is none, several, or one in a subfolder.
    """
    root = Path(dataroot)
    if not root.is_dir():
        raise DataError(
            f'{dataroot}: {"not a folder" if root.exists() else "no such folder"}. Set dataroot to a folder'
        )
    found = find_layout(list(names_below(root)), dataroot)
    if found.prefix:
        place = root / found.prefix
        raise DataError(f'{dataroot}: {found.layout} is in a subfolder. Set dataroot to {place}')
    return found.layout


def find_layout(names: Collection[str], source: str, layout: str | None = None) -> Found:
    """Find a benchmark (or `layout`) among relative POSIX names, as of an archive, below any leading folders.

    A layout fits if its folders hold images that pair. If one fit contains another (`train_c/` of DPDD has RealDOF's
    `source` and `target`), the one with more images wins, then the one nearer to the root.
    Raises DataError naming `source` if nothing fits, or if several data sets lie side by side.
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
    # a fit that shares files with the best is a part of it; one that shares none is another data set
    others = [fit for fit, its in fits[1:] if not its & covered]
    if others:
        places = [f'{fit.layout} in {fit.prefix or "."}' for fit in (best, *others)]
        raise DataError(
            f'{source}: several data sets: {listed(places)}. Name the folder of one, or its layout (--set, or '
            '`layout:` in an option file)'
        )
    return best


def images_in(names: Iterable[str], folder: str, recursive: bool = False, starts_with: str = '') -> list[str]:
    """List the images in `folder`, with those in subfolders if `recursive`, whose name begins with `starts_with`."""
    inside = ((name, PurePosixPath(name[len(folder) + 1 :])) for name in names if name.startswith(f'{folder}/'))
    return [
        name
        for name, below in inside
        if is_image(str(below)) and below.name.startswith(starts_with) and (recursive or below.name == str(below))
    ]


def is_image(name: str) -> bool:
    """Whether a name has the suffix of an image and is not hidden (nor a resource fork of macOS)."""
    path = PurePosixPath(name)
    hidden = any(part.startswith('.') or part == '__MACOSX' for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def matching_of(names: Collection[str], prefix: str, folders: Folders) -> Matching:
    """Pair names by the rule of `folders` below `prefix`."""
    lq_names = images_in(names, prefix + folders.lq, folders.pairing == 'scene', folders.starts_with)
    gt_names = [] if folders.gt is None else images_in(names, prefix + folders.gt)
    return match_names(lq_names, gt_names, folders.pairing)


def _images_by_folder(images: Iterable[str]) -> dict[str, list[str]]:
    """Group images by folder; each folder includes those below it."""
    by_folder: dict[str, list[str]] = {}
    for name in images:
        for parent in PurePosixPath(name).parents:
            by_folder.setdefault(str(parent), []).append(name)
    return by_folder


def _prefixes(by_folder: Iterable[str], folder: str) -> list[str]:
    """List the prefixes of all occurrences of `folder` among the folders."""
    return [name[: -len(folder)] for name in by_folder if f'/{name}'.endswith(f'/{folder}')]


def _fits(layout: str, by_folder: dict[str, list[str]]) -> list[tuple[Found, set[str]]]:
    """Find all fits of a layout, with the images they cover."""
    fits: dict[str, tuple[Found, set[str]]] = {}
    for split, choices in LAYOUTS[layout].splits.items():
        for folders in choices:
            for prefix in _prefixes(by_folder, folders.lq):
                found, covered = fits.get(prefix, (Found(layout, prefix, {}), set()))
                if split in found.splits:  # already in the authors' folders, which precede those of mirrors
                    continue
                images = _images_of(by_folder, prefix, folders)
                if images:
                    found.splits[split] = folders
                    fits[prefix] = found, covered | images
    return list(fits.values())


def _images_of(by_folder: dict[str, list[str]], prefix: str, folders: Folders) -> set[str]:
    """Return the images in a split's folders; none if fewer than half pair, as those of another data set."""
    gt_images = [] if folders.gt is None else by_folder.get(prefix + folders.gt, [])
    matching = matching_of([*by_folder[prefix + folders.lq], *gt_images], prefix, folders)
    if folders.pairing == 'sorted' and matching.unpaired_lq and matching.unpaired_gt:
        return {*matching.unpaired_lq, *matching.unpaired_gt}  # unequal numbers: this data set, but incomplete
    if len(matching.pairs) <= len(matching.unpaired_lq):  # names of another data set that are equal by chance
        return set()
    return {name for pair in matching.pairs for name in pair if name} | {*matching.unpaired_lq, *matching.unpaired_gt}


def _misfit(source: str, by_folder: dict[str, list[str]], layout: str | None) -> str:
    """Describe the folders that exist, and those of the named layout."""
    top = sorted({name.split('/')[0] for name in by_folder if name != '.'})
    content = f'folders {listed(top)}' if top else f'{len(by_folder.get(".", []))} images without a folder'
    problem = f'does not have the layout of {layout}' if layout else f'not a known data set ({", ".join(LAYOUTS)})'
    choices = [folders for each in LAYOUTS[layout].splits.values() for folders in each] if layout else []
    needed = f' but needs {_expected(choices)}' if layout else ''
    return (
        f'{source}: {problem}. It has {content}{needed}. Name the folder that the data set was unpacked into, or its '
        'layout (--set, or `layout:` in an option file)'
    )


# Indoor and outdoor scenes of DPDD's test split

_SCENE_KINDS = {'indoor': 37, 'outdoor': 39}


def scene_kinds(dataroot: str, test_names: Iterable[str]) -> dict[str, list[str]] | None:
    """Group DPDD's test images by `indoor` and `outdoor`; None without Restormer's lists in the root or test folder.

    test_names: the defocused images of the test split; the lists are indices into them in sorted order.
    Raises DataError if a list is damaged or does not fit the images.
    """
    names, labels = sorted(test_names), {}
    for kind in _SCENE_KINDS:
        places = (Path(dataroot, place, f'{kind}_labels.npy') for place in ('', 'test', 'test_c'))
        file = next(filter(Path.is_file, places), None)
        if file is None:
            return None
        try:
            labels[kind] = sorted(np.load(file, allow_pickle=False).astype(int).ravel().tolist())
        except (OSError, ValueError, EOFError, AttributeError, TypeError) as error:
            raise DataError(f'{file}: not a readable list of indices ({error}). Replace or remove it') from error
    counts = {kind: len(indices) for kind, indices in labels.items()}
    every = sorted(index for indices in labels.values() for index in indices)
    if counts != _SCENE_KINDS or every != list(range(len(names))):
        raise DataError(
            f'{dataroot}: indoor_labels.npy and outdoor_labels.npy have {counts} indices for {len(names)} test images; '
            'they must have 37 and 39 different indices of 76 images. Take all from one source, or remove the lists'
        )
    return {kind: [names[index] for index in indices] for kind, indices in labels.items()}


def is_label_file(name: str) -> bool:
    """Whether a file is one of Restormer's lists of indoor and outdoor scenes."""
    return PurePosixPath(name).name in [f'{kind}_labels.npy' for kind in _SCENE_KINDS]
