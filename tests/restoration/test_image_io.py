"""Image files: depth, alpha, orientation and metadata survive a round trip; files that cannot be read are named."""

import hashlib
import io
import struct
import sys
import zlib
from itertools import product

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin
from restoration.conftest import pixels

from ggkm_plugin.restoration.image_io import (
    FORMATS,
    Photograph,
    check_format,
    read_photograph,
    screen_picture,
    write_photograph,
)
from ggkm_plugin.utils.errors import DataError, UnsupportedImageError

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="Sea"/></x:xmpmeta>'
MAKER = b'notes with offsets \x00\x01\x02'


def exif(orientation=6, size=(30, 20)):
    """EXIF as a camera writes it: the size (W,H) of the pixels as stored, a maker note, a place."""
    tags = Image.Exif()
    tags[274], tags[271] = orientation, 'Maker'
    tags[0x8769] = {0xA002: size[0], 0xA003: size[1], 0x927C: MAKER, 0x9003: '2020:01:02 03:04:05'}
    tags[0x8825] = {1: 'N', 2: (48.0, 8.0, 0.5)}
    return tags


def noise(height, width, channels, dtype=np.uint8, seed=1):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, channels)).astype(dtype)


def store(path, stored, **fields):
    """Write (H,W,C) with 1 to 4 channels: gray, gray and alpha, RGB, RGB and alpha."""
    colors = stored[..., 0] if stored.shape[2] < 3 else stored[..., :3]
    alpha = stored[..., -1] if stored.shape[2] in (2, 4) else None
    return write_photograph(str(path), Photograph(colors, alpha, **fields))


def rewritten(path, output):
    """Read a photograph and write it unchanged; return what was lost, and the result read by Pillow."""
    before = hashlib.sha256(path.read_bytes()).digest()
    lost = write_photograph(str(output), read_photograph(str(path)))
    assert hashlib.sha256(path.read_bytes()).digest() == before
    image = Image.open(output)
    image.load()
    return lost, image


@pytest.mark.parametrize(
    ('channels', 'dtype', 'suffix'), product([1, 2, 3, 4], [np.uint8, np.uint16], ['.png', '.tif', '.TIFF'])
)
@pytest.mark.parametrize('size', [(1, 1), (3, 700), (700, 3)])
def test_every_bit_comes_back(tmp_path, size, channels, dtype, suffix):
    stored = noise(*size, channels, dtype)
    path, again = tmp_path / f'a{suffix}', tmp_path / f'b{suffix}'
    profile = ICC if channels > 2 else None
    assert store(path, stored, icc=profile, dpi=(300, 200)) == []
    assert write_photograph(str(again), read_photograph(str(path))) == []
    photograph = read_photograph(str(again))
    assert photograph.colors.dtype == dtype
    assert photograph.colors.ndim == (2 if channels < 3 else 3)
    assert np.array_equal(photograph.pixels, stored)
    assert photograph.dpi == pytest.approx((300, 200), abs=0.01)
    assert photograph.icc == profile


