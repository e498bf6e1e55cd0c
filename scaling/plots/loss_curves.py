"""Loss of every run as it went on, against tokens and against compute, with the compute frontier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scaling.plots.style import (
    GREY,
    INK,
    convention_name,
    counted,
    flops_axis,
    footnote,
    log_axis,
    log_scale,
    new_figure,
    pad_log,
    quantity,
    scale_bar,
    styled,
)
from scaling.study import Study
from scaling.traces import Traces, frontier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORST_SHARE = 0.9  # of the recorded losses are shown: the first steps would flatten everything else


@styled
def loss_curves(study: Study, traces: Traces) -> Figure:
    """A line for each run in the colour of its size, its end as a dot; runs that did not finish dashed in grey."""
    figure, panels = new_figure(2, height=4.9, sharey=True)
    sizes = [run.parameters for run in traces.runs]
    colours = log_scale(sizes)
    for axes, key in zip(panels, ("tokens", "flops"), strict=True):
        axes.set_xscale("log")
        for run in sorted(traces.runs, key=lambda one: one.parameters):
            along = getattr(run, key)
            if not run.finished:
                axes.plot(along, run.losses, color=GREY, linewidth=0.9, linestyle="--", zorder=1)
                continue
            colour = colours.to_rgba(np.array(run.parameters))
            axes.plot(along, run.losses, color=colour, linewidth=1.1, alpha=0.85, zorder=2)
            axes.plot(along[-1], run.losses[-1], "o", color=colour, markersize=4, markeredgewidth=0, zorder=3)
    lowest = frontier([run for run in traces.runs if run.finished])
    panels[1].plot(*zip(*lowest, strict=True), color=INK, linewidth=1.6, linestyle=(0, (4, 1.5)), zorder=4,
                   label="frontier: lowest loss reached") if lowest else None  # fmt: skip
    top = _limit_losses(panels[0], traces)
    for axes, key in zip(panels, ("tokens", "flops"), strict=True):
        shown = [x for run in traces.runs for x, loss in zip(getattr(run, key), run.losses, strict=True) if loss <= top]
        axes.set_xlim(*pad_log(shown, 0.02))
    log_axis(panels[0].xaxis, quantity)
    panels[0].set(xlabel="tokens seen", ylabel=traces.unit)
    panels[0].set_title("Loss against tokens")
    flops_axis(panels[1], "training compute so far, FLOPs")
    panels[1].set_title("Loss against compute")
    panels[1].legend(loc="lower left")
    scale_bar(figure, panels, colours, sizes, f"N, {convention_name(study.convention)}", quantity)
    broken = sum(not run.finished for run in traces.runs)
    note = "dots: ends of runs" + (f"; {broken} unfinished, dashed" if broken else "")
    footnote(figure, counted(study, note, traces.unit))
    return figure


def _limit_losses(axes: Axes, traces: Traces) -> float:
    """Sets the y axis, from the lowest loss up to where all but the first steps' lie, and returns its top."""
    losses = sorted(loss for run in traces.runs for loss in run.losses)
    ends = [run.losses[-1] for run in traces.runs if run.finished]
    bottom, top = losses[0], max([losses[int(WORST_SHARE * (len(losses) - 1))], *ends])
    margin = 0.05 * (top - bottom) or 0.05
    axes.set_ylim(bottom - margin, top + margin)
    return top + margin
