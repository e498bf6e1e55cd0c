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
"""Largest variance of a deviation from the parabola, over the noise's: from one that hardly shows to one that leaves
next to nothing for noise."""
LEAST_PROBABILITY = 1e-3


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


def quadratic(log_n: Array) -> Smoother:
    """Least-squares parabola through runs of sizes exp(log_n (runs,)); at least three of them distinct."""
    places = np.linspace(log_n.min(), log_n.max(), KNOTS)
    runs, dense = _scaled(log_n, places), _scaled(places, places)
    inverse = np.linalg.pinv(_powers(runs))
    return Smoother(places, _powers(runs) @ inverse, _powers(dense) @ inverse)


def splines(groups: Sequence[tuple[Array, Array]]) -> list[tuple[float, list[Smoother]]]:
    """Smoothing splines for several budgets, each (log_n (runs,), losses (runs,)), at least three distinct sizes each:
    (probability, a smoother for each budget) for every roughness that the losses leave open.

    The roughness that is penalised is the integral of the squared *third* derivative (Wahba, "Spline Models for
    Observational Data", 1990, section 1.3, m = 3). So much smoothing gives the parabola, and data that show asymmetry
    bend it. The usual cubic spline penalises the parabola itself, and with one run a size it ends up going through
    every point. All budgets share one roughness; its probabilities are its restricted likelihood, since the most
    likely one is often the plain parabola, whose minimum is then trusted too much (benchmarks/scaling_recovery.py).
    """
    return [
        (probability, [_spline(log_n, roughness) for log_n, _ in groups])
        for roughness, probability in _roughness(groups)
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


def _roughness(groups: Sequence[tuple[Array, Array]]) -> list[tuple[float, float]]:
    """(roughness, probability) of those worth considering. Roughness is the variance of the process in units of the
    noise's, and its likelihood that of the losses with each budget's parabola projected out (Patterson and Thompson,
    Biometrika 58, 1971); before the data, every order of magnitude is as likely as another."""
    sizes, components = [], []
    for log_n, losses in groups:
        runs = _scaled(log_n, np.array([log_n.min(), log_n.max()]))
        complement = np.linalg.qr(_powers(runs), mode="complete")[0][:, 3:]
        variances, vectors = np.linalg.eigh(complement.T @ _kernel(runs, runs) @ complement)
        sizes.append(np.maximum(variances, 0))
        components.append(vectors.T @ complement.T @ losses)
    size, component = np.concatenate(sizes), np.concatenate(components)
    if len(size) == 0 or size.max() < 1e-15:
        return [(0.0, 1.0)]  # three sizes each: nothing but the parabola can be told
    candidates = np.geomspace(SMOOTHEST, ROUGHEST, 49) / size.max()
    variance = 1 + candidates[:, None] * size
    noise = (component**2 / variance).mean(axis=1) + 1e-300
    likelihood = -(len(size) * np.log(noise) + np.log(variance).sum(axis=1)) / 2
    probability = np.exp(likelihood - likelihood.max())
    probability /= probability.sum()
    kept = probability > LEAST_PROBABILITY
    return list(zip(candidates[kept].tolist(), (probability[kept] / probability[kept].sum()).tolist(), strict=True))


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
