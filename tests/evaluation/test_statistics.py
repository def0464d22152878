"""Closed forms of paired differences, and the coverage of bootstrap intervals."""

import math

import numpy as np
import pytest

from ggkm_plugin.evaluation.statistics import difference, mean


def test_means():
    assert mean([1.0, 2.0, 6.0]) == 3
    assert mean([0.1] * 10) == 0.1  # a plain sum gives 0.09999999999999999
    assert mean([1.0, math.inf]) == math.inf


def test_two_images_in_closed_form():
    """Resampled means of differences 0 and 1 are 0, 1/2, 1 with chances 1/4, 1/2, 1/4: 2.5 % and 97.5 % are 0 and 1."""
    assert difference([0.0, 1.0], [0.0, 0.0], 2000, 0) == (0.5, 0, 1)


def test_pairing_counts():
    """Differences between images cancel in paired differences."""
    rng = np.random.default_rng(0)
    common = rng.normal(30, 5, 40)
    center, low, high = difference(common + 0.1 + rng.normal(0, 0.01, 40), common, 2000, 0)
    assert center == pytest.approx(0.1, abs=0.01)
    assert 0 < low < center < high < 0.11


def test_infinite_scores_have_no_difference():
    assert difference([math.inf, 1.0], [1.0, 1.0], 10, 0) is None
    assert difference([math.inf, 1.0], [math.inf, 1.0], 10, 0) is None


def test_images_of_one_scene_are_drawn_together():
    """Two scenes of differences 0 and 1: as two images in closed form, however often each was photographed alike."""
    scores, scenes = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], ['a', 'a', 'a', 'b', 'b', 'b']
    assert difference(scores, [0.0] * 6, 2000, 0, scenes) == (0.5, 0, 1)
    _, low, high = difference(scores, [0.0] * 6, 2000, 0)
    assert 0 < low < high < 1  # six images that knew nothing of one another


def test_the_mean_is_over_images_whatever_the_size_of_the_scenes():
    """Of one image with 4 and three with 0, the resamples' means are 0, 4/4 and 4: two scenes drawn twice."""
    center, low, high = difference([4.0, 0.0, 0.0, 0.0], [0.0] * 4, 2000, 0, ['a', 'b', 'b', 'b'])
    assert (center, low, high) == (1, 0, 4)


def test_coverage_of_photographs_that_share_scenes():
    """Ten images of each of 30 scenes, equal but for little: single images would promise far too much."""
    rng = np.random.default_rng(3)
    scenes = np.repeat(np.arange(30), 10).tolist()
    held = {'scenes': 0, 'images': 0}
    for experiment in range(400):
        scores = (np.repeat(rng.normal(size=30), 10) + rng.normal(0, 0.1, 300) + 0.3).tolist()
        for kind, clusters in (('scenes', scenes), ('images', None)):
            _, low, high = difference(scores, [0.0] * 300, 300, experiment, clusters)
            held[kind] += low <= 0.3 <= high
    assert 0.89 <= held['scenes'] / 400 <= 0.97
    assert held['images'] / 400 < 0.6