def test_other_decoders_read_what_is_written(tmp_path):
    """OpenCV and tifffile have decoders of their own; the TIFF has several strips, compressed and not."""
    deep = noise(700, 500, 4, np.uint16)
    for encoding in ({}, {'plain': True}):
        store(tmp_path / 'a.tif', deep, icc=ICC, exif=exif().tobytes(), encoding=encoding)
        with tifffile.TiffFile(tmp_path / 'a.tif') as file:
            assert len(file.pages) == 1
            assert file.pages[0].extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)
            assert len(file.pages[0].dataoffsets) > 1
            assert (file.pages[0].compression == 1) == bool(encoding)
            assert np.array_equal(file.asarray(), deep)
        assert np.array_equal(cv2.imread(str(tmp_path / 'a.tif'), -1), deep[..., [2, 1, 0, 3]])
    store(tmp_path / 'a.png', deep, icc=ICC)
    assert np.array_equal(cv2.imread(str(tmp_path / 'a.png'), -1), deep[..., [2, 1, 0, 3]])


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['a.jpg', 'a.png', 'a.webp', 'a.avif', 'a.tif', 'deep.tif'])
def test_orientation_is_applied_once(tmp_path, orientation, kind):
    """As Pillow turns it; viewers find nothing left to do."""
    shown = pixels(20, 30, dtype=np.uint16 if 'deep' in kind else np.uint8)
    path, output = tmp_path / kind, tmp_path / f'out_{kind}'
    if kind.endswith('.tif'):
        tifffile.imwrite(path, shown, photometric='rgb', extratags=[(274, 'H', 1, orientation, True)])
    else:
        exact = {'a.webp': {'lossless': True}, 'a.jpg': {'quality': 100, 'subsampling': 0}}
        exact['a.avif'] = {'quality': 100, 'subsampling': '4:4:4'}
        Image.fromarray(shown).save(path, exif=exif(orientation), **exact.get(kind, {}))
    file = io.BytesIO()
    Image.fromarray(pixels(20, 30)).save(file, 'PNG', exif=exif(orientation))
    turned = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    photograph = read_photograph(str(path))
    assert photograph.colors.shape == turned.shape
    scale = 257 if 'deep' in kind else 1
    assert np.abs(photograph.colors.astype(float) / scale - turned).max() <= (6 if kind in ('a.jpg', 'a.avif') else 1)
    _, image = rewritten(path, output)
    assert image.getexif().get(274, 1) == 1
    assert image.size == turned.shape[1::-1]
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(image)), np.asarray(image))
    if not kind.endswith('.tif'):
        assert image.getexif()[271] == 'Maker'
        details = image.getexif().get_ifd(0x8769)
        assert (details[0xA002], details[0xA003]) == image.size


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.avif', '.tif'])
@pytest.mark.parametrize('source', ['a.jpg', 'a.png', 'a.webp', 'a.avif', 'a.tif'])
def test_metadata_is_kept(tmp_path, source, suffix):
    path = tmp_path / source
    if source == 'a.tif':
        store(path, pixels(20, 30), icc=ICC, exif=exif().tobytes()[6:], xmp=XMP, dpi=(240, 240))
    else:
        more = {'xmp': XMP} if source != 'a.png' else {'pnginfo': PngImagePlugin.PngInfo()}
        if source == 'a.png':
            more['pnginfo'].add_itxt('XML:com.adobe.xmp', XMP.decode())
        Image.fromarray(pixels(20, 30)).save(path, exif=exif(), icc_profile=ICC, dpi=(240, 240), **more)
    lost, image = rewritten(path, tmp_path / f'out{suffix}')
    assert lost == []
    tags = image.getexif()
    assert tags[271] == 'Maker'
    assert tags.get_ifd(0x8769)[0x927C] == MAKER
    assert tags.get_ifd(0x8769)[0x9003] == '2020:01:02 03:04:05'
    assert tags.get_ifd(0x8825)[2] == (48.0, 8.0, 0.5)
    assert image.info['icc_profile'] == ICC
    assert b'Sea' in image.info['xmp']
    assert b'Orientation="6"' not in image.info['xmp']
    if not {'.webp', '.avif'} & {path.suffix, suffix}:
        assert image.info['dpi'] == pytest.approx((240, 240), abs=0.01)


def test_no_resolution_is_made_up(tmp_path):
    for suffix in ('.png', '.jpg', '.tif', '.webp'):
        Image.fromarray(pixels(20, 30)).save(tmp_path / f'a{suffix}')
        assert read_photograph(str(tmp_path / f'a{suffix}')).dpi is None
    assert 'dpi' not in rewritten(tmp_path / 'a.png', tmp_path / 'b.png')[1].info


