import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cli import call
from scaling.fit import fit
from scaling.fit_report import as_text, fit_command
from scaling.load import load_study
from scaling.recovery import GRIDS, Design, coverage, study_outcomes, synthetic_study
from scaling.results import Fit, IsoFlopFit, Missing, ParametricFit, PowerLaw
from scaling.study import Study
from tests.scaling.known_fit import write_run
from tests.scaling.laws import LAW, SKEWED, exact_study
from vnc.errors import UserError

DRAWS = 100


@pytest.fixture(scope="module")
def noisy() -> Fit:
    return fit(exact_study(noise=0.002), DRAWS)


def test_all_methods_side_by_side(noisy: Fit) -> None:
    truth = LAW.beta / (LAW.alpha + LAW.beta)
    for curves in (noisy.quadratic, noisy.spline):
        assert isinstance(curves, IsoFlopFit) and isinstance(curves.parameters, PowerLaw)
        assert len(curves.optima) == 3
        assert curves.parameters.exponent.value == pytest.approx(truth, abs=0.06)
    for surface in (noisy.parametric, noisy.variable_projection):
        assert isinstance(surface, ParametricFit)
        assert surface.parameters_exponent.value == pytest.approx(truth, abs=0.06)
        assert surface.parameters_exponent.interval is not None
        best = surface.optimum(1e19)
        assert best.parameters.value * best.tokens.value == pytest.approx(1e19 / 6)


def test_the_optimum_of_a_surface_is_its_minimum(noisy: Fit) -> None:
    surface = noisy.parametric
    assert isinstance(surface, ParametricFit)
    best = surface.optimum(1e20)
    assert best.loss is not None
    for factor in (0.9, 1.1):
        assert surface.loss(best.parameters.value * factor, best.tokens.value / factor).value > best.loss.value


def test_the_same_study_gives_the_same_fit_and_leaves_the_generator_alone(noisy: Fit) -> None:
    state = np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    assert fit(exact_study(noise=0.002), DRAWS).as_dict() == noisy.as_dict()
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index,union-attr]


def test_a_budget_whose_minimum_is_outside_its_sizes_is_left_out() -> None:
    study = exact_study()
    cut = tuple(p for p in study.points if p.budget != 3e18 or p.parameters > 1.2 * LAW.best_parameters(3e18))
    fitted = fit(dataclasses.replace(study, points=cut), DRAWS)
    for curves in fitted.isoflop_fits:
        assert [budget.optimum is None for budget in curves.budgets] == [False, True, False]
        assert "add smaller" in str(curves.budgets[1].excluded)
        assert isinstance(curves.parameters, PowerLaw)
    assert "add smaller" in as_text(fitted)


def test_too_few_sizes_say_what_is_missing() -> None:
    study = exact_study()
    sizes = {p.parameters for p in study.points[:2]}
    fitted = fit(dataclasses.replace(study, points=tuple(p for p in study.points if p.parameters in sizes)), DRAWS)
    assert isinstance(fitted.quadratic, Missing) and "at least 3 sizes" in fitted.quadratic.what
    assert isinstance(fitted.parametric, Missing) and "6 runs" in fitted.parametric.what
    assert "missing" in fitted.as_dict()["parametric"]


def test_one_budget_has_an_optimum_but_no_power_law_and_no_surface() -> None:
    study = exact_study(noise=0.001)
    fitted = fit(dataclasses.replace(study, points=study.points[:9]), DRAWS)
    assert isinstance(fitted.quadratic, IsoFlopFit) and len(fitted.quadratic.optima) == 1
    assert isinstance(fitted.quadratic.parameters, Missing) and "2 budgets" in fitted.quadratic.parameters.what
    assert isinstance(fitted.parametric, Missing) and "2 budgets" in fitted.parametric.what


def test_three_sizes_leave_no_interval() -> None:
    study = exact_study(noise=0.001)
    three = tuple(p for place, p in enumerate(study.points) if place % 9 in (1, 4, 7))
    fitted = fit(dataclasses.replace(study, points=three), DRAWS)
    assert isinstance(fitted.quadratic, IsoFlopFit)
    assert all(optimum.parameters.interval is None for optimum in fitted.quadratic.optima)
    assert "[unknown]" in as_text(fitted)
    assert json.loads(json.dumps(fitted.as_dict(), allow_nan=False))


def test_an_empty_study_fits_nothing_and_says_so(tmp_path: Path) -> None:
    fitted = fit(Study((), "bits per byte", "all"), DRAWS)
    assert not fitted.isoflop_fits and not fitted.parametric_fits
    (tmp_path / "one.csv").write_text("N,C,loss\n1e7,1e17,4.0\n2e7,1e17,3.9\n")
    with pytest.raises(UserError, match="nothing can be fitted to 2 runs: .*at least 6 runs.*at least 3 sizes"):
        fit_command(csv=str(tmp_path / "one.csv"))


