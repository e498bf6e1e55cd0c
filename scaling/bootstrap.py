"""What else the study could have shown: bootstrap draws, from which every interval is read.

Two kinds, each chosen because its 95% intervals cover (benchmarks/scaling_recovery.py):

- Parametric fits resample the runs (Efron's bootstrap, as Besiroglu et al., arXiv 2404.10102). Runs of one size and
  length that differ by seed are drawn together: if the surface misses one of them it misses all.
- IsoFLOP curves have a handful of runs each, and without its smallest or largest size a curve means something else. So
  sizes stay, and new losses are drawn about the spline (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
  section 6.5): Gaussian, as large as the spline leaves room for, with the doubt about that (chi-squared).

Losses are not symmetric in ln N, so a parabola's minimum is off, by the more the wider its grid, and parabolas refitted
tell nothing of that. The spline's minimum is off by less. So half of the parabola's draws are minima of the spline: a
95% interval of the mixture reaches from one minimum to the other and beyond. Where the two lie far apart, 2.5% of all
draws are 5% of one half, and it ends 1.645 standard errors beyond each; where they agree, 1.96. These are the critical
values of Imbens and Manski (Econometrica 72, 2004) for a number that lies somewhere between two estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scaling.isoflop import Group, Minima, minima
from scaling.parametric import minimise_huber
from scaling.results import Array, Method
from scaling.smoothers import Splines, quadratic
from scaling.variable_projection import refine

DRAWS = 1_000
SEED = 1337
CHUNK = 24_000
"""Losses (draws x runs) computed at once: few enough for the processor's caches, enough for long loops in numpy."""
UNKNOWNS = 5
PARABOLAS = 0.5
"""Share of the draws of the parabola's minima that are minima of parabolas."""

Progress = Callable[[float], None]
"""Told the share of the work done so far."""


def resampled_weights(log_n: Array, log_d: Array, draws: int) -> Array:
    """(draws, runs): how often each run counts in each draw. NaN rows where fewer distinct sizes and lengths were drawn
    than the surface has unknowns: those determine nothing."""
    cells, cell = np.unique(np.stack([log_n, log_d], axis=1), axis=0, return_inverse=True)
    drawn = np.random.default_rng(SEED).multinomial(len(cells), np.full(len(cells), 1 / len(cells)), size=draws)
    weights = drawn.astype(np.float64)[:, cell.reshape(-1)]
    weights[(drawn > 0).sum(axis=1) < UNKNOWNS] = np.nan
    return weights


def huber_draws(theta: Array, log_n: Array, log_d: Array, losses: Array, weights: Array, progress: Progress) -> Array:
    """(draws, 5) E, A, B, alpha, beta, refitted from the estimate theta (5,) under each of weights (draws, runs)."""

    def refit(rows: Array) -> Array:
        found, _ = minimise_huber(np.tile(theta, (len(rows), 1)), log_n, log_d, np.log(losses), rows)
        return np.hstack([np.exp(found[:, :3]), found[:, 3:]])

    return _in_chunks(refit, weights, progress)


def projection_draws(
    coefficients: Array, log_n: Array, log_d: Array, losses: Array, weights: Array, progress: Progress
) -> Array:
    """The same by variable projection, from E, A, B, alpha, beta (5,)."""

    def refit(rows: Array) -> Array:
        return refine(np.tile(coefficients[3:], (len(rows), 1)), log_n, log_d, losses, rows, halvings=12)[0]

    return _in_chunks(refit, weights, progress)


def _in_chunks(refit: Callable[[Array], Array], weights: Array, progress: Progress) -> Array:
    draws = np.full((len(weights), UNKNOWNS), np.nan)
    usable = np.flatnonzero(~np.isnan(weights).any(axis=1))
    size = max(1, CHUNK // weights.shape[1])
    for start in range(0, len(usable), size):
        rows = usable[start : start + size]
        draws[rows] = refit(weights[rows])
        progress((start + len(rows)) / len(usable))
    return draws


def minima_draws(groups: Sequence[Group], candidates: Sequence[Splines], draws: int, method: Method) -> list[Minima]:
    """Of each budget, the minimum of every draw (draws,); all budgets of a draw belong together.

    A draw takes one of the candidates for the truth, by its probability, and finds the minimum of new losses about it
    by the same splines, or, for half of the draws of "quadratic", by the parabola. All NaN where the runs leave no
    degree of freedom to tell noise by.
    """
    generator = np.random.default_rng(SEED)
    picked = generator.choice(len(candidates), size=draws, p=[one.probability for one in candidates])
    straight = generator.random(draws) < PARABOLAS if method == "quadratic" else np.zeros(draws, dtype=bool)
    parabolas = [quadratic(group.log_n) for group in groups]
    found = [Minima(*(np.full(draws, np.nan) for _ in range(3))) for _ in groups]
    for number, truth in enumerate(candidates):
        rows = np.flatnonzero(picked == number)
        if len(rows) == 0 or truth.degrees == 0:
            continue
        doubt = np.sqrt(truth.degrees / generator.chisquare(truth.degrees, (len(rows), 1)))
        for group, parabola, spline, kept in zip(groups, parabolas, truth.smoothers, found, strict=True):
            noise = truth.noise * doubt * generator.normal(size=(len(rows), len(group.losses)))
            losses = spline.hat @ group.losses + noise
            curves = np.where(straight[rows, None], losses @ parabola.dense.T, losses @ spline.dense.T)
            drawn = minima(group, spline.log_n, curves)
            kept.log_n[rows], kept.log_d[rows], kept.losses[rows] = drawn.log_n, drawn.log_d, drawn.losses
    return found
