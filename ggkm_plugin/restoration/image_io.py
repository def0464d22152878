"""Image files: read and write photographs with their depth, alpha, orientation and metadata.

libvips decodes, and encodes PNG and TIFF with 8 or 16 bits; Pillow encodes the formats that have 8 bits.
"""

import io
import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin

from ggkm_plugin.restoration.exif import PREFIX, exif_of_tags, photograph_tags, upright_exif
from ggkm_plugin.utils.errors import DataError, UnsupportedImageError
from ggkm_plugin.utils.files import write_whole
from ggkm_plugin.utils.image_decoding import PNG_SIGNATURE, read_bytes

LARGEST = 500_000_000  # pixels; files that claim more are mostly made to fill the memory
SCREEN_PIXELS = 50_000_000
QUALITY = 95
# Suffixes that are read and written.
FORMATS = {
    **dict.fromkeys(('.jpg', '.jpeg', '.jpe', '.jfif'), 'JPEG'),
    **{'.png': 'PNG', '.tif': 'TIFF', '.tiff': 'TIFF', '.webp': 'WebP', '.avif': 'AVIF', '.bmp': 'BMP'},
}
RAW_SUFFIXES = (
    '.3fr', '.arw', '.cr2', '.cr3', '.crw', '.dcr', '.dng', '.erf', '.fff', '.iiq', '.kdc', '.mef', '.mos', '.mrw',
    '.nef', '.nrw', '.orf', '.pef', '.raf', '.raw', '.rw2', '.rwl', '.sr2', '.srf', '.srw', '.x3f',
)  # fmt: skip
# Suffixes that are only read, and the suffix of their results.
READ_ONLY = {'.gif': '.png', '.heic': '.png', '.heif': '.png', **dict.fromkeys(RAW_SUFFIXES, '.tif')}

_SIDE_LIMITS = {'JPEG': 65_500, 'WebP': 16_383, 'AVIF': 65_536}
_SIGNATURES = {
    'JPEG': rb'\xff\xd8\xff', 'PNG': rb'\x89PNG\r\n', 'TIFF': rb'II[*+]\0|MM\0[*+]', 'WebP': rb'RIFF....WEBP',
    'GIF': rb'GIF8', 'BMP': rb'BM', 'AVIF': rb'....ftyp.{0,40}avi[fs]', 'HEIC': rb'....ftyp.{0,40}he[iv][cxms]',
}  # fmt: skip
_LOADERS = {'JPEG': 'jpeg', 'PNG': 'png', 'TIFF': 'tiff', 'WebP': 'webp', 'GIF': 'gif', 'AVIF': 'heif'}

_PHOTOMETRICS = (0, 1, 2, 3, 6)  # of TIFF: gray, RGB, palette, YCbCr
_DNG_VERSION, _CFA, _LINEAR_RAW = 50706, 32803, 34892
# PNG chunks of color and text. iCCP, pHYs, eXIf and XMP are written anew.
_PNG_KEPT = (b'sRGB', b'gAMA', b'cHRM', b'cICP', b'mDCV', b'cLLI', b'tEXt', b'zTXt', b'iTXt')
_PNG_REWRITTEN = (b'XML:com.adobe.xmp\0', b'Raw profile type exif\0', b'Raw profile type APP1\0')
_JPEG_KEPT = (b'Photoshop 3.0\0', b'http://ns.adobe.com/xmp/extension/\0')  # IPTC, long XMP


@dataclass(frozen=True)
class Photograph:
    """An image with its orientation applied, and its metadata.

    colors: gray (H,W) or RGB (H,W,3), uint8 or uint16. alpha: (H,W) of the same type, not premultiplied, or None.
    exif: from its byte order mark on. xmp: the packet. dpi: across, down.
    parts: what only the same format can hold: whole PNG chunks or JPEG segments.
    encoding: of JPEG `qtables`, `subsampling`, `progressive`; of WebP `lossless`; of TIFF `plain` (not compressed).
    lost: what this object does not hold of its file.
    """

    colors: np.ndarray
    alpha: np.ndarray | None = None
    format: str = ''
    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    parts: list[bytes] = field(default_factory=list)
    encoding: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    @property
    def pixels(self) -> np.ndarray:
        """(H,W,C): C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha."""
        colors = np.atleast_3d(self.colors)
        return colors if self.alpha is None else np.dstack([colors, self.alpha])


