"""Means, ranks and paired differences of scores."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

# Percentiles of the bootstrap's means: an interval of 95 %.
_LOW, _HIGH = 2.5, 97.5
# Means of so many resamples are computed at a time.
_CHUNK = 1000


def mean(scores: Sequence[float]) -> float:
    """The mean over images, of any order of them the same; infinite if one of them is."""
    return math.fsum(scores) / len(scores) if all(map(math.isfinite, scores)) else float(np.sum(scores))


def ranked(means: Mapping[str, float], better: str, digits: int) -> dict[str, int]:
    """1 for the best and 2 for the second best, by name; what looks alike when shown has one rank. NaN has none.

    better: higher or lower.
    """
    shown = {name: round(value, digits) for name, value in means.items() if not math.isnan(value)}
    steps = sorted(set(shown.values()), reverse=better == 'higher')[:2]
    return {name: steps.index(value) + 1 for name, value in shown.items() if value in steps}


def difference(
    scores: Sequence[float], reference: Sequence[float], samples: int, seed: int
) -> tuple[float, float, float] | None:
    """Mean of scores - reference over the same images, and its 95 % percentile bootstrap interval (low, high).

    Images are drawn with replacement `samples` times; the same draws for the same seed and number of images. None
    where a difference is not finite.
    """
    with np.errstate(invalid='ignore'):
        paired = np.asarray(scores, np.float64) - np.asarray(reference, np.float64)
    if not np.isfinite(paired).all():
        return None
    rng = np.random.default_rng(seed)
    means = [
        paired[rng.integers(0, len(paired), (min(_CHUNK, samples - first), len(paired)))].mean(axis=1)
        for first in range(0, samples, _CHUNK)
    ]
    low, high = np.percentile(np.concatenate(means), [_LOW, _HIGH])
    return mean(paired.tolist()), float(low), float(high)
