"""Registration of a defocused photograph with its sharp counterpart: accuracy and unsuitable images."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import fourier_shift

from ggkm_plugin.data.registration import SMALLEST, registration
from ggkm_plugin.utils.image_decoding import decode_image, read_bytes

_MARGIN = 8  # pixels, which the periodic shift takes from the opposite side


def photograph(size=(300, 320), seed=0):
    """Edges at all scales, 8 bits."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*size, 3), np.float32)
    for _ in range(400):
        center = tuple(int(c) for c in rng.integers(0, size[::-1]))
        cv2.circle(image, center, int(rng.integers(3, 40)), [float(c) for c in rng.integers(0, 256, 3)], -1)
    return image


def disk(radius):
    rows, columns = np.mgrid[-12:13, -12:13]
    kernel = (np.hypot(rows, columns) <= radius).astype(np.float32)
    return kernel / kernel.sum()


def defocused(sharp, radius, shift, noise=2):
    """Both 8-bit images without their margins, the defocused one moved down and right by `shift` pixels."""
    blurred = cv2.filter2D(sharp.astype(np.float32), -1, disk(radius), borderType=cv2.BORDER_REFLECT_101)
    moved = [
        np.real(np.fft.ifft2(fourier_shift(np.fft.fft2(channel), shift))) for channel in np.moveaxis(blurred, 2, 0)
    ]
    noisy = np.stack(moved, 2) + np.random.default_rng(1).normal(0, noise, blurred.shape)
    inner = slice(_MARGIN, -_MARGIN)
    return [image[inner, inner].clip(0, 255).round().astype(np.uint8) for image in (noisy, sharp)]


@pytest.mark.parametrize(('radius', 'shift'), [(0, (0, 0)), (3, (0.25, 0)), (6, (0, -0.5)), (10, (-3, 2))])
def test_the_shift_of_a_defocused_image(radius, shift):
    """The error stays within the bounds measured for this size (see `registration`)."""
    found = registration(*defocused(photograph(), radius, shift))
    assert np.hypot(found.rows - shift[0], found.columns - shift[1]) < (0.3 if radius < 10 else 0.45)
    assert found.distance == pytest.approx(np.hypot(found.rows, found.columns))
    assert found.likeness > 0.85


def test_images_of_two_scenes_are_unlike():
    found = registration(*(photograph(seed=seed).round().astype(np.uint8) for seed in (0, 1)))
    assert found.likeness < 0.5


def test_bits_and_exposure_do_not_matter():
    lq, gt = defocused(photograph(), 3, (1, -0.5), noise=0)
    found = registration(lq, gt)
    assert registration(lq.astype(np.uint16) * 257, gt.astype(np.uint16) * 257) == found
    darker = registration((lq * 0.6 + 30).round().astype(np.uint8), gt)
    assert (darker.rows, darker.columns) == pytest.approx((found.rows, found.columns), abs=0.051)


def test_small_and_empty_images_have_no_registration():
    small = photograph((SMALLEST - 1, 400)).astype(np.uint8)
    assert registration(small, small) is None
    empty, full = np.full((256, 256, 3), 90, np.uint8), photograph((256, 256)).astype(np.uint8)
    assert registration(full, full).distance == 0
    for lq, gt in ((empty, full), (full, empty), (empty, empty)):
        assert registration(lq, gt) is None
    grain = np.random.default_rng(0).integers(90, 92, (256, 256, 3)).astype(np.uint8)  # only rounding
    assert registration(grain, grain) is None


def test_real_photographs_under_a_lens(shared_data):
    """Errors on a Kodak photograph are at most 0.25 px, so a threshold of 1 px is safe."""
    sharp = decode_image(read_bytes(str(shared_data / 'kodak24/19.png')), '19.png')
    for radius, shift in ((6, (1, 0)), (10, (0, 0.25))):
        found = registration(*defocused(sharp, radius, shift))
        assert np.hypot(found.rows - shift[0], found.columns - shift[1]) <= 0.25
        assert found.likeness > 0.9


def test_real_pairs_are_aligned(shared_data):
    for lq in sorted((shared_data / 'lfdof_pairs/input').iterdir())[:2]:
        images = [
            decode_image(read_bytes(str(path)), lq.name) for path in (lq, lq.parents[1] / 'ground_truth' / lq.name)
        ]
        found = registration(*images)
        assert found.distance < 0.5
        assert found.likeness > 0.9
