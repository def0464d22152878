"""One LMDB database per split: its images and which belong together. Written here, and read without copying.

A value is an encoded file (codec `png`) or a header and the bare pixels (codec `raw`), of which a crop touches only the
pages of its rows. The record that says which pairs there are is written last: a database without it is unfinished.
Databases made by basicsr, which have a `meta_info.txt` instead, are read too.
"""

import json
import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import cv2
import lmdb
import numpy as np
from tqdm import tqdm

from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.lmdb_pages import ValueMap
from ggkm_plugin.utils.errors import DataError, OptionError, listed
from ggkm_plugin.utils.image_decoding import PNG_SIGNATURE, decode_image, read_bytes

CODECS = ('png', 'raw')

_FORMAT = 1
# Keys of images are paths, and no path has a NUL in it.
_RESERVED = b'\0'
_ABOUT = _RESERVED + b'about'
# Of a raw value: magic, version, bytes per value, channels, height, width, CRC-32 of the pixels; then the pixels in
# rows, RGB, little endian. 32 bytes, so that 16-bit values lie at even addresses.
_HEADER = struct.Struct('<4sBBHIII12x')
_MAGIC = b'GGKM'
_DTYPES: dict[int, np.dtype] = {1: np.dtype('u1'), 2: np.dtype('<u2')}
# Bytes of images that a transaction takes: what an interruption loses, and what the writer holds in memory.
_COMMIT_BYTES = 64 * 2**20
_MAP_SLACK = 16 * 2**20

_Identity = tuple[int, int]  # size in bytes and time of change in nanoseconds of a data.mdb


class _Opened(NamedTuple):
    """A database opened for reading in this process."""

    environment: lmdb.Environment
    values: ValueMap | None  # where the values lie; None if LMDB's file format is unknown: they are read as a whole
    identity: _Identity


# Of this process, by real path. LMDB allows one environment for a file and process, and lmdb >= 2.1 counts a fork as
# the same process: a child reads through its parent's, which without locks is only a shared read-only map.
_OPEN: dict[str, _Opened] = {}
_OPENING = threading.Lock()
os.register_at_fork(before=_OPENING.acquire, after_in_parent=_OPENING.release, after_in_child=_OPENING.release)


