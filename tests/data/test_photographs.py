"""Built-in photographs and folders: splits, ranges, disparity, and errors that name the file."""

import cv2
import numpy as np
import pytest

from ggkm_plugin.data.photographs import (
    SharpPhotograph,
    builtin_photographs,
    fill_disparity,
    held_out,
    load_photograph,
    photographs_from_folders,
)
from ggkm_plugin.utils.errors import DataError


def write(path, shape=(6, 8, 3), value=128):
    path.write_bytes(cv2.imencode('.png', np.full(shape, value, np.uint8))[1].tobytes())


def test_every_built_in_photograph_loads():
    for photo in builtin_photographs('train') + builtin_photographs('val'):
        rgb, disparity = load_photograph(photo)
        assert (rgb.dtype, rgb.ndim) == (np.float32, 3)
        assert min(rgb.shape[:2]) >= 256
        assert 0 <= rgb.min() < 0.5 < rgb.max() <= 1
        assert (disparity is None) == (photo.name != 'motorcycle_left')


def test_the_real_disparity_has_no_holes_and_near_is_one():
    motorcycle = next(photo for photo in builtin_photographs('val') if photo.disparity_path)
    rgb, disparity = load_photograph(motorcycle)
    assert disparity.shape == rgb.shape[:2]
    assert disparity.dtype == np.float32
    assert disparity.min() == 0
    assert disparity.max() == 1
    assert disparity[480:].mean() > 0.9  # the floor before the camera
    assert disparity[:100, 150:250].mean() < 0.2  # the wall
    assert disparity[300, 350] > 0.6  # the engine


def test_names_of_several_folders_get_a_prefix_where_they_collide(tmp_path):
    for folder, names in (('one', ('b.png', 'a.png', 'ä.txt')), ('two', ('b.png', 'c.png'))):
        (tmp_path / folder).mkdir()
        for name in names:
            write(tmp_path / folder / name)
    more = [SharpPhotograph('c', str(tmp_path / 'elsewhere' / 'c.jpg'))]
    photos = photographs_from_folders([str(tmp_path / 'one'), str(tmp_path / 'two')], more)
    assert [photo.name for photo in photos] == ['a', 'one_b', 'two_b', 'two_c', 'elsewhere_c']
    with pytest.raises(DataError, match='nowhere'):
        photographs_from_folders([str(tmp_path / 'one'), str(tmp_path / 'nowhere')])
    (tmp_path / 'one/a.png').write_bytes(b'not a picture')
    with pytest.raises(DataError, match=r'one/a\.png'):
        load_photograph(photos[0])


def test_held_out_names_do_not_depend_on_each_other():
    """A larger share holds out the same names and more."""
    names = [f'photo {number}' for number in range(2000)]
    few, more = held_out(names, 0.12), held_out(names, 0.3)
    assert len(few) / 2000 == pytest.approx(0.12, abs=0.025)
    assert set(few) < set(more)
    assert held_out(names[::-7], 0.12) == [name for name in names[::-7] if name in set(few)]
    assert held_out(names, 0.0) == []
    assert held_out(['astronaut', 'coffee', 'kodim'], 0.5) == held_out(iter(['astronaut', 'coffee', 'kodim']), 0.5)


def test_holes_take_the_farther_neighbor_of_their_row():
    hole = np.inf
    disparity = np.array([[hole, 5, hole, hole, 2, hole], [hole] * 6, [hole] * 6, [1, 1, 1, np.nan, 4, 4]], np.float32)
    expected = [[5, 5, 2, 2, 2, 2], [5, 5, 2, 2, 2, 2], [1, 1, 1, 1, 4, 4], [1, 1, 1, 1, 4, 4]]
    np.testing.assert_array_equal(fill_disparity(disparity), np.array(expected, np.float32))


def test_disparity_is_normalized_and_its_near_side_widened(tmp_path):
    write(tmp_path / 'a.png')
    photo = SharpPhotograph('a', str(tmp_path / 'a.png'), str(tmp_path / 'a.npz'))
    columns = np.array([2, 2, 2, 2, 7, 7, 12, 12], np.float32)
    np.savez(tmp_path / 'a.npz', np.tile(columns, (6, 1)))
    np.testing.assert_allclose(load_photograph(photo)[1], np.tile([0, 0, 0, 0.5, 0.5, 1, 1, 1], (6, 1)), atol=1e-6)
    np.savez(tmp_path / 'a.npz', np.full((6, 8), 3.0))
    np.testing.assert_array_equal(load_photograph(photo)[1], np.zeros((6, 8), np.float32))
