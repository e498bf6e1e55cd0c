"""Tokens for each parameter at the optimum, against compute: is the best ratio a constant?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaling.plots.labels import EndLabel, label_ends
from scaling.plots.optima import LINES, compute_grid, draw_interval, methods, optima_on
from scaling.plots.style import (
    GREY,
    METHOD_COLOURS,
    METHOD_NAMES,
    counted,
    flops_axis,
    footnote,
    log_axis,
    new_figure,
    quantity,
    scientific,
    styled,
)
from scaling.results import Estimate, Fit, IsoFlopFit, Optimum
from vnc.depth import DEFAULT_RATIO
from vnc.evals.bootstrap import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOFFMANN_RATIO = 20.0  # what Chinchilla was trained with: 1.4T tokens on 70B parameters (arXiv 2203.15556, table 1)


@styled
def tokens_per_parameter(fit: Fit) -> Figure:
    """D / N of every optimum and every method's line; the ratio of Chinchilla, and vnc's own where N is counted as its
    plans count it."""
    figure, axes = new_figure()
    grid = compute_grid(fit)
    axes.set(xscale="log", yscale="log", xlim=(grid[0], grid[-1]))
    labels = []
    for method in methods(fit):
        colour = METHOD_COLOURS[method.method]
        ratios = [best.tokens_per_parameter for best in optima_on(method, grid)]
        axes.plot(grid, ratios, color=colour, linestyle=LINES[method.method])
        labels.append(EndLabel(f"{METHOD_NAMES[method.method]}: {ratios[-1]:.3g}", colour, grid[-1], ratios[-1]))
        if isinstance(method, IsoFlopFit):
            shift = 1.0 if method.method == "quadratic" else 1.06
            for best in method.optima:
                draw_interval(axes, best.flops * shift, ratio_of(best), colour, method.method == "quadratic")
    rules = [(HOFFMANN_RATIO, "Chinchilla, of all parameters")]
    if fit.study.convention == "matrices_and_head":
        rules.append((DEFAULT_RATIO, "plans of vnc"))
    for ratio, name in rules:
        axes.axhline(ratio, color=GREY, linewidth=1, linestyle=(0, (6, 3)), zorder=1)
        labels.append(EndLabel(f"{name}: {ratio:g}", GREY, grid[-1], ratio))
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.1, high * 1.1)
    label_ends(axes, labels)
    log_axis(axes.yaxis, quantity)
    flops_axis(axes)
    axes.set_ylabel("D / N, tokens per parameter")
    axes.set_title("Tokens per parameter at the optimum")
    note = f"labels: at {scientific(grid[-1])} FLOPs; bars: 95% from the bootstrap"
    footnote(figure, counted(fit.study, note))
    return figure


def ratio_of(best: Optimum) -> Estimate:
    """D / N with its interval. At a fixed budget D falls as N rises, so opposite ends of their intervals belong
    together."""
    sizes, tokens = best.parameters.interval, best.tokens.interval
    interval = Interval(tokens.low / sizes.high, tokens.high / sizes.low) if sizes and tokens else None
    return Estimate(best.tokens_per_parameter, interval)