class LmdbStore:
    """The images of a database by key. Holds no handle itself: may be pickled and sent to any worker at any time.

    `pairs` are of keys, and empty for a database made by basicsr; `codec` is one of `CODECS`; `about` is what the
    writer was given. Raises DataError if there is no database, or if it is cut off, unfinished or unreadable.
    """

    def __init__(self, path: str) -> None:
        self.path = str(Path(path))
        self._real_path = os.path.realpath(path)
        if not os.path.isfile(_data_file(self._real_path)):
            raise DataError(f'{path}: no LMDB database there (a folder with the file data.mdb)')
        self._identity = _identity(self._real_path)
        self.codec, self.pairs, self.about = 'png', [], {}  # type: str, list[Pair], dict[str, Any]
        try:
            self._describe()
        except DataError:
            _OPEN.pop(self._real_path, None)  # an unfinished one may be opened next to go on with it
            raise

    @property
    def keys(self) -> list[str]:
        """The keys of all images, sorted."""
        with self._transaction() as transaction:
            return [_text(key) for key in _image_keys(transaction)]

    @contextmanager
    def image(self, key: str) -> Iterator[np.ndarray]:
        """(H,W,3) RGB uint8 or uint16; of codec `raw` a read-only view of the file, valid within the context.

        Raises DataError if there is no such image or its value is damaged; the pixels of `raw` are not checked.
        """
        if self.codec == 'raw':
            yield self._unpacked(key)[0]
        else:
            yield self._decoded(key)

    def read_ahead(self, key: str, rows: slice) -> None:
        """Tell that of an image, which is open, these rows will be used: of codec `raw`, the disk reads no others."""
        values = self._opened().values
        if self.codec == 'raw' and values is not None:
            row = self._unpacked(key)[0].strides[0]
            values.read_ahead(_bytes(key), _HEADER.size + rows.start * row, (rows.stop - rows.start) * row)

    def check(self, key: str) -> None:
        """Read all of an image. Raises DataError if its checksum (`raw`) or its encoding (`png`) is damaged."""
        if self.codec == 'png':
            self._decoded(key)
            return
        pixels, checksum = self._unpacked(key)
        if zlib.crc32(pixels.data) != checksum:
            raise self._damaged(key)

    def _opened(self) -> _Opened:
        opened = _OPEN.get(self._real_path)
        if opened is None or opened.identity != self._identity:
            opened = _open(self._real_path, self._identity)
        if opened.values is not None and opened.values.is_cut_off:
            raise DataError(f'{self.path}: the database was cut off while it was read; make it again, and start again')
        return opened

    @contextmanager
    def _transaction(self) -> Iterator[lmdb.Transaction]:
        try:
            with self._opened().environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise DataError(f'{self.path}: the database is damaged ({error}); make it again') from error

    def _value(self, key: str) -> bytes | None:
        with self._transaction() as transaction:
            content: Any = transaction.get(_bytes(key))
        return content

    def _decoded(self, key: str) -> np.ndarray:
        content = self._value(key)
        if content is None:
            raise self._missing(key)
        return decode_image(content, f'{self.path}/{key}')

    def _unpacked(self, key: str) -> tuple[np.ndarray, int]:
        """The pixels of a raw value, as a view, and the checksum that they should have."""
        values = self._opened().values
        value: bytes | memoryview | None = self._value(key) if values is None else values.value(_bytes(key))
        if value is None:
            raise self._missing(key)
        if len(value) < _HEADER.size:
            raise self._damaged(key)
        magic, version, itemsize, channels, height, width, checksum = _HEADER.unpack_from(value)
        size = _HEADER.size + height * width * channels * itemsize
        if (magic, version) != (_MAGIC, _FORMAT) or itemsize not in _DTYPES or len(value) != size:
            raise self._damaged(key)
        pixels = np.frombuffer(value, _DTYPES[itemsize], offset=_HEADER.size)
        return pixels.reshape(height, width, channels), checksum

    def _missing(self, key: str) -> DataError:
        return DataError(f'{self.path}: no image {key!r} in this database')

    def _damaged(self, key: str) -> DataError:
        return DataError(f'{self.path}: the image {key!r} is damaged; make the database again')

    def _describe(self) -> None:
        with self._transaction() as transaction:
            record: Any = transaction.get(_ABOUT)
            entries = transaction.stat()['entries']
        if record is None:
            self._check_basicsr(entries)
        else:
            self._read_about(record)

    def _check_basicsr(self, entries: int) -> None:
        try:
            lines = len(Path(self.path, 'meta_info.txt').read_text(errors='replace').splitlines())
        except OSError:
            raise DataError(
                f'{self.path}: an unfinished database: its conversion was interrupted; run the conversion again'
            ) from None
        if entries < lines:
            raise DataError(
                f'{self.path}: {entries} images, but its meta_info.txt lists {lines}: its conversion was interrupted, '
                'or files share the name up to the first dot, which is all that basicsr keeps; make it again'
            )

    def _read_about(self, record: bytes) -> None:
        try:
            content = json.loads(record)
            if content['format'] == _FORMAT and content['codec'] in CODECS:
                self.codec, self.about = content['codec'], content['about']
                self.pairs = [Pair(*pair) for pair in content['pairs']]
                return
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{self.path}: its description is damaged ({error}); make the database again') from error
        raise DataError(
            f'{self.path}: of format {content["format"]}, codec {content["codec"]!r}, which this version does not know '
            f'(format {_FORMAT}, {", ".join(CODECS)}); make the database again'
        )


