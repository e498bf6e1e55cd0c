"""IsoFLOP curves: which runs share a budget, the curve through their losses, and its minimum if it has one.

"Approach 2" of Hoffmann et al. (arXiv 2203.15556, section 3.2). A minimum counts only where the sizes tried enclose it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.results import Array, Method
from scaling.smoothers import Splines, quadratic, splines
from scaling.study import Point

SAME_BUDGET = 1.2
"""Runs whose FLOPs differ by at most this factor (10% about their middle) can form one curve."""
LEAST_SIZES = 3


@dataclass(frozen=True)
class Group:
    """The runs of one budget."""

    flops: float
    """Geometric mean."""
    log_n: Array
    """(runs,) ln N, ascending."""
    log_ratio: Array
    """(runs,) ln of C / (N D), by which the budget divides into parameters and tokens."""
    log_d: Array
    """(runs,) ln D."""
    losses: Array
    """(runs,)"""

    @property
    def sizes(self) -> Array:
        """(sizes,) distinct ln N, ascending."""
        return np.unique(self.log_n)

    def by_size(self, values: Array) -> Array:
        """(runs,) -> (sizes,): means over the runs of each size."""
        return np.array([values[self.log_n == size].mean() for size in self.sizes])


def group_by_budget(points: Sequence[Point]) -> list[Group]:
    """The curves of a study, ascending. Runs that name a budget are grouped by it, others by their FLOPs: the window of
    10% either way that holds most runs, then the next among the rest."""
    named: dict[float, list[Point]] = {}
    for point in points:
        if point.budget is not None:
            named.setdefault(point.budget, []).append(point)
    groups = [*named.values(), *_windows([point for point in points if point.budget is None])]
    return sorted(map(_group, groups), key=lambda group: group.flops)


def _windows(points: list[Point]) -> list[list[Point]]:
    rest = sorted(points, key=lambda point: point.flops)
    groups = []
    while rest:
        flops = np.array([point.flops for point in rest])
        ends = np.searchsorted(flops, flops * SAME_BUDGET, side="right")
        first = int(np.argmax(ends - np.arange(len(rest))))
        groups.append(rest[first : ends[first]])
        del rest[first : ends[first]]
    return groups


def _group(points: list[Point]) -> Group:
    ordered = sorted(points, key=lambda point: (point.parameters, point.name))
    values = np.array([(point.parameters, point.tokens, point.flops, point.loss) for point in ordered])
    logs = np.log(values[:, :3])
    log_n, log_d, log_c = logs.T
    return Group(float(np.exp(log_c.mean())), log_n, log_c - log_n - log_d, log_d, values[:, 3])


def splines_of(groups: Sequence[Group]) -> list[Splines]:
    """Of groups with at least LEAST_SIZES sizes each."""
    return splines([(group.log_n, group.losses) for group in groups])


def curves(groups: Sequence[Group], candidates: Sequence[Splines], method: Method) -> list[tuple[Array, Array]]:
    """The curve of each group by the parabola ("quadratic") or by the candidates' mean ("spline"): ln N and losses,
    (KNOTS,) each."""
    if method == "quadratic":
        parabolas = [quadratic(group.log_n) for group in groups]
        return [(one.log_n, one.dense @ group.losses) for one, group in zip(parabolas, groups, strict=True)]
    weights = np.array([one.probability for one in candidates])
    drawn = []
    for place, group in enumerate(groups):
        each = np.stack([one.smoothers[place].dense @ group.losses for one in candidates])
        drawn.append((candidates[0].smoothers[place].log_n, weights @ each))
    return drawn


@dataclass(frozen=True)
class Minima:
    """The lowest points of many curves over the same sizes. NaN where a curve has no minimum between its ends."""

    log_n: Array
    log_d: Array
    losses: Array
    """Each (curves,)."""


def minima(group: Group, log_n: Array, curves: Array) -> Minima:
    """Of curves (curves, knots) at log_n (knots,), evenly spaced. D at the minimum is what the budget
    leaves for it, with C / (N D) read off between the sizes."""
    lowest = curves.argmin(axis=1)
    inside = (lowest > 0) & (lowest < len(log_n) - 1)
    middle = np.clip(lowest, 1, len(log_n) - 2)
    rows = np.arange(len(curves))
    left, centre, right = curves[rows, middle - 1], curves[rows, middle], curves[rows, middle + 1]
    # The parabola through the lowest knot and its neighbours puts the minimum between knots.
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (left - right) / (2 * (left - 2 * centre + right))
    place = log_n[middle] + shift * (log_n[1] - log_n[0])
    loss = centre - (left - right) * shift / 4
    place, loss = np.where(inside, place, np.nan), np.where(inside, loss, np.nan)
    log_d = np.log(group.flops) - place - np.interp(place, group.sizes, group.by_size(group.log_ratio))
    return Minima(place, log_d, loss)


def why_no_minimum(group: Group, curve: Array) -> str:
    """A clause for a curve (knots,) that `minima` found none in."""
    lowest = int(curve.argmin())
    smallest, largest = np.exp(group.sizes[[0, -1]])
    ends = curve[[0, -1]]
    if curve.max() > ends.max() * (1 + 1e-9):
        return "its curve opens downwards"
    if lowest == 0:
        return f"its loss is lowest at the smallest size, {smallest:.3g} parameters: add smaller ones"
    return f"its loss is lowest at the largest size, {largest:.3g} parameters: add larger ones"