def _photograph(pixels: np.ndarray, format: str, **more: Any) -> Photograph:
    """Make a photograph from (H,W) or (H,W,C), see `Photograph.pixels`."""
    pixels = np.atleast_3d(pixels)
    channels = pixels.shape[2]
    colors = np.ascontiguousarray(pixels[..., 0] if channels < 3 else pixels[..., :3])
    return Photograph(colors, pixels[..., -1] if channels in (2, 4) else None, format, **more)


def read_photograph(path: str) -> Photograph:
    """Read a photograph. The content decides on the format, except for camera raw.

    Raises UnsupportedImageError for a kind of image that is not read, DataError for a missing or damaged file.
    """
    content = read_bytes(path)
    if not content:
        raise DataError(f'{path}: the file is empty')
    try:
        photograph = _decode(content, Path(path).suffix.lower())
    except DataError as error:
        raise type(error)(f'{path}: {error}') from error
    except MemoryError:
        raise DataError(f'{path}: out of memory while reading it') from None
    except Exception as error:  # decoders raise anything on damaged files
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise DataError(f'{path}: truncated or damaged ({reason[:200]}). Replace it') from error
    exif = photograph.exif and upright_exif(photograph.exif.removeprefix(PREFIX), photograph.colors.shape[:2])
    xmp = photograph.xmp and re.sub(rb'(tiff:Orientation(?:\s*=\s*["\']|>)\s*)[2-8]', rb'\g<1>1', photograph.xmp)
    return replace(photograph, exif=exif, xmp=xmp)


def _decode(content: bytes, suffix: str) -> Photograph:
    if suffix in RAW_SUFFIXES:
        return _develop_raw(content)
    name = next((name for name, start in _SIGNATURES.items() if re.match(start, content, re.DOTALL)), None)
    if name is None:
        raise DataError(f'not an image that is read ({", ".join(_SIGNATURES)}, camera raw), or damaged')
    if name == 'HEIC':
        return _read_heic(content)
    if name == 'BMP':
        bitmap = BmpImagePlugin.BmpImageFile(io.BytesIO(content))
        _check_size(*bitmap.size)
        mode = {'1': 'L', 'L': 'L', 'RGBA': 'RGBA'}.get(bitmap.mode, 'RGB')
        return _photograph(np.asarray(bitmap.convert(mode)), name, dpi=bitmap.info.get('dpi'))
    channels = None
    page: Any = {}
    facts: dict[str, Any] = {}
    if name == 'JPEG':
        facts = _jpeg_facts(content)
    elif name == 'PNG':
        facts = _png_facts(content)
    elif content[8:12] == b'avis':
        raise UnsupportedImageError('an animated AVIF. Store one image in a file of its own')
    elif name == 'WebP':
        facts = {'encoding': {'lossless': b'VP8L' in content}}
    elif name == 'TIFF':
        page, channels, facts = _tiff_facts(content)
        if page is None:
            return _develop_raw(content)
    load = getattr(_libvips().Image, f'{_LOADERS[name]}load_buffer')
    image = load(content, access='sequential', fail_on='error', **page)
    values = {key: image.get(key) for key in image.get_fields()}
    _check_size(image.width, image.height)
    if name in ('GIF', 'WebP') and values.get('n-pages', 1) > 1:
        raise UnsupportedImageError(f'an animated {name}. Store one image in a file of its own')
    if image.interpretation not in ('b-w', 'grey16', 'srgb', 'rgb16') or image.format not in ('uchar', 'ushort'):
        kind = f'{image.interpretation}, {image.format}'
        raise UnsupportedImageError(f'pixels of the kind {kind}. Convert it to gray or RGB with 8 or 16 bits')
    pixels = (image.copy_memory().autorot() if values.get('orientation', 1) > 1 else image).numpy()
    if channels:
        pixels = pixels[..., :channels]
    if name == 'AVIF' and pixels.dtype == np.uint16:  # libvips shifts 10 or 12 bits, so that white is not 65535
        pixels = pixels | pixels >> values['bits-per-sample']
    known = {'exif': values.get('exif-data'), 'icc': values.get('icc-profile-data'), 'xmp': values.get('xmp-data')}
    if name in ('PNG', 'TIFF') and image.xres != 1:  # 1: unknown
        known['dpi'] = (image.xres * 25.4, image.yres * 25.4)
    return _photograph(pixels, name, **(known | facts))


def _libvips() -> Any:
    """Import pyvips with one thread, since a batch has a process for each device.

    libvips hangs in a process forked after its first use: spawn it.
    """
    os.environ.setdefault('VIPS_CONCURRENCY', '1')
    os.environ.setdefault('VIPS_WARNING', '0')  # if it is set at all, libvips prints no warnings
    import pyvips

    pyvips.cache_set_max(0)
    return pyvips


