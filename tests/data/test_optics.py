"""Laws of the rendered defocus. Tolerance 1e-4: 1/40 of an 8-bit step, far above float32 rounding."""

import cv2
import numpy as np
import pytest

from ggkm_plugin.data.optics import (
    circle_of_confusion,
    disk_kernel,
    linear_to_srgb,
    procedural_disparity,
    render_defocus,
    srgb_to_linear,
)

ROUNDING = 1e-4


@pytest.fixture
def texture():
    return np.random.default_rng(0).random((48, 61, 3), dtype=np.float32)


def two_planes(shape=(64, 64), near=1.0, far=0.0):
    """A near half (left) before a far half (right); the edge lies between columns 31 and 32."""
    disparity = np.full(shape, far, np.float32)
    disparity[:, : shape[1] // 2] = near
    return disparity


def red_before_blue(shape=(64, 64)):
    sharp = np.zeros((*shape, 3), np.float32)
    sharp[:, : shape[1] // 2, 0] = 1
    sharp[:, shape[1] // 2 :, 2] = 1
    return sharp


# disk_kernel


@pytest.mark.parametrize('radius', [0, 0.5, 0.51, 1.5, 7.9])
def test_a_disk_is_odd_symmetric_positive_and_sums_to_one(radius):
    kernel = disk_kernel(radius)
    assert kernel.dtype == np.float32
    assert kernel.shape == (2 * max(0, int(np.ceil(radius - 0.5))) + 1,) * 2  # the identity within a pixel
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    for same in (kernel.T, kernel[::-1], kernel[:, ::-1]):
        np.testing.assert_allclose(kernel, same, atol=1e-7)


@pytest.mark.parametrize('radius', [1.0, 5.2])
def test_a_tap_is_the_area_of_its_pixel_inside_the_disk(radius):
    half, fine = disk_kernel(radius).shape[0] // 2, 200
    at = (np.arange((2 * half + 1) * fine) + 0.5) / fine - half - 0.5
    inside = (at[:, None] ** 2 + at[None, :] ** 2 <= radius**2).astype(np.float64)
    area = inside.reshape(2 * half + 1, fine, 2 * half + 1, fine).mean((1, 3))
    # 200 x 200 points a pixel know its area to about 1e-3, and both are divided by the area of the disk
    np.testing.assert_allclose(disk_kernel(radius), area / (np.pi * radius**2), atol=2e-3 / radius**2)


def test_the_srgb_curve_and_back():
    values = np.linspace(0, 1, 1001, dtype=np.float32)
    linear = srgb_to_linear(values)
    assert linear.dtype == np.float32
    assert linear[[0, -1]] == pytest.approx([0, 1], abs=1e-6)
    assert srgb_to_linear(np.float32(0.5)) == pytest.approx(0.21404, abs=1e-5)  # IEC 61966-2-1
    np.testing.assert_allclose(linear_to_srgb(linear), values, atol=1e-6)


def test_the_circle_of_confusion_is_linear_in_inverse_depth():
    radii = circle_of_confusion(np.array([[0, 0.25, 0.5, 1]]), focus=0.25, strength=8)
    np.testing.assert_allclose(radii, [[2, 0, 2, 6]], atol=1e-6)
    assert radii.dtype == np.float32


# procedural_disparity


def test_procedural_disparity_is_in_range_and_depends_on_the_seed():
    for seed in range(20):
        disparity = procedural_disparity((40, 57), np.random.default_rng(seed))
        assert (disparity.shape, disparity.dtype) == ((40, 57), np.float32)
        assert 0 <= disparity.min() <= disparity.max() <= 1
        np.testing.assert_array_equal(disparity, procedural_disparity((40, 57), np.random.default_rng(seed)))
    drawn = [procedural_disparity((96, 96), np.random.default_rng(seed)) for seed in range(60)]
    edges = [np.abs(np.diff(disparity, axis=1)).max() > 0.1 for disparity in drawn]
    assert 0.4 < np.mean(edges) < 0.95  # sometimes smooth, often with an edge


# render_defocus


def test_the_result_is_an_image_and_the_input_is_left_alone(texture):
    disparity = procedural_disparity(texture.shape[:2], np.random.default_rng(3))
    before = texture.copy(), disparity.copy()
    out = render_defocus(texture, disparity, 0.4, 5)
    assert (out.shape, out.dtype) == (texture.shape, np.float32)
    assert 0 <= out.min() <= out.max() <= 1
    np.testing.assert_array_equal(texture, before[0])
    np.testing.assert_array_equal(disparity, before[1])


@pytest.mark.parametrize('strength', [1.3, 25])
@pytest.mark.parametrize('seed', range(2))
def test_a_constant_image_stays_constant_at_any_depth(seed, strength):
    rng = np.random.default_rng(seed)
    sharp = np.ones((50, 63, 3), np.float32) * np.float32([0.9, 0.03, 0.4])
    disparity = procedural_disparity((50, 63), rng) if seed else rng.random((50, 63), dtype=np.float32)
    np.testing.assert_allclose(render_defocus(sharp, disparity, rng.random(), strength), sharp, atol=ROUNDING)


@pytest.mark.parametrize(('focus', 'strength'), [(0.2, 0), (0.9, 3.7), (1.0, 20)])
def test_constant_depth_is_one_convolution_in_linear_light(texture, focus, strength):
    disparity = np.full(texture.shape[:2], 0.5, np.float32)
    kernel = disk_kernel(abs(0.5 - focus) * strength)
    blurred = cv2.filter2D(srgb_to_linear(texture), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    out = render_defocus(texture, disparity, focus, strength)
    np.testing.assert_allclose(srgb_to_linear(out), blurred, atol=ROUNDING)


def test_a_slanted_plane_has_a_disk_for_each_pixel():
    sharp = cv2.GaussianBlur(np.random.default_rng(0).random((64, 120, 3), dtype=np.float32), (0, 0), 1.0)
    row = np.linspace(0, 1, 120, dtype=np.float32)
    out = srgb_to_linear(render_defocus(sharp, np.tile(row, (64, 1)), 0.3, 6))
    linear, own = srgb_to_linear(sharp), np.empty_like(sharp)
    for column, radius in enumerate(circle_of_confusion(row, 0.3, 6)):
        own[:, column] = cv2.filter2D(linear, -1, disk_kernel(float(radius)))[:, column]
    # measured 0.0012 of a texture that varies by 0.060; with layers 2 px apart instead of 0.5 it is 0.0034
    assert np.sqrt(np.mean((out - own) ** 2)) < 0.0018


def test_a_sharp_foreground_keeps_its_pixels_before_a_blurred_background(texture):
    sharp = cv2.resize(texture, (64, 64))
    out = render_defocus(sharp, two_planes(), focus=1.0, strength=6)
    np.testing.assert_allclose(out[:, :32], sharp[:, :32], atol=ROUNDING)
    assert np.abs(out[:, 32:] - sharp[:, 32:]).mean() > 0.05
    out = render_defocus(red_before_blue(), two_planes(), focus=1.0, strength=6)
    np.testing.assert_allclose(out, red_before_blue(), atol=1e-3)  # none of its light is in the background


def test_a_blurred_foreground_spills_over_a_sharp_background():
    out = srgb_to_linear(render_defocus(red_before_blue(), two_planes(), focus=0.0, strength=6))
    red = out[32, :, 0]
    assert red[32] == pytest.approx(0.5, abs=0.1)
    assert red[35] > 0.1
    np.testing.assert_allclose(out[32, 39:], [[0, 0, 1]] * 25, atol=1e-3)
    # the edge is as soft on its near side, where the photograph does not show the background
    np.testing.assert_allclose(red[:32] + red[:31:-1], 1, atol=0.02)
    assert np.diff(red).max() < 1e-3
    np.testing.assert_allclose(out.sum(-1), 1, atol=2e-3)


def test_the_order_of_depth_matters_when_both_sides_are_as_blurred():
    """The same radius in front of and behind the focal plane makes two layers."""
    disparity, sharp = two_planes(), red_before_blue()
    red_near = srgb_to_linear(render_defocus(sharp, disparity, 0.5, 8))[32, :, 0]
    blue_near = srgb_to_linear(render_defocus(sharp, 1 - disparity, 0.5, 8))[32, :, 2]
    np.testing.assert_allclose(red_near, blue_near[::-1], atol=1e-3)
    assert red_near[33] > 0.2


@pytest.mark.parametrize('focus', [0.0, 0.5, 1.0])
def test_no_seam_is_darker_than_both_sides(focus):
    sharp = np.full((64, 64, 3), 0.5, np.float32)
    sharp[20:40, 20:40] = 0.8
    disparity = np.zeros((64, 64), np.float32)
    disparity[20:40, 20:40] = 1
    out = render_defocus(sharp, disparity, focus, 9)
    assert out.min() > 0.5 - ROUNDING
    assert out.max() < 0.8 + ROUNDING
