"""Size and bit depth of image files from their headers, and a check that files are complete."""

import io
import os
import struct
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.image_decoding import PNG_SIGNATURE, decode_image

_JPEG, _BMP = b'\xff\xd8', b'BM'
# Pixels that are stored in a TIFF file: (offsets, sizes) of strips, and of tiles.
_TIFF_PARTS = ((273, 279), (324, 325))


class Header(NamedTuple):
    """Shape and dtype of an image when decoded."""

    shape: tuple[int, int, int]  # (H,W,3)
    dtype: np.dtype  # uint8 or uint16

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize


def read_header(path: str) -> Header:
    """Read the header of an image file. Raises DataError if the file is not an image, or truncated."""
    try:
        with open(path, 'rb') as file:
            return _checked(file, os.fstat(file.fileno()).st_size, path)
    except OSError as error:
        raise DataError(f'{path}: {error.strerror or error}') from error


def header_of(content: bytes, name: str) -> Header:
    """Return the header of an encoded image in memory. Raises DataError like `read_header`."""
    return _checked(io.BytesIO(content), len(content), name)


def _checked(file: BinaryIO, size: int, name: str) -> Header:
    """Compare the end of a file with what its format demands, and decode the files that fail this."""
    try:
        header, complete = _parsed(file, size)
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, Image.DecompressionBombError):
        complete = False
    if complete:
        return header
    file.seek(0)
    image = decode_image(file.read(), name)
    return _header(image.shape[0], image.shape[1], 8 * image.itemsize)


def _parsed(file: BinaryIO, size: int) -> tuple[Header, bool]:
    """Return the header of an image, and whether its end is there."""
    start = file.read(33)
    file.seek(max(0, size - 12))
    end = file.read()
    if start.startswith(PNG_SIGNATURE):
        width, height, depth = struct.unpack_from('>IIB', start, 16)
        return _header(height, width, depth), end[-8:-4] == b'IEND'
    file.seek(0)
    with Image.open(file) as image:
        (width, height), depth, complete = image.size, 8, True
        if start.startswith(_JPEG):
            complete = end.endswith(b'\xff\xd9')
            if image.getexif().get(0x0112, 1) > 4:  # OpenCV turns the image
                width, height = height, width
        elif image.format == 'TIFF':
            tags = image.tag_v2  # type: ignore[attr-defined]
            depth = max(tags.get(258, (1,)))
            parts = [zip(tags[at], tags[of], strict=True) for at, of in _TIFF_PARTS if at in tags and of in tags]
            complete = all(offset + length <= size for part in parts for offset, length in part)
        elif start.startswith(_BMP):
            complete = struct.unpack_from('<I', start, 2)[0] <= size
        elif image.format == 'WEBP':
            complete = struct.unpack_from('<I', start, 4)[0] + 8 <= size
    return _header(height, width, depth), complete


def _header(height: int, width: int, depth: int) -> Header:
    return Header((height, width, 3), np.dtype(np.uint16 if depth == 16 else np.uint8))
