"""Processes that others start (torchrun on one machine and on two nodes, SLURM with its queue), and names of runs."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from lightning_utilities.core.rank_zero import rank_zero_only

import lightning_cli
from tests.fitting import SMALL, losses, vnc
from tests.launching import Process, ended, fit, free_port, rows, signal_at, started, wait_for
from vnc.checkpoint import load_model
from vnc.errors import UserError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory with one run of 20 steps by one process, runs/whole."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert vnc(patch, "fit", *SMALL, "--name", "whole", "--trainer.accelerator", "cpu") == 0
    return folder


def assert_same(run: Path, other: Path) -> None:
    """Losses and weights, whichever number of processes trained them."""
    assert losses(run) == losses(other)
    mine, theirs = (load_model(folder).gpt.state_dict() for folder in (run, other))
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []


def torchrun(folder: Path, options: list[object], *arguments: object) -> Process:
    cpu = ["--trainer.accelerator", "cpu"]
    return Process(folder, "-m", "torch.distributed.run", *options, "-m", "cli", "fit", *SMALL, *cpu, *arguments)


def two_agents(folder: Path, *arguments: object) -> list[Process]:
    """torchrun on two nodes that are this machine, which find each other over the network."""
    meeting = ["--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{free_port()}"]
    options = ["--nnodes=2", "--nproc_per_node=1", *meeting]
    return [torchrun(folder, options, "--trainer.devices", 1, "--trainer.num_nodes", 2, *arguments) for _ in range(2)]


@pytest.mark.slow
def test_torchrun_trains_and_resumes_on_two_nodes_and_on_one(home):
    run = home / "runs" / "torchrun"
    arguments = ["--name", "torchrun", "--resume", "true"]
    nodes = two_agents(home, *arguments, *signal_at("training", 4, rank=1))
    assert ended(*nodes) == [0, 0], [node.err for node in nodes]
    assert len(losses(run)) == 5 and "".join(node.out for node in nodes).count("saved at step 5") == 1
    one = torchrun(home, ["--standalone", "--nproc_per_node=2"], "--trainer.devices", 2, *arguments,
                   *signal_at("training", 9, rank=1))  # fmt: skip
    assert ended(one) == [0], one.err
    assert len(losses(run)) == 10
    nodes = two_agents(home, *arguments)
    assert ended(*nodes) == [0, 0], [node.err for node in nodes]
    assert_same(run, home / "runs" / "whole")


def srun(folder: Path, restarts: int) -> list[Process]:
    """Two tasks as srun starts them, with a scontrol that writes down what it is asked for; no --name, no --resume."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    (commands / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {folder}/scontrol.log\n')
    (commands / "scontrol").chmod(0o755)
    job = dict(SLURM_JOB_ID=4242, SLURM_JOB_NAME="train", SLURM_NTASKS=2, SLURM_NTASKS_PER_NODE=1, SLURM_NNODES=2,
               SLURM_NODELIST="127.0.0.1", SLURM_LOCALID=0, MASTER_PORT=free_port(),
               PATH=f"{commands}:{os.environ['PATH']}")  # fmt: skip
    if restarts:
        job["SLURM_RESTART_COUNT"] = restarts
    arguments = [*SMALL, "--trainer.devices", 1, "--trainer.num_nodes", 2]
    return [fit(folder, *arguments, SLURM_PROCID=task, SLURM_NODEID=task, **job) for task in range(2)]


@pytest.mark.slow
def test_a_slurm_job_is_saved_requeued_and_goes_on_by_itself(home):
    run = home / "runs" / "slurm_4242"
    with started(*srun(home, restarts=0)) as tasks:
        wait_for(lambda: rows(run) >= 3, *tasks)
        for task in tasks:
            task.popen.send_signal(signal.SIGUSR1)
        assert [task.end() for task in tasks] == [0, 0], [task.err for task in tasks]
    done = len(losses(run))
    assert 3 <= done < 20
    assert tasks[0].out.count(f"saved at step {done};") == 1 and "saved" not in tasks[1].out
    assert "job 4242 is in the queue again" in tasks[0].out
    assert (home / "scontrol.log").read_text() == "requeue 4242\n"
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    tasks = srun(home, restarts=1)
    assert ended(*tasks) == [0, 0], [task.err for task in tasks]
    assert_same(run, home / "runs" / "whole")


# What a run is called, and who says what is wrong.


@pytest.fixture
def refused(monkeypatch):
    """The message of a refusal, without the wait of those who are silent."""
    monkeypatch.setattr(lightning_cli, "REFUSAL_SECONDS", 0.0)
    for name in ("LOCAL_RANK", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID", lightning_cli.RUN_NAME):
        monkeypatch.delenv(name, raising=False)


def test_processes_that_the_first_one_starts_take_its_name(refused, monkeypatch):
    name = lightning_cli.run_name(num_nodes=1)
    assert name.startswith("run_2")
    monkeypatch.setattr(lightning_cli.time, "strftime", lambda _: "later")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert lightning_cli.run_name(num_nodes=1) == name
    monkeypatch.delenv("LOCAL_RANK")
    assert lightning_cli.run_name(num_nodes=1) == "later"  # another run of this process


def test_several_nodes_need_a_name_that_all_know(refused, monkeypatch):
    with pytest.raises(UserError, match="give the run a --name"):
        lightning_cli.run_name(num_nodes=2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(UserError, match="torchrun"):
        lightning_cli.run_name(num_nodes=1)
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_ID", "99")
    assert lightning_cli.run_name(num_nodes=2) == "slurm_99"


def test_what_all_processes_find_the_first_one_says(home, refused, monkeypatch, capsys):
    monkeypatch.chdir(home)
    for rank, error in ((0, "error: runs/whole holds a run already"), (1, "")):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        assert vnc(monkeypatch, "fit", *SMALL, "--name", "whole") == 2
        said = capsys.readouterr().err
        assert said.startswith(error) and bool(said) == bool(error)
        assert vnc(monkeypatch, "fit", *SMALL, "--name", "whole", "--resume", "true") == 0
        assert ("is finished" in capsys.readouterr().out) == (rank == 0)


def test_a_requeued_job_goes_on_without_being_told(home, refused, monkeypatch, capsys):
    """Here the run is finished, so that there is nothing to train; a job that was not requeued is refused."""
    monkeypatch.chdir(home)
    for name, value in (("SLURM_NTASKS", "1"), ("SLURM_JOB_ID", "1"), ("SLURM_JOB_NAME", "x")):
        monkeypatch.setenv(name, value)
    assert vnc(monkeypatch, "fit", *SMALL, "--name", "whole") == 2
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert vnc(monkeypatch, "fit", *SMALL, "--name", "whole") == 0
    assert "is finished" in capsys.readouterr().out


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "runs" / "early" / "checkpoints" / ".partial-step_00000001-1").mkdir(parents=True)
    early = [*SMALL, "--name", "early", "--trainer.max_steps", 2]
    assert vnc(monkeypatch, "fit", *early) == 2
    assert vnc(monkeypatch, "fit", *early, "--resume", "true") == 0
    assert len(losses(home / "runs" / "early")) == 2
