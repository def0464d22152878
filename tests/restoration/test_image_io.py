"""Photographs to files and back: depth, alpha, upright once, profile and EXIF; and each file that cannot be read."""

import errno
import hashlib
import io
import os
import struct
import zlib
from itertools import product

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin
from restoration.conftest import pixels

from ggkm_plugin.restoration import image_io
from ggkm_plugin.restoration.encoding import KINDS, encode, picture
from ggkm_plugin.restoration.image_io import read_photograph, upright, write_photograph
from ggkm_plugin.restoration.metadata import Metadata, upright_exif
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.image_decoding import IMAGE_SUFFIXES

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="Sea"/></x:xmpmeta>'
MAKER = b'notes with offsets \x00\x01\x02'


def exif(orientation=6, size=(30, 20)):
    """As a camera writes it: the size (W,H) of the pixels as stored, a note in the maker's own format, a place."""
    tags = Image.Exif()
    tags[274], tags[271] = orientation, 'Maker'
    tags[0x8769] = {0xA002: size[0], 0xA003: size[1], 0x927C: MAKER, 0x9003: '2020:01:02 03:04:05'}
    tags[0x8825] = {1: 'N', 2: (48.0, 8.0, 0.5)}
    return tags


def rewritten(path, output):
    """Read and write a photograph without changing it; what was lost, and the result by Pillow."""
    before = hashlib.sha256(path.read_bytes()).digest()
    lost = write_photograph(str(output), read_photograph(str(path)))
    assert hashlib.sha256(path.read_bytes()).digest() == before
    image = Image.open(output)
    image.load()
    return lost, image


# All but deep grey with alpha as TIFF, which has a test of its own.
KEPT = [
    kind for kind in product([1, 2, 3, 4], [np.uint8, np.uint16], ['.png', '.tif']) if kind != (2, np.uint16, '.tif')
]


@pytest.mark.parametrize(('channels', 'dtype', 'suffix'), KEPT)
@pytest.mark.parametrize('size', [(1, 1), (3, 700), (700, 3)])
def test_every_bit_comes_back(tmp_path, size, channels, dtype, suffix):
    stored = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, (*size, channels)).astype(dtype)
    path = tmp_path / f'a{suffix}'
    path.write_bytes(encode(stored, Metadata('', ICC if channels > 2 else None, dpi=(300, 200)), suffix, {}).content)
    photograph = read_photograph(str(path))
    assert photograph.colours.dtype == dtype
    assert photograph.colours.ndim == (2 if channels < 3 else 3)
    assert np.array_equal(photograph.pixels, stored)
    assert photograph.metadata.dpi == pytest.approx((300, 200), abs=0.01)
    lost, image = rewritten(path, tmp_path / f'b{suffix}')
    assert lost == []
    assert np.array_equal(read_photograph(str(tmp_path / f'b{suffix}')).pixels, stored)
    assert image.info.get('icc_profile') == (ICC if channels > 2 else None)


def test_others_read_what_is_written(tmp_path):
    """OpenCV and tifffile, which have decoders of their own; several strips, and none compressed."""
    deep = np.random.default_rng(1).integers(0, 65536, (700, 500, 4), dtype=np.uint16)
    for like in ({}, {'uncompressed': True}):
        content = encode(deep, Metadata('', ICC), '.tif', like).content
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            assert len(file.pages) == 1
            assert file.pages[0].extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)
            assert len(file.pages[0].dataoffsets) > 1
            assert np.array_equal(file.asarray(), deep)
        assert np.array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), -1), deep[..., [2, 1, 0, 3]])
    content = encode(deep, Metadata('', ICC), '.png', {}).content
    assert np.array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), -1), deep[..., [2, 1, 0, 3]])


def test_deep_grey_with_alpha_as_tiff(tmp_path):
    """In colours: Pillow, and so much other software, does not read it as grey."""
    deep = np.random.default_rng(1).integers(0, 65536, (5, 4, 2), dtype=np.uint16)
    path = tmp_path / 'a.tif'
    path.write_bytes(encode(deep, Metadata(''), '.tif', {}).content)
    assert np.array_equal(read_photograph(str(path)).pixels, deep[..., [0, 0, 0, 1]])


