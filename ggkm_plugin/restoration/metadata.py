"""What a photograph's file says about it beside its pixels, and how that stays true when they are deblurred.

Orientation: the result is stored upright, so its tags must say so, in EXIF and in XMP, or viewers would turn it twice.
EXIF is changed in place and kept byte by byte otherwise: makers' notes hold offsets that a rewriting would break. The
preview in EXIF shows the blurred photograph, so the link to it is cut.
"""

import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

EXIF_PREFIX = b'Exif\0\0'
_ANYTHING_DAMAGED_TAGS_RAISE = (
    SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, struct.error,
)  # fmt: skip

_ORIENTATION, _SUB_IFD, _GPS = 0x0112, 0x8769, 0x8825
_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
# (format, bytes) of the types of EXIF that hold one whole number
_WHOLE = {3: 'H', 4: 'I'}

_PNG_SIGNATURE = 8  # bytes
# Of PNG: colour, resolution and text. What is left out describes how pixels were stored, or is written anew.
_PNG_KEPT = (b'iCCP', b'sRGB', b'gAMA', b'cHRM', b'cICP', b'mDCV', b'cLLI', b'pHYs', b'tEXt', b'zTXt', b'iTXt')
_HELD_ELSEWHERE = {b'iCCP', b'pHYs', b'sRGB'}  # as profile and resolution; sRGB is what is assumed without one
_PNG_REWRITTEN = (b'XML:com.adobe.xmp\0', b'Raw profile type exif\0', b'Raw profile type APP1\0')
_JPEG_COMMENT, _JPEG_IPTC, _JPEG_APP1 = 0xFE, 0xED, 0xE1
_JPEG_MORE_XMP = b'http://ns.adobe.com/xmp/extension/\0'

# Of TIFF: what describes the photograph, not how its pixels are stored: names, dates, makers, resolution, IPTC, GPS,
# places on the earth, ratings.
_TIFF_KEPT = (
    269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 700, 18246, 18249, 33432, 33550, 33723, 33922, 34264,
    34377, 34665, 34735, 34736, 34737, 34853, 40091, 40092, 40093, 40094, 40095,
)  # fmt: skip


@dataclass(frozen=True)
class Metadata:
    """icc: the profile. exif: from its byte order on, without `Exif` before it. xmp: the packet. dpi: across, down.

    parts: what only a file of the same `container` can hold: PNG chunks and JPEG segments, (name or marker, bytes).
    """

    container: str
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    parts: list[tuple[Any, bytes]] = field(default_factory=list)

    def parts_for(self, container: str) -> list[tuple[Any, bytes]]:
        """The parts, if the photograph is written to the same kind of file."""
        return self.parts if container == self.container else []

    def lost_in(self, container: str) -> list[str]:
        """A line if another kind of file cannot hold some of the parts."""
        several = {name for name, _ in self.parts} - _HELD_ELSEWHERE
        return (
            [f'comments or colours as a {self.container} says them'] if several and container != self.container else []
        )


def read_metadata(image: Image.Image, content: bytes, container: str, size: tuple[int, int]) -> Metadata:
    """From a decoded image and its file; `size` (H,W) is that of the photograph upright."""
    info = image.info
    exif = info.get('exif') or _exif_of_tags(image)
    xmp = info.get('xmp')
    dpi = info.get('dpi')
    parts: list[tuple[Any, bytes]] = []
    if container == 'PNG':
        parts = [
            (name, data)
            for name, data in png_chunks(content)
            if name in _PNG_KEPT and not data.startswith(_PNG_REWRITTEN)
        ]
    elif container == 'JPEG':
        parts = [
            (marker, data)
            for marker, data, _ in jpeg_segments(content)
            if marker in (_JPEG_COMMENT, _JPEG_IPTC) or (marker == _JPEG_APP1 and data.startswith(_JPEG_MORE_XMP))
        ]
    return Metadata(
        container,
        icc=info.get('icc_profile') or None,
        exif=upright_exif(exif.removeprefix(EXIF_PREFIX), size) if exif else None,
        xmp=_upright_xmp(xmp.encode() if isinstance(xmp, str) else xmp) if xmp else None,
        dpi=dpi if dpi and min(dpi) > 1 else None,  # 1 is how files without a resolution say so
        parts=parts,
    )


