"""Bootstrap intervals against what statistics says they should be."""

import math
import random
from statistics import NormalDist, fmean

import numpy as np
import pytest

from vnc.evals.bootstrap import DRAWS, mean_interval, resampled_means

Z = NormalDist().inv_cdf(0.975)


def right_and_wrong(right: int, wrong: int) -> list[float]:
    return [1.0] * right + [0.0] * wrong


@pytest.mark.parametrize(("right", "wrong"), [(50, 50), (200, 300), (950, 50), (30, 1470)])
def test_a_share_has_the_interval_of_a_binomial(right: int, wrong: int) -> None:
    """Rows drawn anew are binomial: the ends are its quantiles, found here by summing its probabilities."""
    count = right + wrong
    p, cumulative, low, high = right / count, 0.0, None, None
    for hits in range(count + 1):
        log = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
        cumulative += math.exp(log + hits * math.log(p) + (count - hits) * math.log(1 - p))
        low = hits / count if low is None and cumulative >= 0.025 else low
        high = hits / count if high is None and cumulative >= 0.975 else high
    assert low is not None and high is not None
    interval = mean_interval([right_and_wrong(right, wrong)])
    # Quantiles of 2,000 draws wander by about a twentieth of the interval; one row is the finest step there is.
    tolerance = 0.06 * (high - low) + 1 / count
    assert interval.low == pytest.approx(low, abs=tolerance)
    assert interval.high == pytest.approx(high, abs=tolerance)
    assert interval.low < p < interval.high


def test_values_of_every_kind_have_the_normal_interval() -> None:
    generator = np.random.default_rng(5)
    values = generator.exponential(3.0, size=400)
    interval = mean_interval([values.tolist()])
    error = Z * values.std() / math.sqrt(len(values))
    assert interval.low == pytest.approx(values.mean() - error, abs=0.12 * error)
    assert interval.high == pytest.approx(values.mean() + error, abs=0.12 * error)


def test_draws_have_the_mean_and_spread_of_the_sample() -> None:
    """Three values, as the differences of two models have; the variance of a mean is that of the values over n."""
    values = np.array([-1.0] * 20 + [0.0] * 130 + [1.0] * 50)
    means = resampled_means(values, np.random.default_rng(0))
    assert means.shape == (DRAWS,)
    expected = values.std() / math.sqrt(len(values))
    assert means.mean() == pytest.approx(values.mean(), abs=4 * expected / math.sqrt(DRAWS))
    assert means.std() == pytest.approx(expected, rel=0.07)
    steps = means * len(values)
    assert np.allclose(steps, steps.round())  # as many values are drawn as there are


def test_a_mean_of_means_weighs_groups_alike() -> None:
    """Ten rows and a thousand: the interval is about the mean of both shares, and the small group decides its width."""
    small, large = right_and_wrong(5, 5), right_and_wrong(900, 100)
    interval = mean_interval([small, large])
    variance = (0.25 / 10 + 0.09 / 1000) / 4
    assert (interval.low + interval.high) / 2 == pytest.approx(0.7, abs=0.03)
    assert interval.high - interval.low == pytest.approx(2 * Z * math.sqrt(variance), rel=0.12)


def test_groups_nest() -> None:
    """Categories of tasks of categories of rows, of uneven depth; each level is a plain mean."""
    nested = [[right_and_wrong(40, 10), right_and_wrong(10, 40)], right_and_wrong(30, 20)]
    interval = mean_interval(nested)
    first = (0.16 / 50 + 0.16 / 50) / 4
    variance = (first + 0.24 / 50) / 4
    assert (interval.low + interval.high) / 2 == pytest.approx((0.5 + 0.6) / 2, abs=0.02)
    assert interval.high - interval.low == pytest.approx(2 * Z * math.sqrt(variance), rel=0.12)


def test_a_group_of_one_group_changes_nothing() -> None:
    rows = right_and_wrong(17, 14)
    assert mean_interval(rows) == mean_interval([rows]) == mean_interval([[rows]])


def test_groups_are_drawn_independently() -> None:
    """Two equal tasks are steadier than one by the square root of two; drawn alike they would not be."""
    rows = right_and_wrong(60, 40)
    one, two = mean_interval([rows]), mean_interval([rows, rows])
    assert (two.high - two.low) / (one.high - one.low) == pytest.approx(math.sqrt(0.5), rel=0.1)


def test_the_same_rows_have_the_same_interval() -> None:
    rows = [right_and_wrong(7, 12), right_and_wrong(3, 2)]
    before, numpy_before = random.getstate(), np.random.get_state()[1].tolist()
    first = mean_interval(rows)
    random.seed(3)
    np.random.seed(3)
    assert mean_interval(rows) == first
    random.setstate(before)
    numpy_now = np.random.get_state()[1].tolist()
    mean_interval(rows)
    assert np.random.get_state()[1].tolist() == numpy_now != numpy_before
    assert mean_interval([rows[0][::-1], rows[1][::-1]]) == first  # order says nothing


def test_what_cannot_vary_has_no_width() -> None:
    for values in ([1.0], [0.25], [0.0] * 50, [1.0] * 999, [1 / 3] * 7):
        interval = mean_interval([values])
        assert interval.low == pytest.approx(values[0]) and interval.high == pytest.approx(values[0])
    interval = mean_interval([[1.0], right_and_wrong(20, 20)])
    assert 0.5 < interval.low < 0.75 < interval.high < 1.0  # half of it stands still


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    """500 studies of three tasks whose true score is known; 95% should hold it, +- 1.9% for 500 of them."""
    generator = np.random.default_rng(11)
    chances, sizes = (0.35, 0.6, 0.8), (80, 120, 200)
    truth, studies = fmean(chances), 500
    held = below = above = 0
    for _ in range(studies):
        groups = [
            (generator.random(size) < chance).astype(float).tolist()
            for chance, size in zip(chances, sizes, strict=True)
        ]
        low, high = mean_interval(groups)
        held += low <= truth <= high
        below += high < truth
        above += truth < low
    assert 0.925 <= held / studies <= 0.975
    assert min(below, above) > 0