@pytest.mark.parametrize('suffix', ['.jpg', '.webp'])
@pytest.mark.parametrize('order', ['<', '>'])
def test_exif_is_kept_byte_by_byte(tmp_path, order, suffix):
    """Except for the orientation, the size, and the link to the thumbnail of the blurred photograph."""
    entries = struct.pack(order + 'HHIHH', 274, 3, 1, 6, 0) + struct.pack(order + 'HHII', 0x8769, 4, 1, 38)
    details = struct.pack(order + 'H', 2) + struct.pack(order + 'HHII', 0xA002, 4, 1, 30)
    details += struct.pack(order + 'HHIHH', 0xA003, 3, 1, 20, 0) + bytes(4)
    thumbnail = struct.pack(order + 'H', 1) + struct.pack(order + 'HHIHH', 274, 3, 1, 6, 0) + bytes(4)
    head = {'<': b'II*\0', '>': b'MM\0*'}[order] + struct.pack(order + 'IH', 8, 2)
    stored = head + entries + struct.pack(order + 'I', 68) + details + thumbnail + MAKER
    Image.fromarray(pixels(20, 30)).save(tmp_path / f'a{suffix}', exif=b'Exif\0\0' + stored)
    _, image = rewritten(tmp_path / f'a{suffix}', tmp_path / f'b{suffix}')
    wanted = bytearray(stored)
    for place, value in ((18, struct.pack(order + 'H', 1)), (34, bytes(4)), (48, struct.pack(order + 'I', 20))):
        wanted[place : place + len(value)] = value
    wanted[60:62] = struct.pack(order + 'H', 30)
    assert image.info['exif'].removeprefix(b'Exif\0\0') == wanted


@pytest.mark.parametrize(
    'broken',
    [
        b'garbage',
        b'II*\0',
        b'II*\0\xff\xff\xff\xff',
        b'MM\0*\0\0\0\x08\xff\xff',
        exif().tobytes()[6:40],
        b'II*\0\x08\0\0\0',
    ],
)
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp', '.avif'])
def test_broken_exif_does_not_matter(tmp_path, broken, suffix):
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.jpg', exif=b'Exif\0\0' + broken)
    _, image = rewritten(tmp_path / 'a.jpg', tmp_path / f'out{suffix}')
    assert sorted(image.size) == [20, 30]


def test_jpeg_is_quantized_as_finely_as_its_source(tmp_path):
    image = Image.fromarray(pixels(40, 60))
    for quality, sampling in ((30, 2), (100, 0)):
        path = tmp_path / f'{quality}.jpg'
        image.save(path, quality=quality, subsampling=sampling, progressive=True)
        _, result = rewritten(path, tmp_path / 'out.jpg')
        own, fine = Image.open(path).quantization, result.quantization
        assert fine.keys() == own.keys()
        assert all(fine[key][i] <= own[key][i] for key in own for i in range(64))
        assert (fine == own) == (quality == 100)  # finer where the source is coarser than 95
        assert JpegImagePlugin.get_sampling(result) == sampling
        assert result.info.get('progressive')


def test_jpeg_keeps_comment_and_iptc(tmp_path):
    path = tmp_path / 'a.jpg'
    Image.fromarray(pixels(20, 30)).save(path, comment=b'a comment', dpi=(72, 72))
    iptc = b'Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0'
    content = path.read_bytes()
    path.write_bytes(content[:20] + struct.pack('>BBH', 0xFF, 0xED, len(iptc) + 2) + iptc + content[20:])
    lost, image = rewritten(path, tmp_path / 'b.jpg')
    assert lost == []
    assert image.info['comment'] == b'a comment'
    assert iptc in (tmp_path / 'b.jpg').read_bytes()
    assert len(rewritten(path, tmp_path / 'b.png')[0]) == 1


def test_png_keeps_text_and_colors(tmp_path):
    more = PngImagePlugin.PngInfo()
    more.add_text('Title', 'Sea')
    more.add(b'gAMA', struct.pack('>I', 45455))
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.png', pnginfo=more, dpi=(300, 300))
    lost, image = rewritten(tmp_path / 'a.png', tmp_path / 'b.png')
    assert lost == []
    assert image.text == {'Title': 'Sea'}
    assert image.info['gamma'] == 0.45455


@pytest.mark.parametrize(('suffix', 'alpha'), [('.jpg', False), ('.bmp', False), ('.webp', True), ('.avif', True)])
def test_what_a_format_cannot_hold_is_returned(tmp_path, suffix, alpha):
    deep = pixels(20, 30, 4, np.uint16)
    store(tmp_path / 'a.png', deep)
    lost, image = rewritten(tmp_path / 'a.png', tmp_path / f'b{suffix}')
    assert len(lost) == (1 if alpha else 2)
    assert image.mode == ('RGBA' if alpha else 'RGB')
    assert np.abs(np.asarray(image).astype(float)[..., :3] - deep[..., :3] / 257).max() < 8


