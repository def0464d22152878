"""The built-in photographs and folders of them: splits, ranges, real depth, and errors that name the file."""

import cv2
import numpy as np
import pytest

from ggkm_plugin.data.photographs import (
    SharpPhotograph,
    builtin_photographs,
    fill_disparity,
    held_out,
    image_size,
    load_photograph,
    photographs_from_folder,
    photographs_from_folders,
)
from ggkm_plugin.utils.errors import DataError


def write(path, shape=(6, 8, 3), value=128):
    path.write_bytes(cv2.imencode('.png', np.full(shape, value, np.uint8))[1].tobytes())


@pytest.fixture
def pictured(tmp_path):
    """A photograph of 6x8 and a function that gives it a disparity."""
    write(tmp_path / 'a.png')

    def with_disparity(**arrays):
        np.savez(tmp_path / 'a.npz', **arrays)
        return SharpPhotograph('a', str(tmp_path / 'a.png'), str(tmp_path / 'a.npz'))

    return with_disparity


def test_train_and_val_share_no_photograph():
    train, val = ({photo.path for photo in builtin_photographs(split)} for split in ('train', 'val'))
    assert len(train) >= 5
    assert {photo.name for photo in builtin_photographs('val')} == {'coffee', 'motorcycle_left'}
    assert not train & val


@pytest.mark.parametrize('photo', builtin_photographs('train') + builtin_photographs('val'), ids=lambda it: it.name)
def test_every_built_in_photograph_loads(photo):
    rgb, disparity = load_photograph(photo)
    assert rgb.dtype == np.float32
    assert rgb.ndim == 3
    assert min(rgb.shape[:2]) >= 256
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert np.ptp(rgb) > 0.5
    assert (disparity is None) == (photo.name != 'motorcycle_left')


def test_the_channels_are_in_the_order_rgb():
    coffee = next(photo for photo in builtin_photographs('val') if photo.name == 'coffee')
    rgb, _ = load_photograph(coffee)
    assert rgb[..., 0].mean() > 1.5 * rgb[..., 2].mean()  # a red cup on brown wood


def test_the_real_disparity_is_whole_and_near_is_one():
    motorcycle = next(photo for photo in builtin_photographs('val') if photo.disparity_path)
    rgb, disparity = load_photograph(motorcycle)
    assert disparity.shape == rgb.shape[:2]
    assert disparity.dtype == np.float32
    assert disparity.min() == 0
    assert disparity.max() == 1
    assert disparity[480:].mean() > 0.9  # the floor before the camera
    assert disparity[:100, 150:250].mean() < 0.2  # the wall
    assert disparity[300, 350] > 0.6  # the engine


def test_a_split_that_is_none_is_refused():
    with pytest.raises(DataError, match='test'):
        builtin_photographs('test')


def test_a_wheel_without_the_file_is_told_by_the_path(monkeypatch, tmp_path):
    import skimage.data

    monkeypatch.setattr(skimage.data, '__file__', str(tmp_path / '__init__.py'))
    with pytest.raises(DataError, match=r'coffee\.png.*reinstall scikit-image'):
        builtin_photographs('val')


