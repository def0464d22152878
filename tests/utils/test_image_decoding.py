"""Image files: exact values, damaged files named, listings, atomic writing."""

import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from ggkm_plugin.data.sampling import to_tensor
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.image_decoding import (
    IMAGE_SUFFIXES,
    decode_image,
    image_files,
    read_bytes,
    read_image,
    write_image,
)


def noise(dtype, shape=(24, 20, 3)):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def png(image):
    """Encode an RGB or gray array as PNG with OpenCV."""
    return cv2.imencode('.png', image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()


def saved(image, kind, **options):
    """Encode a Pillow image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png16(image):
    """Encode a 16-bit RGB PNG by the specification, independently of OpenCV."""

    def chunk(kind, body):
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in image)
    header = struct.pack('>IIBBBBB', image.shape[1], image.shape[0], 16, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


# values


@pytest.mark.parametrize(
    ('dtype', 'encode'), [(np.uint8, lambda image: saved(Image.fromarray(image), 'PNG')), (np.uint16, png16)]
)
def test_every_value_reaches_the_tensor_exactly(tmp_path, dtype, encode):
    most = np.iinfo(dtype).max
    ramp, side = np.arange(most + 1, dtype=dtype), round((most + 1) ** 0.5)
    image = np.stack([np.roll(ramp, shift * most // 3) for shift in range(3)], -1).reshape(side, side, 3)
    (tmp_path / 'a.png').write_bytes(encode(image))
    tensor = to_tensor(read_image(str(tmp_path / 'a.png'))).numpy()
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, image.transpose(2, 0, 1).astype(np.float32) / np.float32(most))


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'BMP'])
def test_the_channels_are_red_green_blue(kind):
    color = noise(np.uint8)
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(color), kind), 'a'), color)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_gray_palettes_and_alpha_become_colors_of_their_depth(dtype):
    gray, color = noise(dtype, (9, 7)), Image.fromarray(noise(np.uint8))
    image = decode_image(png(gray), 'a')
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, np.repeat(gray[..., None], 3, -1))
    for other in (color.quantize(8), color.convert('RGBA')):
        np.testing.assert_array_equal(decode_image(saved(other, 'PNG'), 'a'), np.asarray(other.convert('RGB')))


def test_a_jpeg_is_read_as_another_decoder_reads_it():
    smooth = cv2.GaussianBlur(noise(np.uint8, (40, 32, 3)), (0, 0), 4)
    content = saved(Image.fromarray(smooth), 'JPEG', quality=95, subsampling=0)
    by_pillow = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert np.abs(decode_image(content, 'a').astype(int) - by_pillow).max() <= 2  # libjpeg builds round differently


# names and endings


def test_names_of_any_language_are_read_and_written(tmp_path):
    name, image = "IMG.1.2 ü 日本 it's 100%.PNG", noise(np.uint8)
    write_image(str(tmp_path / name), image)
    np.testing.assert_array_equal(decode_image(read_bytes(str(tmp_path / name)), name), image)
    assert image_files(str(tmp_path)) == [str(tmp_path / name)]


def test_bytes_after_the_end_are_legal():
    image = Image.fromarray(noise(np.uint8))
    for content in (saved(image, 'PNG'), saved(image, 'JPEG'), png(noise(np.uint16))):
        np.testing.assert_array_equal(decode_image(content + b'a note', 'a'), decode_image(content, 'a'))


# damage


def test_pixels_of_another_kind_are_refused_by_name():
    content = cv2.imencode('.tiff', np.ones((4, 5, 3), np.float32))[1].tobytes()
    with pytest.raises(DataError, match=r'photo\.tiff.*float32'):
        decode_image(content, 'photo.tiff')


@pytest.mark.parametrize('content', [b'', b'a text file named .png\n', b'\x89PNG\r\n\x1a\n', b'\xff\xd8'])
def test_other_files_are_named(tmp_path, content):
    path = tmp_path / 'IMG.1.2 ü.png'
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_image(str(path))
    for missing in (tmp_path / 'gone.png', tmp_path):
        with pytest.raises(DataError, match=re.escape(str(missing))):
            read_image(str(missing))


ENCODED = {
    '8-bit PNG': lambda: png(noise(np.uint8, (64, 64, 3))),
    '16-bit PNG': lambda: png(noise(np.uint16, (64, 64, 3))),
    'JPEG': lambda: saved(Image.fromarray(noise(np.uint8, (64, 64, 3))), 'JPEG'),
    'progressive JPEG': lambda: saved(Image.fromarray(noise(np.uint8, (64, 64, 3))), 'JPEG', progressive=True),
    **{
        suffix: lambda suffix=suffix: cv2.imencode(suffix, noise(np.uint8, (64, 64, 3)))[1].tobytes()
        for suffix in ('.tif', '.bmp', '.webp')
    },
}


@pytest.mark.parametrize('kind', ENCODED)
def test_a_truncated_file_is_named(kind):
    content = ENCODED[kind]()
    sizes = [int(len(content) * share) for share in (0.1, 0.5, 0.9)]
    if kind.endswith(('PNG', 'JPEG')):
        sizes += [int(len(content) * 0.01), int(len(content) * 0.99), len(content) - 1]
    if kind.endswith('PNG'):
        sizes += [len(content) - missing for missing in (4, 12, 13, 30)]
    for size in sizes:
        with pytest.raises(DataError, match='cut'):
            decode_image(content[:size], 'cut')


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_a_truncated_file_is_named_where_opencv_decodes_it(monkeypatch, kind):
    """OpenCV 4 fills missing pixels with gray."""
    content = saved(Image.fromarray(noise(np.uint8, (64, 64, 3))), kind)
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.full((64, 64, 3), 128, np.uint8))
    assert decode_image(content, 'whole').shape == decode_image(content + b'more', 'whole').shape == (64, 64, 3)
    for share in (0.1, 0.5, 0.9, 0.99):
        with pytest.raises(DataError, match='cut'):
            decode_image(content[: int(len(content) * share)], 'cut')


@pytest.mark.parametrize('share', [0.02, 0.6])
def test_a_damaged_png_is_named(share):
    content = png(noise(np.uint8, (64, 64, 3)))
    at = int(len(content) * share)
    flipped = bytes([content[at] ^ 4])
    for damaged in (flipped + content[at + 1 :], bytes(256) + content[at + 256 :], content[at + 256 :]):
        with pytest.raises(DataError, match=r'damaged\.png'):
            decode_image(content[:at] + damaged, 'damaged.png')


# folders


def test_a_listing_has_images_only_in_order(tmp_path):
    for name in ('b.PNG', 'a.JpG', 'c.jpeg', 'd.Tiff', 'e.webp', 'f.bmp', 'g.TIF', '10.png', '9.png'):
        (tmp_path / name).touch()
    for name in ('.hidden.png', '._a.png', 'notes.txt', 'Thumbs.db', 'png', 'a.png.part', 'list.npy'):
        (tmp_path / name).touch()
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'below').mkdir()
    (tmp_path / 'below' / 'z.png').touch()
    names = ['10.png', '9.png', 'a.JpG', 'b.PNG', 'c.jpeg', 'd.Tiff', 'e.webp', 'f.bmp', 'g.TIF']
    assert image_files(str(tmp_path)) == [str(tmp_path / name) for name in names]


def test_a_recursive_listing_looks_below_but_not_into_hidden_folders(tmp_path):
    root = tmp_path / '.data'  # the folder itself may be hidden
    for name in ('b/2.png', 'a/.thumbs/1.png', '.cache/3.png', 'a/._1.png', 'c.png'):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).touch()
    assert image_files(str(root), recursive=True) == [str(root / name) for name in ('b/2.png', 'c.png')]


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(DataError, match='nowhere'):
        image_files(str(tmp_path / 'nowhere'))
    (tmp_path / 'file.png').touch()
    with pytest.raises(DataError, match=r'file\.png'):
        image_files(str(tmp_path / 'file.png'))
    (tmp_path / 'void').mkdir()
    (tmp_path / 'void' / 'readme.txt').touch()
    with pytest.raises(DataError, match='void'):
        image_files(str(tmp_path / 'void'))
    (tmp_path / 'void' / 'c.png').symlink_to(tmp_path / 'gone.png')
    with pytest.raises(DataError, match=r'c\.png'):
        image_files(str(tmp_path / 'void'))


# writing


@pytest.mark.parametrize(('dtype', 'suffix'), [(np.uint8, '.png'), (np.uint16, '.png'), (np.uint16, '.tif')])
def test_what_is_written_is_read_back(tmp_path, dtype, suffix):
    image, path = noise(dtype), tmp_path / 'new' / 'folder' / f'a{suffix}'
    write_image(str(path), image)
    back = decode_image(path.read_bytes(), 'a')
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, image)
    write_image(str(path), noise(np.uint8)[::-1])
    np.testing.assert_array_equal(decode_image(path.read_bytes(), 'a'), noise(np.uint8)[::-1])
    assert np.array_equal(np.asarray(Image.open(path)), noise(np.uint8)[::-1])  # RGB for another decoder, too
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize('suffix', IMAGE_SUFFIXES)
def test_every_suffix_that_is_read_can_be_written(tmp_path, suffix):
    """16 bits are rounded where a file has only 8."""
    image = np.empty((16, 16, 3), np.uint16)
    image[:] = 30000, 65535, 400
    write_image(str(tmp_path / f'a{suffix}'), image)
    back = read_image(str(tmp_path / f'a{suffix}')) * 255
    assert np.abs(back - image / 257).max() < 4  # the error of JPEG and WebP on a constant color


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'out').write_text('a file')
    (tmp_path / 'folder/a.png').mkdir(parents=True)
    for path in (tmp_path / 'out/a.png', tmp_path / 'folder/a.png'):
        with pytest.raises(DataError, match=r'a\.png'):
            write_image(str(path), noise(np.uint8))
    assert (tmp_path / 'out').read_text() == 'a file'
    assert [file.name for file in (tmp_path / 'folder').iterdir()] == ['a.png']


@pytest.mark.parametrize('name', ['a.xyz', 'a.png.part'])
def test_a_suffix_without_an_encoder_is_named(tmp_path, name):
    with pytest.raises(DataError, match=name):
        write_image(str(tmp_path / name), noise(np.uint8))
    assert not list(tmp_path.iterdir())
