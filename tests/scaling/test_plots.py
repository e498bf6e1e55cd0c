"""The figures: what they say is what the fit and the runs hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from scaling.plots.flops_by_budget import RunFlops, flops_by_budget
from scaling.plots.isoflop import isoflop
from scaling.plots.labels import spread
from scaling.plots.loss_curves import loss_curves
from scaling.plots.optima import HOFFMANN, optima
from scaling.plots.style import budget_colours, quantity, save, scientific
from scaling.plots.tokens_per_parameter import ratio_of, tokens_per_parameter
from scaling.results import Missing
from scaling.study import read_runs
from scaling.traces import Trace, frontier, read_traces
from tests.scaling.known_fit import BUDGETS, known_fit, known_isoflop, known_study, write_run
from vnc.errors import UserError


def words(figure: Figure, folder: Path) -> str:
    """Everything that is written in a figure: its SVG keeps text as text."""
    _, svg = save(figure, folder, "figure")
    return " ".join(re.findall(r">([^<>]+)</(?:text|tspan)>", svg.read_text(encoding="utf-8")))


def test_isoflop_curves_say_what_was_counted_and_left_out(tmp_path: Path) -> None:
    fit = known_fit(excluded={6e18: "its loss is lowest at the largest size"})
    assert not isinstance(fit.quadratic, Missing)
    figure = isoflop(fit.study, fit.quadratic)
    said = words(figure, tmp_path)
    for part in ("parameters of matrices and head", "bits per byte", "72 runs, 1 left out", "1 of 4 budgets", "10¹⁸",
                 "6×10¹⁸ (left out)"):  # fmt: skip
        assert part in said
    stars = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    best = [budget.optimum for budget in fit.quadratic.budgets if budget.optimum]
    assert [line.get_xdata() for line in stars] == [[one.parameters.value] for one in best] and len(best) == 3


def test_optima_are_drawn_with_their_intervals_and_laws(tmp_path: Path) -> None:
    fit = known_fit()
    assert not isinstance(fit.quadratic, Missing) and not isinstance(fit.quadratic.parameters, Missing)
    figure = optima(fit)
    said = words(figure, tmp_path)
    assert f"{fit.quadratic.parameters.exponent.value:.2f} [" in said
    assert f"slope of Hoffmann et al. 2022: {HOFFMANN['parameters']}" in said
    for method in ("isoFLOP, parabola", "isoFLOP, spline", "parametric, Huber", "parametric, var. projection"):
        assert method in said
    left = figure.axes[0]
    lines = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), str(line.get_label())) for line in left.lines]
    drawn = {(float(x[0]), float(y[0])) for x, y, _ in lines if len(x) == 1}
    assert {(best.flops, best.parameters.value) for best in fit.quadratic.optima} <= drawn
    x, y = next((x, y) for x, y, label in lines if label.startswith("isoFLOP, parabola"))
    assert y[0] == pytest.approx(fit.quadratic.parameters.at(float(x[0])).value)


def test_methods_without_a_fit_are_not_drawn(tmp_path: Path) -> None:
    none = Missing("Three sizes a budget are needed.")
    fit = known_fit(quadratic=none, spline=none, parametric=none)
    said = words(optima(fit), tmp_path)
    assert "isoFLOP" not in said and "Huber" not in said and "var. projection" in said
    one_budget = known_isoflop(known_study(), "quadratic", dict.fromkeys(BUDGETS[1:], "too few"))
    said = words(tokens_per_parameter(known_fit(quadratic=one_budget)), tmp_path)
    assert "parabola" not in said and "spline" in said


def test_tokens_per_parameter(tmp_path: Path) -> None:
    fit = known_fit()
    said = words(tokens_per_parameter(fit), tmp_path)
    assert "plans of vnc: 12" in said and "Chinchilla, of all parameters: 20" in said
    assert not isinstance(fit.quadratic, Missing)
    best = fit.quadratic.optima[0]
    ratio = ratio_of(best)
    assert ratio.interval and ratio.interval.low < ratio.value < ratio.interval.high
    assert best.tokens.interval and best.parameters.interval
    assert ratio.interval.high == best.tokens.interval.high / best.parameters.interval.low


def test_chinchilla_s_own_convention_has_no_line_for_vnc_s_plans(tmp_path: Path) -> None:
    study = known_study()
    elsewhere = type(study)(study.points, "nats per token", "Model Size", ())
    said = words(tokens_per_parameter(known_fit(elsewhere)), tmp_path)
    assert "plans of vnc" not in said and "Model Size" in said and "none left out" in said


def test_loss_curves_of_real_records(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "runs" / f"d{depth}", depth, 1e12) for depth in (2, 3)]
    folders.append(write_run(tmp_path / "runs" / "d4", 4, 1e12, status="failed"))
    traces = read_traces(folders, "matrices_and_head")
    assert traces.source == "val" and [run.finished for run in traces.runs] == [True, True, False]
    said = words(loss_curves(read_runs(folders), traces), tmp_path)
    assert "validation bits per byte" in said and "1 unfinished" in said and "2 runs, 1 left out" in said
    for run, folder in zip(traces.runs, folders, strict=True):
        assert run.name == folder.name and run.flops[-1] == pytest.approx(1e12, rel=0.01)


def test_few_validations_give_way_to_the_training_loss(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"d{depth}", depth, 1e12, validations=2) for depth in (2, 3)]
    traces = read_traces(folders, "all")
    assert traces.source == "train" and traces.runs[0].losses[0] > 5.5
    assert "nats per token" in words(loss_curves(read_runs(folders), traces), tmp_path)


def test_the_frontier_is_the_lowest_of_all_and_never_rises() -> None:
    early = Trace("a", 1, 8, (1, 2), (1.0, 4.0), (5.0, 3.0), True)
    late = Trace("b", 2, 8, (1, 2), (2.0, 8.0), (4.5, 2.0), True)
    lowest = frontier([early, late])
    flops, losses = (np.array(side) for side in zip(*lowest, strict=True))
    assert flops[0] == pytest.approx(1) and flops[-1] == pytest.approx(8)
    assert losses[0] == 5 and losses[-1] == 2 and (np.diff(losses) <= 0).all()
    at_two = losses[flops <= 2.01][-1]
    assert at_two == pytest.approx(4, abs=0.02)  # half of a's way in log FLOPs, below b's 4.5
    assert frontier([]) == []


def test_budgets_by_every_reckoning(tmp_path: Path) -> None:
    runs = [
        RunFlops(budget, budget * 0.99, budget * 0.98,
                 {"all": 2 * budget, "without_embeddings": 0.8 * budget, "matrices_and_head": 0.9 * budget})
        for budget in (1e18, 1e18, 6e18)
    ]  # fmt: skip
    said = words(flops_by_budget(runs), tmp_path)
    for part in ("6ND, all parameters: 2.00", "6ND, matrices + head: 0.90", "counted: 0.98", "formula: 0.99", "3 runs"):
        assert part in said
    uncounted = [RunFlops(run.budget, run.plan, None, run.six_nd) for run in runs]
    assert "counted" not in words(flops_by_budget(uncounted), tmp_path)


def test_saving_is_whole_and_repeatable(tmp_path: Path) -> None:
    fit = known_fit()
    first = [path.read_bytes() for path in save(tokens_per_parameter(fit), tmp_path / "a", "figure")]
    again = [path.read_bytes() for path in save(tokens_per_parameter(fit), tmp_path / "b", "figure")]
    assert first == again and first[0].startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["figure.png", "figure.svg"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        save(tokens_per_parameter(fit), tmp_path / "file", "figure")


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    tokens_per_parameter(known_fit())
    assert dict(matplotlib.rcParams) == before


def test_labels_move_apart_and_no_further() -> None:
    assert spread([0.1, 0.9], 0.05) == [0.1, 0.9]
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    moved = spread([0.5, 0.3, 0.5, 0.52], 0.1)
    assert np.diff(sorted(moved)).min() >= 0.1 - 1e-12
    assert sorted(range(4), key=lambda i: moved[i]) == [1, 0, 2, 3]


def test_numbers_as_people_write_them() -> None:
    assert [quantity(value) for value in (999.9, 1.53e6, 12.34e9, 1e12, 0.5)] == ["1K", "1.53M", "12.3B", "1T", "0.5"]
    assert [scientific(value) for value in (1e18, 9.99e17, 6.2e19, 3e-2)] == ["10¹⁸", "10¹⁸", "6.2×10¹⁹", "3×10⁻²"]
    assert len(set(map(tuple, budget_colours(4)))) == 4 and len(budget_colours(1)) == 1
