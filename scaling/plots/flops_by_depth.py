"""How far 6ND and the plan's formula are from the FLOPs that a model really computes, by depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaling.flop_check import FlopCheck
from scaling.plots.labels import EndLabel, label_ends
from scaling.plots.style import BLUE, GREEN, INK, ORANGE, PURPLE, footnote, new_figure, styled
from scaling.study import CONVENTIONS, Convention

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: dict[Convention, str] = {"all": ORANGE, "without_embeddings": PURPLE, "matrices_and_head": BLUE}
SHORT: dict[Convention, str] = {
    "all": "6N, all parameters",
    "without_embeddings": "6N, w/o embeddings",
    "matrices_and_head": "6N, matrices + head",
}
DASHES: dict[Convention, object] = {
    "all": "-",
    "without_embeddings": (0, (1.5, 2.5)),  # in the modern preset it lies on matrices_and_head: both must be seen
    "matrices_and_head": "-",
}


@styled
def flops_by_depth(checks: Sequence[FlopCheck]) -> Figure:
    """One panel for each preset: every reckoning divided by the counted FLOPs, so that 1 is right."""
    presets = list(dict.fromkeys(check.preset for check in checks))
    figure, panels = new_figure(len(presets), height=4.5, squeeze=False, width=7.4 if len(presets) == 1 else 11.5)
    for axes, preset in zip(panels[0], presets, strict=True):
        _draw_preset(axes, [check for check in checks if check.preset == preset])
        axes.set_title(f"FLOPs reckoned ÷ FLOPs counted, {preset} preset")
    panels[0][0].set_ylabel("ratio to counted FLOPs")
    largest = max(abs(check.formula / check.counted - 1) for check in checks)
    agreement = f"formula within {largest:.2%} of it" if largest > 0 else "the formula equals it"
    footnote(
        figure,
        "counted: torch's FlopCounterMode, forward and backward, each query with a full window of keys  ·  "
        f"{agreement}",
    )
    return figure


def _draw_preset(axes: Axes, checks: Sequence[FlopCheck]) -> None:
    checks = sorted(checks, key=lambda check: check.depth)
    depths = [check.depth for check in checks]
    lines: list[tuple[str, str, list[float], dict[str, object]]] = [
        (SHORT[one], COLOURS[one], [check.six_n[one] / check.counted for check in checks],
         dict(linestyle=DASHES[one], marker="o", markersize=4, zorder=3 if one == "without_embeddings" else 2))
        for one in CONVENTIONS
    ]  # fmt: skip
    lines.append(("CPU route", GREEN, [check.cpu_route / check.counted for check in checks],
                  dict(linestyle=(0, (4, 2)), linewidth=1.3)))  # fmt: skip
    lines.append(("plan's formula", INK, [check.formula / check.counted for check in checks],
                  dict(marker="D", markersize=4.5, linewidth=1.3)))  # fmt: skip
    for _, colour, ratios, how in lines:
        axes.plot(depths, ratios, color=colour, **how)  # type: ignore[arg-type]
    top = 1.08 * max(max(ratios) for _, _, ratios, _ in lines)
    axes.set_ylim(0, top)
    axes.set_xticks(depths)
    axes.set_xlabel("depth, layers")
    label_ends(
        axes,
        [EndLabel(f"{name}: {ratios[-1]:.3f}", colour, depths[-1], ratios[-1]) for name, colour, ratios, _ in lines],
    )
