"""Curves through one budget's losses, as matrices: a parabola in ln N, and a smoothing spline that starts from one.

Both are linear in the losses, so a curve is `dense @ losses`, and the bootstrap draws all its curves in one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.results import Array

KNOTS = 401
"""Places between the smallest and the largest size at which a curve is known."""
SMOOTHEST, ROUGHEST = 0.3, 1e8
"""Largest variance of a deviation from the parabola, over the noise's: from one that hardly shows to more than any."""
LEAST_PROBABILITY = 1e-3
LEAST_SPARE = 1.0
"""Curves that leave fewer degrees of freedom for noise all but go through every run, as if seeds did not matter."""


@dataclass(frozen=True)
class Smoother:
    """The curves that a set of sizes allows, whatever the losses."""

    log_n: Array
    """(KNOTS,) from the smallest to the largest size, evenly."""
    hat: Array
    """(runs, runs): losses -> fitted losses."""
    dense: Array
    """(KNOTS, runs): losses -> the curve."""

    @property
    def spare(self) -> float:
        """Degrees of freedom left for noise: runs - trace of `hat`."""
        return float(len(self.hat) - np.trace(self.hat))


@dataclass(frozen=True)
class Splines:
    """One way to draw the curves of all budgets, and what it makes of the noise."""

    probability: float
    smoothers: tuple[Smoother, ...]
    """One for each budget."""
    noise: float
    """Standard deviation of a loss about its curve."""
    degrees: int
    """Of freedom that `noise` was told from: runs less three a budget."""


def quadratic(log_n: Array) -> Smoother:
    """Least-squares parabola through runs of sizes exp(log_n (runs,)); at least three of them distinct."""
    places = np.linspace(log_n.min(), log_n.max(), KNOTS)
    runs, dense = _scaled(log_n, places), _scaled(places, places)
    inverse = np.linalg.pinv(_powers(runs))
    return Smoother(places, _powers(runs) @ inverse, _powers(dense) @ inverse)


def splines(groups: Sequence[tuple[Array, Array]]) -> list[Splines]:
    """Smoothing splines for several budgets, each (log_n (runs,), losses (runs,)), at least three distinct sizes each:
    one for every roughness that the losses leave open.

    The roughness that is penalised is the integral of the squared *third* derivative (Wahba, "Spline Models for
    Observational Data", 1990, section 1.3, m = 3). So much smoothing gives the parabola, and data that show asymmetry
    bend it. The usual cubic spline penalises the parabola itself, and with one run a size it ends up going through
    every point. All budgets share one roughness; its probabilities are its restricted likelihood, since the most
    likely one is often the plain parabola, whose minimum is then trusted too much (benchmarks/scaling_recovery.py).
    """
    sizes, components = _deviations(groups)
    told = _roughness(sizes, components)
    if not told:  # three sizes each, or next to it: nothing but the parabola can be told
        noise = float(np.sqrt((components**2).mean())) if len(components) else float("nan")
        return [Splines(1.0, tuple(quadratic(log_n) for log_n, _ in groups), noise, len(components))]
    return [
        Splines(probability, tuple(_spline(log_n, roughness) for log_n, _ in groups), noise, len(components))
        for roughness, probability, noise in told
    ]


def _scaled(log_n: Array, places: Array) -> Array:
    """Into 0..1 over the range of `places`."""
    scaled: Array = (log_n - places[0]) / (places[-1] - places[0])
    return scaled


def _powers(scaled: Array) -> Array:
    return np.stack([np.ones_like(scaled), scaled, scaled**2], axis=1)


def _kernel(one: Array, other: Array) -> Array:
    """(ones, others): covariance of what is added to the parabola, a Wiener process integrated twice."""
    least = np.minimum(one[:, None], other)
    apart = np.abs(one[:, None] - other)
    covariance: Array = (least**5 / 5 + apart * least**4 / 2 + apart**2 * least**3 / 3) / 4
    return covariance


def _deviations(groups: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """What each budget's parabola leaves, in independent components, all budgets in a row: the variance of each under
    the process, and its size in the losses. (degrees,) each; the parabola takes three runs of every budget."""
    sizes, components = [], []
    for log_n, losses in groups:
        runs = _scaled(log_n, np.array([log_n.min(), log_n.max()]))
        complement = np.linalg.qr(_powers(runs), mode="complete")[0][:, 3:]
        variances, vectors = np.linalg.eigh(complement.T @ _kernel(runs, runs) @ complement)
        sizes.append(np.maximum(variances, 0))
        components.append(vectors.T @ complement.T @ losses)
    return np.concatenate(sizes), np.concatenate(components)


def _roughness(size: Array, component: Array) -> list[tuple[float, float, float]]:
    """(roughness, probability, noise) of those worth considering, from what `_deviations` gives.

    Roughness is the variance of the process in units of the noise's. Its likelihood, and the noise, are those of the
    losses with each budget's parabola projected out (Patterson and Thompson, Biometrika 58, 1971); before the data,
    every order of magnitude is as likely as another. None where no process leaves a trace and something for noise."""
    if len(size) == 0 or size.max() < 1e-15:
        return []
    candidates = np.geomspace(SMOOTHEST, ROUGHEST, 49) / size.max()
    variance = 1 + candidates[:, None] * size
    few = (1 / variance).sum(axis=1) < LEAST_SPARE
    if few.all():
        return []
    candidates, variance = candidates[~few], variance[~few]
    noise = (component**2 / variance).mean(axis=1) + 1e-300
    likelihood = -(len(size) * np.log(noise) + np.log(variance).sum(axis=1)) / 2
    probability = np.exp(likelihood - likelihood.max())
    kept = probability > LEAST_PROBABILITY * probability.sum()
    probability = probability[kept] / probability[kept].sum()
    return list(zip(candidates[kept].tolist(), probability.tolist(), np.sqrt(noise[kept]).tolist(), strict=True))


def _spline(log_n: Array, roughness: float) -> Smoother:
    places = np.linspace(log_n.min(), log_n.max(), KNOTS)
    runs, dense = _scaled(log_n, places), _scaled(places, places)
    covariance = roughness * _kernel(runs, runs) + np.eye(len(runs))
    powers = _powers(runs)
    weighted = np.linalg.solve(covariance, powers)
    to_powers = np.linalg.solve(powers.T @ weighted, weighted.T)  # generalised least squares
    to_process = np.linalg.solve(covariance, np.eye(len(runs)) - powers @ to_powers)

    def at(scaled: Array) -> Array:
        matrix: Array = _powers(scaled) @ to_powers + roughness * _kernel(scaled, runs) @ to_process
        return matrix

    return Smoother(places, at(runs), at(dense))