def test_bmp(tmp_path):
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.bmp')
    lost, image = rewritten(tmp_path / 'a.bmp', tmp_path / 'b.bmp')
    assert lost == []
    assert np.array_equal(np.asarray(image), pixels(20, 30))
    Image.fromarray(pixels(20, 30)).quantize(8).save(tmp_path / 'p.bmp')
    assert read_photograph(str(tmp_path / 'p.bmp')).colors.shape == (20, 30, 3)
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.jpg', icc_profile=ICC, exif=exif())
    assert len(rewritten(tmp_path / 'a.jpg', tmp_path / 'c.bmp')[0]) == 2


@pytest.mark.parametrize('suffix', ['.webp', '.avif'])
def test_a_gray_profile_is_not_left_on_rgb(tmp_path, suffix):
    assert len(store(tmp_path / f'a{suffix}', np.zeros((5, 4, 2), np.uint8), icc=ICC[:16] + b'GRAY' + ICC[20:])) == 1
    assert read_photograph(str(tmp_path / f'a{suffix}')).icc is None


def test_palettes_and_transparent_colors(tmp_path):
    flat = Image.fromarray(pixels(20, 30)).quantize(16)
    for name in ('p.png', 'p.gif', 'p.tif'):
        flat.save(tmp_path / name)
        assert np.array_equal(read_photograph(str(tmp_path / name)).colors, np.asarray(flat.convert('RGB')))
    flat.save(tmp_path / 't.png', transparency=3)
    assert np.array_equal(read_photograph(str(tmp_path / 't.png')).alpha, np.where(np.asarray(flat) == 3, 0, 255))
    for dtype, key in ((np.uint8, 100), (np.uint16, 4)):
        gray = np.random.default_rng(0).integers(0, 9, (20, 30)).astype(dtype) + np.asarray(key - 4, dtype)
        cv2.imwrite(str(tmp_path / 'g.png'), gray)
        content = (tmp_path / 'g.png').read_bytes()
        chunk = b'tRNS' + struct.pack('>H', key)
        key_chunk = struct.pack('>I', 2) + chunk + struct.pack('>I', zlib.crc32(chunk))
        (tmp_path / 'g.png').write_bytes(content[:33] + key_chunk + content[33:])
        photograph = read_photograph(str(tmp_path / 'g.png'))
        assert np.array_equal(photograph.colors, gray)
        assert np.array_equal(photograph.alpha, np.where(gray == key, 0, np.iinfo(dtype).max))
    for name in ('b.png', 'b.tif'):
        Image.fromarray(pixels(20, 30)[..., 0] > 99).save(tmp_path / name)
        assert set(np.unique(read_photograph(str(tmp_path / name)).colors)) == {0, 255}


def test_deep_avif_fills_the_range(tmp_path):
    pyvips = pytest.importorskip('pyvips')
    white = pyvips.Image.new_from_array(np.full((32, 32, 3), 65535, np.uint16)).copy(interpretation='rgb16')
    white.heifsave(str(tmp_path / 'a.avif'), compression='av1', bitdepth=10, lossless=True)
    assert np.unique(read_photograph(str(tmp_path / 'a.avif')).colors).tolist() == [65535]


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [2, 4])
def test_premultiplied_alpha_is_divided_out(tmp_path, dtype, channels):
    top = np.iinfo(dtype).max
    alpha = np.tile(np.linspace(0, 1, 96), (8, 1))
    stored = np.dstack([0.6 * alpha] * (channels - 1) + [alpha])
    photometric = 'rgb' if channels == 4 else 'minisblack'
    how = {'photometric': photometric, 'planarconfig': 'contig', 'extrasamples': ['assocalpha']}
    tifffile.imwrite(tmp_path / 'a.tif', np.round(stored * top).astype(dtype), **how)
    photograph = read_photograph(str(tmp_path / 'a.tif'))
    assert np.abs(photograph.alpha / top - alpha).max() <= 0.5 / top + 1e-9
    colors = np.atleast_3d(photograph.colors)[:, 20:] / top
    assert np.abs(colors - 0.6).max() <= (0.02 if dtype == np.uint8 else 1e-4)


