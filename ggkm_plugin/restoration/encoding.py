"""From pixels and metadata to the bytes of a JPEG, PNG, TIFF, WebP or BMP file, and what had to be left out.

PNG and TIFF are put together here, because neither Pillow nor OpenCV writes 16 bits with a profile and EXIF.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image

from ggkm_plugin.restoration.metadata import EXIF_PREFIX, Metadata, jpeg_segments, tiff_tags
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.image_decoding import PNG_SIGNATURE

# Results are no coarser than this where the source leaves it open, and JPEGs no coarser than their sources either.
QUALITY = 95

_STRIP_BYTES = 1 << 20  # of a TIFF, before compression
_MOST_ON_A_SCREEN = 50_000_000  # pixels
_LONGEST_JPEG = 65_500
_COMPRESSION_LEVEL = 6  # zlib's default


class Encoded(NamedTuple):
    """A file's bytes, and a line for each thing that it cannot hold."""

    content: bytes
    lost: list[str]


def encode(pixels: np.ndarray, metadata: Metadata, suffix: str, like: dict[str, Any]) -> Encoded:
    """A file of the kind that `suffix` names (.jpg, .png, ...) from (H,W,C) uint8 or uint16: C = 1 grey, 2 grey and
    alpha, 3 RGB, 4 RGB and alpha.

    like: how the source was encoded, see `image_files.Photograph`. Raises DataError if it cannot be encoded.
    """
    kind = KINDS[suffix.lower()]
    try:
        return _WRITERS[kind](pixels, metadata, like)
    except (OSError, ValueError, struct.error, OverflowError) as error:  # too large for the format, above all
        raise DataError(f'cannot be encoded as {kind}: {error}') from error


def jpeg(pixels: np.ndarray, metadata: Metadata, like: dict[str, Any]) -> Encoded:
    pixels, lost = _eight_bits(pixels, [])
    if pixels.shape[2] in (2, 4):
        pixels, lost = pixels[..., :-1], [*lost, 'alpha']
    tables = _fine_tables()
    options: dict[str, Any] = {'quality': QUALITY, 'subsampling': 0}
    if 'tables' in like:
        own = like['tables']  # of luminance, and of colour if there is any
        finest = [
            [min(pair) for pair in zip(table, tables[min(index, 1)], strict=True)] for index, table in own.items()
        ]
        options = {'qtables': finest, 'subsampling': like['subsampling'], 'progressive': like['progressive']}
    kept: dict[str, Any] = {'icc_profile': metadata.icc}
    for name, prefix in (('exif', EXIF_PREFIX), ('xmp', b'')):
        value = getattr(metadata, name)
        if value and len(value) > 65_000:
            lost.append(name.upper())
        elif value:
            kept[name] = prefix + value
    if metadata.dpi:
        kept['dpi'] = tuple(round(value) for value in metadata.dpi)
    content = _saved(pixels, 'JPEG', optimize=True, **options, **kept)
    parts = metadata.parts_for('JPEG')
    if parts:
        more = b''.join(struct.pack('>BBH', 0xFF, marker, len(data) + 2) + data for marker, data in parts)
        place = next(start for marker, _, start in jpeg_segments(content) if not 0xE0 <= marker <= 0xEF)
        content = content[:place] + more + content[place:]
    return Encoded(content, lost)


