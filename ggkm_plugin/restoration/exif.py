"""EXIF and TIFF tags that stay true for a restored photograph.

EXIF is changed in place: maker notes hold offsets that break when a library writes the block anew.
"""

import io
import struct
import warnings
from contextlib import suppress

from PIL import Image

PREFIX = b'Exif\0\0'

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
# TIFF tags of the photograph, not of its storage: names, dates, camera, resolution, IPTC, GPS, georeference, rating.
_KEPT = (
    269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 18246, 18249, 33432, 33550, 33723, 33922, 34264, 34377,
    34665, 34735, 34736, 34737, 34853, 40091, 40092, 40093, 40094, 40095,
)  # fmt: skip


def exif_of_tags(content: bytes, picture: int | None = None) -> bytes | None:
    """Make EXIF from the tags of a TIFF, see `photograph_tags`."""
    with suppress(Exception):
        tags = photograph_tags(content, picture)
        return tags.tobytes() if len(tags) else None
    return None


def photograph_tags(content: bytes, picture: int | None = None) -> Image.Exif:
    """Read the tags of a TIFF or of EXIF that describe the photograph; none where they are damaged.

    picture: the offset of a further directory, whose tags replace those of the first.
    """
    tags, kept = Image.Exif(), Image.Exif()
    with suppress(Exception), warnings.catch_warnings():  # damaged tags raise anything
        warnings.simplefilter('ignore')
        for offset in (None, picture) if picture else (None,):
            tags.load_from_fp(io.BytesIO(content), offset)
            kept.endian = tags.endian
            for tag in tags:
                if tag in _KEPT:
                    kept[tag] = tags.get_ifd(tag) if tag in (_EXIF_IFD, _GPS_IFD) else tags[tag]
    return kept


def upright_exif(exif: bytes, size: tuple[int, ...]) -> bytes:
    """Set orientation 1 and the `size` (H,W) in EXIF, and unlink its thumbnail. Other bytes stay as they are."""
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(exif[:4])
    if order is None:
        return exif
    changed = bytearray(exif)
    values = {0x0112: 1, 0x0100: size[1], 0xA002: size[1], 0x0101: size[0], 0xA003: size[0]}
    with suppress(struct.error):  # damaged: up to there
        (first,) = struct.unpack_from(f'{order}I', exif, 4)
        directories = [first]
        for start in directories:
            (count,) = struct.unpack_from(f'{order}H', exif, start)
            for place in range(start + 2, start + 2 + 12 * count, 12):
                tag, kind = struct.unpack_from(f'{order}HH', exif, place)
                if tag in values and kind in (3, 4):  # SHORT, LONG
                    struct.pack_into(order + {3: 'H', 4: 'I'}[kind], changed, place + 8, values[tag])
                elif tag == _EXIF_IFD and start == first:
                    directories += struct.unpack_from(f'{order}I', exif, place + 8)
        (count,) = struct.unpack_from(f'{order}H', exif, first)
        struct.pack_into(f'{order}I', changed, first + 2 + 12 * count, 0)
    return bytes(changed)