def _check_size(width: int, height: int) -> None:
    if width * height > LARGEST:
        raise DataError(f'{width}x{height} pixels, more than {LARGEST / 1e6:.0f} million. Reduce or cut it')


def _jpeg_facts(content: bytes) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of damaged EXIF
        image = JpegImagePlugin.jpeg_factory(io.BytesIO(content))
    parts = [
        struct.pack('>BBH', 0xFF, 0xFE if marker == 'COM' else 0xE0 + int(marker[3:]), len(data) + 2) + data
        for marker, data in image.applist  # type: ignore[attr-defined]
        if marker == 'COM' or data.startswith(_JPEG_KEPT)
    ]
    encoding = {
        'qtables': dict(image.quantization),
        'subsampling': JpegImagePlugin.get_sampling(image),
        'progressive': bool(image.info.get('progressive')),
    }
    lost = ["a second picture (the camera's preview, depth or brightness map)"] if image.format == 'MPO' else []
    return {'dpi': image.info.get('dpi'), 'parts': parts, 'encoding': encoding, 'lost': lost}


def _png_facts(content: bytes) -> dict[str, Any]:
    chunks = list(_png_chunks(content))
    names = [name for name, _ in chunks]
    if b'acTL' in names:
        raise UnsupportedImageError('an animated PNG. Store one image in a file of its own')
    parts = [chunk for name, chunk in chunks if name in _PNG_KEPT and not chunk[8:].startswith(_PNG_REWRITTEN)]
    return {'parts': parts, **({} if b'pHYs' in names else {'dpi': None})}


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], 'big')
        yield content[place + 4 : place + 8], content[place:end]
        place = end


def _tiff_facts(content: bytes) -> tuple[dict[str, int] | None, int | None, dict[str, Any]]:
    """Find the picture in a TIFF: its place (None: camera raw), channels to keep (None: all) and what else is known.

    Pages that NewSubfileType marks as a preview (1) or a mask (4) are not the picture.
    """
    import tifffile

    logging.getLogger('tifffile').setLevel(logging.CRITICAL)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        pages: dict[tuple[int, int], Any] = {}
        for index, page in enumerate(file.pages):
            pages |= {(index, number): part for number, part in enumerate([page, *(page.pages or ())], start=-1)}  # type: ignore[union-attr]
        raw = any(page.photometric in (_CFA, _LINEAR_RAW) or _DNG_VERSION in page.tags for page in pages.values())
        if raw or content[8:10] == b'CR':  # Canon's CR2
            return None, None, {}
        full = [place for place, page in pages.items() if not page.subfiletype & 5] or list(pages)
        if len(full) > 1:
            raise UnsupportedImageError(f'a TIFF of {len(full)} pages. Store one in a file of its own')
        page = pages[full[0]]
        if page.photometric not in _PHOTOMETRICS:
            raise UnsupportedImageError(f'{page.photometric.name} pixels. Convert it to gray or RGB')
        extra, samples, plain = page.extrasamples, page.samplesperpixel, page.compression == 1
    channels = samples - len(extra) + bool(extra and extra[0])  # 0: not alpha
    lost = ['the preview in the TIFF'] * (len(pages) > 1) + ['further channels'] * (samples > channels)
    facts = {'exif': exif_of_tags(content, page.offset), 'encoding': {'plain': plain}, 'lost': lost}
    place = dict(zip(('page', 'subifd'), full[0], strict=True))
    return place, channels if samples > channels else None, facts


def _read_heic(content: bytes) -> Photograph:
    try:
        import pillow_heif
    except ImportError:
        raise UnsupportedImageError('HEIC needs pillow-heif. Run pip install "ggkm_plugin[heic]"') from None
    image = pillow_heif.open_heif(io.BytesIO(content), convert_hdr_to_8bit=False)
    _check_size(*image.size)
    known = {
        key: image.info.get(name) or None for key, name in (('exif', 'exif'), ('icc', 'icc_profile'), ('xmp', 'xmp'))
    }
    return _photograph(np.asarray(image), 'HEIC', **known, lost=['further pictures'] * (len(image) > 1))