def picture(pixels: np.ndarray, icc: bytes | None) -> bytes:
    """A JPEG for the screen, on white where pixels are transparent, and halved until phones can show it."""
    pixels, _ = _eight_bits(pixels, [])
    if pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1:].astype(np.uint16)
        pixels = ((pixels[..., :-1] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    while pixels.shape[0] * pixels.shape[1] > _MOST_ON_A_SCREEN or max(pixels.shape[:2]) > _LONGEST_JPEG:
        size = (max(1, pixels.shape[1] // 2), max(1, pixels.shape[0] // 2))
        pixels = np.atleast_3d(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    return _saved(pixels, 'JPEG', quality=QUALITY, subsampling=0, **({'icc_profile': icc} if icc else {}))


def _fine_tables() -> list[list[int]]:
    """The quantisation of `QUALITY`: for luminance and colour."""
    example = Image.open(io.BytesIO(_saved(np.zeros((8, 8, 3), np.uint8), 'JPEG', quality=QUALITY)))
    return [list(table) for table in example.quantization.values()]  # type: ignore[attr-defined]


def png(pixels: np.ndarray, metadata: Metadata, like: dict[str, Any]) -> Encoded:
    height, width, channels = pixels.shape
    bits = 8 * pixels.itemsize
    chunks = [(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0))]
    parts = metadata.parts_for('PNG')
    chunks += parts
    names = [name for name, _ in parts]
    if metadata.icc and b'iCCP' not in names:
        chunks.append((b'iCCP', b'profile\0\0' + zlib.compress(metadata.icc)))
    if metadata.dpi and b'pHYs' not in names:
        chunks.append((b'pHYs', struct.pack('>IIB', *(round(value / 0.0254) for value in metadata.dpi), 1)))
    if metadata.xmp:
        chunks.append((b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + metadata.xmp))
    if metadata.exif:
        chunks.append((b'eXIf', metadata.exif))
    rows = _bytes_of_rows(pixels, '>')
    step = channels * pixels.itemsize
    packer = zlib.compressobj(_COMPRESSION_LEVEL)
    for start in range(0, height, 256):
        part = rows[start : start + 256]
        filtered = np.empty((len(part), part.shape[1] + 1), np.uint8)
        filtered[:, 0] = 1  # the filter Sub: on photographs within a few percent of the best choice for each row
        filtered[:, 1 : step + 1] = part[:, :step]
        np.subtract(part[:, step:], part[:, :-step], out=filtered[:, step + 1 :])
        packed = packer.compress(filtered.tobytes())
        if packed:
            chunks.append((b'IDAT', packed))
    chunks += [(b'IDAT', packer.flush()), (b'IEND', b'')]
    return Encoded(
        PNG_SIGNATURE
        + b''.join(
            struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
            for name, data in chunks
        ),
        [],
    )


def tiff(pixels: np.ndarray, metadata: Metadata, like: dict[str, Any]) -> Encoded:
    lost: list[str] = []
    if pixels.shape[2] == 2 and pixels.dtype == np.uint16:  # which Pillow cannot read
        pixels, metadata, lost = _in_colours(pixels, metadata, lost)
    height, width, channels = pixels.shape
    plain = like.get('uncompressed', False)
    tags = tiff_tags(metadata)
    order: Literal['<', '>'] = '>' if tags.endian == '>' else '<'
    tags.endian = order
    rows = max(1, _STRIP_BYTES // (width * channels * pixels.itemsize))
    if not plain:
        pixels = np.concatenate([pixels[:, :1], np.diff(pixels, axis=1)], axis=1)  # wraps round, as predictor 2 does
    lines = _bytes_of_rows(pixels, order)
    strips = [lines[start : start + rows].tobytes() for start in range(0, height, rows)]
    if not plain:
        strips = [zlib.compress(strip, _COMPRESSION_LEVEL) for strip in strips]
    sizes = [len(strip) for strip in strips]
    structure = {
        256: width,
        257: height,
        258: (8 * pixels.itemsize,) * channels,
        259: 1 if plain else 8,  # none, or Adobe's deflate
        262: 1 if channels < 3 else 2,  # black is zero, or RGB
        273: tuple(int(place) for place in np.cumsum([0, *sizes[:-1]])),  # from the end of the tags
        274: 1,
        277: channels,
        278: rows,
        279: tuple(sizes),
        284: 1,  # the colours of a pixel side by side
        317: 1 if plain else 2,
        **({338: 2} if channels in (2, 4) else {}),  # alpha, and colours not multiplied with it
    }
    for tag, value in structure.items():
        tags[tag] = value
    content = tags.tobytes().removeprefix(EXIF_PREFIX)
    return Encoded(b''.join([content, *strips]), lost)


def webp(pixels: np.ndarray, metadata: Metadata, like: dict[str, Any]) -> Encoded:
    pixels, lost = _eight_bits(pixels, [])
    if pixels.shape[2] < 3:  # WebP has no grey
        pixels, metadata, lost = _in_colours(pixels, metadata, lost)
    if metadata.dpi and not metadata.exif:
        lost.append('resolution')
    kept: dict[str, Any] = {'icc_profile': metadata.icc, 'xmp': metadata.xmp}
    if metadata.exif:
        kept['exif'] = EXIF_PREFIX + metadata.exif
    how = {'lossless': True} if like.get('lossless', True) else {'quality': QUALITY}
    return Encoded(_saved(pixels, 'WEBP', exact=True, **how, **{k: v for k, v in kept.items() if v}), lost)


def bmp(pixels: np.ndarray, metadata: Metadata, like: dict[str, Any]) -> Encoded:
    pixels, lost = _eight_bits(pixels, [])
    if pixels.shape[2] in (2, 4):
        pixels, lost = pixels[..., :-1], [*lost, 'alpha']
    names = {'icc': 'ICC profile', 'exif': 'EXIF', 'xmp': 'XMP'}
    lost += [text for name, text in names.items() if getattr(metadata, name)]
    return Encoded(_saved(pixels, 'BMP', **({'dpi': metadata.dpi} if metadata.dpi else {})), lost)


def _eight_bits(pixels: np.ndarray, lost: list[str]) -> tuple[np.ndarray, list[str]]:
    if pixels.dtype == np.uint8:
        return pixels, lost
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8), [*lost, '8 of the 16 bits']


def _in_colours(pixels: np.ndarray, metadata: Metadata, lost: list[str]) -> tuple[np.ndarray, Metadata, list[str]]:
    """Grey as three equal colours, without a profile that is for grey."""
    pixels = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=2)
    if metadata.icc and metadata.icc[16:20] == b'GRAY':
        metadata, lost = replace(metadata, icc=None), [*lost, 'ICC profile']
    return pixels, metadata, lost


def _bytes_of_rows(pixels: np.ndarray, order: Literal['<', '>']) -> np.ndarray:
    ordered = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(order))
    return ordered.view(np.uint8).reshape(len(pixels), -1)


def _saved(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, kind, **options)
    return file.getvalue()


_WRITERS: dict[str, Callable[[np.ndarray, Metadata, dict[str, Any]], Encoded]] = {
    'JPEG': jpeg,
    'PNG': png,
    'TIFF': tiff,
    'WebP': webp,
    'BMP': bmp,
}
# What a file's suffix stands for.
KINDS = {
    '.png': 'PNG',
    '.jpg': 'JPEG',
    '.jpeg': 'JPEG',
    '.tif': 'TIFF',
    '.tiff': 'TIFF',
    '.bmp': 'BMP',
    '.webp': 'WebP',
}
