"""Laws of rendering layered scenes in linear light. Tolerances: float32 rounding of OpenCV's FFT filter."""

import copy

import cv2
import numpy as np
import pytest

from ggkm_plugin.data.apertures import DISK, Aperture, spread
from ggkm_plugin.data.layered_scene import Layer, in_focus, photograph

ROUNDING = 1e-5
SHAPE = (60, 72)
ODD = Aperture(5, 0.3, 0.2, (0.3, 0.1), 0.2, 0.4)  # without symmetry


def light(seed=0):
    return np.random.default_rng(seed).random((*SHAPE, 3), dtype=np.float32)


def layer(colors, radius=0.0, alpha=None):
    alpha = np.ones(SHAPE, np.float32) if alpha is None else alpha
    return Layer(colors, alpha, np.full(SHAPE, radius, np.float32))


def left_half():
    alpha = np.zeros(SHAPE, np.float32)
    alpha[:, :36] = 1
    return alpha


def test_in_focus_is_the_scene_itself():
    np.testing.assert_array_equal(photograph([layer(light())], ODD), light())
    front = layer(light(1), 8.0, left_half())
    expected = np.where(left_half()[..., None] > 0, light(1), light())
    np.testing.assert_array_equal(in_focus([layer(light(), -5), front]), expected)
    np.testing.assert_array_equal(photograph([layer(light(), 0.4), layer(light(1), -0.5, left_half())]), expected)


@pytest.mark.parametrize('radius', [-7.3, 1.2, 11.0])
def test_one_surface_of_one_depth_is_one_convolution(radius):
    expected = spread(light(), ODD.kernel(radius))
    np.testing.assert_allclose(photograph([layer(light(), radius)], ODD), expected, atol=ROUNDING)


def test_a_constant_stays_constant_at_any_depth():
    gray = np.full((*SHAPE, 3), 0.3, np.float32)
    slope = np.tile(np.linspace(-12, 12, SHAPE[1], dtype=np.float32), (SHAPE[0], 1))
    ones = np.ones(SHAPE, np.float32)
    layers = [Layer(gray, ones, slope), Layer(gray, left_half(), slope[:, ::-1] / 3)]
    np.testing.assert_allclose(photograph(layers, ODD), gray, atol=ROUNDING)


def test_a_blurred_foreground_spreads_over_the_background():
    """Closed form: b = K * (a f) + (1 - K * a) g, and the background outside of its radius is unchanged."""
    front, back, radius = light(1), light(2), 6.0
    layers = [layer(back), layer(front, radius, left_half())]
    before = copy.deepcopy(layers)
    out = photograph(layers)
    for one, two in zip(layers, before, strict=True):
        for name in ('light', 'alpha', 'radius'):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    share = spread(left_half(), DISK.kernel(radius))[..., None]
    expected = spread(front * left_half()[..., None], DISK.kernel(radius)) + (1 - share) * back
    np.testing.assert_allclose(out, expected, atol=ROUNDING)
    np.testing.assert_allclose(out[:, 43:], back[:, 43:], atol=ROUNDING)
    assert np.abs(out[:, 36:40] - back[:, 36:40]).mean() > 0.05  # over the edge
    assert share[30, 35] == pytest.approx(0.5, abs=0.06)  # half of it, at the edge


def test_a_sharp_foreground_keeps_its_edge_and_its_light():
    """Its pixels are unchanged, and none of its light is in the blurred background."""
    front, back = light(1), light(2)
    out = photograph([layer(back, -8.0), layer(front, 0.0, left_half())])
    np.testing.assert_array_equal(out[:, :36], front[:, :36])
    np.testing.assert_allclose(out[:, 36:], spread(back, DISK.kernel(-8.0))[:, 36:], atol=ROUNDING)


def test_the_hidden_background_is_visible_around_a_blurred_edge():
    """The background is red only behind the foreground, which a photograph with depth does not show."""
    back = np.zeros((*SHAPE, 3), np.float32)
    back[:, :36, 0] = 1
    black = np.zeros_like(back)
    out = photograph([layer(back), layer(black, 6.0, left_half())])
    assert out[30, 33, 0] > 0.2
    assert out[30, 25, 0] == pytest.approx(0, abs=ROUNDING)


def test_a_slanted_surface_has_a_kernel_for_each_pixel():
    smooth = cv2.GaussianBlur(light(), (0, 0), 1)
    row = np.linspace(-4, 8, SHAPE[1], dtype=np.float32)
    out = photograph([Layer(smooth, np.ones(SHAPE, np.float32), np.tile(row, (SHAPE[0], 1)))], ODD)
    own = np.stack([spread(smooth, ODD.kernel(float(radius)))[:, column] for column, radius in enumerate(row)], axis=1)
    # measured 0.0020 of a texture that varies by 0.083; with 5 levels instead of 9 it is 0.0053
    assert np.sqrt(np.mean((out - own) ** 2)) < 0.003


def test_chromatic_offsets_are_one_radius_for_each_channel():
    scene = [layer(light(), -4.0), layer(light(1), 2.0, left_half())]
    out = photograph(scene, ODD, (1.2, 0.0, -0.9))
    for channel, offset in enumerate((1.2, 0.0, -0.9)):
        moved = [Layer(one.light, one.alpha, one.radius + np.float32(offset)) for one in scene]
        np.testing.assert_allclose(out[..., channel], photograph(moved, ODD)[..., channel], atol=ROUNDING)
