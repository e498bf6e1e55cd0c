import dataclasses
import json
from pathlib import Path

import pytest

from scaling.fit import fit
from scaling.load import run_folders
from scaling.predict import flops_to_spend, model_sizes, predict, predict_command
from scaling.results import Fit
from tests.scaling.known_fit import write_run
from tests.scaling.laws import LAW, exact_study
from vnc.depth import make_plan
from vnc.errors import UserError


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return fit(exact_study(noise=0.001), 100)


def test_the_answer_has_the_truth_in_its_interval(fitted: Fit) -> None:
    prediction = predict(fitted, 3e19, "all", {})
    methods = [method for method, _ in prediction.optima]
    assert methods == ["huber", "spline", "quadratic", "variable_projection"]
    answer = prediction.optima[0][1]
    interval = answer.parameters.interval
    assert interval is not None and interval.low <= LAW.best_parameters(3e19) <= interval.high
    assert answer.loss is not None and answer.loss.interval is not None
    assert not prediction.notes or "times the largest run" not in prediction.notes[-1]


def test_the_nearest_depth_is_nearest(fitted: Fit) -> None:
    prediction = predict(fitted, 3e19, "matrices_and_head", {})
    near, wanted = prediction.nearest, prediction.optima[0][1].parameters.value
    assert near is not None
    from vnc.flops import count_parameters

    def size(depth: int) -> float:
        plan = make_plan(depth)
        return count_parameters(plan.config).scaling(plan.config)

    assert near.parameters == size(near.plan.depth)
    closest = min(range(1, 40), key=lambda depth: max(size(depth) / wanted, wanted / size(depth)))
    assert near.plan.depth == closest
    assert near.plan.total_flops == pytest.approx(3e19, rel=0.01)


def test_far_away_is_said(fitted: Fit) -> None:
    assert any("100 times the largest run" in note for note in predict(fitted, 1e21, "all", {}).notes)


def test_one_budget_cannot_predict() -> None:
    study = exact_study(noise=0.001)
    one = fit(dataclasses.replace(study, points=study.points[:9]), 50)
    with pytest.raises(UserError, match="nothing can be predicted: a power law needs optima of 2 budgets"):
        predict(one, 1e19, "all", {})


def test_a_study_without_any_fit_says_what_is_missing() -> None:
    study = exact_study(noise=0.001)
    none = fit(dataclasses.replace(study, points=study.points[:2]), 50)
    assert none.isoflop_fits == () and none.parametric_fits == ()
    with pytest.raises(UserError, match="nothing can be predicted: .+"):
        predict(none, 1e19, "all", {})


def test_hours_become_flops() -> None:
    assert flops_to_spend(None, 10, 0.5, 1000) == 10 * 3600 * 1e15 * 0.5
    assert flops_to_spend(None, 1, 0.4, None) == pytest.approx(3600 * 989e12 * 0.4)
    assert flops_to_spend(1e19, None, 0.4, None) == 1e19


@pytest.mark.parametrize(
    ("flops", "hours", "mfu", "said"),
    [
        (None, None, 0.4, "either"),
        (1e18, 1.0, 0.4, "either"),
        (-1.0, None, 0.4, "positive"),
        (None, 1.0, 40.0, "at most 1"),
    ],
)
def test_compute_that_makes_no_sense(flops: float | None, hours: float | None, mfu: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        flops_to_spend(flops, hours, mfu, None)


def test_the_verb_plans_the_studys_own_family_of_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for depth in (2, 3, 4, 6, 8):
        for budget in (2e12, 4e12, 8e12):
            write_run(tmp_path / f"d{depth}_{budget:g}", depth, budget)
    sizes = model_sizes(run_folders(tmp_path))
    plan = make_plan(7, **sizes)
    assert (plan.config.n_embd, plan.config.vocab_size, plan.config.sequence_len) == (112, 2048, 256)
    predict_command(flops=1.6e13, runs=str(tmp_path), json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["flops"] == 1.6e13 and found["convention"] == "matrices_and_head"
    nearest = found["nearest"]
    assert nearest is None or (nearest["num_steps"] > 0 and nearest["total_batch_tokens"] == 4096)
    predict_command(gpu_hours=0.001, mfu=0.004, peak_tflops=1.0, runs=str(tmp_path))
    assert "1.44e+10 FLOPs" in capsys.readouterr().out


def test_runs_of_different_families_are_not_mixed(tmp_path: Path) -> None:
    for name, depth, width in (("a", 4, None), ("b", 2, 128)):
        folder = write_run(tmp_path / name, depth, 4e12)
        record = json.loads((folder / "run.json").read_text())
        if width:
            record["plan"]["config"]["n_embd"] = width
            record["plan"]["config"]["n_head"] = width // 16
        (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="no aspect ratio in common"):
        model_sizes(run_folders(tmp_path))