def test_channels_that_are_not_alpha_are_left_out(tmp_path):
    stored = noise(20, 30, 4)
    tifffile.imwrite(tmp_path / 'a.tif', stored, photometric='rgb', extrasamples=['unspecified'])
    photograph = read_photograph(str(tmp_path / 'a.tif'))
    assert np.array_equal(photograph.pixels, stored[..., :3])
    assert len(photograph.lost) == 1


PAGES = {  # how tifffile writes them, a preview small
    'preview first': [{'subfiletype': 1}, {}],
    'preview last': [{}, {'subfiletype': 1}],
    'preview and mask': [{'subfiletype': 1}, {'subfiletype': 4}, {}],
    'in a sub-IFD': [{'subfiletype': 1, 'subifds': 1}, {}],
    'pyramid': [{'subifds': 1}, {'subfiletype': 1}],
}


@pytest.mark.parametrize('case', PAGES)
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_a_preview_is_not_the_picture(tmp_path, case, dtype):
    full, small = noise(40, 60, 3, dtype), noise(8, 12, 3, dtype, seed=2)
    with tifffile.TiffWriter(tmp_path / 'a.tif') as file:
        for options in PAGES[case]:
            if options.get('subfiletype') == 4:
                file.write(full[..., 0] > 99, photometric='mask', **options)
            else:
                file.write(small if options.get('subfiletype') else full, photometric='rgb', **options)
    photograph = read_photograph(str(tmp_path / 'a.tif'))
    assert np.array_equal(photograph.colors, full)
    assert len(photograph.lost) == 1
    write_photograph(str(tmp_path / 'b.tif'), photograph)
    with tifffile.TiffFile(tmp_path / 'b.tif') as file:
        assert file.shaped_metadata[0]['shape'] == list(full.shape)  # the description of the picture, not the preview


@pytest.mark.parametrize(
    'options', [{'photometric': 'miniswhite'}, {'planarconfig': 'separate'}, {'bigtiff': True}, {'tile': (16, 16)}]
)
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_arrangements_of_tiff(tmp_path, options, dtype):
    white = options.get('photometric') == 'miniswhite'
    stored = noise(20, 30, 3, dtype)
    written = stored[..., 0] if white else stored.transpose(2, 0, 1) if 'planarconfig' in options else stored
    tifffile.imwrite(tmp_path / 'a.tif', written, **({'photometric': 'rgb'} | options))
    wanted = np.iinfo(dtype).max - written if white else stored
    assert np.array_equal(read_photograph(str(tmp_path / 'a.tif')).colors, wanted)


def raw_photograph(path, **first):
    """A DNG: Bayer values of a flat gray, behind a small preview if `first` says so."""
    tags = [
        (33421, 'H', 2, (2, 2), True), (33422, 'B', 4, bytes([0, 1, 1, 2]), True), (50706, 'B', 4, b'\1\4\0\0', True),
        (50708, 's', 0, 'Camera', True), (50717, 'I', 1, 65535, True), (50728, '2I', 3, (1, 1) * 3, True),
        (50721, '2i', 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True), (271, 's', 0, 'Maker', True),
    ]  # fmt: skip
    with tifffile.TiffWriter(path) as file:
        if first:
            file.write(noise(8, 12, 3), photometric='rgb', extratags=tags[-1:], **first)
        file.write(np.full((64, 96), 20_000, np.uint16), photometric='cfa', extratags=tags, subfiletype=0)


@pytest.mark.parametrize('name', ['a.dng', 'a.tif'])
@pytest.mark.parametrize('first', [{}, {'subfiletype': 1, 'subifds': 1}])
def test_camera_raw_is_developed(tmp_path, name, first):
    pytest.importorskip('rawpy')
    raw_photograph(tmp_path / name, **first)
    photograph = read_photograph(str(tmp_path / name))
    assert photograph.colors.dtype == np.uint16
    assert photograph.colors.shape[0] in range(60, 65)
    assert photograph.colors.shape[1] in range(90, 97)
    assert photograph.colors.std() < 1000
    assert b'Maker' in photograph.exif


