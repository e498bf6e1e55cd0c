"""SIGTERM: saved at the next step boundary, exit code 0, and resuming goes on as if nothing had happened."""

import json
import signal
from pathlib import Path

import pytest
import torch

from callbacks import preemption
from tests.fitting import SMALL, losses, tensors, vnc
from tests.launching import Process, ended, fit, ranks, rows, signal_at, started, wait_for
from vnc.checkpoint import load_model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory with one run of 20 steps that nothing interrupts, runs/whole."""
    folder = tmp_path_factory.mktemp("home")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert vnc(patch, "fit", *SMALL, "--name", "whole", "--trainer.accelerator", "cpu") == 0
    assert signal.getsignal(signal.SIGTERM) is before  # the run has put the handler back
    return folder


def record(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def assert_same_weights(run: Path, other: Path) -> None:
    """Whichever number of processes saved them."""
    mine, theirs = (load_model(folder).gpt.state_dict() for folder in (run, other))
    assert mine.keys() == theirs.keys() and len(mine) > 10
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []


@pytest.mark.slow
def test_two_processes_interrupted_twice_train_to_the_same_weights(home):
    """SIGTERM reaches one process alone: rank 1 within a step, then rank 0 within a validation. In the validation after
    the last step it changes nothing."""
    run = home / "runs" / "cut"
    arguments = [*SMALL, "--name", "cut", "--resume", "true"]
    launched = fit(home, *arguments, "--trainer.devices", 2, *signal_at("training", 4, rank=1))
    assert_interrupted([launched], run, step=5)
    command = ["-m", "cli", "fit", "--trainer.accelerator", "cpu", *arguments]
    assert_interrupted(ranks(2, home, *command, *signal_at("validation", 10)), run, step=10)
    processes = ranks(2, home, *command, *signal_at("validation", 20))
    assert ended(*processes) == [0, 0], [process.err for process in processes]
    assert "saved at step" not in processes[0].out
    assert record(run)["status"] == "finished" and "reason" not in record(run)
    assert losses(run) == losses(home / "runs" / "whole")
    assert record(run)["val"][-1] == record(home / "runs" / "whole")["val"][-1]
    assert_same_weights(run, home / "runs" / "whole")


def assert_interrupted(processes: list[Process], run: Path, step: int) -> None:
    """All of them end well, one says what it has saved, and that is there."""
    assert set(ended(*processes)) == {0}, [process.err for process in processes]
    said = "".join(process.out for process in processes)
    assert said.count(f"saved at step {step}; go on with --resume true") == 1
    assert "".join(process.err for process in processes) == ""
    assert record(run)["status"] == "interrupted"
    assert (run / "checkpoints" / "last").resolve().name == f"step_{step:08d}"
    assert len(losses(run)) == step


def test_kill_of_the_main_process(home):
    """From outside, at any moment, beside a checkpoint that is being written."""
    run = home / "runs" / "killed"
    saving = ["--checkpoint.every_n_steps", 1, "--checkpoint.asynchronous", "true"]
    process = fit(home, *SMALL, "--name", "killed", *saving)
    with started(process):
        wait_for(lambda: rows(run) >= 3, process)
        process.popen.send_signal(signal.SIGTERM)
        assert process.end() == 0, process.err
    done = len(losses(run))
    assert 3 <= done < 20 and f"saved at step {done};" in process.out
    last = run / "checkpoints" / "last"
    assert json.loads((last / "trainer.json").read_text())["global_step"] == done
    assert tensors(last) and not list((run / "checkpoints").glob(".partial*"))


def test_what_could_not_be_saved_is_not_said_to_be(home):
    """The disk fails while the checkpoint is written beside training: here, its folder is a file."""
    run = home / "runs" / "blocked"
    run.mkdir()
    (run / "checkpoints").touch()
    arguments = ["--name", "blocked", "--resume", "true", "--checkpoint.asynchronous", "true"]
    process = fit(home, *SMALL, *arguments, *signal_at("training", 2))
    assert ended(process) == [2]
    assert "saved at" not in process.out and "could not be written" in process.err
    assert record(run)["status"] == "failed"


def test_before_the_first_step_nothing_is_saved_and_the_run_can_be_started_again(home):
    """Without a name, so that the processes must have agreed on one: there is one run folder."""
    process = fit(home, *SMALL, "--runs_dir", "unnamed", "--trainer.devices", 2, *signal_at("start", rank=1))
    assert ended(process) == [0], process.err
    assert process.out.count("stopped before the first step: nothing was trained, nothing is saved") == 1
    (run,) = (home / "unnamed").iterdir()
    assert run.name.startswith("run_") and record(run)["status"] == "interrupted"
    assert not (run / "checkpoints").exists()


@pytest.fixture
def slurm_job(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def scontrol(folder: Path, script: str) -> None:
    (folder / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "scontrol").chmod(0o755)


def test_requeueing_tells_what_came_of_it(slurm_job, monkeypatch):
    refused, way_out = "job 17 is not in the queue again: ", "; submit it anew with --resume true"
    assert preemption.requeue_job().startswith(refused)  # no scontrol here
    scontrol(slurm_job, "echo Job is held >&2; exit 1")
    assert preemption.requeue_job() == f"{refused}Job is held{way_out}"
    scontrol(slurm_job, f'echo "$@" > {slurm_job}/said')
    assert preemption.requeue_job() == "job 17 is in the queue again and will go on by itself"
    assert (slurm_job / "said").read_text() == "requeue 17\n"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "15")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert preemption.requeue_job() == "job 15_2 is in the queue again and will go on by itself"
    assert (slurm_job / "said").read_text() == "requeue 15_2\n"