@pytest.mark.parametrize(('suffix', 'dtype'), [('.tif', np.uint16), ('.webp', np.uint8)])
def test_a_profile_for_grey_is_not_left_on_colours(tmp_path, suffix, dtype):
    grey = ICC[:16] + b'GRAY' + ICC[20:]
    path = tmp_path / f'a{suffix}'
    encoded = encode(np.zeros((5, 4, 2), dtype), Metadata('', grey), suffix, {})
    path.write_bytes(encoded.content)
    assert encoded.lost == ['ICC profile']
    assert read_photograph(str(path)).metadata.icc is None


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['a.jpg', 'a.png', 'deep.png', 'a.tif', 'deep.tif', 'a.webp'])
def test_upright_and_not_turned_twice(tmp_path, orientation, kind):
    """As Pillow turns it: once on reading, and viewers find nothing left to do."""
    shown = pixels(20, 30)
    path, output = tmp_path / kind, tmp_path / f'out_{kind}'
    tags = exif(orientation)
    if 'deep' in kind:
        shown = pixels(20, 30, dtype=np.uint16)
        metadata = Metadata('', exif=tags.tobytes()[6:])
        path.write_bytes(encode(shown, metadata, path.suffix, {'uncompressed': True}).content)
        if kind == 'deep.tif':  # the writer says 1, in the byte order of the EXIF
            content = bytearray(path.read_bytes())
            place = content.index(struct.pack('>HHI', 274, 3, 1)) + 8
            content[place : place + 2] = struct.pack('>H', orientation)
            path.write_bytes(content)
    elif kind == 'a.tif':
        plain = Image.Exif()
        plain[274] = orientation
        Image.fromarray(shown).save(path, exif=plain)
    else:
        exact = {'a.webp': {'lossless': True}, 'a.jpg': {'quality': 100, 'subsampling': 0}}.get(kind, {})
        Image.fromarray(shown).save(path, exif=tags, **exact)
    photograph = read_photograph(str(path))
    turned = np.asarray(ImageOps.exif_transpose(_with_orientation(pixels(20, 30), orientation)))
    scale = 257 if 'deep' in kind else 1
    assert photograph.colours.shape == turned.shape
    assert np.abs(photograph.colours.astype(float) / scale - turned).max() <= (6 if kind == 'a.jpg' else 1)
    _, image = rewritten(path, output)
    assert image.getexif().get(274, 1) == 1
    assert image.size == turned.shape[1::-1]
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(image)), np.asarray(image))
    if kind != 'a.tif':
        assert image.getexif()[271] == 'Maker'
    if kind in ('a.jpg', 'a.png', 'a.webp', 'deep.png'):
        details = image.getexif().get_ifd(0x8769)
        assert (details[0xA002], details[0xA003]) == image.size


def _with_orientation(array, orientation):
    file = io.BytesIO()
    tags = Image.Exif()
    tags[274] = orientation
    Image.fromarray(array).save(file, 'PNG', exif=tags)
    return Image.open(file)


def test_upright_is_what_exif_says():
    numbered = np.arange(6).reshape(2, 3)
    assert np.array_equal(upright(numbered, 6), np.rot90(numbered, -1))  # the camera's left side is up
    assert np.array_equal(upright(numbered, 8), np.rot90(numbered))
    assert np.array_equal(upright(numbered, 3), numbered[::-1, ::-1])
    assert np.array_equal(upright(numbered, 99), numbered)


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
@pytest.mark.parametrize('source', ['a.jpg', 'a.png', 'a.webp', 'a.tif'])
def test_what_is_said_about_a_photograph_is_kept(tmp_path, source, suffix):
    path = tmp_path / source
    if source == 'a.tif':
        metadata = Metadata('', ICC, exif().tobytes()[6:], XMP, (240, 240))
        path.write_bytes(encode(pixels(20, 30), metadata, '.tif', {}).content)
    else:
        more = {'xmp': XMP} if source != 'a.png' else {}
        if source == 'a.png':
            more['pnginfo'] = PngImagePlugin.PngInfo()
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
    if 'webp' not in source + suffix:
        assert image.info['dpi'] == pytest.approx((240, 240), abs=0.01)


def test_exif_is_kept_byte_by_byte():
    """But for the orientation, the size, and the link to the preview of the blurred photograph."""
    stored = exif().tobytes()[6:]
    changed = upright_exif(stored, (30, 20))
    assert len(changed) == len(stored)
    differ = [place for place in range(len(stored)) if stored[place] != changed[place]]
    assert len(differ) == 3  # one byte of each of three numbers
    tags = Image.Exif()
    tags.load(b'Exif\0\0' + changed)
    assert (tags[274], tags.get_ifd(0x8769)[0xA002], tags.get_ifd(0x8769)[0xA003]) == (1, 20, 30)


