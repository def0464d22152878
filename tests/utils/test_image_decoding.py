"""From file to tensor: every value survives, every damaged file is named, what is written is whole."""

import io
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
    to_float,
    write_image,
)


def noise(dtype, shape=(24, 20, 3)):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def png(image):
    """The PNG of an RGB or grey array, by OpenCV."""
    return cv2.imencode('.png', image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()


def saved(image, kind, **options):
    """The bytes of a Pillow image in a format."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png16_by_hand(image):
    """A 16-bit RGB PNG from the specification alone: another hand than OpenCV's wrote it."""

    def chunk(kind, body):
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in image)
    header = struct.pack('>IIBBBBB', image.shape[1], image.shape[0], 16, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


# values


def test_every_8_bit_value_reaches_the_tensor_exactly(tmp_path):
    ramp = np.arange(256, dtype=np.uint8)
    image = np.stack([np.roll(ramp, shift) for shift in (0, 85, 170)], -1).reshape(16, 16, 3)
    (tmp_path / 'a.png').write_bytes(saved(Image.fromarray(image), 'PNG'))
    tensor = to_tensor(read_image(str(tmp_path / 'a.png'))).numpy()
    expected = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, expected)


def test_every_16_bit_value_reaches_the_tensor_exactly(tmp_path):
    ramp = np.arange(65536, dtype=np.uint16)
    image = np.stack([np.roll(ramp, shift) for shift in (0, 20000, 40000)], -1).reshape(256, 256, 3)
    (tmp_path / 'a.png').write_bytes(png16_by_hand(image))
    tensor = to_tensor(read_image(str(tmp_path / 'a.png'))).numpy()
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, image.transpose(2, 0, 1).astype(np.float32) / np.float32(65535))


def test_white_and_black_are_one_and_zero_at_both_depths():
    for dtype in (np.uint8, np.uint16):
        limits = to_float(np.array([0, np.iinfo(dtype).max], dtype))
        assert limits.dtype == np.float32
        assert limits.tolist() == [0, 1]


@pytest.mark.parametrize(('channel', 'colour'), enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]))
@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'BMP'])
def test_the_channels_are_red_green_blue(kind, channel, colour):
    image = decode_image(saved(Image.new('RGB', (5, 4), colour), kind), 'a')
    assert image.shape == (4, 5, 3)
    assert (image[..., channel] == 255).all()
    assert image.sum() == 4 * 5 * 255


def test_the_first_channel_of_a_16_bit_file_is_red():
    image = np.zeros((4, 5, 3), np.uint16)
    image[..., 0], image[..., 1] = 50000, 7
    np.testing.assert_array_equal(decode_image(png16_by_hand(image), 'a'), image)


def test_an_opaque_alpha_is_dropped_and_the_colour_kept():
    colour = noise(np.uint8)
    opaque = np.dstack([colour, np.full(colour.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(opaque), 'PNG'), 'a'), colour)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_grey_is_repeated_at_its_own_depth(dtype):
    grey = noise(dtype, (9, 7))
    image = decode_image(png(grey), 'a')
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, -1))


