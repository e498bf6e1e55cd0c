"""How the best size and the best number of tokens grow with compute, by every method, in log-log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from scaling.plots.style import (
    GREY,
    METHOD_COLOURS,
    METHOD_NAMES,
    convention_name,
    counted,
    flops_axis,
    footnote,
    log_axis,
    new_figure,
    quantity,
    styled,
)
from scaling.results import Array, Estimate, Fit, IsoFlopFit, Missing, Optimum, ParametricFit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Axis = Literal["parameters", "tokens"]
# Exponents a, b of Hoffmann et al. (arXiv 2203.15556), table 2, approach 2 (isoFLOP profiles).
HOFFMANN: dict[Axis, float] = {"parameters": 0.49, "tokens": 0.51}
LINE_POINTS = 60
BEYOND = 3.0  # lines go on to this many times the largest budget
LINES = {"quadratic": "-", "spline": (0, (5, 2)), "huber": (0, (3, 1, 1, 1)), "variable_projection": (0, (1, 1.2))}


@styled
def optima(fit: Fit) -> Figure:
    """N_opt and D_opt against C: optima of budgets with 95% intervals, power laws with the parabola's band, the
    parametric optima, and Hoffmann et al.'s slopes."""
    figure, panels = new_figure(2, height=4.9)
    grid = compute_grid(fit)
    sides: tuple[tuple[Axis, str], ...] = (("parameters", "optimal size N"), ("tokens", "optimal tokens D"))
    for axes, (side, title) in zip(panels, sides, strict=True):
        axes.set(xscale="log", yscale="log", xlim=(grid[0], grid[-1]))
        for method in methods(fit):
            _draw_method(axes, method, side, grid)
        _draw_reference(axes, fit, side, grid)
        log_axis(axes.yaxis, quantity)
        flops_axis(axes)
        axes.set_title(title[0].upper() + title[1:])
        axes.set_ylabel(f"{title}, {convention_name(fit.study.convention)}" if side == "parameters" else title)
        axes.legend(loc="upper left", handlelength=2.6)
    footnote(figure, counted(fit.study, "bars and bands: 95% from the bootstrap"))
    return figure


def methods(fit: Fit) -> list[IsoFlopFit | ParametricFit]:
    """Those that can tell an optimum for any budget."""
    told = [one for one in fit.isoflop_fits if not isinstance(one.parameters, Missing)]
    return [*told, *fit.parametric_fits]


def compute_grid(fit: Fit) -> Array:
    """FLOPs at which lines are drawn: from below the smallest run to beyond the largest."""
    flops = [point.flops for point in fit.study.points]
    return np.geomspace(min(flops) / 1.5, BEYOND * max(flops), LINE_POINTS)


def optima_on(method: IsoFlopFit | ParametricFit, grid: Array) -> list[Optimum]:
    return [best for flops in grid if (best := method.optimum(float(flops))) is not None]


def exponent(method: IsoFlopFit | ParametricFit, side: Axis) -> Estimate | None:
    """a of N ~ C^a, or b of D ~ C^b; None where the method has none."""
    if isinstance(method, ParametricFit):
        return method.parameters_exponent if side == "parameters" else method.tokens_exponent
    law = method.parameters if side == "parameters" else method.tokens
    return None if isinstance(law, Missing) else law.exponent


def said(estimate: Estimate, digits: int = 2) -> str:
    """ "0.46 [0.41, 0.52]", or the number alone where it has no interval."""
    text = f"{estimate.value:.{digits}f}"
    if estimate.interval is None:
        return text
    low, high = estimate.interval
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def draw_interval(axes: Axes, flops: float, estimate: Estimate, colour: str, filled: bool) -> None:
    """One optimum as a dot, and its interval as a bar."""
    if estimate.interval:
        axes.plot((flops, flops), estimate.interval, color=colour, linewidth=1.1, zorder=4)
    face = colour if filled else "white"
    axes.plot(flops, estimate.value, "o", color=colour, markerfacecolor=face, markersize=6, zorder=5)


def _draw_method(axes: Axes, method: IsoFlopFit | ParametricFit, side: Axis, grid: Array) -> None:
    colour, line = METHOD_COLOURS[method.method], optima_on(method, grid)
    estimates = [getattr(best, side) for best in line]
    slope = exponent(method, side)
    label = METHOD_NAMES[method.method] + (f": {said(slope)}" if slope else "")
    axes.plot(grid, [one.value for one in estimates], color=colour, linestyle=LINES[method.method], label=label)
    if method.method == "quadratic" and all(one.interval for one in estimates):
        axes.fill_between(
            grid, [one.interval.low for one in estimates], [one.interval.high for one in estimates], color=colour,
            alpha=0.14, linewidth=0,
        )  # fmt: skip
    if isinstance(method, IsoFlopFit):
        shift = 1.0 if method.method == "quadratic" else 1.06  # beside each other, not on top
        for best in method.optima:
            draw_interval(axes, best.flops * shift, getattr(best, side), colour, method.method == "quadratic")


def _draw_reference(axes: Axes, fit: Fit, side: Axis, grid: Array) -> None:
    """Hoffmann et al.'s slope through the middle of the study: their level depends on their data and tokenizer."""
    middle = float(np.sqrt(grid[0] * grid[-1] / BEYOND))
    first = next((best for method in methods(fit) if (best := method.optimum(middle))), None)
    if first is None:
        return
    level = getattr(first, side).value
    slope = HOFFMANN[side]
    axes.plot(
        grid, level * (grid / middle) ** slope, color=GREY, linewidth=1.1, linestyle=(0, (6, 3)), zorder=1,
        label=f"slope of Hoffmann et al. 2022: {slope}",
    )  # fmt: skip
