"""Laws of `ops.ssim`, and parity with the three implementations whose numbers are published."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from ggkm_plugin.ops.ssim import ssim
from ggkm_plugin.utils.registry import METRIC_REGISTRY

WINDOWS = [('gaussian', 11), ('uniform', 7)]


def pair(shape, seed=0, dtype=torch.float64):
    """Build a smooth image with noise and a distorted copy, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator, dtype=dtype)
    x = 0.3 * x + 0.7 * torch.linspace(0, 1, shape[-1], dtype=dtype)
    y = (x + 0.1 * torch.randn(shape, generator=generator, dtype=dtype)).clamp(0, 1)
    return x, y


def hwc(image):
    return image.permute(1, 2, 0).numpy()


def test_uniform_is_the_default_of_scikit_image():
    x, y = pair((2, 3, 29, 34))
    want = [structural_similarity(hwc(a), hwc(b), data_range=1, channel_axis=2) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(ssim(x, y, 'uniform'), want, rtol=1e-12)


def test_gaussian_is_scikit_image_in_the_form_of_wang():
    # Its mean excludes the 5 pixels at the edges that the padding affects.
    x, y = pair((2, 3, 29, 34))
    form = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False, 'data_range': 1, 'channel_axis': 2}
    want = [structural_similarity(hwc(a), hwc(b), **form) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(ssim(x, y, 'gaussian'), want, rtol=1e-12)


def test_gaussian_is_the_metric_of_basicsr_on_8_bit_images():
    x, y = (t.mul(255).round() for t in pair((2, 3, 29, 34)))
    calculate_ssim = METRIC_REGISTRY.get('calculate_ssim')
    want = [calculate_ssim(hwc(a), hwc(b), crop_border=0) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(ssim(x / 255, y / 255), want, rtol=1e-10)


@pytest.mark.parametrize(('window', 'size'), WINDOWS)
def test_gradients(window, size):
    x, y = (t.requires_grad_() for t in pair((2, 2, size + 1, size + 2)))
    assert torch.autograd.gradcheck(lambda a, b: ssim(a, b, window), (x, y), fast_mode=True)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_lower_precision_is_computed_in_float32(dtype):
    x, y = (t.to(dtype) for t in pair((2, 3, 40, 40)))
    got = ssim(x, y)
    assert got.dtype == torch.float32
    # 1e-5: float32 moments carry 1e-7, amplified by 1 / C2, over smooth regions.
    torch.testing.assert_close(got.double(), ssim(x.double(), y.double()), rtol=0, atol=1e-5)


def test_autocast_does_not_reach_the_moments():
    x, y = pair((1, 3, 32, 32), dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = ssim(x, y)
    torch.testing.assert_close(got, ssim(x, y))


@pytest.mark.parametrize(('window', 'size'), WINDOWS)
def test_too_small_names_size_and_window(window, size):
    x, y = pair((1, 3, size, size - 1))
    with pytest.raises(ValueError, match=f'{window} window needs images of at least {size}x{size}.*{size}x{size - 1}'):
        ssim(x, y, window)
