"""Varied scenes: properties of each pair, distributions over many pairs, and seeds."""

import cv2
import numpy as np
import pytest

from ggkm_plugin.data import varied_scenes
from ggkm_plugin.data.apertures import DISK
from ggkm_plugin.data.sensor import Sensor

BLUR = varied_scenes._Blur(12.0, 0.03, 0.12)


def picture(seed=0, shape=(90, 120)):
    """Smooth colors with edges."""
    image = np.random.default_rng(seed).random((*shape, 3), dtype=np.float32)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def pairs(count, size=48, max_radius=6.0):
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        made.append(
            varied_scenes.training_pair(rng, lambda rng=rng: picture(rng.integers(5)), picture(), size, max_radius)
        )
    return made


def error(pair):
    return float(np.square(pair.lq.astype(float) - pair.gt).mean())


def test_some_pairs_are_in_focus_and_the_blur_of_the_others_varies(monkeypatch):
    monkeypatch.setattr(varied_scenes, 'random_sensor', lambda _: Sensor())
    errors = np.array([error(pair) for pair in pairs(60)])
    assert 0.05 < (errors == 0).mean() < 0.3  # lq equals gt exactly
    blurred = errors[errors > 0]
    assert np.quantile(blurred, 0.9) > 20 * np.quantile(blurred, 0.1)


def test_without_a_radius_both_images_are_equal(monkeypatch):
    monkeypatch.setattr(varied_scenes, 'random_sensor', lambda _: Sensor())
    for seed in range(10):
        rng = np.random.default_rng(seed)
        pair = varied_scenes.training_pair(rng, picture, picture(), 40, 0.5)
        np.testing.assert_array_equal(pair.lq, pair.gt)
        pair = varied_scenes.whole_pair(rng, picture, picture(), 0.5)
        np.testing.assert_array_equal(pair.lq, pair.gt)


def test_noise_and_jpeg_are_in_the_input_only(monkeypatch):
    monkeypatch.setattr(varied_scenes, '_SHARP_SHARE', 2)  # all pairs
    monkeypatch.setattr(varied_scenes, 'random_sensor', lambda _: Sensor(None, 1e-3, 0.01, 80))
    noisy = pairs(8)
    monkeypatch.setattr(varied_scenes, 'random_sensor', lambda _: Sensor())
    clean = pairs(8)
    for one, other in zip(noisy, clean, strict=True):
        np.testing.assert_array_equal(one.gt, other.gt)
        assert error(one) > 1
        assert error(other) == 0


def test_whole_scenes_are_never_in_focus_as_a_whole(monkeypatch):
    """The radius is at least a sixth of the largest."""
    monkeypatch.setattr(varied_scenes, 'random_sensor', lambda _: Sensor())
    for seed in range(15):
        pair = varied_scenes.whole_pair(np.random.default_rng(seed), picture, picture(), 12)
        assert error(pair) > 0
        assert pair.gt.shape == pair.lq.shape == (90, 120, 3)


def test_the_circles_of_confusion_reach_the_largest_and_zero():
    """The largest radius is reached and not exceeded, and most scenes have a surface in focus."""
    widest, in_focus = [], 0
    for seed in range(300):
        radii = varied_scenes.radii(np.random.default_rng(seed), [(32, 40)] * 3, BLUR.draw)
        assert all(radius.shape == (32, 40) for radius in radii)
        widest.append(max(float(np.abs(radius).max()) for radius in radii))
        in_focus += min(float(np.abs(radius).min()) for radius in radii) < 0.5
    assert max(widest) <= 12 + 1e-4
    assert max(widest) > 11
    assert 0.08 < np.mean(np.array(widest) == 0) < 0.17
    assert in_focus > 150


def test_layers_are_in_order_of_depth_on_both_sides_of_the_focus():
    signs = []
    for seed in range(100):
        radii = varied_scenes.radii(np.random.default_rng(seed), [(32, 40)] * 4, BLUR.draw)
        means = [float(radius.mean()) for radius in radii]
        signs += np.sign(means).tolist()
        assert sum(np.diff(means) < -1) == 0  # back to front; waves may reduce it slightly
    assert 0.2 < np.mean(np.array(signs) > 0) < 0.8


def test_masks_have_edges_one_pixel_wide():
    shares, kinds = [], 0
    for seed in range(60):
        mask = varied_scenes.mask(np.random.default_rng(seed), (64, 80))
        assert mask.shape == (64, 80)
        assert mask.min() >= 0
        assert mask.max() <= 1
        shares.append(float(mask.mean()))
        between = (mask > 0) & (mask < 1)
        # a partly covered pixel has a neighbor that is fully covered or free
        whole = cv2.dilate((~between).astype(np.uint8), np.ones((3, 3), np.uint8))
        assert whole[between].mean() > 0.97 if between.any() else True
        kinds += bool(between.any())
    assert kinds > 45
    assert 0.1 < np.mean(shares) < 0.6


@pytest.mark.parametrize('side', [30, 90, 140])
def test_a_part_of_a_constant_photograph_is_constant(side):
    constant = np.full((90, 120, 3), (0.2, 0.5, 0.9), np.float32)
    for seed in range(12):
        out = varied_scenes.part(np.random.default_rng(seed), constant, side)
        assert out.shape == (side, side, 3)
        np.testing.assert_allclose(out, constant[:1, :1].repeat(side, 0).repeat(side, 1), atol=1e-4)


def test_a_part_that_is_neither_scaled_nor_rotated_is_not_softened():
    """About half of the parts; the photograph has the size of the part, so that it cannot be scaled."""
    photo = picture(0, (60, 60))
    mirrored = [photo[::v, ::h] for v in (1, -1) for h in (1, -1)]
    parts = [varied_scenes.part(np.random.default_rng(seed), photo, 60) for seed in range(40)]
    exact = sum(any(np.abs(out - same).max() < 1e-5 for same in mirrored) for out in parts)
    assert 10 <= exact <= 30


def test_the_blur_is_in_linear_light(monkeypatch):
    """One surface: the light of the input is the sharp image convolved with the aperture."""
    monkeypatch.setattr(varied_scenes, 'random_sensor', lambda _: Sensor())
    monkeypatch.setattr(varied_scenes, 'random_aperture', lambda _: DISK)
    monkeypatch.setattr(varied_scenes, 'MOST_OBJECTS', 0)
    monkeypatch.setattr(
        varied_scenes, 'radii', lambda _, shapes, widest: [np.full(shape, 5, np.float32) for shape in shapes]
    )
    checked = 0
    for seed in range(12):
        pair = varied_scenes.whole_pair(np.random.default_rng(seed), picture, 0.6 * picture(), 5.0)
        if pair.gt.max() == 255:
            continue  # clipped
        light = [Sensor().light(image.astype(np.float32) / 255) for image in pair]
        expected = cv2.filter2D(light[1], -1, DISK.kernel(5.0), borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(light[0], expected, atol=0.006)  # half an 8-bit step in both images
        checked += 1
    assert checked > 3
