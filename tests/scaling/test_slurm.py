"""A sweep on SLURM, played by tests/scaling/fake_slurm.py: what it shows of jobs, and what becomes of them when one of
them, the sweep or SLURM itself ends early."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scaling import fit_task, slurm_queue, submitit_runner, sweep_runner
from scaling.fit_task import FitTask
from scaling.slurm_queue import GONE, JobState, Queue, QueueError, ask
from scaling.submitit_runner import SlurmJob, Submitit, last_words
from scaling.sweep import sweep
from tests.scaling.fake_slurm import FakeSlurm
from tests.scaling.stand_in import stand_in, starts, sweep_file, until
from vnc.errors import UserError

submitit = pytest.importorskip("submitit", reason="submitit is an extra (vnc[slurm])")
NAMES = ["d2_1e12_s1337", "d3_1e12_s1337", "d4_1e12_s1337"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setattr(sweep_runner, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(slurm_queue, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(submitit_runner, "RESULT_SECONDS", 0.5)
    stand_in(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def slurm(home, monkeypatch):
    return FakeSlurm(home, monkeypatch)


def behave(home: Path, **behaviour: str) -> None:
    (home / "behaviour.json").write_text(json.dumps(behaviour))


def record(home: Path) -> list[dict]:
    path = home / "runs" / "mine" / "sweep.json"
    return json.loads(path.read_text())["runs"] if path.is_file() else []


def recorded(home: Path) -> list[str]:
    return [run["state"] for run in record(home)]


def run_of(home: Path, name: str) -> Path:
    return home / "runs" / "mine" / name


def later(condition, *actions) -> threading.Thread:
    """Once the condition holds, in a thread; if it never does, or an action fails, the sweep is stopped."""

    def act() -> None:
        try:
            until(condition)
            for action in actions:
                action()
        except BaseException:
            os.kill(os.getpid(), signal.SIGINT)
            raise

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_jobs_are_queued_then_they_run_and_one_that_fails_stays_alone(home, slurm, capsys):
    behave(home, d3_1e12_s1337="diverges")
    slurm.hold()
    waiting = later(lambda: [run["reason"] for run in record(home)] == ["Priority"] * 3, slurm.release)
    with pytest.raises(SystemExit) as end:
        sweep(sweep_file(home), executor="slurm", jobs=3)
    waiting.join()
    said = capsys.readouterr()
    assert end.value.code == 1
    assert "d2_1e12_s1337: queued, step 0" in said.out and "d2_1e12_s1337: finished, step 4" in said.out
    assert "d3_1e12_s1337 failed: exit code 2: training stopped at step 2" in said.err
    assert recorded(home) == ["finished", "failed", "finished"] and len(slurm.jobs) == 3
    assert "sacct" not in said.err and "submitit WARNING" not in said.out
    behave(home)
    sweep(sweep_file(home), executor="slurm")  # one job, no array
    assert recorded(home) == ["finished"] * 3 and "2" in slurm.jobs


def test_what_is_cancelled_is_told_apart(home, slurm, capsys):
    """One job is cancelled while it waits, one while it runs, one is forgotten by SLURM."""
    behave(home, d2_1e12_s1337="long", d3_1e12_s1337="long")
    file = sweep_file(home, depths=[2, 3, 4, 5])
    slurm.hold()

    def cancel() -> None:
        slurm.set("1_2", "CANCELLED|None")
        (slurm.queue / "1_3").unlink()
        slurm.release()
        until(lambda: (run_of(home, NAMES[0]) / "run.json").is_file())
        os.system("scancel 1_0")
        until(lambda: (run_of(home, NAMES[1]) / "run.json").is_file())
        slurm.set("1_1", "TIMEOUT|None")

    cancelled = later(lambda: recorded(home) == ["queued"] * 4, cancel)
    with pytest.raises(SystemExit) as end:
        sweep(file, executor="slurm", jobs=4)
    cancelled.join()
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert "d2_1e12_s1337 interrupted: saved at step" in said
    assert "d3_1e12_s1337 failed: job 1_1: TIMEOUT" in said
    assert "d4_1e12_s1337 failed: job 1_2: CANCELLED (log" in said
    assert "d5_1e12_s1337 failed: job 1_3: no longer in the queue, and no result" in said
    slurm.set("1_1", "RUNNING|None")
    os.system("scancel 1_1")
    slurm.wait()


def test_a_sweep_that_is_stopped_leaves_no_job_behind(home, slurm, capsys):
    behave(home, d2_1e12_s1337="long")
    running = run_of(home, NAMES[0])
    slurm.hold()

    def stop() -> None:
        slurm.set("1_0", "RUNNING|None")  # it alone is let go on
        slurm.set("1_0", "PENDING|Priority")
        slurm.release()
        until(lambda: (running / "run.json").is_file())
        os.kill(os.getpid(), signal.SIGINT)

    stopped = later(lambda: recorded(home) == ["queued"] * 3, stop)
    with pytest.raises(SystemExit) as end:
        sweep(sweep_file(home), executor="slurm", jobs=3)
    stopped.join()
    assert end.value.code == 128 + signal.SIGINT
    assert record(home)[0]["state"] == "interrupted" and record(home)[0]["reason"].startswith("saved at step")
    assert not [job for job, state in slurm.jobs.items() if state.startswith(("PENDING", "RUNNING"))]
    assert "stopped: give the same command again to go on" in capsys.readouterr().err


def test_jobs_of_a_sweep_that_was_killed_are_found_again(home, slurm):
    behave(home, d2_1e12_s1337="long")
    file = sweep_file(home)
    command = "from scaling.sweep import sweep; sweep('sweep.yaml', executor='slurm', jobs=3)"
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.DEVNULL) as first:
        try:
            until(lambda: (run_of(home, NAMES[0]) / "run.json").is_file())
        finally:
            first.kill()
    sweep(file, executor="slurm", jobs=3)
    assert recorded(home) == ["finished"] * 3
    assert sorted(slurm.jobs) == ["1_0", "1_1", "1_2"]
    assert [len(starts(run_of(home, name))) for name in NAMES] == [1, 1, 1]


def test_what_slurm_refuses_is_one_line(home, slurm, capsys):
    with pytest.raises(UserError, match="^SLURM refuses the jobs: invalid partition specified: nosuch; Batch job "
                                        "submission failed: Invalid partition name specified "):  # fmt: skip
        sweep(sweep_file(home, submitit={"slurm_partition": "nosuch"}), executor="slurm")
    assert capsys.readouterr().err.count("nosuch") == 0  # the error's own line is all there is
    for asked, match in (({"timeout_min": "60"}, "submitit: .*timeout_min"),
                         ({"tasks_per_node": 2}, "tasks_per_node cannot be set: a job is one task")):  # fmt: skip
        with pytest.raises(UserError, match=match):
            sweep(sweep_file(home, submitit=asked), executor="slurm")
    assert slurm.jobs == {}


def test_a_controller_that_does_not_answer(home, slurm):
    slurm.set("1", "RUNNING|None")
    queue = Queue()
    queue.watch("1")
    assert queue.state("1") == JobState("RUNNING")
    (slurm.queue / "down").touch()
    queue.hurry()
    assert queue.state("1") == JobState("RUNNING")  # as far as is known
    with pytest.raises(QueueError, match="Unable to contact slurm controller"):
        ask(["1"])
    (home / "runs" / "mine" / "submitit").mkdir(parents=True)
    (home / "runs" / "mine" / "submitit" / "jobs.json").write_text(json.dumps({NAMES[0]: "1"}))
    with pytest.raises(UserError, match="Unable to contact slurm controller"):  # rather than submit it twice
        sweep(sweep_file(home), executor="slurm")
    (slurm.queue / "down").unlink()
    (slurm.queue / "1").unlink()
    queue.hurry()
    assert queue.state("1") == GONE and ask([]) == {} and ask(["1"]) == {}
    slurm.set("2", "PENDING|Resources")
    slurm.set("3_1", "COMPLETED|None")
    found = ask(["2", "3_1", "1"])
    assert found == {"2": JobState("PENDING", "Resources"), "3_1": JobState("COMPLETED")}
    assert found["2"].waits and not found["2"].ended and found["3_1"].ended and not found["3_1"].waits


def test_the_queue_is_not_asked_too_often(slurm, monkeypatch):
    monkeypatch.setattr(slurm_queue, "LOOK_SECONDS", 1000.0)
    slurm.set("1", "PENDING|Priority")
    queue = Queue()
    queue.watch("1")
    assert queue.state("1").reason == "Priority"
    slurm.set("1", "RUNNING|None")
    assert queue.state("1").reason == "Priority"
    queue.hurry()
    assert queue.state("1").name == "RUNNING"


def test_a_job_that_was_stopped_is_looked_at_at_once(home, slurm, monkeypatch):
    monkeypatch.setattr(slurm_queue, "LOOK_SECONDS", 1000.0)
    slurm.set("1", "PENDING|Priority")
    job = SlurmJob(submitit.SlurmJob(home / "submitit", "1"), home / NAMES[0], Queue())
    assert job.ended() is None and job.waits() == "Priority"
    job.stop()
    assert job.ended() == "job 1: CANCELLED"
    assert job.queue.states == {}  # nobody asks for it any more


def test_a_preempted_job_that_has_saved_is_interrupted_and_one_that_has_not_has_failed(home, slurm):
    slurm.set("1", "PREEMPTED|None")
    run = home / NAMES[0]
    run.mkdir()
    for status, how in (("running", "job 1: PREEMPTED"), ("interrupted", "")):
        (run / "run.json").write_text(json.dumps({"status": status, "train": [], "val": []}))
        assert SlurmJob(submitit.SlurmJob(home / "submitit", "1"), run, Queue()).ended() == how


def test_what_slurm_is_asked_for(home, slurm):
    asked = {"slurm_partition": "gpu", "timeout_min": 600, "slurm_additional_parameters": {"licenses": "a"}}
    made = Submitit("slurm", [], home / "out", 4, asked, gpus=2)
    text = made.executor._executor._make_submission_file_text("true", "1")
    for line in ("--partition=gpu", "--time=600", "--gpus-per-node=2", "--ntasks-per-node=1", "--signal=USR2@180",
                 "--job-name=out", "--requeue", "--licenses=a"):  # fmt: skip
        assert f"#SBATCH {line}\n" in text
    assert made.executor._executor.parameters["array_parallelism"] == 4 and made.slots > 1000
    assert made.executor._executor.max_num_timeout == submitit_runner.MOST_TIME_LIMITS
    without = Submitit("slurm", [], home / "out", 1, {}, gpus=0).executor._executor
    assert "gpus" not in without._make_submission_file_text("true", "1")


def test_last_words_are_not_those_of_slurm_itself():
    text = (
        "ImportError: no module\nslurmstepd: error: *** STEP 36.0 ON a CANCELLED ***\nsrun: error: a: task 0: Killed\n"
    )
    assert last_words(text) == "ImportError: no module" and last_words("srun: got SIGCONT\n") == ""


@pytest.mark.parametrize(("state", "requeued"), [("RUNNING", True), ("COMPLETING", False)])
def test_a_preempted_job_goes_back_into_the_queue_unless_slurm_sees_to_it(home, slurm, monkeypatch, state, requeued):
    """Within a grace time the job is still running when its run has saved and ended. A cancelled one is completing."""
    behave(home, long="long")
    slurm.set("5_2", f"{state}|None")
    for name, value in (("SLURM_JOB_ID", "7"), ("SLURM_ARRAY_JOB_ID", "5"), ("SLURM_ARRAY_TASK_ID", "2")):
        monkeypatch.setenv(name, value)
    task = FitTask(["fit", "--name", "long", "--runs_dir", str(home)], home / "long")
    former = signal.getsignal(signal.SIGTERM)
    try:
        later(lambda: (home / "long" / "run.json").is_file(), lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as end:  # no result is kept
            task()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert end.value.code == 0
    assert json.loads((home / "long" / "run.json").read_text())["status"] == "interrupted"
    asked = slurm.queue / "scontrol"
    assert (asked.read_text() if asked.is_file() else "") == ("requeue 5_2\n" if requeued else "")


def test_a_job_that_is_warned_before_its_run_has_begun_ends_too(home, monkeypatch):
    behave(home, long="long")
    task = FitTask(["fit", "--name", "long", "--runs_dir", str(home)], home / "long")
    former = signal.getsignal(signal.SIGTERM)

    def warned_first(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return popen(*arguments)

    popen = fit_task.popen
    monkeypatch.setattr(fit_task, "popen", warned_first)
    try:
        assert task() == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, former)
    assert sys.platform != "linux" or not (home / "long" / "run.json").exists()
