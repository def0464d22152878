"""Photographs from files and back: every bit of their depth, alpha, profile, EXIF, and each failure named.

Pillow reads what has 8 bits and all that is said about an image; it has no images of three channels with 16 bits, so
OpenCV reads those.
"""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from ggkm_plugin.restoration.encoding import KINDS, encode
from ggkm_plugin.restoration.metadata import Metadata, read_metadata, tags_of
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.files import write_whole
from ggkm_plugin.utils.image_decoding import read_bytes

# Pixels. Pillow's own limit warns of a photograph of 100 megapixels; this one is 1.5 GB in 8 bits, and larger ones
# are panoramas for other programs, or small files made to fill the memory.
LARGEST = 500_000_000

_FORMATS = {'JPEG': 'JPEG', 'MPO': 'JPEG', 'PNG': 'PNG', 'TIFF': 'TIFF', 'WEBP': 'WebP', 'BMP': 'BMP'}
_READ = f'{", ".join(sorted(set(_FORMATS.values())))} are read'
_TIFF_MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
# Pillow's modes, to those that are arrays of grey or RGB, with or without alpha.
_MODES = {'1': 'L', 'L': 'L', 'LA': 'LA', 'La': 'LA', 'P': 'RGB', 'PA': 'RGBA', 'RGB': 'RGB', 'RGBX': 'RGB'} | {
    'RGBA': 'RGBA', 'RGBa': 'RGBA', 'YCbCr': 'RGB',
}  # fmt: skip
_NAMED = {'CMYK': 'CMYK', 'LAB': 'Lab', 'F': '32-bit float', 'I': '32-bit integer'}
_ANYTHING_PILLOW_RAISES = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, struct.error,
    MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class Photograph:
    """colours: upright, grey (H,W) or RGB (H,W,3), uint8 or uint16. alpha: (H,W) of the same type, or None.

    like: how its file was encoded, for a result of the same kind: of JPEG `tables`, `subsampling` and `progressive`,
        of WebP `lossless`, of TIFF `uncompressed`.
    lost: a line for each part of the file that this does not hold.
    """

    colours: np.ndarray
    alpha: np.ndarray | None
    metadata: Metadata
    like: dict[str, Any]
    lost: list[str]

    def with_colours(self, colours: np.ndarray) -> 'Photograph':
        return replace(self, colours=colours)

    @property
    def pixels(self) -> np.ndarray:
        """(H,W,C): C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
        colours = np.atleast_3d(self.colours)
        return colours if self.alpha is None else np.dstack([colours, self.alpha])


def read_photograph(path: str) -> Photograph:
    """Raises DataError, which names the file and the reason, for what cannot be read or has more than one image."""
    content = read_bytes(path)
    if not content:
        raise DataError(f'{path}: the file is empty')
    try:
        with _pillow_without_its_limit(), Image.open(io.BytesIO(content)) as image:
            return _decoded(image, content)
    except DataError as error:
        raise DataError(f'{path}: {error}') from error
    except Image.UnidentifiedImageError:
        what = 'a kind of TIFF that is not read' if content.startswith(_TIFF_MAGIC) else 'not an image that is read'
        advice = 'grey or RGB, with 8 or 16 whole bits a channel' if 'TIFF' in what else 'or it is damaged'
        raise DataError(f'{path}: {what}; {_READ}, {advice}') from None
    except MemoryError:
        raise DataError(f'{path}: out of memory reading it') from None
    except _ANYTHING_PILLOW_RAISES as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise DataError(f'{path}: truncated or damaged ({reason[:200]}); replace it') from error


@contextmanager
def _pillow_without_its_limit() -> Iterator[None]:
    """And without its remarks on damaged EXIF."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _decoded(image: Image.Image, content: bytes) -> Photograph:
    kind = _FORMATS.get(str(image.format))
    if kind is None:
        raise DataError(f'a {image.format} image; {_READ}')
    width, height = image.size
    if width * height > LARGEST:
        raise DataError(f'{width}x{height} pixels, more than {LARGEST / 1e6:.0f} million; reduce or cut it first')
    lost = _others(image)
    deep = _has_16_bits(image, content)
    like = _encoding(image, content)
    image.load()
    orientation = tags_of(image).get(274, 1) if kind != 'TIFF' else 1  # of a TIFF, both decoders obey it
    pixels = _deep_pixels(image, content) if deep else _pixels(image)
    pixels = np.ascontiguousarray(upright(pixels, orientation))
    colours, alpha = (pixels[..., :-1], pixels[..., -1]) if pixels.shape[2] in (2, 4) else (pixels, None)
    return Photograph(
        colours[..., 0] if colours.shape[2] == 1 else colours,
        alpha,
        read_metadata(image, content, kind, pixels.shape[:2]),
        like,
        lost,
    )


