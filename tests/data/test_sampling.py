"""Random crops, flips and noise: seeds and distributions.

The seeds are fixed, so the statistics cannot fail by chance. Tolerances are four standard errors or more.
"""

import numpy as np
import pytest
import torch

from ggkm_plugin.basicsr_patches.sampler import SampleIndex
from ggkm_plugin.data.sampling import (
    crop_window,
    sample_rng,
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


@pytest.mark.parametrize(('height', 'width'), [(20, 15), (15, 20)])
def test_an_image_smaller_than_the_crop_is_named_with_the_largest_crop(height, width):
    with pytest.raises(DataError, match=r'img\.png.*gt_size.* 15\b'):
        crop_window(np.random.default_rng(0), height, width, 16, 'img.png')


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
