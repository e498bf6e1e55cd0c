"""Labels at the ends of lines instead of a legend: right of the panel, moved apart where the ends lie close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL_GAP = 0.05  # of the panel's height, between labels
LABEL_PLACE = 1.03  # of the panel's width


@dataclass(frozen=True)
class EndLabel:
    text: str
    colour: Any
    x: float
    """Of the line's end, in data."""
    y: float


def label_ends(axes: Axes, labels: Sequence[EndLabel]) -> list[float]:
    """Writes each label at the height of its line's end or near it, with a thin leader; the panel's limits must be
    final. Returns the heights, as shares of the panel's."""
    axes.get_xlim(), axes.get_ylim()  # settles limits that follow the data
    to_panel = axes.transData + axes.transAxes.inverted()
    heights = spread([float(to_panel.transform((label.x, label.y))[1]) for label in labels], LABEL_GAP)
    for label, height in zip(labels, heights, strict=True):
        leader = dict(
            arrowstyle="-", color=label.colour, linewidth=0.6, alpha=0.5, shrinkA=1, shrinkB=5, relpos=(0, 0.5)
        )
        axes.annotate(
            label.text, xy=(label.x, label.y), xytext=(LABEL_PLACE, height), textcoords="axes fraction",
            color=label.colour, va="center", fontsize=9, arrowprops=leader,
        )  # fmt: skip
    return heights


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Positions moved apart so that neighbours are at least `gap` from each other, each as near its own as that allows
    (least squares: pools of neighbours that touch share their mean)."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    pools: list[list[float]] = []  # [sum of (position - rank * gap), members]
    for rank, i in enumerate(order):
        pools.append([positions[i] - rank * gap, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, members = pools.pop()
            pools[-1] = [pools[-1][0] + total, pools[-1][1] + members]
    moved, rank = [0.0] * len(positions), 0
    for total, members in pools:
        for _ in range(int(members)):
            moved[order[rank]] = total / members + rank * gap
            rank += 1
    return moved