def _develop_raw(content: bytes) -> Photograph:
    """Develop camera raw to 16-bit sRGB with the camera's white balance."""
    try:
        import rawpy
    except ImportError:
        raise UnsupportedImageError('camera raw needs rawpy. Run pip install "ggkm_plugin[raw]"') from None
    try:
        with rawpy.imread(io.BytesIO(content)) as raw:
            _check_size(raw.sizes.width, raw.sizes.height)
            pixels = raw.postprocess(use_camera_wb=True, output_bps=16)
    except rawpy.LibRawFileUnsupportedError:
        raise UnsupportedImageError('camera raw that LibRaw does not read. Convert it to DNG or TIFF') from None
    except rawpy.LibRawError as error:
        raise DataError(f'damaged camera raw ({error.args[0].decode()}). Replace it') from None
    return _photograph(pixels, 'raw', exif=exif_of_tags(content))


def result_suffix(suffix: str) -> str:
    """Return the suffix of the result of a photograph: its own, if that format can be written."""
    return READ_ONLY.get(suffix.lower(), suffix)


def check_format(path: str, photograph: Photograph) -> str:
    """Return the format of `path`. Raises DataError, before anything is computed, if the photograph does not fit it."""
    name = FORMATS.get(Path(path).suffix.lower())
    if name is None:
        raise DataError(f'{path}: cannot be written. End the name in one of {", ".join(FORMATS)}')
    height, width = photograph.colors.shape[:2]
    limit = _SIDE_LIMITS.get(name, width + height)
    if max(height, width) > limit:
        raise DataError(f'{path}: {width}x{height} is too large for {name} (at most {limit} a side). Write a .png')
    return name


def write_photograph(path: str, photograph: Photograph) -> list[str]:
    """Write the format of the path's suffix, whole or not at all. Return what the file does not hold.

    Raises DataError if it cannot be encoded or written.
    """
    name = check_format(path, photograph)
    pixels, lost = photograph.pixels, list(photograph.lost)
    dropped: dict[str, str] = {}  # field and its title
    if pixels.dtype == np.uint16 and name not in ('PNG', 'TIFF'):
        pixels = _eight_bits(pixels)
        lost.append('8 of the 16 bits')
    if photograph.alpha is not None and name in ('JPEG', 'BMP'):
        pixels = pixels[..., :-1]
        lost.append('alpha')
    if pixels.shape[2] < 3 and name in ('WebP', 'AVIF'):  # which have no gray
        pixels = np.dstack([pixels[..., :1]] * 3 + [pixels[..., 1:]])
        if photograph.icc and photograph.icc[16:20] == b'GRAY':
            dropped['icc'] = 'ICC profile'
    if name != photograph.format:
        if any(part[4:8] != b'sRGB' for part in photograph.parts):  # which is assumed without it
            lost.append(f'comments, IPTC or colors of the {photograph.format}')
        photograph = replace(photograph, parts=[])
    for key, title in (('exif', 'EXIF'), ('icc', 'ICC profile'), ('xmp', 'XMP')):
        value = getattr(photograph, key)
        too_long = name == 'JPEG' and key != 'icc' and len(value or b'') > 65_000
        damaged = name == 'AVIF' and key == 'exif' and value and not photograph_tags(value)  # Pillow reads it
        if value and (name == 'BMP' or too_long or damaged):
            dropped[key] = title
    if photograph.dpi and not photograph.exif and name in ('WebP', 'AVIF'):
        dropped['dpi'] = 'resolution'
    photograph = replace(photograph, **dict.fromkeys(dropped))  # type: ignore[arg-type]
    encode = {'PNG': _encode_png, 'TIFF': _encode_tiff}.get(name)
    try:
        content = encode(pixels, photograph) if encode else _encode_eight_bits(name, pixels, photograph)
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(f'{path}: cannot be encoded as {name} ({" ".join(str(error).split())[:200]})') from error
    write_bytes(path, content)
    return [*lost, *dropped.values()]


