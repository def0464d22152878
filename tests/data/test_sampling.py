"""Random crops, flips and noise: seeds and distributions.

The seeds are fixed, so the statistics cannot fail by chance. Tolerances are four standard errors or more.
"""

import numpy as np
import pytest
import torch

from ggkm_plugin.basicsr_patches.sampler import SampleIndex
from ggkm_plugin.data.sampling import (
    crop_window,
    flipped,
    sample_rng,
    to_tensor,
    with_noise,
)
from ggkm_plugin.utils.errors import DataError

# sample_rng


def test_the_generator_of_a_sample_depends_on_seed_epoch_and_draw_only():
    def numbers(seed, *index):
        return sample_rng(seed, SampleIndex(*index)).integers(2**62, size=4).tolist()

    first = numbers(1, 5, 2, 9)
    torch.manual_seed(99)
    assert numbers(1, 5, 2, 9) == first
    others = [numbers(0, 5, 2, 9), numbers(1, 5, 3, 9), numbers(1, 5, 2, 10)]
    assert len({tuple(other) for other in [first, *others]}) == 4


def test_a_plain_index_draws_new_numbers_from_torchs_seed():
    def numbers():
        torch.manual_seed(4)
        return [sample_rng(0, 3).integers(2**62) for _ in range(5)]

    first = numbers()
    assert len(set(first)) == 5
    assert numbers() == first


# crop_window


def test_crops_reach_every_corner_and_never_leave_the_image():
    rng = np.random.default_rng(0)
    windows = [crop_window(rng, 6, 5, 4, 'a') for _ in range(400)]
    assert {(rows.start, columns.start) for rows, columns in windows} == {(r, c) for r in range(3) for c in range(2)}
    assert crop_window(rng, 4, 4, 4, 'a') == (slice(0, 4), slice(0, 4))
    assert all(rows.stop - rows.start == columns.stop - columns.start == 4 for rows, columns in windows)


def test_crops_are_spread_evenly():
    rng = np.random.default_rng(1)
    tops = np.bincount([crop_window(rng, 13, 4, 4, 'a')[0].start for _ in range(2000)], minlength=10)
    assert np.abs(tops - 200).max() < 60


@pytest.mark.parametrize(('height', 'width'), [(20, 15), (15, 20), (15, 15)])
def test_an_image_smaller_than_the_crop_is_named_with_the_largest_crop(height, width):
    with pytest.raises(DataError, match=r'img\.png.*gt_size.* 15\b'):
        crop_window(np.random.default_rng(0), height, width, 16, 'img.png')


# flipped


def test_the_eight_orientations_are_equally_often():
    rows, columns = np.mgrid[:5, :7]
    image, seen = np.dstack([rows, columns, rows]), []
    for seed in range(1600):
        (out,) = flipped(np.random.default_rng(seed), [image], True, True, True)
        seen.append(tuple(out[[0, 0, -1], [0, -1, 0], :2].ravel()))
    corners = set(seen)
    assert len(corners) == 8  # the corners at top left, top right and bottom left tell all orientations apart
    # of 1600, 200 each with a standard deviation of 13
    assert all(abs(seen.count(corner) - 200) < 55 for corner in corners)


# with_noise


def test_noise_has_the_std_in_8_bit_steps_and_leaves_its_input_alone():
    image = np.full((100, 100, 3), 0.5, np.float32)
    noisy = with_noise(np.random.default_rng(0), image, 15)
    assert noisy.dtype == np.float32
    assert (image == 0.5).all()
    noise = (noisy - image) * 255
    assert noise.std() == pytest.approx(15, rel=0.017)  # four standard errors, of 30,000 values
    assert abs(noise.mean()) < 0.35
    channels = np.corrcoef(noise.reshape(-1, 3).T)
    assert np.abs(channels - np.eye(3)).max() < 0.04


def test_a_range_draws_one_std_for_the_image_within_its_bounds():
    image = np.full((40, 40, 3), 0.5, np.float32)
    stds = np.array(
        [(with_noise(np.random.default_rng(seed), image, [2, 17.85]) - image).std() * 255 for seed in range(300)]
    )
    assert stds.min() > 2 * 0.93
    assert stds.max() < 17.85 * 1.07
    assert stds.mean() == pytest.approx((2 + 17.85) / 2, abs=1.1)
    assert stds.std() == pytest.approx((17.85 - 2) / 12**0.5, rel=0.1)
    halves = with_noise(np.random.default_rng(0), image, [2, 17.85]) - image
    assert halves[:20].std() == pytest.approx(halves[20:].std(), rel=0.1)


def test_noise_leaves_the_range_unless_it_is_clipped():
    image = np.zeros((50, 50, 3), np.float32)
    image[25:] = 1
    noisy = with_noise(np.random.default_rng(0), image, 10)
    assert noisy.min() < -0.05
    assert noisy.max() > 1.05
    clipped = with_noise(np.random.default_rng(0), image, 10, clip=True)
    np.testing.assert_array_equal(clipped, noisy.clip(0, 1))


# to_tensor


def test_a_tensor_is_channels_first_contiguous_and_its_own():
    image = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    tensor = to_tensor(image[::-1, ::-1])
    assert tensor.shape == (3, 2, 4)
    assert tensor.is_contiguous()
    assert tensor[2, 0, 0] == 23
    tensor.zero_()
    assert image.sum() == 276
