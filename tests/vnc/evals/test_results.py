"""Centring and averages against published figures, and the choice between losses against Python's own comparisons."""

import csv
import itertools
import math
from pathlib import Path

import pytest

from vnc.evals.bundle import LeftOut, read_bundle
from vnc.evals.results import Outcome, SuiteResult, TaskResult, centered, likeliest

# GPT-2 XL (1.5B) on the 22 tasks of CORE: accuracy, guessing in percent, centred score, as nanochat published them
# (Milpo1/nanochat-pl, eval_bundle/openai-community-gpt2-xl.csv; baselines: dclm eval/eval_meta_data_v1.csv).
GPT2_XL = (
    (0.502000, 25, 0.336000), (0.092000, 0, 0.092000), (0.531000, 0, 0.531000), (0.595000, 25, 0.460000),
    (0.299000, 25, 0.065333), (0.670000, 50, 0.340000), (0.227000, 20, 0.033750), (0.725000, 50, 0.450000),
    (0.346000, 25, 0.128000), (0.523000, 0, 0.523000), (0.512000, 25, 0.349333), (0.714286, 50, 0.428571),
    (0.569000, 50, 0.138000), (0.247000, 0, 0.247000), (0.273913, 20, 0.092391), (0.417000, 0, 0.417000),
    (0.157143, 0, 0.157143), (0.093750, 0, 0.093750), (0.309000, 0, 0.309000), (0.280000, 0, 0.280000),
    (0.619000, 62, -0.002632), (0.250000, 9.1, 0.174917),
)  # fmt: skip
GPT2_XL_CORE = 0.256525


def task(accuracy: float, baseline: float, rows: int = 1_000_000, label: str = "t") -> TaskResult:
    right, wrong = (Outcome(0, correct, None, None, (1.0,)) for correct in (True, False))
    hits = round(accuracy * rows)
    return TaskResult(label, "language_modeling", 0, baseline, (right,) * hits + (wrong,) * (rows - hits))


def test_gpt2_xl_core() -> None:
    for accuracy, percent, published in GPT2_XL:
        assert centered(accuracy, 0.01 * percent) == pytest.approx(published, abs=2e-6)
    tasks = tuple(task(accuracy, 0.01 * percent, 2000) for accuracy, percent, _ in GPT2_XL)
    assert SuiteResult(tasks).score == pytest.approx(GPT2_XL_CORE, abs=2e-4)  # accuracies of 2,000 rows are rounded


@pytest.mark.parametrize("size", ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_published_core_figures(shared_data: Path, size: str) -> None:
    """With the baselines as they are read from the bundle."""
    folder = shared_data / "eval_bundle"
    baselines = {task.label: task.baseline for task in read_bundle(folder).tasks}
    with (folder / "reference_results" / f"openai-community-{size}.csv").open() as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file)][1:]
    scores = [centered(float(accuracy), baselines[label]) for label, accuracy, _ in rows[:-1]]
    assert len(scores) == 22 and rows[-1][0] == "CORE"
    assert scores == pytest.approx([float(published) for _, _, published in rows[:-1]], abs=2e-6)
    assert sum(scores) / 22 == pytest.approx(float(rows[-1][2]), abs=2e-6)


def test_averages() -> None:
    result = SuiteResult((task(0.7, 0.25, 10), task(0.5, 0.5, 10), task(0.2, 0.0, 10)), (LeftOut("x", "no data"),))
    assert result.score == pytest.approx((0.6 + 0.0 + 0.2) / 3)
    assert result.mean_accuracy == pytest.approx(1.4 / 3)
    assert [each.baseline for each in result.choice_tasks] == [0.25, 0.5]
    values = result.as_dict()
    assert values["choice_tasks_mean_accuracy"] == pytest.approx(0.6)
    assert values["left_out"] == [{"label": "x", "reason": "no data"}]
    assert values["tasks"][0]["centered"] == pytest.approx(0.6)
    assert SuiteResult((task(0.2, 0.0, 10),)).as_dict()["choice_tasks_mean_accuracy"] is None


def test_the_first_of_the_lowest_losses_wins_and_nan_behaves_as_in_the_reference() -> None:
    for losses in itertools.product((1.0, 2.0, 3.0, None), repeat=3):
        as_floats = [math.nan if loss is None else loss for loss in losses]
        assert likeliest(losses) == as_floats.index(min(as_floats))
