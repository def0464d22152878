"""LMDB databases of images: one per split, with the pairs of the split.

Codec `png` stores encoded files. Codec `raw` stores pixels in bands of rows, one value each, so that a crop reads only
its bands. Databases of version 0.1.0 (one value per raw image) and of BasicSR (`meta_info.txt`) are read too.
"""

import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import cv2
import lmdb
import numpy as np
from tqdm import tqdm

from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.utils.errors import DataError, listed
from ggkm_plugin.utils.files import new_folder
from ggkm_plugin.utils.image_decoding import PNG_SIGNATURE, decode_image, read_bytes
from ggkm_plugin.utils.image_header import Header, header_of
from ggkm_plugin.utils.threads import map_threads

CODECS = ('png', 'raw')
# Rows per value. 16 to 128 take equal time from the page cache; larger bands read more unneeded rows from the disk.
BAND_ROWS = 32

_FORMAT = 2
_READABLE_FORMATS = (1, 2)  # 1: version 0.1.0
# Separates an image's key from the number of a band. Keys of images are paths, which have no NUL.
_NUL = b'\0'
_DESCRIPTION_KEY = _NUL + b'about'
_MAP_SIZE = 2**24


class _RawHeader(NamedTuple):
    """Value under the key of a raw image. Pixels are RGB rows, little endian; the CRC-32 is of all of them.

    band_rows = 0: the pixels follow the header (version 0.1.0).
    """

    magic: bytes
    version: int
    itemsize: int
    channels: int
    height: int
    width: int
    crc: int
    band_rows: int


_HEADER = struct.Struct('<4sBBHIIII8x')
_MAGIC, _VERSION = b'GGKM', 1
_DTYPES: dict[int, np.dtype] = {1: np.dtype('u1'), 2: np.dtype('<u2')}


