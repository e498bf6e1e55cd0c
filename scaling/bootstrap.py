"""What else the study could have shown: bootstrap draws, from which every interval is read.

Two kinds, each chosen because its 95% intervals cover (benchmarks/scaling_recovery.py):

- Parametric fits resample the runs (Efron's bootstrap, as Besiroglu et al., arXiv 2404.10102). Runs of one size and
  length that differ by seed are drawn together: if the surface misses one of them it misses all.
- IsoFLOP curves have a handful of runs each, and without its smallest or largest size a curve means something else. So
  sizes stay, and residuals, pooled over budgets, are drawn onto the fitted curves, enlarged by what the fit took from
  them (1 - leverage) and by the doubt about their variance (chi-squared with the spare degrees of freedom).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scaling.isoflop import Group, Minima, minima
from scaling.parametric import minimise_huber
from scaling.results import Array
from scaling.smoothers import Smoother
from scaling.variable_projection import refine

DRAWS = 1_000
SEED = 1337
CHUNK = 100
"""Draws computed at once."""
UNKNOWNS = 5

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
    for start in range(0, len(usable), CHUNK):
        rows = usable[start : start + CHUNK]
        draws[rows] = refit(weights[rows])
        progress((start + len(rows)) / len(usable))
    return draws


def minima_draws(
    groups: Sequence[Group], candidates: Sequence[tuple[float, list[Smoother]]], draws: int
) -> list[Minima]:
    """Of each budget, the minimum of every draw (draws,); all budgets of a draw belong together.

    A draw picks one of the candidate ways to smooth by its probability. All NaN where the runs leave no degree of
    freedom to tell noise by.
    """
    generator = np.random.default_rng(SEED)
    picked = generator.choice(len(candidates), size=draws, p=[probability for probability, _ in candidates])
    found = [Minima(*(np.full(draws, np.nan) for _ in range(3))) for _ in groups]
    for number, (_, smoothers) in enumerate(candidates):
        rows = np.flatnonzero(picked == number)
        spare = sum(smoother.spare for smoother in smoothers)
        if len(rows) == 0 or spare < 1:
            continue
        residuals = _pooled_residuals(groups, smoothers)
        doubt = np.sqrt(spare / generator.chisquare(spare, (len(rows), 1)))
        for group, smoother, kept in zip(groups, smoothers, found, strict=True):
            noise = doubt * generator.choice(residuals, (len(rows), len(group.losses)))
            drawn = minima(group, smoother.log_n, (smoother.hat @ group.losses + noise) @ smoother.dense.T)
            kept.log_n[rows], kept.log_d[rows], kept.losses[rows] = drawn.log_n, drawn.log_d, drawn.losses
    return found


def _pooled_residuals(groups: Sequence[Group], smoothers: Sequence[Smoother]) -> Array:
    pooled = []
    for group, smoother in zip(groups, smoothers, strict=True):
        kept = 1 - np.diag(smoother.hat)
        told = kept > 1e-6  # a run that its curve goes through whatever its loss says nothing of noise
        pooled.append((group.losses - smoother.hat @ group.losses)[told] / np.sqrt(kept[told]))
    return np.concatenate(pooled)
