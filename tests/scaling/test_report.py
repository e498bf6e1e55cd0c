"""The report: `vnc scaling plot` on run folders and on a CSV, and each part of its text."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from scaling.predict import predict
from scaling.report import AHEAD, check_place, plot
from scaling.report_text import HEADING, Picture, answer, left_out, report, table
from scaling.results import Fit, Missing
from scaling.study import Excluded
from tests.scaling.known_fit import BUDGETS, known_fit, known_parametric, known_study, write_run
from vnc.errors import UserError


def text_of(fit: Fit, budgets: tuple[float, ...] = (1e19, 3e19)) -> str:
    predictions = [predict(fit, flops, "matrices_and_head", {}) for flops in budgets]
    return report(fit, predictions, [Picture("isoflop", "Curves", "A caption.")], ["vnc scaling plot --runs runs"])


def test_the_answer_comes_first_and_is_the_prediction() -> None:
    fit = known_fit()
    said = text_of(fit)
    head, first = said.split("\n\n")[:2]
    method, best = predict(fit, 1e19, "matrices_and_head", {}).optima[0]
    assert head == HEADING and first.startswith("**With 10¹⁹ FLOPs, train ")
    assert f"{best.tokens_per_parameter:.3g} tokens per parameter" in first and method == "huber"
    assert said.count("| 3×10¹⁹ | ") == 5  # four methods, and the model of vnc
    assert "72 runs" in said and "bits per byte" in said and "parameters of matrices and head" in said
    assert said.index("## Optima") < said.index("## Exponents") < said.index("## What was left out")
    assert "![Curves](isoflop.png)" in said and "vnc scaling plot --runs runs" in said
    assert "Two seeds a size are few." in said


def test_exponents_stand_side_by_side_with_the_literature() -> None:
    said = text_of(known_fit())
    rows = re.findall(r"^\| (iso[^|]*|param[^|]*|Hoff[^|]*|Besi[^|]*) \| ([^|]*) \| ([^|]*) \|$", said, re.M)
    names = [name for name, _, _ in rows]
    assert names[:4] == ["isoFLOP, parabola", "isoFLOP, spline", "parametric, Huber", "parametric, variable projection"]
    assert all("[" in a and "[" in b for _, a, b in rows[:4])
    assert ("Hoffmann et al. 2022, approach 2", "0.49", "0.51") in rows


def test_what_was_left_out_is_named_with_its_reason() -> None:
    study = known_study((Excluded("d14", "failed: loss is not finite"), Excluded("d9", "interrupted")))
    excluded = {6e18: "its loss is lowest at the largest size", 3e18: "its loss is lowest at the largest size"}
    said = left_out(known_fit(study, excluded))
    assert "- run d14: failed: loss is not finite\n- run d9: interrupted" in said
    assert "- budgets 3×10¹⁸, 6×10¹⁸: its loss is lowest at the largest size" in said
    one_method = known_fit(excluded={6e18: "too few"}, spline=known_fit().spline)
    assert "- budget 6×10¹⁸ (isoFLOP, parabola): too few" in left_out(one_method)
    assert left_out(known_fit(known_study(()))) == "Nothing."


def test_no_fit_says_what_it_would_take() -> None:
    none = Missing("three sizes a budget are needed")
    fit = known_fit(quadratic=none, spline=none, parametric=none, variable_projection=none)
    said = report(fit, [], [], ["vnc scaling plot"])
    assert said.split("\n\n")[1].startswith("**No method can tell yet.**")
    assert said.count("three sizes a budget are needed") >= 4 and "## Figures" not in said
    lonely = known_fit(excluded=dict.fromkeys(BUDGETS[1:], "too few"), parametric=none, variable_projection=none)
    assert "at least two budgets" in report(lonely, [], [], [])


def test_disagreement_and_distance_are_said() -> None:
    apart = known_fit(variable_projection=known_parametric("variable_projection", 1.3))
    assert "methods disagree" in text_of(apart) and "methods disagree" not in text_of(known_fit())
    assert "5 times beyond" in text_of(known_fit(), (3e19,))
    assert "beyond it" not in text_of(known_fit(), (2e18,))


def test_a_law_through_two_points_is_called_that() -> None:
    two = known_fit(excluded=dict.fromkeys(BUDGETS[2:], "too few"))
    assert "**Two optima only** carry the power law by isoFLOP, parabola and isoFLOP, spline" in text_of(two)
    assert "Two optima only" not in text_of(known_fit(excluded={6e18: "too few"}))


def test_depths_are_named_where_there_are_any() -> None:
    fit = known_fit()
    told = answer(fit, [predict(fit, 1e19, "matrices_and_head", {})])
    assert any("As models of `vnc`" in block for block in told) and "The nearest model of `vnc` is depth" in told[0]


def test_table_cells_cannot_break_the_table() -> None:
    assert table(["a"], [["x|y"]]).splitlines()[-1] == "| x\\|y |"


@pytest.mark.slow
def test_plot_of_run_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for depth in (2, 3, 4, 5, 6):
        for budget in (5e11, 1e12, 2e12):
            write_run(tmp_path / "runs" / f"d{depth}_{budget:.0e}", depth, budget)
    write_run(tmp_path / "runs" / "dead", 7, 2e12, status="failed")
    out = tmp_path / "out"
    plot(str(out), runs=str(tmp_path / "runs"), budgets=[4e12])
    said = (out / "report.md").read_text()
    assert said.split("\n\n")[1].startswith("**With 4×10¹² FLOPs, train ") and "- run dead: failed: loss" in said
    assert "--budgets '[4000000000000.0]'" in said
    figures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", said)
    assert figures == [f"{name}.png" for name in ("isoflop", "isoflop_spline", "optima", "tokens_per_parameter",
                                                  "loss_curves", "flops_by_depth", "flops_by_budget")]  # fmt: skip
    written = {path.name for path in out.iterdir()}
    assert written == {"report.md", *figures, *(name.replace(".png", ".svg") for name in figures)}
    assert "15 runs, 7 figures" in capsys.readouterr().out
    check_place(out)  # its own report it may replace


def test_plot_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "study.csv"
    study = known_study(())
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["params", "flops", "bpb"])
        writer.writerows((point.parameters, point.flops, point.loss) for point in study.points)
    plot(str(tmp_path / "out"), csv=str(path), drop_highest=1)
    said = (tmp_path / "out" / "report.md").read_text()
    largest = max(BUDGETS)
    assert all(f"{times * largest:.1e}"[0] in said for times in AHEAD)
    assert said.split("\n\n")[1].startswith("**With 1.2×10¹⁹ FLOPs") and "71 runs" in said and "column 'params'" in said
    assert "As models of `vnc`" not in said and "--drop_highest 1" in said
    assert not (tmp_path / "out" / "loss_curves.png").exists()


def test_a_report_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("My own notes\n")
    with pytest.raises(UserError, match=r"report\.md: not a report"):
        plot(str(tmp_path), csv="nowhere.csv")
    assert (tmp_path / "report.md").read_text() == "My own notes\n"


def test_bad_budgets_and_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="either --csv FILE or --runs DIR"):
        plot(str(tmp_path / "out"))
    with pytest.raises(UserError, match="no such folder"):
        plot(str(tmp_path / "out"), runs=str(tmp_path / "none"))
    assert not (tmp_path / "out").exists()