@pytest.mark.parametrize(('module', 'names'), [('rawpy', ['a.dng', 'a.tif', 'b.NEF']), ('pillow_heif', ['a.heic'])])
def test_formats_of_an_extra_are_refused_without_it(tmp_path, monkeypatch, module, names):
    raw_photograph(tmp_path / 'a.dng')
    raw_photograph(tmp_path / 'a.tif', subfiletype=1, subifds=1)
    (tmp_path / 'b.NEF').write_bytes(b'II*\0\x08\0\0\0')
    (tmp_path / 'a.heic').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic')
    monkeypatch.setitem(sys.modules, module, None)
    for name in names:
        with pytest.raises(UnsupportedImageError, match=name):
            read_photograph(str(tmp_path / name))


def test_heic(tmp_path):
    pillow_heif = pytest.importorskip('pillow_heif')
    image = pillow_heif.from_pillow(Image.fromarray(pixels(40, 60)))
    image.save(str(tmp_path / 'a.heic'), quality=-1, chroma=444, exif=exif(1).tobytes())
    photograph = read_photograph(str(tmp_path / 'a.heic'))
    assert np.abs(photograph.colors.astype(int) - pixels(40, 60)).max() <= 4
    _, written = rewritten(tmp_path / 'a.heic', tmp_path / 'b.png')
    assert written.getexif()[271] == 'Maker'


def test_a_second_picture_in_a_jpeg_is_left_out(tmp_path):
    first, second = Image.fromarray(pixels(20, 30)), Image.fromarray(pixels(10, 15))
    first.save(tmp_path / 'a.jpg', 'MPO', save_all=True, append_images=[second])
    lost, image = rewritten(tmp_path / 'a.jpg', tmp_path / 'b.jpg')
    assert len(lost) == 1
    assert (image.format, image.size) == ('JPEG', (30, 20))


def _save(path, kind, image=None, **options):
    (image or Image.fromarray(pixels(20, 30))).save(path, kind, **options)


def _cut(path, kind):
    _save(path, kind)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])


def _cut_deep(path):
    store(path, pixels(90, 90, 3, np.uint16))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])


def _flip_a_bit(path):
    _save(path, 'PNG')
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _frames(path, kind):
    first, second = (Image.fromarray(pixels(20, 30, seed=seed)) for seed in (0, 1))
    first.save(path, kind, save_all=True, append_images=[second])


def _bomb(path):
    """Write a PNG whose header promises more than its few bytes can hold."""
    header = struct.pack('>IIBBBBB', 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b'IHDR', header), (b'IDAT', zlib.compress(bytes(100))), (b'IEND', b''))
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + b''.join(struct.pack('>I', len(d)) + n + d + struct.pack('>I', zlib.crc32(n + d)) for n, d in chunks)
    )


DAMAGED = {
    'empty': ('a.jpg', lambda path: path.write_bytes(b'')),
    'text': ('a.png', lambda path: path.write_text('not an image')),
    'gone': ('a.jpg', lambda path: None),
    'truncated JPEG': ('a.jpg', lambda path: _cut(path, 'JPEG')),
    'truncated PNG': ('a.png', lambda path: _cut(path, 'PNG')),
    'truncated AVIF': ('a.avif', lambda path: _cut(path, 'AVIF')),
    'truncated GIF': ('a.gif', lambda path: _cut(path, 'GIF')),
    'truncated BMP': ('a.bmp', lambda path: _cut(path, 'BMP')),
    'truncated 16-bit PNG': ('a.png', _cut_deep),
    'truncated 16-bit TIFF': ('a.tif', _cut_deep),
    'wrong checksum': ('a.png', _flip_a_bit),
    'raw that is none': ('a.nef', lambda path: path.write_bytes(b'II*\0\x08\0\0\0')),
    'bomb': ('a.png', _bomb),
}
UNSUPPORTED = {
    'animated GIF': ('a.gif', lambda path: _frames(path, 'GIF')),
    'animated WebP': ('a.webp', lambda path: _frames(path, 'WEBP')),
    'animated AVIF': ('a.avif', lambda path: _frames(path, 'AVIF')),
    'animated PNG': ('a.png', lambda path: _frames(path, 'PNG')),
    'pages': ('a.tif', lambda path: _frames(path, 'TIFF')),
    'CMYK': ('a.jpg', lambda path: _save(path, 'JPEG', Image.new('CMYK', (8, 8)))),
    'Lab': ('a.tif', lambda path: tifffile.imwrite(path, noise(8, 8, 3), photometric='cielab')),
    'float TIFF': ('a.tif', lambda path: _save(path, 'TIFF', Image.new('F', (8, 8)))),
    'signed TIFF': ('a.tif', lambda path: tifffile.imwrite(path, np.zeros((8, 8), np.int16))),
}