def key_of(relative_path: str) -> str:
    """The key of a file: its path inside the data set without the last suffix, `a/b.c.png` -> `a/b.c`."""
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

    Until then it is `path`.part. An interrupted conversion goes on where it stopped, if what it has stored is still
    wanted: the same keys, files of the same size and time of change, the same codec. `pairs` are of keys; `about` is
    kept beside them. `workers` threads decode and encode (OpenCV and zlib leave Python's lock free meanwhile).

    Raises DataError, naming all of them, if images are unreadable; if `path` exists, which is left as it is; if it
    cannot be written or the disk is full. OptionError for another codec.
    """
    if codec not in CODECS:
        raise OptionError(f'codec is one of {", ".join(CODECS)}, not {codec!r}')
    path = str(Path(path))
    if os.path.lexists(path):
        raise DataError(f'{path} exists and is left as it is; remove it, or choose another name')
    strangers = sorted({key for pair in pairs for key in pair if key is not None} - set(files))
    if strangers:
        raise DataError(f'{path}: pairs of images that are not among its files: {listed(strangers)}')
    part = f'{path}.part'
    try:
        os.makedirs(part, exist_ok=True)
    except OSError as error:
        raise DataError(f'{part}: cannot be made ({error.strerror}); choose a folder that can be written') from error
    try:
        with _claimed(part), _writable(part, _Job(codec, files)) as environment:
            broken = _store_images(environment, files, codec, workers, progress)
            if broken:
                raise DataError(
                    f'{len(broken)} of {len(files)} images cannot be converted: {listed(broken)}. The others are kept '
                    f'in {part}: put these right and run the same again'
                )
            _store(environment, {_ABOUT: _description(codec, pairs, about or {})})
        os.replace(part, path)
        os.unlink(_job_file(path))
    except (OSError, lmdb.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(
            f'{path}: cannot be written ({reason}). What is converted so far is kept in {part}: make room, or make the '
            'folder writable, and run the same again'
        ) from error


class _Job:
    """What an unfinished database is made from, so that another run can tell whether to go on with it."""

    def __init__(self, codec: str, files: Mapping[str, str]) -> None:
        self.codec = codec
        self.sources: dict[str, list[int]] = {}
        for key, path in files.items():
            with suppress(OSError):  # a missing file is told when its turn comes
                status = os.stat(path)
                self.sources[key] = [status.st_size, status.st_mtime_ns]

    def write(self, part: str) -> None:
        Path(_job_file(part)).write_text(json.dumps({'codec': self.codec, 'sources': self.sources}))

    def goes_on_with(self, part: str, stored: Iterable[str]) -> bool:
        """Whether all that an interrupted conversion has stored is as this one would store it."""
        try:
            earlier = json.loads(Path(_job_file(part)).read_text())
            return earlier['codec'] == self.codec and all(
                key in self.sources and earlier['sources'][key] == self.sources[key] for key in stored
            )
        except (OSError, ValueError, LookupError, TypeError):
            return False


@contextmanager
def _claimed(part: str) -> Iterator[None]:
    """Raises DataError if another process writes there. The kernel ends the claim with the process, however it ends."""
    import fcntl

    folder = os.open(part, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f'{part}: another process is writing there; wait for it to end') from None
        yield
    finally:
        os.close(folder)


@contextmanager
def _writable(part: str, job: _Job) -> Iterator[lmdb.Environment]:
    """The unfinished database, emptied unless `job` can go on with it; cut to what it holds at the end."""
    environment = _reopened(part)
    if environment is not None:
        with environment.begin() as transaction:
            stored = [_text(key) for key in _image_keys(transaction)]
        if not job.goes_on_with(part, stored):
            environment.close()
            environment = None
    if environment is None:
        for name in (_data_file(part), _job_file(part)):
            with suppress(FileNotFoundError):
                os.unlink(name)
        environment = _open_for_writing(part)
    try:
        job.write(part)
        yield environment
    finally:
        used = _used_bytes(environment)
        environment.close()
    os.truncate(_data_file(part), used)  # a transaction that was cut short may have left its pages behind the end


def _reopened(part: str) -> lmdb.Environment | None:
    """What an interrupted conversion left, or None if that is nothing or damaged."""
    if not os.path.isfile(_data_file(part)):
        return None
    try:
        environment = _open_for_writing(part)
    except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError):
        return None
    if _used_bytes(environment) <= os.path.getsize(_data_file(part)):
        return environment
    environment.close()
    return None


def _open_for_writing(part: str) -> lmdb.Environment:
    size = os.path.getsize(_data_file(part)) if os.path.isfile(_data_file(part)) else 0
    return lmdb.open(part, map_size=size + _MAP_SLACK, lock=False)


def _store_images(
    environment: lmdb.Environment, files: Mapping[str, str], codec: str, workers: int, progress: bool
) -> list[str]:
    """Add the images that are not there yet, in the order of their keys. Returns what is wrong with the others."""
    limit = environment.max_key_size()
    with environment.begin() as transaction:
        stored = {_text(key) for key in _image_keys(transaction)}
    waiting = sorted(set(files) - stored)
    batch: dict[bytes, bytes] = {}
    size, broken = 0, []
    with tqdm(total=len(files), initial=len(stored), unit='image', disable=not progress) as bar:
        for key, value in _encoded(waiting, files, codec, workers):
            bar.update()
            if isinstance(value, DataError):
                broken.append(str(value))
                continue
            if len(_bytes(key)) > limit:
                broken.append(f'{files[key]}: its name is longer than the {limit} bytes of a key')
                continue
            batch[_bytes(key)] = value
            size += len(value)
            if size >= _COMMIT_BYTES:
                _store(environment, batch)
                batch, size = {}, 0
    _store(environment, batch)
    return broken


def _encoded(
    keys: Sequence[str], files: Mapping[str, str], codec: str, workers: int
) -> Iterator[tuple[str, bytes | DataError]]:
    """Key and value in the order of the keys; the fault instead of the value where a file is unreadable."""
    waiting = iter(keys)
    running: deque[tuple[str, Future[bytes]]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            while True:
                # Few are under way at a time, so that memory does not depend on the number of images.
                while len(running) < 2 * max(1, workers) and (key := next(waiting, None)) is not None:
                    running.append((key, pool.submit(_value, files[key], codec)))
                if not running:
                    return
                key, future = running.popleft()
                try:
                    value: bytes | DataError = future.result()
                except DataError as error:
                    value = error
                yield key, value
        finally:
            for _, future in running:
                future.cancel()


def _value(path: str, codec: str) -> bytes:
    """What is stored of a file, which is decoded in any case: what cannot be read is told now, not in training."""
    content = read_bytes(path)
    image = decode_image(content, path)
    if codec == 'png':
        if content.startswith(PNG_SIGNATURE):
            return content
        return cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    height, width, channels = image.shape
    pixels = np.ascontiguousarray(image, _DTYPES[image.itemsize])
    header = _HEADER.pack(_MAGIC, _FORMAT, image.itemsize, channels, height, width, zlib.crc32(pixels.data))
    return b''.join((header, pixels.data.cast('B')))


def _store(environment: lmdb.Environment, values: Mapping[bytes, bytes]) -> None:
    """Put all of them in one transaction; the map grows to what they need."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in values.items():
                    transaction.put(key, value)
            return
        except lmdb.MapFullError:
            needed = sum(map(len, values.values())) + _MAP_SLACK
            environment.set_mapsize(environment.info()['map_size'] + needed)


def _description(codec: str, pairs: Sequence[Pair], about: dict) -> bytes:
    return json.dumps({'format': _FORMAT, 'codec': codec, 'pairs': pairs, 'about': about}).encode()


def _open(real_path: str, identity: _Identity) -> _Opened:
    """A database that is as it was when `identity` was taken, opened once in this process."""
    with _OPENING:
        opened = _OPEN.get(real_path)
        if opened is not None and opened.identity == identity:  # another thread was faster
            return opened
        try:
            if _identity(real_path) != identity:
                raise DataError(f'{real_path}: the database was replaced since it was opened; start again')
            # What was replaced is closed when its last transaction ends; LMDB would refuse a file changed in place.
            _OPEN.pop(real_path, None)
            opened = None
            # With readahead, LMDB's default: encoded images are read as a whole, without it a page at a time.
            environment = lmdb.open(real_path, create=False, readonly=True, lock=False, max_spare_txns=4)
        except (OSError, lmdb.Error) as error:
            raise DataError(f'{real_path}: not a readable LMDB database ({error})') from error
        missing = _used_bytes(environment) - identity[0]
        if missing > 0:  # reading there would end the process with a bus error
            environment.close()
            raise DataError(
                f'{_data_file(real_path)}: cut off, the last {missing} bytes are missing; copy it again, or make it '
                'again'
            )
        try:
            values = ValueMap(_data_file(real_path))
        except DataError:  # a ValueError too
            environment.close()
            raise
        except ValueError:
            values = None
        _OPEN[real_path] = opened = _Opened(environment, values, identity)
        return opened


def _image_keys(transaction: lmdb.Transaction) -> Iterator[bytes]:
    cursor: Any = transaction.cursor().iternext(values=False)
    return (key for key in cursor if not key.startswith(_RESERVED))


def _used_bytes(environment: lmdb.Environment) -> int:
    return (environment.info()['last_pgno'] + 1) * environment.stat()['psize']


def _identity(path: str) -> _Identity:
    status = os.stat(_data_file(path))
    return status.st_size, status.st_mtime_ns


def _data_file(path: str) -> str:
    return os.path.join(path, 'data.mdb')


def _job_file(path: str) -> str:
    return os.path.join(path, 'job.json')


def _bytes(key: str) -> bytes:
    return key.encode(errors='surrogateescape')  # file names may be no UTF-8


def _text(key: bytes) -> str:
    return key.decode(errors='surrogateescape')
