"""Runs as curves: which numbers are drawn, over what, how smooth, and with how many points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamlit_app.run_metrics import Array, Metric, Metrics

Axis = Literal["steps", "tokens", "FLOPs", "hours"]
AXES: dict[Axis, str | None] = {
    "steps": None,
    "tokens": "train/tokens",
    "FLOPs": "train/flops",
    "hours": "train/hours",
}
"""The metric that tells where on the axis a run stands after so many steps."""
MOST_POINTS = 1_000
"""Of a curve on the screen: as many as a chart has columns of pixels."""
LEAST_SMOOTHED = 30
"""Of fewer points an average over the past tells more of the beginning than of now."""


@dataclass(frozen=True)
class Chart:
    title: str
    metric: str
    better: Literal["lower", "higher", "neither"]
    format: str
    """Of a value, in d3's notation."""
    smoothed: bool
    """Noisy enough that smoothing helps; scores of benchmarks and validations are drawn as they are."""
    floor: str | None = None
    """The key of run.json that holds the least value possible."""


CHARTS = (
    Chart("Training loss (nats per token)", "train/loss", "lower", ".3f", True),
    Chart("Validation (bits per byte)", "val/bits_per_byte", "lower", ".4f", False, "floor_bits_per_byte"),
    Chart("CORE", "core/core", "higher", ".3f", False),
    Chart("ChatCORE", "chatcore/chatcore", "higher", ".3f", False),
    Chart("Tokens per second", "train/tokens_per_second", "higher", ".3s", True),
    Chart("Model FLOPs utilisation", "train/mfu", "higher", ".1%", True),
    Chart("Gradient norm", "train/gradient_norm", "neither", ".3f", True),
    Chart("Learning rate of the matrices", "train/lr", "neither", ".2e", False),
)


@dataclass(frozen=True)
class Curve:
    x: Array
    y: Array
    """Each (points,); no NaN in either."""


def curve(metrics: Metrics, metric: str, axis: Axis, smoothing: float = 0.0, points: int = MOST_POINTS) -> Curve | None:
    """One metric of a run along an axis, smoothed and thinned out for drawing; None where the run has not got it, or
    does not tell where it stood on that axis."""
    found = metrics.get(metric)
    if found is None:
        return None
    x = along(metrics, found, axis)
    if x is None:
        return None
    known = ~(np.isnan(x) | np.isnan(found.values) | np.isinf(found.values))
    x, y = x[known], found.values[known]
    if not len(x):
        return None
    return thinned(Curve(x, smooth(y, smoothing) if len(y) >= LEAST_SMOOTHED else y), points)


def along(metrics: Metrics, metric: Metric, axis: Axis) -> Array | None:
    """(points,): where the points of a metric lie on the axis. Between the steps that were logged it is a line; a run
    begins at 0."""
    source = AXES[axis]
    if source is None:
        return metric.done
    known = metrics.get(source)
    if known is None:
        return None
    places: Array = np.interp(metric.done, np.append(0.0, known.done), np.append(0.0, known.values))
    return places


def smooth(values: Array, weight: float) -> Array:
    """Exponential moving average (points,) without the pull to 0 at the beginning: each value counts `weight` times as
    much as the next. 0 leaves the values as they are."""
    if not 0 <= weight < 1:
        raise ValueError(f"weight={weight}: must be from 0 to below 1")
    if not weight:
        return values
    smoothed = np.empty_like(values)
    total = share = 0.0
    for place, value in enumerate(values.tolist()):
        total = weight * total + (1 - weight) * value
        share = weight * share + (1 - weight)
        smoothed[place] = total / share
    return smoothed


def thinned(full: Curve, points: int) -> Curve:
    """At most `points` points that look the same when drawn: of each stretch its lowest and its highest, so no spike is
    lost, and the first and last of all."""
    count = len(full.x)
    if count <= points:
        return full
    edges = np.linspace(0, count, max(1, (points - 2) // 2) + 1).astype(int)
    kept = {0, count - 1}
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        stretch = full.y[start:end]
        kept |= {int(start + stretch.argmin()), int(start + stretch.argmax())}
    places = np.array(sorted(kept))
    return Curve(full.x[places], full.y[places])
