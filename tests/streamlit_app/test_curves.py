"""Curves: positions on each axis, smoothing, and fewer points that look the same."""

import numpy as np
import pandas as pd
import pytest

from streamlit_app.curves import Curve, along, curve, smooth, thinned
from streamlit_app.run_metrics import Metric, Metrics


def metric(done: list[float], values: list[float]) -> Metric:
    return Metric(np.array(done), np.array(values))


@pytest.mark.parametrize("weight", [0.1, 0.8, 0.99])
def test_smoothing_agrees_with_pandas(weight: float) -> None:
    values = np.random.default_rng(0).normal(size=200)
    expected = pd.Series(values).ewm(alpha=1 - weight, adjust=True).mean().to_numpy()
    np.testing.assert_allclose(smooth(values, weight), expected, rtol=1e-9)


def test_no_smoothing_changes_nothing() -> None:
    values = np.array([3.0, 1.0, 2.0])
    assert smooth(values, 0.0).tolist() == [3.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="weight=1"):
        smooth(values, 1.0)


def test_thinning_keeps_the_ends_and_every_spike() -> None:
    y = np.sin(np.arange(100_000) / 9_000)
    y[[31_417, 77_777]] = 50.0, -50.0
    thin = thinned(Curve(np.arange(100_000.0), y), 1_000)
    assert 500 < len(thin.x) <= 1_000
    assert thin.x[0] == 0 and thin.x[-1] == 99_999 and (np.diff(thin.x) > 0).all()
    assert {31_417.0, 77_777.0} <= set(thin.x)
    np.testing.assert_array_equal(y[thin.x.astype(int)], thin.y)


def test_few_points_are_all_kept() -> None:
    full = Curve(np.arange(5.0), np.arange(5.0))
    assert thinned(full, 5) is full


def test_places_on_other_axes_lie_between_those_that_were_noted() -> None:
    metrics: Metrics = {
        "train/loss": metric([10, 20], [3.0, 2.0]),
        "train/hours": metric([10, 20], [1.0, 3.0]),
        "val/bits_per_byte": metric([5, 15, 20], [1.5, 1.2, 1.0]),
    }
    found = curve(metrics, "val/bits_per_byte", "hours")
    assert found is not None and found.x.tolist() == [0.5, 2.0, 3.0] and found.y.tolist() == [1.5, 1.2, 1.0]
    assert curve(metrics, "val/bits_per_byte", "tokens") is None  # the run does not tell its tokens
    assert curve(metrics, "core/core", "steps") is None
    assert along(metrics, metrics["train/loss"], "steps") is metrics["train/loss"].done


def test_values_that_are_no_numbers_are_not_drawn() -> None:
    found = curve({"train/loss": metric([1, 2, 3], [2.0, float("nan"), float("inf")])}, "train/loss", "steps")
    assert found is not None and found.x.tolist() == [1.0]
    assert curve({"train/loss": metric([1], [float("nan")])}, "train/loss", "steps") is None


def test_few_points_are_not_smoothed_and_many_are() -> None:
    values = np.random.default_rng(1).normal(size=60)
    few: Metrics = {"train/loss": Metric(np.arange(10.0), values[:10])}
    many: Metrics = {"train/loss": Metric(np.arange(60.0), values)}
    found, smoothed = curve(few, "train/loss", "steps", 0.9), curve(many, "train/loss", "steps", 0.9)
    assert found is not None and found.y.tolist() == values[:10].tolist()
    assert smoothed is not None and smoothed.y.std() < 0.5 * values.std()