def test_no_optimum_and_no_surface_says_why(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("N,C,loss\n1e7,1e17,4.0\n2e7,1e17,3.9\n4e7,1e17,3.8\n")
    with pytest.raises(UserError, match="2 budgets.*; 1e.17 FLOPs: its loss is lowest at the largest size"):
        fit_command(csv=str(tmp_path / "one.csv"))


def test_the_verb_prints_json(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shared_data / "chinchilla" / "svg_extracted_data.csv"
    call("scaling fit", fit_command, ["--csv", str(file), "--drop_highest", "5", "--json"])
    found = json.loads(capsys.readouterr().out)
    parametric = found["parametric"]
    published = dict(E=1.817, A=477.84, B=2143.86, alpha=0.347, beta=0.367)
    assert {key: parametric[key] for key in published} == pytest.approx(published, rel=0.01)
    # Besiroglu et al. bootstrap these runs 4,000 times: E 1.769 to 1.871, alpha 0.317 to 0.373, beta 0.331 to 0.415.
    assert parametric["intervals"]["E"] == pytest.approx([1.769, 1.871], abs=0.005)
    assert parametric["intervals"]["alpha"] == pytest.approx([0.317, 0.373], abs=0.005)
    assert parametric["intervals"]["beta"] == pytest.approx([0.331, 0.415], abs=0.008)
    assert len(found["excluded"]) == 5
    assert found["convention"] == "column 'Model Size'"
    assert any("D = C / (6 N)" in note for note in found["notes"])


def test_the_verb_reads_run_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for depth in (2, 3, 4, 6):
        for budget in (2e12, 4e12, 8e12):
            write_run(tmp_path / "sweep" / f"d{depth}_{budget:g}", depth, budget)
    write_run(tmp_path / "sweep" / "died", 5, 2e12, status="failed")
    (tmp_path / ".prepare").mkdir()
    (tmp_path / ".prepare" / "run.json").write_text("{}")
    fit_command(runs=str(tmp_path), json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == 12
    assert found["excluded"] == [{"name": "died", "reason": "failed: loss is not finite"}]
    fit_command(runs=str(tmp_path), convention="all")
    assert "parameters: all" in capsys.readouterr().out


def test_what_to_fit_is_asked_for(tmp_path: Path) -> None:
    for csv, runs in ((None, None), ("a", "b")):
        with pytest.raises(UserError, match="either --csv FILE or --runs DIR"):
            load_study(csv, runs, "all", 0)
    with pytest.raises(UserError, match="no run of vnc in it"):
        load_study(None, str(tmp_path), "all", 0)


def test_an_interval_of_the_parabola_holds_it_and_the_truth_on_a_wide_grid() -> None:
    study = synthetic_study(SKEWED, Design((1e18, 3e18, 1e19), 9, 2), "wide", 0.002, np.random.default_rng(3))
    fitted = fit(study, DRAWS)
    assert isinstance(fitted.quadratic, IsoFlopFit) and isinstance(fitted.spline, IsoFlopFit)
    for parabola, free in zip(fitted.quadratic.optima, fitted.spline.optima, strict=True):
        assert parabola.parameters.interval is not None and free.parameters.interval is not None
        low, high = parabola.parameters.interval
        truth = SKEWED.best_parameters(parabola.flops)
        assert low < parabola.parameters.value < high and low < truth < high
        assert not free.parameters.interval.low < parabola.parameters.value < free.parameters.interval.high
    assert any("not symmetric" in note and "to which its intervals reach" in note for note in fitted.notes)
    assert "half of its bootstrap draws are minima of the spline" in as_text(fitted)


def test_three_sizes_are_said_to_tell_nothing_of_asymmetry() -> None:
    told = [
        any("determine a parabola and nothing beyond it" in note for note in fit(study, DRAWS).notes)
        for study in (exact_study(design=Design((1e18, 3e18), 3, 2)), exact_study(design=Design((1e18, 3e18), 4, 2)))
    ]
    assert told == [True, False]


@pytest.mark.slow
def test_recovery() -> None:
    """A small edition of benchmarks/scaling_recovery.py: over 80 studies, intervals hold the truth nearly always."""
    outcomes = [
        one for number in range(20) for grid in GRIDS for one in study_outcomes(number, grid, 0.004, draws=150)
    ]  # fmt: skip
    for what, method in [
        ("exponent of N", "spline"), ("exponent of N", "quadratic"), ("exponent of N", "huber"),
        ("exponent of N", "variable_projection"), ("N at a budget", "spline"), ("N at a budget", "quadratic"),
        ("N ahead", "quadratic"), ("loss ahead", "huber"),
    ]:  # fmt: skip
        assert 0.87 <= coverage(outcomes, what, method) <= 1, (what, method)  # type: ignore[arg-type]
    # Where a parabola refitted to its own residuals covers 30%.
    assert coverage(outcomes, "N at a budget", "quadratic", "wide") >= 0.85
