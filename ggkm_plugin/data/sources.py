"""Sources of images for a data set: folders or LMDB, behind one interface."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ggkm_plugin.data.layouts import Pair, detect_layout, pairs_in_folders, pairs_of_layout
from ggkm_plugin.data.lmdb_store import BandedImage, LmdbStore
from ggkm_plugin.utils.errors import DataError, OptionError, listed
from ggkm_plugin.utils.image_decoding import decode_image, image_files, read_bytes
from ggkm_plugin.utils.image_header import Header, read_header

_AUTO = 'auto'


# (H,W,3) RGB uint8 or uint16; a `BandedImage` reads only the crop `image[rows, columns]`.
SourceImage = np.ndarray | BandedImage


class FolderSource:
    """Pairs of image files, and their images. A name is the path of a file. `layout`: '' if it is not a benchmark.

    names: of the defocused images in results: their paths below the data set's folder, without suffix.
    """

    def __init__(self, pairs: list[Pair], layout: str = '') -> None:
        self.pairs, self.layout = pairs, layout
        self.names = _names_below_common_folder([pair.lq for pair in pairs])

    def image(self, name: str) -> SourceImage:
        """Return an image. Raises DataError naming it."""
        return decode_image(read_bytes(name), name)

    def header(self, name: str) -> Header:
        """Return size and bit depth of an image. Raises DataError naming it."""
        return read_header(name)


class LmdbSource:
    """As FolderSource, of one database, or of one per side. A name is `DATABASE/KEY.png`, as if that were a folder."""

    def __init__(self, lq: LmdbStore, gt: LmdbStore, pairs: list[Pair]) -> None:
        """Open pairs of keys."""
        self.stores = (lq, gt)
        self.layout = str(lq.about.get('layout') or '')
        self.pairs = [Pair(_name(lq, key), None if sharp is None else _name(gt, sharp)) for key, sharp in pairs]
        paths = [f'{key}.png' for key, _ in pairs]
        self.names = _names_below_common_folder(paths) if self.layout else _without_suffixes(paths)

    def image(self, name: str) -> SourceImage:
        store, key = self._find(name)
        return store.image(key)

    def header(self, name: str) -> Header:
        store, key = self._find(name)
        return store.header(key)

    def _find(self, name: str) -> tuple[LmdbStore, str]:
        store = next(store for store in self.stores if name.startswith(f'{store.path}/'))
        return store, name[len(store.path) + 1 : -len('.png')]


Source = FolderSource | LmdbSource


def open_source(opt: dict[str, Any], needs_gt: bool) -> Source:
    """Open the source that the options of a data set name.

    Options:
        dataroot: folder of a benchmark; layout: a key of `LAYOUTS`, or auto (default); split: train, val or test
            (default: the phase, or test if no sharp images are needed). Or
        dataroot_lq, dataroot_gt: two folders, with pairing: name (default), sorted, number or scene; or two databases,
            paired by equal keys. dataroot_gt is not used if no sharp images are needed.
        io_backend: {type: disk} or {type: lmdb}. Default below dataroot: the database SPLIT.lmdb if it exists, else
            folders; default for two roots: databases if their names end in .lmdb.
        bit_depth: auto (default), 8 or 16, for `check_bit_depth`.

    Raises OptionError or DataError naming the key, folder, database or file.
    """
    kind = (opt.get('io_backend') or {}).get('type')
    if opt.get('dataroot'):
        return _benchmark(opt, kind, needs_gt)
    if opt.get('dataroot_lq') and (opt.get('dataroot_gt') or not needs_gt):
        return _folders(opt, kind, needs_gt)
    raise OptionError(
        f'no data: set dataroot, layout and split, or dataroot_lq{" and dataroot_gt" if needs_gt else ""}'
    )


def check_bit_depth(opt: dict[str, Any], image: SourceImage | Header, name: str) -> None:
    """Raise DataError if the option bit_depth is a number and the image `name` has another depth."""
    wanted, depth = opt.get('bit_depth', _AUTO), 8 * image.itemsize
    if wanted not in (_AUTO, depth):
        raise DataError(f'{name}: {depth} bits, not {wanted}. Set bit_depth: {depth} or {_AUTO}, or replace the image')


def _benchmark(opt: dict[str, Any], kind: str | None, needs_gt: bool) -> Source:
    root, layout = str(opt['dataroot']), opt.get('layout') or _AUTO
    split = opt.get('split') or (opt['phase'] if needs_gt else 'test')
    if os.path.basename(split) != split:
        raise OptionError(f'split: must be a name such as train, val or test, not "{split}"')
    folders = [path for path in Path(root).glob('*') if path.is_dir()]
    databases = sorted(path.stem for path in folders if path.suffix == '.lmdb')
    if kind == 'lmdb' or (kind is None and split in databases):
        source: Source = _database(os.path.join(root, f'{split}.lmdb'), layout)
    elif databases and len(databases) == len(folders):
        raise OptionError(
            f'{root}: has databases only, of {", ".join(databases)}. Set split to one of these, not "{split}", without '
            'io_backend: {type: disk}'
        )
    else:
        layout = detect_layout(root) if layout == _AUTO else layout
        source = FolderSource(pairs_of_layout(root, layout, split), layout)
    if needs_gt and source.pairs[0].gt is None:
        name = root if layout == _AUTO else layout
        raise OptionError(f'{name}: has no sharp images. Use type: SingleDefocusDataset')
    return source


def _database(path: str, layout: str) -> LmdbSource:
    store = LmdbStore(path)
    stored = store.about.get('layout')
    if layout not in (_AUTO, stored):
        raise OptionError(f'layout: is {layout}, but {path} is of {stored}. Set layout: {stored or _AUTO}')
    if not store.pairs:
        raise DataError(f'{path}: no pairs in this database. Make it with `basicsr prepare`')
    return LmdbSource(store, store, store.pairs)


def _folders(opt: dict[str, Any], kind: str | None, needs_gt: bool) -> Source:
    roots = [str(opt[key]) for key in ('dataroot_lq', 'dataroot_gt')[: 1 + needs_gt]]
    databases = {Path(root).suffix == '.lmdb' for root in roots}
    if kind is None and len(databases) == 2:
        raise OptionError(f'{" and ".join(roots)}: one database and one folder. Name two databases or two folders')
    if kind == 'lmdb' or (kind is None and databases == {True}):
        return _databases(roots)
    if needs_gt:
        return FolderSource(pairs_in_folders(roots[0], roots[1], opt.get('pairing', 'name')))
    return FolderSource([Pair(path, None) for path in image_files(roots[0])])


def _databases(roots: list[str]) -> LmdbSource:
    stores = [LmdbStore(root) for root in roots]
    lq, gt = stores[0], stores[-1]
    keys = lq.keys
    if len(stores) == 1:
        return LmdbSource(lq, lq, [Pair(pair.lq, None) for pair in lq.pairs] or [Pair(key, None) for key in keys])
    if lq.path == gt.path:
        raise OptionError(f'dataroot_lq, dataroot_gt: both are {lq.path}. Set one database of both as dataroot')
    for one, other in ((lq, gt), (gt, lq)):
        unpaired = sorted(set(one.keys) - set(other.keys))
        if unpaired:
            raise DataError(
                f'{one.path}: {len(unpaired)} images without a partner of equal key in {other.path}: '
                f'{listed(unpaired)}. Make both from folders with equal names'
            )
    return LmdbSource(lq, gt, [Pair(key, key) for key in keys])


def _names_below_common_folder(paths: list[str]) -> list[str]:
    folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
    common = os.path.commonpath(folders) if folders else ''
    return _without_suffixes(
        [
            Path(folder, os.path.basename(path)).relative_to(common).as_posix()
            for folder, path in zip(folders, paths, strict=True)
        ]
    )


def _without_suffixes(paths: list[str]) -> list[str]:
    """Remove suffixes, except where two paths would become equal."""
    names = [Path(path).with_suffix('').as_posix() for path in paths]
    counts = Counter(names)
    return [path if counts[name] > 1 else name for path, name in zip(paths, names, strict=True)]


def _name(store: LmdbStore, key: str) -> str:
    return f'{store.path}/{key}.png'