class LmdbStore:
    """Read the images of a database by key.

    Can be pickled. All stores of one database in a process share one LMDB environment. `pairs` are pairs of keys, empty
    for a database of BasicSR; `about` is what the writer stored.
    Raises DataError if the database is missing, truncated, incomplete or unreadable.
    """

    def __init__(self, path: str) -> None:
        self.path = str(Path(path))
        self._real_path = os.path.realpath(path)
        if not os.path.isfile(_data_file(self._real_path)):
            raise DataError(
                f'{path}: no LMDB database (a folder with the file data.mdb). Make it with `basicsr prepare`, or '
                'name another'
            )
        self._state = _file_state(self._real_path)
        self.codec, self.pairs, self.about = 'png', [], {}  # type: str, list[Pair], dict[str, Any]
        with self.transaction() as transaction:
            description = bytes(transaction.get(_DESCRIPTION_KEY, b'')) or None
        listing = Path(path, 'meta_info.txt')
        if description is not None:
            self._read_description(description)
        elif not listing.is_file():
            raise DataError(f'{path}: incomplete database without a description. Make it again')
        elif self._environment.stat()['entries'] < len(listing.read_text(errors='replace').splitlines()):
            raise DataError(
                f'{listing}: lists more images than the database has. The conversion was interrupted, or files share '
                'the name up to the first dot, which is all that BasicSR keeps. Make it again'
            )

    @property
    def keys(self) -> list[str]:
        """The keys of all images, sorted."""
        with self.transaction() as transaction:
            keys: Any = transaction.cursor().iternext(values=False)
            return [_text(key) for key in map(bytes, keys) if _NUL not in key]

    def image(self, key: str) -> 'np.ndarray | BandedImage':
        """Return an image, (H,W,3) RGB uint8 or uint16: an array, or a `BandedImage` of codec `raw`.

        Raises DataError if the image is missing or its value is damaged. Pixels of `raw` are not checked.
        """
        with self.transaction() as transaction:
            value = self._value(transaction, key)
            if self.codec == 'raw':
                return BandedImage(self, key, value)
            content = bytes(value)
        return decode_image(content, f'{self.path}/{key}')

    def header(self, key: str) -> Header:
        """Return size and bit depth of an image without decoding it. Raises DataError like `image`."""
        with self.transaction() as transaction:
            value = self._value(transaction, key)
            if self.codec == 'png':
                return header_of(bytes(value), f'{self.path}/{key}')
            image = BandedImage(self, key, value)
        return Header((image.shape[0], image.shape[1], 3), image.dtype)

    def check(self, key: str) -> None:
        """Read a whole image. Raises DataError if its checksum (`raw`) or its encoding (`png`) is damaged."""
        image = self.image(key)
        if isinstance(image, BandedImage) and zlib.crc32(image[:, :].data) != image.crc:
            raise self.damaged(key)

    def _value(self, transaction: lmdb.Transaction, key: str) -> Any:
        value = transaction.get(_encoded(key))
        if value is None:
            raise DataError(f'{self.path}: no image "{key}" in this database')
        return value

    def damaged(self, key: str) -> DataError:
        return DataError(f'{self.path}: the image "{key}" is damaged. Make the database again')

    @contextmanager
    def transaction(self) -> Iterator[lmdb.Transaction]:
        """Open a read transaction whose values are buffers, valid within the context."""
        try:
            with self._environment.begin(buffers=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise DataError(f'{self.path}: the database is damaged ({error}). Make it again') from error

    @property
    def _environment(self) -> lmdb.Environment:
        return _environment(self._real_path, self._state)

    def _read_description(self, description: bytes) -> None:
        try:
            content = json.loads(description)
            self.codec, self.about, self.pairs = (
                content['codec'],
                content['about'],
                [Pair(*x) for x in content['pairs']],
            )
            known = content['format'] in _READABLE_FORMATS and self.codec in CODECS
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{self.path}: its description is damaged ({error}). Make the database again') from error
        if not known:
            raise DataError(f'{self.path}: of another version (codec "{self.codec}"). Make the database again')


class BandedImage:
    """A stored raw image. `image[rows, columns]` (slices without step) reads the bands of a crop and returns an array.

    shape: (H,W,3); dtype: uint8 or uint16.
    """

    def __init__(self, store: LmdbStore, key: str, value: Any) -> None:
        """Read the header. `value`: buffer under the image's key."""
        self._store, self._key = store, key
        if len(value) < _HEADER.size:
            raise store.damaged(key)
        header = _RawHeader(*_HEADER.unpack_from(value))
        self.shape = (header.height, header.width, header.channels)
        known = (header.magic, header.version) == (_MAGIC, _VERSION) and header.itemsize in _DTYPES
        if not known or 0 in self.shape:
            raise store.damaged(key)
        self.dtype, self.itemsize, self.crc = _DTYPES[header.itemsize], header.itemsize, header.crc
        self._is_whole = not header.band_rows
        self._band_rows = header.band_rows or header.height

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        height, width, channels = self.shape
        top, bottom, _ = window[0].indices(height)
        left, right, _ = window[1].indices(width)
        crop = np.empty((bottom - top, right - left, channels), self.dtype)
        with self._store.transaction() as transaction:
            for start in range(top - top % self._band_rows, bottom, self._band_rows):
                first, last = max(top, start), min(bottom, start + self._band_rows)
                band = self._band(transaction, start)
                crop[first - top : last - top] = band[first - start : last - start, left:right]
        return crop

    def _band(self, transaction: lmdb.Transaction, start: int) -> np.ndarray:
        """View the band that starts at a row; valid within the transaction."""
        height, width, channels = self.shape
        rows = min(self._band_rows, height - start)
        key, offset = (
            (_encoded(self._key), _HEADER.size)
            if self._is_whole
            else (_band_key(_encoded(self._key), start // self._band_rows), 0)
        )
        value: Any = transaction.get(key)
        if value is None or len(value) - offset != rows * width * channels * self.itemsize:
            raise self._store.damaged(self._key)
        return np.frombuffer(value, self.dtype, offset=offset).reshape(rows, width, channels)


def key_of(relative_path: str) -> str:
    """Return the key of a file: its path inside the data set without the last suffix, `a/b.c.png` -> `a/b.c`."""
    return PurePath(relative_path).with_suffix('').as_posix()


def write_lmdb(
    path: str,
    files: Mapping[str, str],
    pairs: Sequence[Pair],
    codec: str,
    *,
    workers: int = 1,
    progress: bool = False,
    about: dict | None = None,
) -> None:
    """Convert image files (key -> file) into the database `path`, which appears when it is complete.

    pairs: pairs of keys; codec: one of `CODECS`; about: stored with the pairs; workers: threads that decode and encode.
    Raises DataError if images are unreadable (all are named), if `path` exists or if it cannot be written; then nothing
    is left behind.
    """
    path = str(Path(path))
    if os.path.lexists(path):
        raise DataError(f'{path}: exists. Remove it, or choose another name')
    description = {'format': _FORMAT, 'codec': codec, 'pairs': pairs, 'about': about or {}}
    try:
        # Flushed once at the end: the folder is new, so that an interruption can lose nothing else.
        with (
            new_folder(path) as folder,
            lmdb.open(str(folder), map_size=_MAP_SIZE, lock=False, sync=False) as environment,
        ):
            unreadable = _write_images(environment, files, codec, workers, progress)
            if unreadable:
                raise DataError(
                    f'{path}: {len(unreadable)} of {len(files)} images cannot be converted: {listed(unreadable)}'
                )
            _put(environment, {_DESCRIPTION_KEY: json.dumps(description).encode()})
            environment.sync(True)
    except (OSError, lmdb.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f'{path}: cannot be written ({reason}). Free space, or choose another folder') from error


def _write_images(
    environment: lmdb.Environment, files: Mapping[str, str], codec: str, workers: int, progress: bool
) -> list[str]:
    """Write all images in the order of their keys. Returns messages about those that cannot be converted."""

    limit = environment.max_key_size() - len(_band_key(b'', 0))

    def converted(key: str) -> dict[bytes, Any] | str:
        if len(_encoded(key)) > limit:
            return f'{files[key]}: its name is longer than {limit} bytes'
        try:
            return _values(_encoded(key), files[key], codec)
        except DataError as error:
            return str(error)

    unreadable = []
    results = map_threads(converted, sorted(files), workers)
    for result in tqdm(results, total=len(files), unit='image', disable=not progress):
        if isinstance(result, str):
            unreadable.append(result)
        else:
            _put(environment, result)
    return unreadable


def _values(key: bytes, path: str, codec: str) -> dict[bytes, Any]:
    """Return the keys and values of an image file. It is always decoded, to find damage before training."""
    content = read_bytes(path)
    image = decode_image(content, path)
    if codec == 'png':
        if not content.startswith(PNG_SIGNATURE):
            content = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        return {key: content}
    pixels = np.ascontiguousarray(image, _DTYPES[image.itemsize])
    height, width, channels = pixels.shape
    crc = zlib.crc32(pixels.data)
    header = _RawHeader(_MAGIC, _VERSION, pixels.itemsize, channels, height, width, crc, BAND_ROWS)
    bands = range(0, height, BAND_ROWS)
    return {
        key: _HEADER.pack(*header),
        **{_band_key(key, k): pixels[start : start + BAND_ROWS].data.cast('B') for k, start in enumerate(bands)},
    }


def _put(environment: lmdb.Environment, values: Mapping[bytes, Any]) -> None:
    """Write values in one transaction, with a larger map if they do not fit."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in values.items():
                    transaction.put(key, value)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()['map_size'])


# Environments opened for reading in this process, by real path. LMDB allows one per file and process, and lmdb >= 2.1
# counts a forked child as the same process: it reads through its parent's, a read-only map without locks.
_environments: dict[str, tuple[lmdb.Environment, tuple[int, int]]] = {}
_opening = threading.Lock()
os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_opening.release)


def _environment(real_path: str, state: tuple[int, int]) -> lmdb.Environment:
    """Open a database once in this process. Raises DataError if its file is not in this state, or truncated."""
    with _opening:
        environment, opened_state = _environments.get(real_path, (None, None))
        if environment is not None and opened_state == state:
            return environment
        try:
            if _file_state(real_path) != state:
                raise DataError(f'{real_path}: the database was replaced since it was opened. Start again')
            environment = None  # closed with the last reference, before the new file is opened
            _environments.pop(real_path, None)
            environment = lmdb.open(real_path, create=False, readonly=True, lock=False, max_spare_txns=4)
        except (OSError, lmdb.Error) as error:
            raise DataError(f'{real_path}: not a readable LMDB database ({error})') from error
        missing = (environment.info()['last_pgno'] + 1) * environment.stat()['psize'] - state[0]
        if missing > 0:  # reading there would kill the process (SIGBUS)
            environment.close()
            raise DataError(f'{_data_file(real_path)}: truncated by {missing} bytes. Copy it or make it again')
        _environments[real_path] = environment, state
        return environment


def _file_state(path: str) -> tuple[int, int]:
    """Return size and modification time of the database file."""
    status = os.stat(_data_file(path))
    return status.st_size, status.st_mtime_ns


def _data_file(path: str) -> str:
    return os.path.join(path, 'data.mdb')


def _band_key(key: bytes, band: int) -> bytes:
    return key + _NUL + struct.pack('>I', band)


def _encoded(key: str) -> bytes:
    return key.encode(errors='surrogateescape')  # file names need not be UTF-8


def _text(key: bytes) -> str:
    return key.decode(errors='surrogateescape')