@pytest.mark.parametrize('order', ['<', '>'])
def test_the_preview_in_exif_is_cut_off(order):
    entry = struct.pack(order + 'HHIHH', 274, 3, 1, 6, 0)
    directory = struct.pack(order + 'H', 1) + entry
    magic = {'<': b'II*\0', '>': b'MM\0*'}[order]
    preview = struct.pack(order + 'H', 1) + entry + struct.pack(order + 'I', 0)
    stored = magic + struct.pack(order + 'I', 8) + directory + struct.pack(order + 'I', 26) + preview
    changed = upright_exif(stored, (5, 5))
    assert changed[8:22] == directory[:-4] + struct.pack(order + 'HH', 1, 0)
    assert changed[22:26] == bytes(4)
    assert changed[26:] == stored[26:]


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
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp'])
def test_broken_exif_does_not_matter(tmp_path, broken, suffix):
    path = tmp_path / 'a.jpg'
    Image.fromarray(pixels(20, 30)).save(path, exif=b'Exif\0\0' + broken)
    _, image = rewritten(path, tmp_path / f'out{suffix}')
    assert image.size == (30, 20)


def test_jpeg_is_quantised_as_finely_as_its_source(tmp_path):
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


def test_a_jpeg_keeps_comment_and_iptc(tmp_path):
    path = tmp_path / 'a.jpg'
    Image.fromarray(pixels(20, 30)).save(path, comment=b'a comment', dpi=(72, 72))
    iptc = b'Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0'
    content = path.read_bytes()
    path.write_bytes(content[:20] + struct.pack('>BBH', 0xFF, 0xED, len(iptc) + 2) + iptc + content[20:])
    lost, image = rewritten(path, tmp_path / 'b.jpg')
    assert lost == []
    assert image.info['comment'] == b'a comment'
    assert iptc in (tmp_path / 'b.jpg').read_bytes()
    assert rewritten(path, tmp_path / 'b.png')[0] == ['comments or colours as a JPEG says them']


def test_png_keeps_text_and_colours(tmp_path):
    more = PngImagePlugin.PngInfo()
    more.add_text('Title', 'Sea')
    more.add(b'gAMA', struct.pack('>I', 45455))
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.png', pnginfo=more, dpi=(300, 300))
    lost, image = rewritten(tmp_path / 'a.png', tmp_path / 'b.png')
    assert lost == []
    assert image.text == {'Title': 'Sea'}
    assert image.info['gamma'] == 0.45455


@pytest.mark.parametrize(('suffix', 'lost'), [('.jpg', ['8 of the 16 bits', 'alpha']), ('.webp', ['8 of the 16 bits'])])
def test_what_the_format_cannot_hold_is_said(tmp_path, suffix, lost):
    deep = pixels(20, 30, 4, np.uint16)
    (tmp_path / 'a.png').write_bytes(encode(deep, Metadata(''), '.png', {}).content)
    said, image = rewritten(tmp_path / 'a.png', tmp_path / f'b{suffix}')
    assert said == lost
    assert np.abs(np.asarray(image).astype(float)[..., :3] - deep[..., :3] / 257).max() < 8


def test_bmp(tmp_path):
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.bmp')
    lost, image = rewritten(tmp_path / 'a.bmp', tmp_path / 'b.bmp')
    assert lost == []
    assert np.array_equal(np.asarray(image), pixels(20, 30))
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.jpg', icc_profile=ICC, exif=exif())
    assert rewritten(tmp_path / 'a.jpg', tmp_path / 'c.bmp')[0] == ['ICC profile', 'EXIF']


def test_palettes_and_transparent_colours(tmp_path):
    flat = Image.fromarray(pixels(20, 30)).quantize(16)
    flat.save(tmp_path / 'p.png')
    assert np.array_equal(read_photograph(str(tmp_path / 'p.png')).colours, np.asarray(flat.convert('RGB')))
    flat.save(tmp_path / 't.png', transparency=3)
    photograph = read_photograph(str(tmp_path / 't.png'))
    assert np.array_equal(photograph.alpha, np.where(np.asarray(flat) == 3, 0, 255))
    Image.fromarray(pixels(20, 30)[..., 0]).save(tmp_path / 'g.png', transparency=100)
    photograph = read_photograph(str(tmp_path / 'g.png'))
    assert photograph.colours.ndim == 2
    assert np.array_equal(photograph.alpha == 0, photograph.colours == 100)
    Image.fromarray(pixels(20, 30)[..., 0] > 99).save(tmp_path / 'b.png')
    assert set(np.unique(read_photograph(str(tmp_path / 'b.png')).colours)) == {0, 255}


