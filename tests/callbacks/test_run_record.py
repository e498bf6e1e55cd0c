"""run.json: what a scaling-law study needs of a run beside its losses."""

import json
from pathlib import Path

import pytest

from callbacks.run_record import keep_before
from tests.fitting import SMALL, vnc


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two runs: one of a FLOPs budget, stopped after 6 steps and resumed; one of a number of steps."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        budget = [*SMALL, "--model.num_steps", "null", "--model.target_flops", "2e9", "--seed_everything", "7",
                  "--trainer.accelerator", "cpu", "--resume", "true", "--name", "budget"]  # fmt: skip
        assert vnc(patch, "fit", *budget, "--trainer.max_steps", "6") == 0
        (folder / "first.json").write_text((folder / "runs" / "budget" / "run.json").read_text())
        assert vnc(patch, "fit", *budget) == 0
        assert vnc(patch, "fit", *SMALL, "--trainer.accelerator", "cpu", "--name", "steps") == 0
    return folder


def record(home: Path, name: str) -> dict:
    return json.loads((home / "runs" / name / "run.json").read_text())


def test_the_seed_and_the_budget(home):
    budget, steps = record(home, "budget"), record(home, "steps")
    assert (budget["seed"], budget["budget"]) == (7, 2e9)
    assert (steps["seed"], steps["budget"]) == (1337, None)  # another setting decides its length


def test_devices_and_processes(home):
    assert (record(home, "budget")["devices"], record(home, "budget")["world_size"]) == (1, 1)


def test_tokens_and_flops_by_step(home):
    found = record(home, "budget")
    plan, each = found["plan"], found["flops_per_token"]
    assert plan["num_steps"] == round(2e9 / (512 * each)) > 6
    assert [row["step"] for row in found["train"]] == list(range(plan["num_steps"]))
    for row in found["train"]:
        assert row["tokens"] == 512 * (row["step"] + 1) and row["flops"] == row["tokens"] * each
    for row in found["val"]:
        assert row["tokens"] == 512 * row["step"] and row["flops"] == row["tokens"] * each
    assert found["val"][-1]["step"] == plan["num_steps"]


def test_hours_grow_with_the_steps_and_over_processes(home):
    found, first = record(home, "budget"), json.loads((home / "first.json").read_text())
    hours = [row["hours"] for row in found["train"]]
    assert all(before < after for before, after in zip(hours, hours[1:], strict=False))
    assert 0 < hours[-1] < found["hours"] < 0.1  # which counts validation and saving too
    assert first["status"] == "interrupted" and found["status"] == "finished"
    assert found["hours"] > first["hours"] > hours[5] > 0


def test_of_an_earlier_record_the_steps_before_are_kept():
    earlier = {"started": "then", "hours": 2.0, "train": [{"step": 0}, {"step": 1}], "val": [{"step": 1}, {"step": 2}]}
    assert keep_before(0, earlier) == {} and keep_before(5, {}) == {}
    kept = keep_before(1, earlier)
    assert (kept["started"], kept["train"], kept["val"], kept["evals"]) == ("then", [{"step": 0}], [{"step": 1}], [])
