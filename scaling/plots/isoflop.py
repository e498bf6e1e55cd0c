"""IsoFLOP curves: loss against size at equal compute, one curve for each budget, its optimum starred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.plots.labels import LABEL_GAP, LABEL_PLACE, EndLabel, label_ends
from scaling.plots.style import (
    GREY,
    INK,
    METHOD_NAMES,
    budget_colours,
    convention_name,
    counted,
    footnote,
    log_axis,
    log_scale,
    new_figure,
    pad_log,
    quantity,
    scale_bar,
    scientific,
    styled,
)
from scaling.results import Budget, IsoFlopFit
from scaling.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_LABELS = 10  # more curves than this are told apart by a colour scale instead


@styled
def isoflop(study: Study, fit: IsoFlopFit) -> Figure:
    """Every size of every budget as a dot (seeds averaged), the fitted curve through them, a star with its 95% interval
    at the optimum; budgets without one in grey."""
    figure, axes = new_figure()
    axes.set_xscale("log")
    axes.set_xlim(*pad_log([size for budget in fit.budgets for size in budget.parameters], 0.06))
    few = len(fit.budgets) <= MOST_LABELS
    scale = log_scale([budget.flops for budget in fit.budgets])
    colours = budget_colours(len(fit.budgets)) if few else [scale.to_rgba(np.array(one.flops)) for one in fit.budgets]
    for budget, colour in zip(fit.budgets, colours, strict=True):
        _draw_budget(axes, budget, colour, few)
    if few:
        _join_optima(axes, fit)
        _label_budgets(axes, fit.budgets, colours)
    else:
        scale_bar(figure, axes, scale, [budget.flops for budget in fit.budgets], "budget, FLOPs", scientific)
    log_axis(axes.xaxis, quantity)
    axes.set_xlabel(f"N, {convention_name(study.convention)}")
    axes.set_ylabel(f"final loss, {study.loss_unit}")
    axes.set_title("Loss against size at equal compute")
    without = sum(budget.optimum is None for budget in fit.budgets)
    said = f"{METHOD_NAMES[fit.method].split(', ')[1]} in log N"
    said += f"; {without} of {len(fit.budgets)} budgets without an optimum (grey)" if without else ""
    footnote(figure, counted(study, f"★ optimum, 95% interval; {said}"))
    return figure


def _join_optima(axes: Axes, fit: IsoFlopFit) -> None:
    """A dotted line from star to star: where the optimum goes as compute grows."""
    stars = [(best.parameters.value, best.loss.value) for best in fit.optima if best.loss]
    axes.plot([x for x, _ in stars], [y for _, y in stars], color=GREY, linewidth=1, linestyle=(0, (1, 2)), zorder=1)


def _draw_budget(axes: Axes, budget: Budget, colour: object, large: bool) -> None:
    if budget.excluded:
        axes.plot(budget.parameters, budget.losses, "o", markerfacecolor="white", color=GREY, zorder=2,
                  markersize=5 if large else 3.5, markeredgewidth=1 if large else 0.7)  # fmt: skip
        if budget.curve and large:
            axes.plot(budget.curve.parameters, budget.curve.losses, color=GREY, linewidth=1, linestyle="--", zorder=1)
        return
    axes.plot(budget.parameters, budget.losses, "o", color=colour, markersize=5.5 if large else 3, markeredgewidth=0,
              zorder=3, alpha=1 if large else 0.7)  # fmt: skip
    if budget.curve:
        axes.plot(budget.curve.parameters, budget.curve.losses, color=colour, zorder=2, linewidth=1.8 if large else 1)
    if budget.optimum and budget.optimum.loss:
        best, loss = budget.optimum.parameters, budget.optimum.loss.value
        star = 15 if large else 10
        axes.plot(best.value, loss, "*", color=colour, markersize=star, markeredgecolor="white", zorder=5)
        if best.interval:  # above the star, which may be the wider
            axes.plot(best.interval, (loss, loss), color=INK, linewidth=1.2 if large else 0.8, marker="|",
                      markersize=7 if large else 4, zorder=6)  # fmt: skip


def _label_budgets(axes: Axes, budgets: tuple[Budget, ...], colours: list[Any]) -> None:
    """The budget in FLOPs, right of each curve's end and in its colour."""
    heights = label_ends(
        axes,
        [
            EndLabel(
                f"{scientific(budget.flops)}{' (left out)' if budget.excluded else ''}",
                GREY if budget.excluded else colour, budget.parameters[-1], budget.losses[-1],
            )
            for budget, colour in zip(budgets, colours, strict=True)
        ],
    )  # fmt: skip
    axes.text(LABEL_PLACE, max(heights) + 1.3 * LABEL_GAP, "FLOPs", transform=axes.transAxes, fontsize=9, va="center",
              fontweight="bold")  # fmt: skip