def _others(image: Image.Image) -> list[str]:
    """Raises DataError for an animation or pages; further pictures that belong to a photograph are left out."""
    frames = getattr(image, 'n_frames', 1)
    if frames == 1:
        return []
    if image.format == 'MPO':
        return ["a second picture in the JPEG, the camera's preview, depth or brightness map"]
    if image.format == 'TIFF':
        pages = 0
        for frame in range(frames):
            image.seek(frame)
            pages += not (int(image.tag_v2.get(254, 0)) & 5)  # type: ignore[attr-defined]  # reduced image, or mask
        image.seek(0)
        if pages == 1:
            return ['the preview in the TIFF']
        raise DataError(f'a TIFF of {pages} pages; store the one to deblur in a file of its own')
    raise DataError(f'an animation of {frames} images; store the one to deblur in a file of its own')


def _has_16_bits(image: Image.Image, content: bytes) -> bool:
    """Raises DataError for depths and arrangements that would not be read right."""
    if image.format == 'PNG':
        return content[24] == 16  # of the header
    if image.format != 'TIFF':
        return False
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits = set(tags.get(258, (1,)))
    if max(bits) <= 8 or image.mode in _NAMED:
        return False
    if bits != {16} or tags.get(284, 1) != 1 or tags.get(262) not in (1, 2) or set(tags.get(339, (1,))) != {1}:
        raise DataError(f'a TIFF of {max(bits)} bits in an unusual arrangement; store it as plain 16-bit grey or RGB')
    return True


def _encoding(image: Image.Image, content: bytes) -> dict[str, Any]:
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        return {
            'tables': dict(image.quantization),
            'subsampling': JpegImagePlugin.get_sampling(image),
            'progressive': bool(image.info.get('progressive')),
        }
    if image.format == 'WEBP':
        return {'lossless': b'VP8L' in (content[12:16], *_riff_names(content))}
    return {'uncompressed': image.info.get('compression') == 'raw'} if image.format == 'TIFF' else {}


def _riff_names(content: bytes) -> Iterator[bytes]:
    place = 12
    while place + 8 <= len(content):
        yield content[place : place + 4]
        (length,) = struct.unpack_from('<I', content, place + 4)
        place += 8 + length + length % 2


def _pixels(image: Image.Image) -> np.ndarray:
    """(H,W,C) uint8; what is transparent by its colour gets an alpha."""
    mode = _MODES.get(image.mode)
    if mode is None:
        raise DataError(f'{_NAMED.get(image.mode, image.mode)} pixels; convert it to grey or RGB of 8 or 16 bits')
    if 'transparency' in image.info and 'A' not in mode:
        mode += 'A'
        image = image.convert('RGBA')
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _deep_pixels(image: Image.Image, content: bytes) -> np.ndarray:
    """(H,W,C) uint16 of an image that Pillow has found whole."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    size = (image.height, image.width)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != size:
        raise DataError('16 bits in an arrangement that is not read; store it as plain 16-bit grey or RGB')
    if pixels.ndim == 2:
        key = image.info.get('transparency')
        alpha = [] if key is None else [np.where(pixels == key, 0, 65535).astype(np.uint16)]
        return np.stack([pixels, *alpha], axis=2)
    if image.format == 'PNG' and content[25] == 4:  # grey with alpha, which OpenCV spreads over four channels
        return pixels[..., [0, 3]]
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H,W,...) as it is to be seen; `orientation` is EXIF's, 1 to 8, anything else is no turn."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def write_photograph(path: str, photograph: Photograph) -> list[str]:
    """Write it as the path's suffix says, whole or not at all; returns what the file does not hold, a line each.

    Raises DataError if it cannot be encoded or written.
    """
    try:
        content, lost = encode(photograph.pixels, photograph.metadata, Path(path).suffix, photograph.like)
    except DataError as error:
        raise DataError(f'{path}: {error}') from error
    write_bytes(path, content)
    return [*photograph.lost, *lost, *photograph.metadata.lost_in(KINDS[Path(path).suffix.lower()])]


def write_bytes(path: str, content: bytes) -> None:
    """Whole or not at all, in a folder that is made. Raises DataError."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise DataError(f'{path}: {error.strerror or error}') from error
