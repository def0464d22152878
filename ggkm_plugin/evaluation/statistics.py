"""Means, ranks and paired differences of scores."""

import math
from collections.abc import Hashable, Sequence

import numpy as np

# Percentiles of the bootstrap's means: an interval of 95 %.
_LOW, _HIGH = 2.5, 97.5
# Means of so many resamples are computed at a time.
_CHUNK = 1000


def mean(scores: Sequence[float]) -> float:
    """The mean over images, of any order of them the same; infinite if one of them is."""
    return math.fsum(scores) / len(scores) if all(map(math.isfinite, scores)) else float(np.sum(scores))


def difference(
    scores: Sequence[float],
    reference: Sequence[float],
    samples: int,
    seed: int,
    scenes: Sequence[Hashable] | None = None,
) -> tuple[float, float, float] | None:
    """Mean of scores - reference over the same images, and its 95 % percentile bootstrap interval (low, high).

    Scenes are drawn with replacement `samples` times, each with all of its images, since images of one scene are not
    independent; by default each image is a scene of its own. A resample's mean is over its images, so that it estimates
    the same mean over images. The same draws for the same seed and number of scenes. None where a difference is not
    finite.
    """
    with np.errstate(invalid='ignore'):
        paired = np.asarray(scores, np.float64) - np.asarray(reference, np.float64)
    if not np.isfinite(paired).all():
        return None
    number = {scene: index for index, scene in enumerate(dict.fromkeys(scenes))} if scenes else {}
    of_image = [number[scene] for scene in scenes] if scenes else list(range(len(paired)))
    sums, counts = np.bincount(of_image, paired), np.bincount(of_image)
    rng = np.random.default_rng(seed)
    means = []
    for first in range(0, samples, _CHUNK):
        drawn = rng.integers(0, len(sums), (min(_CHUNK, samples - first), len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [_LOW, _HIGH])
    return mean(paired.tolist()), float(low), float(high)