def test_a_transparent_colour_of_16_bits(tmp_path):
    deep = np.random.default_rng(0).integers(0, 9, (20, 30, 1)).astype(np.uint16)
    content = encode(deep, Metadata('PNG', parts=[(b'tRNS', struct.pack('>H', 4))]), '.png', {}).content
    (tmp_path / 'a.png').write_bytes(content)
    photograph = read_photograph(str(tmp_path / 'a.png'))
    assert np.array_equal(photograph.colours, deep[..., 0])
    assert np.array_equal(photograph.alpha, np.where(deep[..., 0] == 4, 0, 65535))


def test_a_second_picture_in_a_jpeg_is_left_out_and_said(tmp_path):
    first, second = Image.fromarray(pixels(20, 30)), Image.fromarray(pixels(10, 15))
    first.save(tmp_path / 'a.jpg', 'MPO', save_all=True, append_images=[second])
    lost, image = rewritten(tmp_path / 'a.jpg', tmp_path / 'b.jpg')
    assert len(lost) == 1
    assert 'second picture' in lost[0]
    assert (image.format, image.size) == ('JPEG', (30, 20))


def test_a_preview_in_a_tiff_is_no_page(tmp_path):
    with tifffile.TiffWriter(tmp_path / 'a.tif') as file:
        file.write(pixels(20, 30), photometric='rgb')
        file.write(pixels(10, 15), photometric='rgb', subfiletype=1)
    photograph = read_photograph(str(tmp_path / 'a.tif'))
    assert photograph.lost == ['the preview in the TIFF']
    assert np.array_equal(photograph.colours, pixels(20, 30))


def _save(path, kind, image=None, **options):
    (image or Image.fromarray(pixels(20, 30))).save(path, kind, **options)


def _cut(path, kind, share, image=None):
    _save(path, kind, image)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def _deep(path, suffix):
    content = encode(pixels(90, 90, 3, np.uint16), Metadata(''), suffix, {}).content
    path.write_bytes(content[: len(content) * 3 // 4])


def _frames(path, kind):
    first, second = (Image.fromarray(pixels(20, 30, seed=seed)) for seed in (0, 1))
    first.save(path, kind, save_all=True, append_images=[second])


def _bomb(path):
    """A PNG whose header promises more than its few bytes can hold."""
    header = struct.pack('>IIBBBBB', 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b'IHDR', header), (b'IDAT', zlib.compress(bytes(100))), (b'IEND', b''))
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + b''.join(struct.pack('>I', len(d)) + n + d + struct.pack('>I', zlib.crc32(n + d)) for n, d in chunks)
    )


def _loop(path):
    path.symlink_to(path.name)


UNREADABLE = {
    'empty': ('a.jpg', lambda path: path.write_bytes(b''), 'empty'),
    'text': ('a.png', lambda path: path.write_text('not an image'), 'not an image'),
    'gone': ('a.jpg', lambda path: None, 'No such file'),
    'loop of links': ('a.jpg', _loop, 'symbolic links'),
    'folder': ('a.jpg', lambda path: path.mkdir(), 'Is a directory'),
    'truncated JPEG': ('a.jpg', lambda path: _cut(path, 'JPEG', 0.6), 'truncated'),
    'truncated PNG': ('a.png', lambda path: _cut(path, 'PNG', 0.6), 'truncated'),
    'truncated WebP': ('a.webp', lambda path: _cut(path, 'WEBP', 0.6), 'damaged'),
    'truncated TIFF': ('a.tif', lambda path: _cut(path, 'TIFF', 0.6), 'truncated'),
    'truncated 16-bit PNG': ('a.png', lambda path: _deep(path, '.png'), 'truncated'),
    'truncated 16-bit TIFF': ('a.tif', lambda path: _deep(path, '.tif'), 'truncated'),
    'truncated header': ('a.jpg', lambda path: _cut(path, 'JPEG', 0.05), 'damaged'),
    'animated GIF': ('a.gif', lambda path: _frames(path, 'GIF'), 'a GIF image'),
    'animated WebP': ('a.webp', lambda path: _frames(path, 'WEBP'), 'animation of 2'),
    'animated PNG': ('a.png', lambda path: _frames(path, 'PNG'), 'animation of 2'),
    'pages': ('a.tif', lambda path: _frames(path, 'TIFF'), 'TIFF of 2 pages'),
    'CMYK': ('a.jpg', lambda path: _save(path, 'JPEG', Image.new('CMYK', (8, 8))), 'CMYK'),
    'Lab': ('a.tif', lambda path: _save(path, 'TIFF', Image.new('LAB', (8, 8))), 'Lab'),
    'float TIFF': ('a.tif', lambda path: _save(path, 'TIFF', Image.new('F', (8, 8))), '32-bit float pixels'),
    'float RGB TIFF': (
        'a.tif',
        lambda path: tifffile.imwrite(path, np.zeros((8, 8, 3), np.float32), photometric='rgb'),
        '8 or 16 whole bits',
    ),
    '32-bit TIFF': ('a.tif', lambda path: tifffile.imwrite(path, np.zeros((8, 8), np.uint32)), '32-bit'),
    'planes of a 16-bit TIFF': (
        'a.tif',
        lambda path: tifffile.imwrite(path, np.zeros((3, 8, 8), np.uint16), photometric='rgb', planarconfig='separate'),
        'unusual arrangement',
    ),
    'white is zero in 16 bits': (
        'a.tif',
        lambda path: tifffile.imwrite(path, np.zeros((8, 8), np.uint16), photometric='miniswhite'),
        'unusual arrangement',
    ),
    'bomb': ('a.png', _bomb, '60000x60000 pixels, more than 500 million'),
}


