"""Runs are read as they are written, from whichever of their files is there, and nothing in a file stops the page."""

import csv
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from streamlit_app.event_files import is_event_file
from streamlit_app.run_facts import flattened, said, settings, summary
from streamlit_app.run_metrics import from_csv, from_events, from_record
from streamlit_app.run_reader import Run, RunPlace, failures, find_runs, read_config, read_run
from tests.streamlit_app.training import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("reader"), "one")


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs", symlinks=True))


def only(runs: Path) -> Run:
    (place,) = find_runs(runs)
    return read_run(place)


def test_a_run_is_all_that_its_files_say(runs: Path) -> None:
    run = only(runs)
    record = json.loads((runs / "one/run.json").read_text())
    assert (run.name, run.status, run.problems, run.steps_taken, run.num_steps) == ("one", "finished", (), 10, 10)
    assert run.plan == record["plan"] and run.params == record["params"]
    with (runs / "one/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("train/loss", "train/mfu", "train/gradient_norm", "val/bits_per_byte"):
        known = [row for row in rows if row[name]]
        shift = 1 if name.startswith("train/") else 0
        assert run.metrics[name].done.tolist() == [int(row["step"]) + shift for row in known]
        assert run.metrics[name].values.tolist() == [float(row[name]) for row in known]
    evals = [row for row in record["evals"] if row["suite"] == "core"]
    assert run.metrics["core/core"].done.tolist() == [5, 10]
    assert run.metrics["core/core"].values.tolist() == [row["core"] for row in evals]
    assert "model:" in (read_config(run.folder) or "")


def test_event_files_and_records_tell_the_same_as_the_csv(runs: Path) -> None:
    metrics, _ = from_csv(runs / "one/metrics.csv")
    events, problems = from_events(path for path in (runs / "one").iterdir() if is_event_file(path.name))
    record = from_record(json.loads((runs / "one/run.json").read_text()))
    assert problems == []
    for other, names in ((events, metrics), (record, ["train/loss", "train/hours", "val/bits_per_byte"])):
        for name in names:
            np.testing.assert_array_equal(other[name].done, metrics[name].done)
            np.testing.assert_allclose(other[name].values, metrics[name].values, rtol=1e-6)
    np.testing.assert_allclose(events["core/core"].values, record["core/core"].values, rtol=1e-6)
    assert events["core/core"].done.tolist() == record["core/core"].done.tolist() == [5, 10]


def test_without_a_record_the_event_files_are_drawn(runs: Path) -> None:
    whole = only(runs)
    for name in ("run.json", "metrics.csv"):
        (runs / "one" / name).unlink()
    run = only(runs)
    assert run.status == "no record" and run.steps_taken == 10
    np.testing.assert_allclose(run.metrics["train/loss"].values, whole.metrics["train/loss"].values, rtol=1e-6)
    assert summary(run)["done"] is None


def test_a_broken_record_is_told_and_the_rest_is_shown(runs: Path) -> None:
    (runs / "one/run.json").write_text('{"status": "runn')
    run = only(runs)
    assert len(run.metrics["train/loss"].done) == 10
    (problem,) = run.problems
    assert problem.startswith("run.json: not JSON")


def test_damaged_lines_are_left_out_and_counted(runs: Path) -> None:
    path = runs / "one/metrics.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], "only,three,values", *lines[4:]]) + "\n17,2.5")
    metrics, problems = from_csv(path)
    assert problems == ["metrics.csv: 1 damaged line left out"]
    assert metrics["train/loss"].done.tolist() == list(range(1, 11))  # the line on its way waits for its end


@pytest.mark.parametrize("text", ["<html>\n", "step,train/loss\n1,abc\n", "\x00\xff\n", "a,b\n1,2\n"])
def test_a_csv_of_something_else_leaves_the_record(runs: Path, text: str) -> None:
    (runs / "one/metrics.csv").write_text(text)
    run = only(runs)
    assert len(run.metrics["train/loss"].done) == 10 and len(run.problems) == 1
    assert run.problems[0].startswith("metrics.csv: ")


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"status": ["x"], "plan": [], "params": 3, "train": {"a": 1}, "val": [1, None], "evals": [{"step": "x"}]},
        {"plan": {"num_steps": "many", "depth": {}}, "train": [{"step": 1, "loss": "low"}], "evals": [{"suite": []}]},
    ],
)
def test_no_record_can_stop_the_reader(tmp_path: Path, record: dict[str, object]) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/run.json").write_text(json.dumps(record))
    run = only(tmp_path)
    assert run.metrics == {} and summary(run)["loss"] is None and run.seconds_left() is None
    assert failures(run) == [] and settings([run, run], True) == []


def test_a_run_of_a_hundred_thousand_steps_is_read(tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    loss = np.random.default_rng(0).random(100_000)
    lines = (f"{step},{value!r},{512.0 * (step + 1)}" for step, value in enumerate(loss.tolist()))
    (tmp_path / "long/metrics.csv").write_text("\n".join(["step,train/loss,train/tokens", *lines]) + "\n")
    started = time.perf_counter()
    run = only(tmp_path)
    assert time.perf_counter() - started < 5
    np.testing.assert_array_equal(run.metrics["train/loss"].values, loss)


def test_a_run_that_was_killed_is_told_from_one_that_runs() -> None:
    running = Run("a", Path("a"), {"status": "running"}, written=1_000.0)
    assert running.silent_seconds(now=1_500.0) is None
    assert running.silent_seconds(now=10_000.0) == 9_000.0
    assert Run("a", Path("a"), {"status": "finished"}, written=0.0).silent_seconds(now=1e9) is None


def test_time_left_goes_by_the_pace_so_far(runs: Path) -> None:
    record = json.loads((runs / "one/run.json").read_text()) | {"status": "running"}
    record["plan"]["num_steps"] = 40
    (runs / "one/run.json").write_text(json.dumps(record))
    run = only(runs)
    left = run.seconds_left()
    assert left is not None and left == pytest.approx(3 * 3600 * run.metrics["train/hours"].values[-1])


def test_runs_in_folders_of_runs_are_found_and_the_newest_comes_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "sweep/d4", "sweep/d6")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
        then = time.time() - 100 * age
        os.utime(tmp_path / name / "run.json", (then, then))
    assert [place.name for place in find_runs(tmp_path)] == ["new", "sweep/d4", "sweep/d6"]
    assert find_runs(tmp_path / "absent") == []


def test_a_run_that_is_deleted_meanwhile_is_empty(tmp_path: Path) -> None:
    run = read_run(RunPlace("gone", tmp_path / "gone", ("run.json", "metrics.csv", "events.out.tfevents.1")))
    assert run.metrics == {} and len(run.problems) == 3


def test_settings_beside_each_other(runs: Path) -> None:
    one = only(runs)
    two = Run("two", one.folder, one.record | {"seed": 7, "versions": {"torch": "0"}})
    rows = {row["setting"]: (row["one"], row["two"]) for row in settings([one, two], only_differences=True)}
    assert rows["seed"] == (said(one.record["seed"]), "7") and rows["versions.torch"][1] == "0"
    assert "plan.depth" not in rows
    assert "plan.depth" in {row["setting"] for row in settings([one, two], only_differences=False)}
    assert flattened({"a": {"b": [1, 2_000], "c": None}, "d": 3e-7}) == {"a.b": "1, 2,000", "a.c": "–", "d": "3e-07"}