def test_a_folder_is_read_in_order_of_names(tmp_path):
    for name in ('b.png', 'ä.png', 'a.png'):
        write(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('no image')
    photos = photographs_from_folder(str(tmp_path))
    assert [photo.name for photo in photos] == ['a', 'b', 'ä']
    rgb, disparity = load_photograph(photos[2])
    np.testing.assert_allclose(rgb, np.full((6, 8, 3), 128 / 255), atol=1e-6)
    assert disparity is None


def test_names_of_several_folders_get_a_prefix_where_they_collide(tmp_path):
    for folder, names in (('one', ('a.png', 'b.png')), ('two', ('b.png', 'c.png'))):
        (tmp_path / folder).mkdir()
        for name in names:
            write(tmp_path / folder / name)
    more = [SharpPhotograph('c', str(tmp_path / 'elsewhere' / 'c.jpg'))]
    photos = photographs_from_folders([str(tmp_path / 'one'), str(tmp_path / 'two')], more)
    assert [photo.name for photo in photos] == ['a', 'one_b', 'two_b', 'two_c', 'elsewhere_c']
    with pytest.raises(DataError, match='nowhere'):
        photographs_from_folders([str(tmp_path / 'one'), str(tmp_path / 'nowhere')])


def test_a_webp_photograph_is_read(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.webp'), np.full((6, 8, 3), (200, 100, 50), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 95])
    (photo,) = photographs_from_folder(str(tmp_path))
    rgb, _ = load_photograph(photo)
    np.testing.assert_allclose(rgb, np.full((6, 8, 3), np.float32([50, 100, 200]) / 255), atol=0.03)
    assert image_size(photo.path) == (6, 8)


def test_names_are_held_out_by_themselves():
    """Which names are held out depends on no other name, and more share holds out more."""
    names = [f'photo {number}' for number in range(2000)]
    few, more = held_out(names, 0.12), held_out(names, 0.3)
    assert len(few) / 2000 == pytest.approx(0.12, abs=0.025)
    assert set(few) < set(more)
    assert held_out(names[::-7], 0.12) == [name for name in names[::-7] if name in set(few)]
    assert held_out(names, 0.0) == []
    assert held_out(['astronaut', 'coffee', 'kodim'], 0.5) == held_out(iter(['astronaut', 'coffee', 'kodim']), 0.5)


def test_the_size_of_what_is_no_image_is_an_error(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'no image')
    with pytest.raises(DataError, match=r'a\.png'):
        image_size(str(tmp_path / 'a.png'))


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match='nowhere'):
        photographs_from_folder(str(tmp_path / 'nowhere'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='empty'):
        photographs_from_folder(str(tmp_path / 'empty'))


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'not a picture')
    with pytest.raises(DataError, match=r'broken\.png'):
        load_photograph(photographs_from_folder(str(tmp_path))[0])


def test_holes_take_the_farther_neighbour_of_their_row():
    hole = np.inf
    disparity = np.array([[hole, 5, hole, hole, 2, hole], [hole] * 6, [hole] * 6, [1, 1, 1, np.nan, 4, 4]], np.float32)
    expected = [[5, 5, 2, 2, 2, 2], [5, 5, 2, 2, 2, 2], [1, 1, 1, 1, 4, 4], [1, 1, 1, 1, 4, 4]]
    np.testing.assert_array_equal(fill_disparity(disparity), np.array(expected, np.float32))


def test_the_near_side_takes_the_pixels_of_its_outline(pictured):
    columns = np.array([2, 2, 2, 2, 7, 7, 12, 12], np.float32)
    _, disparity = load_photograph(pictured(disparity=np.tile(columns, (6, 1))))
    np.testing.assert_allclose(disparity, np.tile([0, 0, 0, 0.5, 0.5, 1, 1, 1], (6, 1)), atol=1e-6)


def test_a_flat_disparity_has_no_division_by_zero(pictured):
    _, disparity = load_photograph(pictured(disparity=np.full((6, 8), 3.0)))
    np.testing.assert_array_equal(disparity, np.zeros((6, 8), np.float32))


def test_a_disparity_of_another_size_is_told_with_both_sizes(pictured):
    with pytest.raises(DataError, match=r'\(5, 8\).*\(6, 8\)'):
        load_photograph(pictured(disparity=np.zeros((5, 8))))


def test_a_disparity_without_a_known_pixel_is_refused(pictured):
    with pytest.raises(DataError, match='finite'):
        load_photograph(pictured(disparity=np.full((6, 8), np.inf)))


@pytest.mark.parametrize('content', [b'', b'rubbish', b'PK\x03\x04 cut off'])
def test_a_disparity_file_that_is_none_is_named(pictured, tmp_path, content):
    photo = pictured(disparity=np.zeros((6, 8)))
    (tmp_path / 'a.npz').write_bytes(content)
    with pytest.raises(DataError, match=r'a\.npz'):
        load_photograph(photo)


def test_an_npz_without_an_array_and_a_bare_npy_are_named(pictured, tmp_path):
    with pytest.raises(DataError, match=r'a\.npz'):
        load_photograph(pictured())
    photo = pictured(disparity=np.zeros((6, 8)))
    with (tmp_path / 'a.npz').open('wb') as file:
        np.save(file, np.zeros((6, 8)))
    with pytest.raises(DataError, match=r'a\.npz'):
        load_photograph(photo)
