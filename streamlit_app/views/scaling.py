"""The Scaling page: a study's isoFLOP curves and laws, what to train with the compute at hand, and earlier reports."""

from __future__ import annotations

import math
from typing import Any, get_args

import streamlit as st

from scaling.fit import fit
from scaling.plots.optima import methods
from scaling.plots.style import METHOD_NAMES, convention_name, quantity
from scaling.predict import flops_to_spend, model_sizes, predict
from scaling.report_text import missing_list
from scaling.results import Estimate, Fit
from scaling.study import Convention, Study
from streamlit_app.runs_folder import runs_folder
from streamlit_app.scaling_charts import growth, isoflop, optima_rows
from streamlit_app.study_finder import Report, Source, find_studies, read_report, read_study
from vnc.errors import UserError
from vnc.hardware import PEAK_BF16_FLOPS


@st.cache_resource(max_entries=16, show_spinner="Fitting, and drawing the runs anew for intervals ...")
def cached_fit(_study: Study, key: str) -> Fit:
    """`key` tells the study's runs."""
    return fit(_study)


def empty() -> None:
    st.info("No study yet: three runs or more of different sizes. A small one takes about half an hour on a laptop:")
    st.code("vnc scaling sweep --config configs/sweep_tiny.yaml", language="sh", wrap_lines=True)
    st.caption(
        "A table of runs from elsewhere (parameters, tokens or FLOPs, loss) is read too: put its CSV file below:"
    )
    st.text(str(runs_folder()))


def show_missing(fitted: Fit) -> None:
    """What the methods without a fit lack, and which runs are in none."""
    missing = missing_list(fitted)
    if missing:
        with st.expander("Methods without a fit", icon=":material/help:"):
            st.text(missing)
    if fitted.study.excluded:
        with st.expander(f"Runs left out: {len(fitted.study.excluded)}"):
            st.text("\n".join(f"{one.name}: {one.reason}" for one in fitted.study.excluded))
    if fitted.notes:
        with st.expander("To know before trusting it", icon=":material/info:"):
            st.text("\n".join(fitted.notes))


def show_study(fitted: Fit) -> None:
    study = fitted.study
    st.caption(f"{len(study.points)} runs; N counts {convention_name(study.convention)}; loss in {study.loss_unit}.")
    shown = {METHOD_NAMES[one.method]: one for one in fitted.isoflop_fits}
    if shown:
        st.markdown("**Loss by size, for each budget**")
        name = st.segmented_control("Curve", list(shown), default=next(iter(shown)), required=True) or next(iter(shown))
        st.altair_chart(isoflop(shown[name], study.loss_unit), width="stretch")
        with st.expander("Minima of the budgets"):
            number = st.column_config.NumberColumn(format="%.4f")
            st.dataframe(optima_rows(fitted.isoflop_fits), hide_index=True, column_config={"loss": number})
    left, right = st.columns(2)
    sizes, tokens = growth(fitted, "parameters"), growth(fitted, "tokens")
    if sizes is not None and tokens is not None:
        left.markdown("**Best size**")
        left.altair_chart(sizes, width="stretch")
        right.markdown("**Best amount of data**")
        right.altair_chart(tokens, width="stretch")
    show_missing(fitted)


def read_budget(fitted: Fit) -> float:
    """FLOPs, from the controls; at first ten times those of the study's largest run."""
    if st.segmented_control("I have", ["FLOPs", "GPU-hours"], default="FLOPs", required=True) == "FLOPs":
        next_up = math.log10(10 * max(point.flops for point in fitted.study.points))
        exponent = st.slider("FLOPs, as a power of ten", 6.0, 26.0, min(26.0, max(6.0, round(next_up, 1))), 0.1, "%.1f")
        return float(f"{10**exponent:.3g}")
    hours, device, share = st.columns(3)
    spent = hours.number_input("GPU-hours", 0.01, 1e7, 24.0, help="Hours times GPUs")
    name = device.selectbox("GPU", list(PEAK_BF16_FLOPS), index=list(PEAK_BF16_FLOPS).index("H100"))
    mfu = share.slider("MFU", 0.05, 0.8, 0.4, 0.01, help="Share of the peak that training reaches")
    return flops_to_spend(None, spent, mfu, PEAK_BF16_FLOPS[name] / 1e12)