def test_a_palette_becomes_its_colours():
    image = Image.fromarray(noise(np.uint8)).quantize(8)
    np.testing.assert_array_equal(decode_image(saved(image, 'PNG'), 'a'), np.asarray(image.convert('RGB')))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_a_tiff_keeps_its_depth(dtype):
    image = noise(dtype)
    content = cv2.imencode('.tiff', image[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_image(content, 'a'), image)


def test_a_jpeg_is_read_as_another_decoder_reads_it():
    smooth = cv2.GaussianBlur(noise(np.uint8, (40, 32, 3)), (0, 0), 4)
    content = saved(Image.fromarray(smooth), 'JPEG', quality=95, subsampling=0)
    theirs = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert np.abs(decode_image(content, 'a').astype(int) - theirs).max() <= 2  # libjpeg builds round differently


def test_pixels_of_another_kind_are_refused_by_name():
    content = cv2.imencode('.tiff', np.ones((4, 5, 3), np.float32))[1].tobytes()
    with pytest.raises(DataError, match=r'photo\.tiff: float32 pixels'):
        decode_image(content, 'photo.tiff')


# names and endings


@pytest.mark.parametrize('name', ['IMG.1.2 ü.png', '日本.png', "it's 100%.PNG"])
def test_names_of_any_language_are_read_and_written(tmp_path, name):
    image = noise(np.uint8)
    write_image(str(tmp_path / name), image)
    np.testing.assert_array_equal(decode_image(read_bytes(str(tmp_path / name)), name), image)
    assert image_files(str(tmp_path)) == [str(tmp_path / name)]


def test_a_jpeg_named_png_is_read_as_what_it_is(tmp_path):
    smooth = cv2.GaussianBlur(noise(np.uint8), (0, 0), 4)
    (tmp_path / 'a.png').write_bytes(saved(Image.fromarray(smooth), 'JPEG', quality=95))
    assert np.abs(read_image(str(tmp_path / 'a.png')) * 255 - smooth).mean() < 2


@pytest.mark.parametrize('tail', [b'\0', b'\n', b'a note after the image' * 40])
@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_bytes_after_the_end_are_legal(kind, tail):
    content = saved(Image.fromarray(noise(np.uint8)), kind)
    np.testing.assert_array_equal(decode_image(content + tail, 'a'), decode_image(content, 'a'))


def test_bytes_after_the_end_of_a_16_bit_png_are_legal():
    image = noise(np.uint16)
    np.testing.assert_array_equal(decode_image(png(image) + b'more', 'a'), image)


# damage


@pytest.mark.parametrize('content', [b'', b'a text file named .png\n', b'\x89PNG\r\n\x1a\n', b'\xff\xd8', b'II*\0'])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / 'IMG.1.2 ü.png'
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_image(str(path))
    assert str(path) in str(error.value)
    assert ('empty' in str(error.value)) == (content == b'')


@pytest.mark.parametrize('share', [0.01, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_a_png_that_was_cut_off_is_named(dtype, share):
    content = png(noise(dtype, (64, 64, 3)))
    with pytest.raises(DataError, match=r'cut\.png.*truncated'):
        decode_image(content[: int(len(content) * share)], 'cut.png')


@pytest.mark.parametrize('missing', [1, 4, 12, 13, 30])
def test_a_png_without_its_last_bytes_is_named(missing):
    with pytest.raises(DataError, match=r'cut\.png'):
        decode_image(png(noise(np.uint8))[:-missing], 'cut.png')


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize('progressive', [False, True])
def test_a_jpeg_that_was_cut_off_is_named(progressive, share):
    content = saved(Image.fromarray(noise(np.uint8, (64, 64, 3))), 'JPEG', progressive=progressive)
    with pytest.raises(DataError, match=r'cut\.jpg.*truncated'):
        decode_image(content[: int(len(content) * share)], 'cut.jpg')


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_what_was_cut_off_is_named_even_where_opencv_does_not_see_it(monkeypatch, kind):
    """OpenCV 4 fills what is missing with grey and returns it."""
    content = saved(Image.fromarray(noise(np.uint8, (64, 64, 3))), kind)
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.full((64, 64, 3), 128, np.uint8))
    assert decode_image(content, 'whole').shape == decode_image(content + b'more', 'whole').shape == (64, 64, 3)
    for share in (0.1, 0.5, 0.9, 0.99):
        with pytest.raises(DataError, match='cut: not a readable image'):
            decode_image(content[: int(len(content) * share)], 'cut')


@pytest.mark.parametrize('share', [0.3, 0.9])
@pytest.mark.parametrize('suffix', ['.tif', '.bmp', '.webp'])
def test_other_kinds_that_were_cut_off_are_named(suffix, share):
    content = cv2.imencode(suffix, noise(np.uint8, (64, 64, 3)))[1].tobytes()
    with pytest.raises(DataError, match='cut'):
        decode_image(content[: int(len(content) * share)], f'cut{suffix}')


@pytest.mark.parametrize('share', [0.02, 0.3, 0.6, 0.95])
def test_a_png_with_a_flipped_bit_is_named(share):
    content = bytearray(png(noise(np.uint8, (64, 64, 3))))
    content[int(len(content) * share)] ^= 4
    with pytest.raises(DataError, match=r'flipped\.png.*damaged'):
        decode_image(bytes(content), 'flipped.png')


def test_a_png_with_a_hole_is_named():
    content = png(noise(np.uint8, (200, 200, 3)))
    for damaged in (content[:40000] + bytes(4096) + content[44096:], content[:40000] + content[44096:]):
        with pytest.raises(DataError, match=r'hole\.png'):
            decode_image(damaged, 'hole.png')


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DataError, match=r'gone\.png: No such file'):
        read_image(str(tmp_path / 'gone.png'))
    (tmp_path / 'folder.png').mkdir()
    with pytest.raises(DataError, match=r'folder\.png: Is a directory'):
        read_image(str(tmp_path / 'folder.png'))


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
    for name in ('b/2.png', 'a/1.png', 'a/.thumbs/1.png', '.cache/3.png', 'a/._1.png', 'c.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    names = ['a/1.png', 'b/2.png', 'c.png']
    assert image_files(str(tmp_path), recursive=True) == [str(tmp_path / name) for name in names]


def test_a_folder_below_a_hidden_one_can_be_listed(tmp_path):
    (tmp_path / '.data' / 'a').mkdir(parents=True)
    (tmp_path / '.data' / 'a' / '1.png').touch()
    assert image_files(str(tmp_path / '.data'), recursive=True) == [str(tmp_path / '.data' / 'a' / '1.png')]


def test_a_folder_that_is_missing_empty_or_none_is_told(tmp_path):
    with pytest.raises(DataError, match='nowhere: no such folder'):
        image_files(str(tmp_path / 'nowhere'))
    (tmp_path / 'file.png').touch()
    with pytest.raises(DataError, match=r'file\.png: not a folder'):
        image_files(str(tmp_path / 'file.png'))
    (tmp_path / 'void').mkdir()
    (tmp_path / 'void' / 'readme.txt').touch()
    with pytest.raises(DataError, match=r'void: no image in this folder.*\.png'):
        image_files(str(tmp_path / 'void'))


# writing


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_what_is_written_is_read_back(tmp_path, dtype, suffix):
    image, path = noise(dtype), tmp_path / 'new' / 'folder' / f'a{suffix}'
    write_image(str(path), image)
    back = decode_image(path.read_bytes(), 'a')
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, image)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_is_written_is_red_to_others_too(tmp_path):
    write_image(str(tmp_path / 'a.png'), np.uint8([[[255, 0, 1]]]))
    assert np.asarray(Image.open(tmp_path / 'a.png')).tolist() == [[[255, 0, 1]]]


@pytest.mark.parametrize('suffix', IMAGE_SUFFIXES)
def test_every_suffix_that_is_read_can_be_written(tmp_path, suffix):
    smooth = cv2.GaussianBlur(noise(np.uint8), (0, 0), 4)
    write_image(str(tmp_path / f'a{suffix}'), smooth)
    assert np.abs(read_image(str(tmp_path / f'a{suffix}')) * 255 - smooth).mean() < 3


@pytest.mark.parametrize('suffix', ['.jpg', '.BMP', '.webp'])
def test_16_bits_are_rounded_where_a_file_has_only_8(tmp_path, suffix):
    image = np.empty((16, 16, 3), np.uint16)
    image[:] = 30000, 65535, 400
    write_image(str(tmp_path / f'a{suffix}'), image)
    back = read_image(str(tmp_path / f'a{suffix}')) * 255
    assert np.abs(back - image / 257).max() < 4  # what JPEG and WebP may lose on a constant colour


def test_a_link_to_nothing_is_told(tmp_path):
    write_image(str(tmp_path / 'a.png'), noise(np.uint8))
    (tmp_path / 'b.png').symlink_to(tmp_path / 'a.png')
    assert len(image_files(str(tmp_path))) == 2
    (tmp_path / 'c.png').symlink_to(tmp_path / 'gone.png')
    with pytest.raises(DataError, match=r'links to images that are not there: .*c\.png'):
        image_files(str(tmp_path))


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / 'a.png'
    write_image(str(path), noise(np.uint8))
    write_image(str(path), noise(np.uint16))
    np.testing.assert_array_equal(decode_image(path.read_bytes(), 'a'), noise(np.uint16))


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / 'a.png'
    write_image(str(path), noise(np.uint8))
    before = path.read_bytes()

    def disk_full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(f'os.{step}', disk_full)
    with pytest.raises(DataError, match=r'a\.png: No space left on device'):
        write_image(str(path), noise(np.uint16))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ['a.png']


def test_a_file_in_place_of_the_folder_is_told(tmp_path):
    (tmp_path / 'out').write_text('a file')
    for path in (tmp_path / 'out' / 'a.png', tmp_path / 'out' / 'below' / 'a.png'):
        with pytest.raises(DataError, match=r'a\.png: (File exists|Not a directory)'):
            write_image(str(path), noise(np.uint8))
    assert (tmp_path / 'out').read_text() == 'a file'


def test_a_folder_in_place_of_the_file_is_told(tmp_path):
    (tmp_path / 'a.png').mkdir()
    with pytest.raises(DataError, match=r'a\.png: Is a directory'):
        write_image(str(tmp_path / 'a.png'), noise(np.uint8))
    assert [file.name for file in tmp_path.iterdir()] == ['a.png']


@pytest.mark.parametrize('name', ['a.xyz', 'a', 'a.png.part'])
def test_a_suffix_without_an_encoder_is_told(tmp_path, name):
    with pytest.raises(DataError, match=f'{name}: cannot be encoded'):
        write_image(str(tmp_path / name), noise(np.uint8))
    assert not list(tmp_path.iterdir())
