"""The tone curve and back, noise of the right size, JPEG of the right kind."""

import numpy as np
import pytest

from ggkm_plugin.data.optics import srgb_to_linear
from ggkm_plugin.data.sensor import Sensor, with_highlights

VALUES = np.arange(256, dtype=np.float32)[:, None, None].repeat(3, 2) / 255


@pytest.mark.parametrize('gamma', [None, 1.0, 1.8, 2.4])
def test_values_to_light_and_back(gamma):
    sensor = Sensor(gamma)
    light = sensor.light(VALUES)
    assert light.dtype == np.float32
    assert (np.diff(light[:, 0, 0]) > 0).all()
    np.testing.assert_array_equal(sensor.stored(sensor.values(light)), (VALUES * 255).round())  # bit by bit


def test_curves_are_the_named_ones():
    np.testing.assert_allclose(Sensor(2.0).light(np.float32([0.5])), [0.25], atol=1e-6)
    np.testing.assert_array_equal(Sensor().light(VALUES), srgb_to_linear(VALUES))
    np.testing.assert_array_equal(Sensor(1.0).light(VALUES), VALUES)


def test_too_much_light_is_white():
    for gamma in (None, 2.2):
        np.testing.assert_array_equal(Sensor(gamma).values(np.float32([-1, 0, 1, 7])).round(6), [0, 0, 1, 1])


@pytest.mark.parametrize('level', [0.0, 0.1, 0.8])
def test_noise_grows_with_the_light(level):
    sensor = Sensor(shot=4e-4, read=0.01)
    light = np.full((200, 200, 3), level, np.float32)
    noise = sensor.noisy(np.random.default_rng(0), light) - light
    assert noise.mean() == pytest.approx(0, abs=3e-4)
    assert noise.var() == pytest.approx(4e-4 * level + 1e-4, rel=0.02)  # of 120,000 values
    neighbours = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.02


def test_no_noise_is_no_change():
    np.testing.assert_array_equal(Sensor().noisy(np.random.default_rng(0), VALUES), VALUES)


def test_jpeg_is_of_its_quality_and_keeps_the_colours():
    image = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32).repeat(4, 0).repeat(4, 1)
    image[..., 2] *= 0.2
    plain = Sensor().stored(image)
    errors = [np.abs(Sensor(jpeg=quality).stored(image).astype(int) - plain).mean() for quality in (30, 75, 98)]
    assert 0 < errors[2] < errors[1] < errors[0] < 40
    assert Sensor(jpeg=90).stored(image)[..., 2].mean() == pytest.approx(plain[..., 2].mean(), abs=2)


def test_highlights_grow_and_nothing_else():
    light = np.float32([[[0.8, 0.1, 0.3], [0.2, 0.9, 0.45], [1, 1, 1]]])
    bright = with_highlights(light, 4.0)
    np.testing.assert_array_equal(bright[0, 0], light[0, 0])
    np.testing.assert_allclose(bright[0, 1] / light[0, 1], 1 + 4 * 0.5**2, rtol=1e-5)  # one factor for all colours
    np.testing.assert_allclose(bright[0, 2], 5, rtol=1e-6)
    np.testing.assert_array_equal(with_highlights(light, 0), light)
