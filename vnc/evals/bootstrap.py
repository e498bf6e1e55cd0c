"""How sure a score is: intervals from drawing its rows anew (Efron's percentile bootstrap).

A score is a mean of means: over the rows of each task, then over tasks. Rows are a sample of the questions that could
have been asked, so they are drawn anew, within their task; the tasks are what the score is made of and stay. The draws
have a fixed seed: the same outcomes give the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 2_000
LEVEL = 0.95
SEED = 1337


class Interval(NamedTuple):
    low: float
    high: float


Means = Sequence["Means"] | Sequence[float]
"""Values whose mean is taken, or groups whose means are averaged in turn."""


def mean_interval(groups: Means) -> Interval:
    """95% interval of the mean over groups of the mean over the values of each group. No group may be empty."""
    means = _resampled(groups, np.random.default_rng(SEED))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _resampled(groups: Means, generator: np.random.Generator) -> np.ndarray:
    if isinstance(groups[0], Sequence):
        parts: list[np.ndarray] = [_resampled(group, generator) for group in groups]  # type: ignore[arg-type]
        return np.mean(parts, axis=0)  # type: ignore[no-any-return]
    return resampled_means(np.asarray(groups, dtype=np.float64), generator)


def resampled_means(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(DRAWS,): the mean of as many draws from the values, with replacement, as there are values.

    Rows often share a handful of values (right or wrong), and then how often each is drawn is multinomial: that is
    drawn at once, not row by row.
    """
    distinct, counts = np.unique(values, return_counts=True)
    drawn = generator.multinomial(len(values), counts / len(values), size=DRAWS)
    means: np.ndarray = drawn @ distinct / len(values)
    return means
