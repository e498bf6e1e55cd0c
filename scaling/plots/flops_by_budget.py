"""What a budget asked for, what its runs computed, and what 6ND says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.plots.flops_by_depth import COLOURS, DASHES, SHORT
from scaling.plots.labels import EndLabel, label_ends
from scaling.plots.style import GREEN, INK, flops_axis, footnote, new_figure, pad_log, runs, styled
from scaling.study import CONVENTIONS, Convention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TICKS = 6  # up to as many budgets get a tick each
SAME_BUDGET = 0.01  # of ln C: budgets closer than this are one column


@dataclass(frozen=True)
class RunFlops:
    """The FLOPs of one run, by every reckoning."""

    budget: float
    """Asked for."""
    plan: float
    """Of its whole steps, by the formula."""
    counted: float | None
    """The same steps by the counter; None where the model was not counted."""
    six_nd: dict[Convention, float]


@styled
def flops_by_budget(of_runs: Sequence[RunFlops]) -> Figure:
    """A column of dots for each budget and reckoning, a line through their means."""
    figure, axes = new_figure(height=4.5)
    axes.set_xscale("log")
    budgets = np.array([run.budget for run in of_runs])
    lines: list[tuple[str, str, object, list[float | None]]] = [
        (SHORT[one].replace("6N", "6ND"), COLOURS[one], DASHES[one], [run.six_nd[one] for run in of_runs])
        for one in CONVENTIONS
    ]
    lines.append(("plan's formula", INK, "-", [run.plan for run in of_runs]))
    if all(run.counted is not None for run in of_runs):
        lines.append(("counted", GREEN, (0, (2, 3)), [run.counted for run in of_runs]))
    ends, tops = [], []
    for _, colour, dashes, flops in lines:
        ratios = np.array(flops, dtype=float) / budgets
        axes.plot(budgets, ratios, "o", color=colour, markersize=3.5, alpha=0.45, markeredgewidth=0)
        columns = _columns(budgets)
        means = [float(np.exp(np.log(ratios[column]).mean())) for column in columns]
        axes.plot(
            [budgets[column].mean() for column in columns],
            means,
            color=colour,
            linestyle=dashes,
            zorder=3 if dashes != "-" else 2,
        )
        ends.append(means[-1])
        tops.append(ratios.max())
    top = 1.08 * max(tops)
    axes.set_ylim(0, top)
    axes.set_xlim(*pad_log(list(budgets), 0.06))
    named = [(name, colour) for name, colour, _, _ in lines]
    label_ends(axes, [EndLabel(f"{name}: {end:.2f}", colour, budgets.max(), end)
                      for (name, colour), end in zip(named, ends, strict=True)])  # fmt: skip
    flops_axis(axes, "budget asked for, FLOPs")
    if len(_columns(budgets)) <= MOST_TICKS:
        axes.set_xticks([float(budgets[column].mean()) for column in _columns(budgets)])
    axes.set_ylabel("FLOPs reckoned ÷ budget")
    axes.set_title("6ND, the plan and the budget")
    footnote(figure, f"{runs(len(of_runs))}: a dot each, lines through the geometric means of each budget")
    return figure


def _columns(budgets: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """The places of the runs of each budget, budgets ascending."""
    order = np.argsort(budgets)
    breaks = np.flatnonzero(np.diff(np.log(budgets[order])) > SAME_BUDGET) + 1
    return np.split(order, breaks)
