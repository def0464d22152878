"""Size and bit depth of image files, from the headers of PNG and JPEG, and a check that files are complete."""

import io
import os
import struct
from contextlib import suppress
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.image_decoding import PNG_SIGNATURE, decode_image


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
    """Read the header of a whole PNG or JPEG file, and decode all others."""
    start = file.read(33)
    file.seek(max(0, size - 12))
    end = file.read()
    file.seek(0)
    if start.startswith(PNG_SIGNATURE) and len(start) == 33 and end[-8:-4] == b'IEND':
        width, height, depth = struct.unpack_from('>IIB', start, 16)
        return Header((height, width, 3), np.dtype(np.uint16 if depth == 16 else np.uint8))
    if start.startswith(b'\xff\xd8') and end.endswith(b'\xff\xd9'):
        # Damaged EXIF data raises the last two.
        refused = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, TypeError, struct.error)
        with suppress(*refused), Image.open(file) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) > 4:  # OpenCV turns the image
                width, height = height, width
            return Header((height, width, 3), np.dtype(np.uint8))
        file.seek(0)
    pixels = decode_image(file.read(), name)
    return Header((pixels.shape[0], pixels.shape[1], 3), pixels.dtype)
