"""Benchmarks during training: their results are kept, and training is the same with and without them."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import CoreEval
from tests.fitting import SMALL, losses, tensors, vnc
from tests.launching import Process, ended, ranks
from tests.vnc.evals.conftest import write_bundle
from vnc.checkpoint import LoadedModel, load_model
from vnc.depth import model_config
from vnc.evals.bundle import read_bundle
from vnc.evals.prompts import WHOLE
from vnc.evals.suite import score_bundle
from vnc.gpt import GPT

EVERY_5 = ["--core_eval.every_n_steps", "5", "--core_eval.max_examples", "5"]
FEW = ["--model.num_steps", "10", "--trainer.accelerator", "cpu"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "bundle")
    return tmp_path / "runs"


def same_training(first: Path, second: Path) -> bool:
    a, b = (tensors(run / "checkpoints" / "last") for run in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) and losses(first) == losses(second)


def record(run: Path) -> list[dict[str, Any]]:
    evaluations: list[dict[str, Any]] = json.loads((run / "run.json").read_text())["evals"]
    return evaluations


def test_training_is_the_same_and_everything_is_kept(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    chatcore = [
        "--chatcore_eval.every_n_steps",
        "5",
        "--chatcore_eval.bundle",
        "chat",
        "--chatcore_eval.max_examples",
        "2",
    ]
    Path("chat").mkdir()
    assert vnc(monkeypatch, "fit", *SMALL, *FEW, "--name", "without") == 0
    assert (
        vnc(monkeypatch, "fit", *SMALL, *FEW, *EVERY_5, *chatcore, "--core_eval.bundle", "bundle", "--name", "with")
        == 0
    )
    assert same_training(runs / "with", runs / "without")
    found = record(runs / "with")
    assert [(each["step"], each["suite"]) for each in found] == [
        (5, "core"), (5, "chatcore"), (10, "core"), (10, "chatcore")
    ]  # fmt: skip
    assert record(runs / "without") == []

    last = found[2]
    loaded = load_model(runs / "with")
    expected = score_bundle(loaded, read_bundle(Path("bundle")), 5)
    assert last["core"] == expected.score and last["interval"] == list(expected.interval())
    values = json.loads((runs / "with/evals/core_step_00000010.json").read_text())
    assert values["core"] == expected.score and values["tasks"] == json.loads(json.dumps(expected.as_dict()["tasks"]))
    with (runs / "with/evals/core_step_00000010.csv").open() as file:
        rows = list(csv.DictReader(file))
    for task in expected.tasks:
        mine = [row for row in rows if row["task"] == task.label]
        assert [bool(int(row["correct"])) for row in mine] == [outcome.correct for outcome in task.outcomes]
        assert [int(row["row"]) for row in mine] == [outcome.row for outcome in task.outcomes]
    events = EventAccumulator(str(runs / "with")).Reload()
    assert [event.step for event in events.Scalars("core/core")] == [5, 10]
    assert events.Scalars("core/schema_2_shot")[-1].value == pytest.approx(expected.tasks[1].centered)
    printed = capfd.readouterr().out
    assert f"step 10: CORE {expected.score:.4f} (95% interval" in printed
    assert "left out: mmlu (no mmlu_test.jsonl" in printed


def test_a_failing_benchmark_is_said_and_training_goes_on(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import callbacks.core_eval

    def fail(*_: Any) -> None:
        raise RuntimeError("out of\nmemory")

    assert vnc(monkeypatch, "fit", *SMALL, *FEW, "--name", "without") == 0
    monkeypatch.setattr(callbacks.core_eval, "score_bundle", fail)
    assert vnc(monkeypatch, "fit", *SMALL, *FEW, *EVERY_5, "--name", "with") == 0
    assert same_training(runs / "with", runs / "without")
    assert [each["failure"] for each in record(runs / "with")] == ["RuntimeError: out of memory"] * 2
    assert (
        "step 5: CORE failed and is left out, training goes on: RuntimeError: out of memory" in capfd.readouterr().out
    )
    assert not (runs / "with/evals").exists()


def test_one_that_takes_too_long_is_given_up(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        vnc(monkeypatch, "fit", *SMALL, *FEW, *EVERY_5, "--core_eval.time_limit_seconds", "1e-9", "--name", "run") == 0
    )
    assert all(
        "not finished within 1e-09 s; raise core_eval.time_limit" in each["failure"] for each in record(runs / "run")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--core_eval.every_n_steps", "-1"], "core_eval: every_n_steps=-1 must be 0 or more"),
        (["--core_eval.every_n_steps", "5", "--core_eval.bundle", "nowhere"], "nowhere: no such folder"),
        (["--core_eval.every_n_steps", "5", "--core_eval.tasks", "[karate]"], "has no task 'karate'"),
        (["--chatcore_eval.every_n_steps", "5"], "chatcore_eval.bundle: name the folder"),
    ],
)
def test_mistakes_are_told_before_the_first_step(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert vnc(monkeypatch, "fit", *SMALL, *FEW, *arguments, "--name", "run") == 2
    lines = capfd.readouterr().err.splitlines()
    assert any(message in line for line in lines) and not any("Traceback" in line for line in lines)


def test_weights_still_on_their_way_are_waited_for() -> None:
    gpt = GPT(model_config(1, vocab_size=64, sequence_len=16, aspect_ratio=32, head_dim=32))

    class Optimizer:
        def wait_for_weights(self) -> None:
            gpt.wte.weight.data.fill_(7.0)

    class Reads(CoreEval):
        def score(self, loaded: LoadedModel, *_: Any) -> Any:
            return loaded.gpt.wte.weight.mean().item()

    trainer: Any = SimpleNamespace(optimizers=[Optimizer()], datamodule=SimpleNamespace(tokenizer=None, chat=False))
    module: Any = SimpleNamespace(gpt=gpt)
    assert Reads()._attempt(trainer, module, WHOLE) == 7.0


@pytest.mark.slow
def test_two_processes_find_the_same_and_train_the_same(runs: Path) -> None:
    settings = [*SMALL, *FEW]
    settings[settings.index("--model.device_batch_size") + 1] = "1"
    # Any number of processes trains to the same weights (docs/dist_muon.md), so one is enough for the run without.
    alone = Process(runs.parent, "-m", "cli", "fit", *settings, "--name", "without")
    assert ended(alone) == [0], alone.err
    evaluated = [*settings, *EVERY_5, "--core_eval.bundle", "bundle"]
    for name, shared in (("first", "false"), ("all", "true")):
        command = [*evaluated, "--core_eval.shard_across_ranks", shared, "--name", name]
        processes = ranks(2, runs.parent, "-m", "cli", "fit", *command)
        assert ended(*processes) == [0, 0], [process.err for process in processes]
    assert same_training(runs / "first", runs / "without") and same_training(runs / "all", runs / "without")
    dropped = {"seconds"}
    first, shared = (
        [{key: each[key] for key in each.keys() - dropped} for each in record(runs / name)] for name in ("first", "all")
    )
    assert first == shared and [each["step"] for each in first] == [5, 10]
    files = [json.loads((runs / name / "evals/core_step_00000010.json").read_text()) for name in ("first", "all")]
    rows = [[[(row["row"], row["correct"]) for row in task["outcomes"]] for task in each["tasks"]] for each in files]
    assert rows[0] == rows[1]
