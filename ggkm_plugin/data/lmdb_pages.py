"""Where the values of an LMDB file lie, so that a part of one can be read.

py-lmdb reads every page of a value that it hands out, even of one that is handed out as a view. So this walks through
the B-tree once and maps the file itself. The layout is that of LMDB 0.9 (file format 1) on 64-bit little-endian
machines; the file must not change meanwhile.
"""

import mmap
import struct
from collections.abc import Iterator

from ggkm_plugin.utils.errors import DataError

_PAGE_HEADER = struct.Struct('<8x2xHHH')  # flags, end of the node pointers, start of the nodes
_NODE_HEADER = struct.Struct('<HHHH')  # low and high half of a size (leaf) or page number (branch), flags, key size
_PAGE_NUMBER = struct.Struct('<Q')
# Magic, version, address, map size; of the table of free pages its page size; of the main table its entries and root;
# last page, transaction.
_META = struct.Struct('<II16xI44x32xQQQQ')
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF = 1, 2
_IN_OVERFLOW_PAGES = 1


class ValueMap:
    """A database file in memory, and offset and length in it of each value.

    Raises ValueError for another format, DataError if the tree is damaged: LMDB would end the process there.
    """

    def __init__(self, path: str) -> None:
        with open(path, 'rb') as file:
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Each crop asks for its own rows (`read_ahead`): what the system guesses ahead, megabytes, is the rest of
        # the image.
        self._file.madvise(mmap.MADV_RANDOM)
        first = self._meta(0)
        self._page_size = first[2]
        second = self._meta(self._page_size)
        *_, entries, root, _, _ = max(first, second, key=lambda meta: meta[-1])
        try:
            self._places = {bytes(key): place for key, place in self._walk(root)} if entries else {}
        except (struct.error, OverflowError, RecursionError) as error:  # pointers out of the file, or in a circle
            raise DataError(f'{path}: the database is damaged ({error}); make it again') from error
        if len(self._places) != entries:
            raise ValueError(f'{len(self._places)} values found of {entries}')

    @property
    def is_cut_off(self) -> bool:
        """Whether the file has become shorter than what is mapped: to read there would end the process."""
        return self._file.size() < len(self._file)

    def value(self, key: bytes) -> memoryview | None:
        """A read-only view of the value; it keeps the file mapped. None if there is none."""
        place = self._places.get(key)
        return None if place is None else memoryview(self._file)[place[0] : place[0] + place[1]]

    def read_ahead(self, key: bytes, start: int, length: int) -> None:
        """Ask the system for a stretch of a value: one request to the disk in place of one for each page."""
        begin = self._places[key][0] + start
        aligned = begin - begin % mmap.PAGESIZE
        self._file.madvise(mmap.MADV_WILLNEED, aligned, begin + length - aligned)

    def _meta(self, offset: int) -> tuple[int, ...]:
        try:
            meta = _META.unpack_from(self._file, offset + _PAGE_HEADER.size)
        except struct.error as error:
            raise ValueError(str(error)) from error
        if meta[:2] != (_MAGIC, _VERSION):
            raise ValueError(f'format {meta[1]}')
        return meta

    def _walk(self, page: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
        """Key, offset and length of all values below a page."""
        base = page * self._page_size
        kind, pointers_end, _ = _PAGE_HEADER.unpack_from(self._file, base)
        count = (pointers_end - _PAGE_HEADER.size) // 2
        for pointer in struct.unpack_from(f'<{count}H', self._file, base + _PAGE_HEADER.size):
            node = base + pointer
            low, high, flags, key_size = _NODE_HEADER.unpack_from(self._file, node)
            content = node + _NODE_HEADER.size + key_size
            if content > base + self._page_size:
                raise struct.error(f'page {page}: a node lies outside')
            if kind & _BRANCH:
                yield from self._walk(low | high << 16 | flags << 32)
            elif kind & _LEAF:
                if flags & _IN_OVERFLOW_PAGES:
                    (overflow,) = _PAGE_NUMBER.unpack_from(self._file, content)
                    content = overflow * self._page_size + _PAGE_HEADER.size
                yield (
                    self._file[node + _NODE_HEADER.size : node + _NODE_HEADER.size + key_size],
                    (
                        content,
                        low | high << 16,
                    ),
                )
            else:
                raise ValueError(f'page {page} of kind {kind}')
