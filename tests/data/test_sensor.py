"""Sensor: tone curves, noise, JPEG and WebP, sharpening, denoising."""

import cv2
import numpy as np
import pytest

from ggkm_plugin.data.optics import srgb_to_linear
from ggkm_plugin.data.sensor import Sensor, denoised, sharpened, softened, with_highlights

VALUES = np.arange(256, dtype=np.float32)[:, None, None].repeat(3, 2) / 255


@pytest.mark.parametrize('gamma', [None, 1.0, 2.4])
def test_values_to_light_and_back(gamma):
    sensor = Sensor(gamma)
    light = sensor.light(VALUES)
    assert light.dtype == np.float32
    assert (np.diff(light[:, 0, 0]) > 0).all()
    np.testing.assert_array_equal(sensor.stored(sensor.values(light)), (VALUES * 255).round())  # exactly


def test_tone_curves():
    np.testing.assert_allclose(Sensor(2.0).light(np.float32([0.5])), [0.25], atol=1e-6)
    np.testing.assert_array_equal(Sensor().light(VALUES), srgb_to_linear(VALUES))
    np.testing.assert_array_equal(Sensor(1.0).light(VALUES), VALUES)
    for gamma in (None, 2.2):  # values are clipped
        np.testing.assert_array_equal(Sensor(gamma).values(np.float32([-1, 0, 1, 7])).round(6), [0, 0, 1, 1])


@pytest.mark.parametrize('level', [0.0, 0.1, 0.8])
def test_noise_grows_with_the_light(level):
    sensor = Sensor(shot=4e-4, read=0.01)
    light = np.full((200, 200, 3), level, np.float32)
    noise = sensor.noisy(np.random.default_rng(0), light) - light
    assert noise.mean() == pytest.approx(0, abs=3e-4)
    assert noise.var() == pytest.approx(4e-4 * level + 1e-4, rel=0.02)  # of 120,000 values
    neighbors = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    assert abs(neighbors) < 0.02


def test_only_highlights_grow():
    light = np.float32([[[0.8, 0.1, 0.3], [0.2, 0.9, 0.45], [1, 1, 1]]])
    bright = with_highlights(light, 4.0)
    np.testing.assert_array_equal(bright[0, 0], light[0, 0])
    np.testing.assert_allclose(bright[0, 1] / light[0, 1], 1 + 4 * 0.5**2, rtol=1e-5)  # one factor for all channels
    np.testing.assert_allclose(bright[0, 2], 5, rtol=1e-6)
    np.testing.assert_array_equal(with_highlights(light, 0), light)


@pytest.mark.parametrize('kind', ['jpeg', 'webp'])
def test_lossy_formats_follow_their_quality_and_keep_shape_and_colors(kind):
    image = np.random.default_rng(0).random((61, 47, 3), dtype=np.float32)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    image[..., 2] *= 0.2
    plain = Sensor().stored(image)
    stored = [Sensor(**{kind: quality}).stored(image) for quality in (20, 60, 98)]
    errors = [np.abs(one.astype(int) - plain).mean() for one in stored]
    assert stored[0].shape == plain.shape
    assert 0 < errors[2] < errors[1] < errors[0] < 20
    assert stored[2][..., 2].mean() == pytest.approx(plain[..., 2].mean(), abs=2)


@pytest.mark.parametrize('kind', ['jpeg', 'webp'])
def test_lossy_files_halve_the_resolution_of_the_chroma(kind):
    """Columns of red and blue of one luma become one color, columns of black and white stay."""
    color, gray = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 3), np.float32)
    color[:, ::2], color[:, 1::2], gray[:, ::2] = (0.5, 0, 0), (0, 0.1, 0.797), 1
    stored = Sensor(**{kind: 100}).stored(color).astype(float)
    before = np.abs(np.diff(color[8:56, 8:56, 0], axis=1)).mean() * 255
    assert np.abs(np.diff(stored[8:56, 8:56, 0], axis=1)).mean() < 0.25 * before
    assert np.ptp(Sensor(**{kind: 100}).stored(gray)) > 240


def test_an_unsharp_mask_keeps_flat_areas_and_adds_its_amount_at_an_edge():
    edge = np.full((32, 32, 3), 0.3, np.float32)
    edge[:, 16:] = 0.6
    out = sharpened(edge, 1.0, 0.8)
    np.testing.assert_allclose(out[:, [2, 29]], edge[:, [2, 29]], atol=1e-6)
    detail = edge - cv2.GaussianBlur(edge, (0, 0), 1.0)
    np.testing.assert_allclose(out - edge, 0.8 * detail, atol=1e-6)
    assert out.min() < 0.3
    assert out.max() > 0.6
    np.testing.assert_array_equal(sharpened(edge, 1.0, 0.0), edge)


def test_noise_reduction_reduces_noise_and_keeps_edges_and_the_mean():
    rng = np.random.default_rng(0)
    edge = np.full((64, 64, 3), 0.3, np.float32)
    edge[:, 32:] = 0.7
    noisy = edge + 0.02 * rng.standard_normal(edge.shape, dtype=np.float32)
    out = denoised(noisy, 1.5, 0.05)
    flat = np.s_[8:56, 8:24]
    assert out[flat].std() < 0.6 * noisy[flat].std()
    assert out[flat].mean() == pytest.approx(noisy[flat].mean(), abs=2e-3)
    luma = out.mean(-1)
    assert (luma[:, 33] - luma[:, 30]).mean() > 0.37
    chroma_only = denoised(noisy, 1.5)
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (noisy, chroma_only)]
    np.testing.assert_allclose(*gray, atol=2e-3)  # luma is unchanged


@pytest.mark.parametrize('factor', [0.6, 0.73, 0.95])
def test_softening_keeps_size_and_symmetry(factor):
    """A symmetric scene stays symmetric: no subpixel shift."""
    half = np.random.default_rng(1).random((48, 24, 3), dtype=np.float32)
    image = cv2.GaussianBlur(np.concatenate([half, half[:, ::-1]], axis=1), (0, 0), 1)
    out = softened(image, factor)
    assert out.shape == image.shape
    np.testing.assert_allclose(out, out[:, ::-1], atol=1e-5)
    assert np.abs(np.diff(out, axis=0)).mean() < np.abs(np.diff(image, axis=0)).mean()
