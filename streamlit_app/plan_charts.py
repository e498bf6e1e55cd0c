"""How the cost of a plan grows with depth: memory by what it holds, time and money."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from streamlit_app.palette import COLOURS, GREY
from streamlit_app.plan_view import Estimate, Wish

HEIGHT = 260
PARTS = ("weights", "gradients", "optimizer state", "activations")


def memory(estimates: Sequence[Estimate], wish: Wish) -> Any:
    """Bytes on one device at each depth, stacked; a line where the device is full."""
    rows = [
        {"depth": each.plan.depth, "part": name.replace("_", " "), "GiB": value / 2**30, "order": place,
         "chosen": each.plan.depth == wish.depth}
        for each in estimates
        for place, (name, value) in enumerate(dataclasses.asdict(each.memory).items())
    ]  # fmt: skip
    bars = alt.Chart(pd.DataFrame(rows)).mark_bar().encode(
        x=_depth(),
        y=alt.Y("GiB:Q", title="GiB on each device", axis=alt.Axis(tickCount=5)),
        color=alt.Color(
            "part:N",
            scale=alt.Scale(domain=list(PARTS), range=list(COLOURS[: len(PARTS)])),
            legend=alt.Legend(orient="bottom", title=None, columns=2),
        ),
        order="order:O",
        opacity=alt.condition("datum.chosen", alt.value(1.0), alt.value(0.55)),
        tooltip=["depth:O", "part:N", alt.Tooltip("GiB:Q", format=".1f")],
    )  # fmt: skip
    full = pd.DataFrame({"GiB": [wish.device_bytes / 2**30], "text": ["memory of a device"]})
    line = alt.Chart(full).mark_rule(color=GREY, strokeDash=[4, 4]).encode(y="GiB:Q")
    text = alt.Chart(full).mark_text(align="left", baseline="bottom", dx=4, dy=-2, color=GREY)
    return alt.layer(bars, line, text.encode(x=alt.value(0), y="GiB:Q", text="text:N")).properties(height=HEIGHT)


def growth(estimates: Sequence[Estimate], wish: Wish, what: str, title: str) -> Any:
    """One number of the plans over depth, logarithmic. `what`: hours, cost, parameters or tokens."""
    rows = [
        {"depth": each.plan.depth, "value": value, "chosen": each.plan.depth == wish.depth}
        for each in estimates
        if (value := float(each.plan.train_tokens if what == "tokens" else getattr(each, what))) > 0
    ]
    powers = [10.0**power for power in range(-6, 16)]
    # Billions as B, which people write, not as giga; hours as they are, since a small m would read as minutes.
    letters = "replace(upper(format(datum.value, '~s')), 'G', 'B')"
    label = "format(datum.value, '~g')" if what == "hours" else letters
    axis = alt.Axis(values=powers, labelExpr=label)
    base = alt.Chart(pd.DataFrame(rows, columns=["depth", "value", "chosen"])).encode(
        x=_depth(),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(type="log", nice=False), axis=axis),
        tooltip=["depth:O", alt.Tooltip("value:Q", title=title, format=",.4~s")],
    )
    chosen = base.transform_filter("datum.chosen").mark_point(filled=True, size=140, opacity=1, color=COLOURS[1])
    return alt.layer(
        base.mark_line(strokeWidth=2, color=COLOURS[0]), base.mark_point(size=25, color=COLOURS[0]), chosen
    ).properties(height=HEIGHT)


def _depth() -> Any:
    return alt.X("depth:O", title="depth", axis=alt.Axis(labelAngle=0, labelOverlap=True))
