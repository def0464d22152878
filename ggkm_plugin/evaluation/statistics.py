"""Means and paired differences of scores."""

import math
from collections.abc import Hashable, Sequence

import numpy as np

# Percentiles of the bootstrap means: a 95 % interval.
_LOW, _HIGH = 2.5, 97.5
# Resamples per batch.
_CHUNK = 1000


def mean(scores: Sequence[float]) -> float:
    """Return the mean over images, independent of their order; infinite if a score is."""
    return math.fsum(scores) / len(scores) if all(map(math.isfinite, scores)) else float(np.sum(scores))


def difference(
    scores: Sequence[float],
    reference: Sequence[float],
    samples: int,
    seed: int,
    scenes: Sequence[Hashable] | None = None,
) -> tuple[float, float, float] | None:
    """Return the mean of scores - reference over the same images, and its 95 % percentile bootstrap interval.

    Scenes are drawn with replacement `samples` times, each with all of its images, since images of one scene are not
    independent; by default each image is a scene. A resample's mean is taken over its images. Equal seeds and numbers
    of scenes give equal draws. None if a difference is not finite.
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