@pytest.mark.parametrize('case', UNREADABLE)
def test_files_that_cannot_be_read_are_named(tmp_path, case):
    name, make, words = UNREADABLE[case]
    path = tmp_path / name
    make(path)
    with pytest.raises(DataError, match=words) as caught:
        read_photograph(str(path))
    assert str(caught.value).startswith(str(path))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'a.webp'])
def test_the_content_decides_what_a_file_is(tmp_path, name):
    """A JPEG under another name."""
    Image.fromarray(pixels(20, 30)).save(tmp_path / name, 'JPEG')
    assert read_photograph(str(tmp_path / name)).metadata.container == 'JPEG'
    _, image = rewritten(tmp_path / name, tmp_path / f'out_{name}')
    assert image.format == KINDS[f'.{name[2:]}'].upper()


def test_photographs_of_100_megapixels_are_read(tmp_path):
    """Without Pillow's warning and with its limit as it was."""
    path = tmp_path / 'a.png'
    Image.new('L', (10_000, 20_000)).save(path)
    limit = Image.MAX_IMAGE_PIXELS
    assert read_photograph(str(path)).colours.shape == (20_000, 10_000)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_out_of_memory_while_reading(tmp_path, monkeypatch):
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.png')

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(image_io, '_pixels', full)
    with pytest.raises(DataError, match='out of memory'):
        read_photograph(str(tmp_path / 'a.png'))


@pytest.mark.parametrize('suffix', sorted(KINDS))
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, suffix):
    path, output = tmp_path / 'a.png', tmp_path / f'b{suffix}'
    Image.fromarray(pixels(20, 30)).save(path)
    output.write_bytes(b'earlier')
    photograph = read_photograph(str(path))

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(DataError, match=r'b\.\w+: No space left'):
        write_photograph(str(output), photograph)
    assert output.read_bytes() == b'earlier'
    assert sorted(os.listdir(tmp_path)) == ['a.png', output.name]


def test_a_place_that_cannot_be_written(tmp_path):
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.png')
    with pytest.raises(DataError, match=r'a\.png/b\.png: '):
        write_photograph(str(tmp_path / 'a.png/b.png'), read_photograph(str(tmp_path / 'a.png')))


def test_too_wide_for_its_format(tmp_path):
    Image.new('L', (17_000, 1)).save(tmp_path / 'a.png')
    with pytest.raises(DataError, match=r'b\.webp: cannot be encoded as WebP'):
        write_photograph(str(tmp_path / 'b.webp'), read_photograph(str(tmp_path / 'a.png')))


def test_every_kind_of_image_file_has_a_writer():
    assert set(KINDS) == set(IMAGE_SUFFIXES)


def test_pictures_for_the_screen(monkeypatch):
    deep = np.zeros((40, 60, 4), np.uint16)
    deep[:20, :, 3] = 65535
    shown = np.asarray(Image.open(io.BytesIO(picture(deep, ICC))))
    assert shown.shape == (40, 60, 3)
    assert shown[5].max() < 5  # opaque black
    assert shown[-5].min() > 250  # on white
    monkeypatch.setattr('ggkm_plugin.restoration.encoding._MOST_ON_A_SCREEN', 700)
    assert Image.open(io.BytesIO(picture(deep[..., :1], None))).size == (30, 20)