def show_calculator(fitted: Fit, source: Source, convention: Convention) -> None:
    st.subheader("I have this much compute", anchor=False)
    if not methods(fitted):
        st.caption("No method can answer yet:")
        st.text(missing_list(fitted))
        return
    flops = read_budget(fitted)
    try:
        found = predict(fitted, flops, convention, model_sizes(list(source.runs)) if source.runs else {})
    except UserError as error:
        st.text(str(error))
        return
    method, best = found.optima[0]
    tiles: list[tuple[str, str, Estimate | None]] = [
        ("Parameters", quantity(best.parameters.value), best.parameters),
        ("Tokens", quantity(best.tokens.value), best.tokens),
    ]
    if best.loss is not None:
        tiles.append((f"Loss ({found.loss_unit})", f"{best.loss.value:.3f}", best.loss))
    st.markdown(f"With **{flops:.3g} FLOPs** (by {METHOD_NAMES[method]}):")
    with st.container(horizontal=True, gap="small"):
        for name, text, estimate in tiles:
            with st.container(border=True, width=230):
                st.metric(name, text)
                st.caption(interval(estimate, name.startswith("Loss")))
    st.dataframe(
        [{"method": METHOD_NAMES[each], "parameters": quantity(one.parameters.value),
          "tokens": quantity(one.tokens.value), "tokens per parameter": one.tokens_per_parameter,
          "loss": f"{one.loss.value:.4f}" if one.loss else "–"} for each, one in found.optima],
        hide_index=True,
        column_config={"tokens per parameter": st.column_config.NumberColumn(format="%.3g")},
    )  # fmt: skip
    if found.nearest is not None:
        plan = found.nearest.plan
        st.markdown(f"The nearest model of vnc has depth **{plan.depth}**: {quantity(found.nearest.parameters)} "
                    f"parameters, {quantity(plan.train_tokens)} tokens in {plan.num_steps:,} steps.")  # fmt: skip
    for note in found.notes:
        st.text(note)


def interval(estimate: Any, loss: bool) -> str:
    if estimate is None or estimate.interval is None:
        return "no interval: too few runs"
    low, high = estimate.interval
    return f"95%: {low:.3f} to {high:.3f}" if loss else f"95%: {quantity(low)} to {quantity(high)}"


def show_reports(reports: list[Report]) -> None:
    st.subheader("Reports", anchor=False)
    names = [report.name for report in reports]
    report = reports[names.index(st.selectbox("Report", names))] if len(names) > 1 else reports[0]
    st.text(f"Made by vnc scaling plot, in {report.name}")
    for start in range(0, len(report.figures), 2):
        for column, figure in zip(st.columns(2), report.figures[start : start + 2], strict=False):
            try:
                column.image(str(figure), width="stretch")
            except Exception as error:  # whatever a picture library says of a broken file
                column.text(f"{figure.name} cannot be shown: {type(error).__name__}")
    with st.expander("Text of the report", icon=":material/description:"):
        st.code(read_report(report), language=None, wrap_lines=True)


def page() -> None:
    st.header("Scaling", anchor=False)
    sources, reports = find_studies(runs_folder())
    if not sources and not reports:
        empty()
        return
    if sources:
        names = [source.name for source in sources]
        left, right = st.columns(2)
        source = sources[names.index(left.selectbox("Study", names))]
        convention: Convention = "matrices_and_head"
        if source.counted_here:
            options = get_args(Convention)
            convention = right.selectbox("Parameters that count", options, index=options.index("matrices_and_head"),
                                         format_func=convention_name)  # fmt: skip
        try:
            study = read_study(source, convention)
            fitted = cached_fit(study, repr((study.points, study.convention, study.loss_unit)))
        except UserError as error:
            st.caption("This cannot be fitted:")
            st.text(str(error))
        else:
            show_study(fitted)
            show_calculator(fitted, source, convention)
    if reports:
        show_reports(reports)


page()
