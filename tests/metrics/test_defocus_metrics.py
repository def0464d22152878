"""The metrics against closed forms, scikit-image and BasicSR; every test over protocols iterates the table."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ggkm_plugin.metrics.defocus_metrics import as_rgb, defocus_mae, defocus_psnr, defocus_ssim
from ggkm_plugin.metrics.protocols import PROTOCOLS
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.registry import METRIC_REGISTRY

METRICS = [defocus_psnr, defocus_ssim, defocus_mae]


@pytest.fixture
def bgr8():
    """Two different 8-bit BGR images, 33x41."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (33, 41, 3))
    second = np.clip(first + rng.integers(-30, 31, first.shape), 0, 255)
    return first.astype(np.uint8), second.astype(np.uint8)


def tensor(bgr):
    """The same image as a float32 RGB tensor (3, H, W) in [0, 1]."""
    return torch.from_numpy(bgr[..., ::-1] / np.iinfo(bgr.dtype).max).permute(2, 0, 1).float()


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_closed_form_of_a_constant_difference(protocol):
    gt = torch.full((3, 16, 16), 0.2)
    img = gt + 51 / 255
    assert defocus_psnr(img, gt, protocol) == pytest.approx(-20 * math.log10(0.2), abs=1e-5)
    assert defocus_mae(img, gt, protocol) == pytest.approx(0.2, abs=1e-7)
    # No variance: only the luminance term is left.
    assert defocus_ssim(img, gt, protocol) == pytest.approx((2 * 0.08 + 1e-4) / (0.2 + 1e-4), abs=1e-6)


def test_mse_is_taken_over_pixels_and_channels_together():
    gt = torch.zeros(3, 8, 8)
    img = gt.clone()
    img[0, :4] = 0.6
    assert defocus_psnr(img, gt) == pytest.approx(-10 * math.log10(0.36 / 6))
    assert defocus_mae(img, gt) == pytest.approx(0.1)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_identical_images(protocol, bgr8):
    for img in (bgr8[0], tensor(bgr8[0])):
        assert defocus_psnr(img, img, protocol) == math.inf
        assert defocus_ssim(img, img, protocol) == 1
        assert defocus_mae(img, img, protocol) == 0


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('metric', METRICS)
def test_uint8_uint16_and_float_agree(metric, protocol, bgr8):
    want = metric(*bgr8, protocol)
    assert type(want) is float
    assert metric(*(image.astype(np.uint16) * 257 for image in bgr8), protocol) == pytest.approx(want, rel=1e-12)
    assert metric(*map(tensor, bgr8), protocol) == pytest.approx(want, rel=1e-6)


def test_arrays_are_bgr_and_tensors_rgb(bgr8):
    image = bgr8[0]
    torch.testing.assert_close(as_rgb(image), as_rgb(tensor(image)), rtol=0, atol=1e-7)
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 2] = 255
    assert as_rgb(red).mean(dim=(1, 2)).tolist() == [1, 0, 0]


def test_agrees_with_scikit_image(bgr8):
    x, y = (image / 255 for image in bgr8)
    assert defocus_psnr(*bgr8) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=1), abs=1e-10)
    assert defocus_ssim(*bgr8) == pytest.approx(structural_similarity(x, y, data_range=1, channel_axis=2), abs=1e-12)


def test_basicsr_preset_is_the_host(bgr8):
    for metric, basicsr_name in ((defocus_psnr, 'calculate_psnr'), (defocus_ssim, 'calculate_ssim')):
        want = METRIC_REGISTRY.get(basicsr_name)(*bgr8, crop_border=0)
        assert metric(*bgr8, 'basicsr') == pytest.approx(want, abs=1e-6)
        assert metric(*map(tensor, bgr8), 'basicsr') == pytest.approx(want, abs=1e-6)


def test_only_ifan_counts_what_overshoots():
    gt = torch.ones(3, 16, 16)
    img = gt + 0.1
    assert defocus_psnr(img, gt, 'ifan') == pytest.approx(20, abs=1e-4)
    assert defocus_mae(img, gt, 'ifan') == pytest.approx(0.1, abs=1e-6)
    assert {defocus_psnr(img, gt, protocol) for protocol in PROTOCOLS if protocol != 'ifan'} == {math.inf}


@pytest.mark.parametrize(('protocol', 'want'), [('restormer', 0.3), ('nrknet', 0), ('gkmnet', 0), ('basicsr', 0)])
def test_rounding_to_8_bit(protocol, want):
    gt = torch.full((3, 16, 16), 100 / 255)
    assert defocus_mae(gt + 0.3 / 255, gt, protocol) * 255 == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize('metric', METRICS)
def test_registered_and_callable_through_the_host(metric, bgr8):
    from basicsr.metrics import calculate_metric

    assert metric.takes_float
    # `better` is BasicSR's key for its best-metric record; it reaches the metric too.
    opt = {'type': metric.__name__, 'protocol': 'restormer', 'better': 'higher'}
    assert calculate_metric({'img': bgr8[0], 'img2': bgr8[1]}, opt) == metric(*bgr8)


def test_an_unknown_protocol_is_named_with_the_nearest(bgr8):
    with pytest.raises(OptionError, match=r"'restorme' .*restormer"):
        defocus_psnr(*bgr8, protocol='restorme')


def test_unequal_pairs_are_refused(bgr8):
    first, second = bgr8
    for other in (second[:-1], second.astype(np.uint16), tensor(second)):
        with pytest.raises(ValueError, match=r'one kind and size, got ndarray \(33, 41, 3\) uint8 and '):
            defocus_psnr(first, other)


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((8, 8, 3)),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8), np.uint8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 3, 8, 8),
        [[0]],
    ],
)
def test_other_images_are_refused(image):
    with pytest.raises(ValueError, match=r'uint8 or uint16 BGR arrays \(H, W, 3\) or float RGB tensors \(3, H, W\)'):
        defocus_mae(image, image)
