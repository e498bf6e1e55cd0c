"""Power laws y = k C^a by least squares in logs, for many rows (bootstrap draws) at once."""

from __future__ import annotations

import numpy as np

from scaling.results import Array


def power_law(log_flops: Array, log_values: Array) -> Array:
    """Least squares of ln y = ln k + a ln C: (rows, 2) of ln k and a, NaN in rows with fewer than two budgets.

    log_flops (budgets,), log_values (rows, budgets), NaN where a row has no optimum for a budget.
    """
    known = ~np.isnan(log_values)
    count = known.sum(axis=1)
    x = np.where(known, log_flops, 0.0)
    y = np.where(known, log_values, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x, mean_y = x.sum(axis=1) / count, y.sum(axis=1) / count
        away = np.where(known, log_flops - mean_x[:, None], 0.0)
        exponent = (away * y).sum(axis=1) / (away**2).sum(axis=1)
        fitted = np.stack([mean_y - exponent * mean_x, exponent], axis=1)
    return np.where((count >= 2)[:, None], fitted, np.nan)