def tags_of(image: Image.Image) -> Image.Exif:
    """The image's EXIF, or tags of a TIFF; none where they are damaged."""
    try:
        return image.getexif()
    except (*_ANYTHING_DAMAGED_TAGS_RAISE, OSError):
        return Image.Exif()


def _exif_of_tags(image: Image.Image) -> bytes | None:
    """EXIF that is not stored as such: in the tags of a TIFF, or in PNG's text."""
    exif = tags_of(image)
    kept = Image.Exif()
    kept.endian = exif.endian
    for tag, value in exif.items():
        if image.format != 'TIFF' or tag in _TIFF_KEPT:
            kept[tag] = exif.get_ifd(tag) if tag in (_SUB_IFD, _GPS) else value
    kept.pop(700, None)  # XMP, which has its own place
    try:
        return kept.tobytes() if len(kept) else None
    except _ANYTHING_DAMAGED_TAGS_RAISE:
        return None


def upright_exif(exif: bytes, size: tuple[int, int]) -> bytes:
    """EXIF that says orientation 1 and the `size` (H,W), without its preview; what cannot be read is left as it is."""
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(exif[:4])
    if order is None:
        return exif
    changed = bytearray(exif)
    height, width = size
    values = {_ORIENTATION: 1, **dict.fromkeys(_WIDTHS, width), **dict.fromkeys(_HEIGHTS, height)}
    with suppress(struct.error):
        (first,) = struct.unpack_from(f'{order}I', exif, 4)
        for start in [first, *_sub_directories(exif, order, first)]:
            for tag, kind, place in _entries(exif, order, start):
                if tag in values and kind in _WHOLE and values[tag] < 1 << 8 * struct.calcsize(_WHOLE[kind]):
                    struct.pack_into(order + _WHOLE[kind], changed, place, values[tag])
        (count,) = struct.unpack_from(f'{order}H', exif, first)
        struct.pack_into(f'{order}I', changed, first + 2 + 12 * count, 0)  # the next directory is the preview's
    return bytes(changed)


def _entries(exif: bytes, order: str, start: int) -> Iterator[tuple[int, int, int]]:
    """(tag, type, place of the value) of a directory's entries. Raises struct.error where the data ends."""
    (count,) = struct.unpack_from(f'{order}H', exif, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, _ = struct.unpack_from(f'{order}HHI', exif, place)
        yield tag, kind, place + 8


def _sub_directories(exif: bytes, order: str, start: int) -> list[int]:
    return [
        struct.unpack_from(f'{order}I', exif, place)[0]
        for tag, kind, place in _entries(exif, order, start)
        if tag == _SUB_IFD and kind in _WHOLE
    ]


def _upright_xmp(xmp: bytes) -> bytes:
    return re.sub(rb'(tiff:Orientation(?:\s*=\s*["\']|>)\s*)[2-8]', rb'\g<1>1', xmp)


def tiff_tags(metadata: Metadata) -> Image.Exif:
    """Tags for a TIFF: the EXIF, with profile, XMP and resolution; as many of them as can be read."""
    tags = Image.Exif()
    if metadata.exif:
        with suppress(*_ANYTHING_DAMAGED_TAGS_RAISE), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow's remarks on damage
            tags.load(EXIF_PREFIX + metadata.exif)
            for tag in list(tags):
                if tag not in _TIFF_KEPT:
                    del tags[tag]
                elif tag in (_SUB_IFD, _GPS):
                    tags[tag] = tags.get_ifd(tag)
    for tag, value in ((34675, metadata.icc), (700, metadata.xmp)):
        if value:
            tags[tag] = value
    if metadata.dpi and 282 not in tags:
        tags[282], tags[283], tags[296] = *metadata.dpi, 2
    return tags


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, data) of a PNG's chunks, up to where the file ends."""
    place = _PNG_SIGNATURE
    while place + 8 <= len(content):
        (length,) = struct.unpack_from('>I', content, place)
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += 12 + length


def jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(marker, data, where it begins) of a JPEG's segments before its pixels."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF and content[place + 1] != 0xDA:
        if content[place + 1] == 0xFF:  # a byte of filling
            place += 1
            continue
        (length,) = struct.unpack_from('>H', content, place + 2)
        yield content[place + 1], content[place + 4 : place + 2 + length], place
        place += 2 + max(length, 2)