def write_bytes(path: str, content: bytes) -> None:
    """Write a file, whole or not at all, and make its folder. Raises DataError."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise DataError(f'{path}: {error.strerror or error}') from error


def _encode_eight_bits(name: str, pixels: np.ndarray, photograph: Photograph) -> bytes:
    options: dict[str, Any] = {'exif': photograph.exif and PREFIX + photograph.exif, 'dpi': photograph.dpi}
    options |= {'icc_profile': photograph.icc, 'xmp': photograph.xmp}
    if name == 'WebP':
        lossless = photograph.encoding.get('lossless', True)
        options |= {'lossless': lossless, 'exact': True, 'quality': 80 if lossless else QUALITY}
    elif name == 'AVIF':
        options |= {'quality': QUALITY, 'subsampling': '4:4:4'}
    elif name == 'JPEG':
        options |= _jpeg_options(photograph)
    content = _save(name, pixels, **options)
    if name == 'JPEG' and photograph.parts:
        start = 2  # parts go behind JFIF, EXIF, XMP and ICC
        while content[start + 1] & 0xF0 == 0xE0:
            start += 2 + int.from_bytes(content[start + 2 : start + 4], 'big')
        content = b''.join([content[:start], *photograph.parts, content[start:]])
    return content


def _jpeg_options(photograph: Photograph) -> dict[str, Any]:
    """Quantize no more coarsely than the source, nor than `QUALITY`."""
    options: dict[str, Any] = {'optimize': True, 'quality': QUALITY, 'subsampling': 0}
    if photograph.dpi:
        options['dpi'] = tuple(round(value) for value in photograph.dpi)
    if 'qtables' not in photograph.encoding:
        return options
    example = io.BytesIO(_save('JPEG', np.zeros((8, 8, 3), np.uint8), quality=QUALITY))
    fine = list(JpegImagePlugin.JpegImageFile(example).quantization.values())  # luminance, color
    tables = [
        [min(pair) for pair in zip(table, fine[min(index, 1)], strict=True)]
        for index, table in photograph.encoding['qtables'].items()
    ]
    return options | photograph.encoding | {'qtables': tables}


def _save(name: str, pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    known = {key: value for key, value in options.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of damaged EXIF
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, name, **known)
    return file.getvalue()


def _encode_png(pixels: np.ndarray, photograph: Photograph) -> bytes:
    encoded = _vips_image(pixels, photograph).pngsave_buffer(filter='sub', keep='icc')
    chunks = [chunk for name, chunk in _png_chunks(encoded) if name != b'pHYs']
    more = {b'eXIf': photograph.exif, b'iTXt': photograph.xmp and _PNG_REWRITTEN[0] + bytes(4) + photograph.xmp}
    if photograph.dpi:
        more[b'pHYs'] = struct.pack('>IIB', *(round(value / 0.0254) for value in photograph.dpi), 1)
    parts = [
        struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        for name, data in more.items()
        if data
    ]
    return b''.join([PNG_SIGNATURE, chunks[0], *photograph.parts, *parts, *chunks[1:]])


def _encode_tiff(pixels: np.ndarray, photograph: Photograph) -> bytes:
    """Encode with libvips, which leaves EXIF out, and put a directory by Pillow that has it in front."""
    plain = photograph.encoding.get('plain')
    options = {'compression': 'none'} if plain else {'compression': 'deflate', 'predictor': 'horizontal'}
    content = _vips_image(pixels, photograph).tiffsave_buffer(keep='icc,xmp', **options)
    header, strip_offsets, orientation = 8, 273, 274
    tags = Image.Exif()
    tags.load_from_fp(io.BytesIO(content))
    tags.update(photograph_tags(photograph.exif or b''))
    tags[orientation] = 1
    tags[strip_offsets] = tuple(int(place) - header for place in np.atleast_1d(tags[strip_offsets]))  # from its end on
    return b''.join([tags.tobytes().removeprefix(PREFIX), memoryview(content)[header:]])


def _vips_image(pixels: np.ndarray, photograph: Photograph) -> Any:
    vips = _libvips()
    gray, deep = pixels.shape[2] < 3, pixels.dtype == np.uint16
    space = ('grey16' if deep else 'b-w') if gray else ('rgb16' if deep else 'srgb')
    across, down = photograph.dpi or (72, 72)
    image = vips.Image.new_from_array(np.ascontiguousarray(pixels))
    image = image.copy(interpretation=space, xres=across / 25.4, yres=down / 25.4)
    for key, value in (('icc-profile-data', photograph.icc), ('xmp-data', photograph.xmp)):
        if value:
            image.set_type(vips.GValue.blob_type, key, value)
    return image


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def screen_picture(photograph: Photograph) -> bytes:
    """Encode a JPEG for browsers: on white where it is transparent, reduced to at most `SCREEN_PIXELS`."""
    image = _vips_image(_eight_bits(photograph.pixels), photograph)
    if photograph.alpha is not None:
        image = image.flatten(background=[255] * (image.bands - 1))
    scale = min(
        1, (SCREEN_PIXELS / (image.width * image.height)) ** 0.5, _SIDE_LIMITS['JPEG'] / max(image.width, image.height)
    )
    return (image.resize(scale) if scale < 1 else image).jpegsave_buffer(Q=QUALITY, subsample_mode='off', keep='icc')