@pytest.mark.parametrize('case', [*DAMAGED, *UNSUPPORTED])
def test_files_that_cannot_be_read_are_named(tmp_path, capfd, case):
    name, make = {**DAMAGED, **UNSUPPORTED}[case]
    path = tmp_path / name
    make(path)
    with pytest.raises(DataError) as caught:
        read_photograph(str(path))
    assert str(caught.value).startswith(str(path))
    assert '\n' not in str(caught.value)
    assert isinstance(caught.value, UnsupportedImageError) == (case in UNSUPPORTED)
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'a.webp', 'a.jfif', 'a.JPE'])
def test_the_content_decides_on_the_format(tmp_path, name):
    """A JPEG under any name; the result has the format of its own name."""
    Image.fromarray(pixels(20, 30)).save(tmp_path / name, 'JPEG')
    assert read_photograph(str(tmp_path / name)).format == 'JPEG'
    _, image = rewritten(tmp_path / name, tmp_path / f'out_{name}')
    assert image.format == FORMATS[f'.{name[2:].lower()}'].upper()


def test_names_that_libvips_would_parse(tmp_path):
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a[page=1].png')
    _, image = rewritten(tmp_path / 'a[page=1].png', tmp_path / 'ö[Q=1].png')
    assert np.array_equal(np.asarray(image), pixels(20, 30))


def test_photographs_of_200_megapixels_are_read(tmp_path):
    path = tmp_path / 'a.png'
    Image.new('L', (10_000, 20_000)).save(path)
    assert read_photograph(str(path)).colors.shape == (20_000, 10_000)


@pytest.mark.parametrize(('suffix', 'side'), [('.webp', 16_383), ('.jpg', 65_500), ('.avif', 65_536)])
def test_the_largest_side_of_a_format(tmp_path, suffix, side):
    path = str(tmp_path / f'b{suffix}')
    for shape in ((1, side + 1), (side + 1, 1)):
        with pytest.raises(DataError, match=rf'b\{suffix}'):
            check_format(path, Photograph(np.zeros(shape, np.uint8)))
    write_photograph(path, Photograph(np.zeros((16, side), np.uint8)))
    assert read_photograph(path).colors.shape[:2] == (16, side)


def test_pictures_for_the_screen(monkeypatch):
    deep = np.zeros((40, 60, 3), np.uint16)
    alpha = np.zeros((40, 60), np.uint16)
    alpha[:20] = 65535
    image = Image.open(io.BytesIO(screen_picture(Photograph(deep, alpha, icc=ICC))))
    assert image.info['icc_profile'] == ICC
    shown = np.asarray(image)
    assert shown.shape == (40, 60, 3)
    assert shown[5].max() < 5  # opaque black
    assert shown[-5].min() > 250  # on white
    wide = Photograph(np.zeros((1, 66_000), np.uint8))  # more than JPEG can hold
    assert Image.open(io.BytesIO(screen_picture(wide))).size == (65_500, 1)
    monkeypatch.setattr('ggkm_plugin.restoration.image_io.SCREEN_PIXELS', 600)
    assert Image.open(io.BytesIO(screen_picture(Photograph(deep[..., 0])))).size == (30, 20)
