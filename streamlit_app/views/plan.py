"""The Plan page: move depth and budget, and watch what a run would be and cost. `vnc plan` with sliders."""

from __future__ import annotations

import math
from typing import get_args

import streamlit as st

from streamlit_app.plan_charts import growth, memory
from streamlit_app.plan_view import Budget, Estimate, Wish, command, estimate, over_depths
from vnc.depth import Preset
from vnc.errors import UserError
from vnc.hardware import PEAK_BF16_FLOPS
from vnc.plan_report import as_table, duration, gigabytes

DEEPEST = 32
LENGTHS = (256, 512, 1_024, 2_048, 4_096, 8_192)
OTHER = "another"
TILE = 162  # pixels; two stand side by side on a phone
DEVICES = (1, 2, 4, 8, 16, 32, 64)
ROWS = ("the recipe's", 1, 2, 4, 8, 16, 32, 64)


def read_wish() -> Wish:
    """The controls."""
    preset: Preset = st.segmented_control("Preset", get_args(Preset), default="modern", required=True)
    depth = st.slider(
        "Depth", 1, DEEPEST, 12, help="Layers: the one knob. Width and every other setting follow from it."
    )
    budget: Budget = st.segmented_control("Budget in", get_args(Budget), default="tokens per parameter", required=True)
    ratio, flops, steps = Wish.ratio, Wish.flops, Wish.steps
    match budget:
        case "tokens per parameter":
            told = "Matrices and head count; 12 is the recipe's own, about 20 is Chinchilla's."
            ratio = st.slider("Tokens for each scaling parameter", 1.0, 200.0, 12.0, 1.0, "%g", help=told)
        case "FLOPs":
            exponent = st.slider("FLOPs, as a power of ten", 14.0, 22.0, 18.0, 0.1, "%.1f")
            flops = float(f"{10**exponent:.3g}")
            st.caption(f"{flops:.3g} FLOPs")
        case "steps":
            steps = int(st.number_input("Steps", 1, 1_000_000, 2_000, 100))
    longest = {"modern": 2_048, "gpt2": 1_024}[preset]
    sequence_len = st.select_slider("Context in tokens", LENGTHS, longest, key=f"plan_context_{preset}")
    with st.expander("Hardware and price", icon=":material/memory:"):
        names = [*PEAK_BF16_FLOPS, OTHER]
        name = st.selectbox("Device", names, index=names.index("H100"))
        peak = PEAK_BF16_FLOPS.get(name, 0.0)
        if name == OTHER:
            peak = 1e12 * st.number_input("Peak TFLOP/s of one device", 0.01, 100_000.0, 1.0)
        devices = st.select_slider("Devices", DEVICES, 1)
        mfu = st.slider("Share of the peak that training reaches (MFU)", 0.05, 0.8, 0.4, 0.01)
        left, right = st.columns(2)
        size = left.number_input("Memory of one device (GiB)", 1, 2_048, 80)
        price = right.number_input("Price of a device-hour", 0.0, 1_000.0, 2.5, 0.1)
        rows = st.select_slider("Rows of a micro-batch", ROWS, ROWS[0])
    return Wish(depth, preset, sequence_len, budget, ratio, flops, steps, devices,
                rows if isinstance(rows, int) else None, peak, mfu, size * 2**30, price)  # fmt: skip


def show_numbers(found: Estimate) -> None:
    """The figures, each with its change from the setting before."""
    values = {
        "Parameters": (found.parameters, compact(found.parameters)),
        "Tokens": (found.plan.train_tokens, compact(found.plan.train_tokens)),
        "Tokens a step": (found.plan.total_batch_tokens, compact(found.plan.total_batch_tokens)),
        "Steps": (found.plan.num_steps, f"{found.plan.num_steps:,}"),
        "FLOPs": (found.plan.total_flops, f"{found.plan.total_flops:.2e}".replace("e+", "e")),
        "Memory of a device": (found.memory.total, gigabytes(found.memory.total)),
        "Time": (found.hours, duration(found.hours)),
        "Cost": (found.cost, f"{found.cost:,.2f}"),
    }
    now = {name: float(value) for name, (value, _) in values.items()}
    shown, before = st.session_state.get("plan_shown"), st.session_state.get("plan_before", now)
    if shown is not None and shown != now:
        before = shown
    st.session_state["plan_shown"], st.session_state["plan_before"] = now, before
    with st.container(horizontal=True, gap="small"):
        for name, (value, text) in values.items():
            st.metric(name, text, change(before[name], float(value)), delta_color="off", border=True, width=TILE)
    changed = " Small figures: the change from the setting before." if st.session_state["plan_before"] != now else ""
    st.caption(f"Memory, time and cost are estimates; the cost is in the currency of the device-hour's price.{changed}")


def change(before: float, now: float) -> str | None:
    """ "+80%" or "×12"; None where nothing has changed."""
    if before == now or before <= 0:
        return None
    ratio = now / before
    return f"×{ratio:.3g}" if ratio >= 10 else f"{ratio - 1:+.0%}" if abs(ratio - 1) >= 0.005 else f"{ratio - 1:+.2%}"


def compact(value: float) -> str:
    """286M, 1.32B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{value / size:.{max(0, 2 - int(math.log10(value / size)))}f}{letter}"
    return f"{value:g}"


def show_memory(found: Estimate, wish: Wish) -> None:
    if found.fits:
        return
    if found.fitting_rows is not None:
        st.warning(f"Micro-batches of {found.plan.device_batch_size} rows do not fit into a device; "
                   f"{found.fitting_rows} rows do. The result is the same, in more passes.")  # fmt: skip
    else:
        more = " More devices share gradients and optimizer state." if wish.devices == 1 else ""
        st.error(f"Not even one row fits into {gigabytes(int(wish.device_bytes))}: choose a smaller depth or a shorter "
                 f"context.{more}")  # fmt: skip


def page() -> None:
    st.header("Plan", anchor=False)
    controls, figures = st.columns([1, 2], gap="large")
    with controls:
        wish = read_wish()
    with figures:
        try:
            found = estimate(wish)
        except UserError as error:
            st.warning("This cannot be trained:")
            st.text(str(error))
            return
        show_numbers(found)
        show_memory(found, wish)
        st.code(command(wish, found), language="sh", wrap_lines=True)
        estimates = over_depths(wish, range(1, DEEPEST + 1))
        left, right = st.columns(2)
        left.markdown("**Parameters**")
        left.altair_chart(growth(estimates, wish, "parameters", "parameters"), width="stretch")
        right.markdown("**Tokens**")
        right.altair_chart(growth(estimates, wish, "tokens", "tokens"), width="stretch")
        left.markdown("**Hours**")
        left.altair_chart(growth(estimates, wish, "hours", "hours"), width="stretch")
        right.markdown("**Memory of a device** (estimate)")
        right.altair_chart(memory(estimates, wish), width="stretch")
        with st.expander("The whole plan", icon=":material/description:"):
            st.code(as_table(found.plan, wish.mfu), language=None)


page()
