"""Runs side by side and one after another, their failures, and every way to stop them. The runs are stand-ins."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scaling import run_alone, sweep_runner
from scaling.processes import Processes, divide, how_ended, visible_gpus
from scaling.sweep_plan import Grid, plan_runs
from scaling.sweep_progress import last_line, note_death, read_progress
from scaling.sweep_runner import Entry, StopRequests, run_all
from tests.scaling.stand_in import SETTINGS, stand_in, starts, until
from vnc.errors import UserError

MODEL = {key: SETTINGS["model"][key] for key in ("aspect_ratio", "head_dim", "sequence_len", "total_batch_tokens")}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sweep_runner, "POLL_SECONDS", 0.02)


def entries_in(home: Path) -> list[Entry]:
    runs = plan_runs(Grid((2, 3, 4), (1e12,), (1,)), MODEL, 1024)
    return [Entry(run, home / "runs" / run.name) for run in runs]


def run(entries, jobs=1, show=lambda: None):
    requests = StopRequests()
    with requests.noted():
        run_all(entries, Processes([], [{"OMP_NUM_THREADS": str(place)} for place in range(jobs)]), requests, show)
    return requests


def states(entries):
    return [entry.state for entry in entries]


def test_one_after_another(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    entries = entries_in(tmp_path)
    most = []
    run(entries, show=lambda: most.append(states(entries).count("running")))
    assert states(entries) == ["finished"] * 3 and max(most) == 1
    assert all(entry.progress.step == 4 and entry.progress.hours == 0.5 for entry in entries)
    assert entries[0].log.read_text().startswith("$ vnc fit --model.depth 2 --model.target_flops 1000000000000.0 ")


def test_two_at_a_time_each_in_a_place_of_its_own(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    entries = entries_in(tmp_path)
    most = []
    run(entries, 2, show=lambda: most.append(states(entries).count("running")))
    assert states(entries) == ["finished"] * 3 and max(most) == 2
    threads = [starts(entry.folder)[0][2] for entry in entries]
    assert sorted(threads[:2]) == ["0", "1"]


def test_failures_stay_with_their_run(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, d2_1e12_s1="diverges", d3_1e12_s1="killed")
    entries = entries_in(tmp_path)
    run(entries)
    assert states(entries) == ["failed", "failed", "finished"]
    assert entries[0].reason == "exit code 2: training stopped at step 2: the loss diverged"
    assert entries[1].reason == "killed by SIGKILL: step 2"
    records = [json.loads((entry.folder / "run.json").read_text()) for entry in entries]
    assert [record["status"] for record in records] == ["failed", "failed", "finished"]
    assert records[1]["reason"] == "killed by SIGKILL: step 2"  # which the process could not say itself


def test_a_process_that_never_began_is_failed_without_a_record(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    (tmp_path / "cli.py").write_text("raise ValueError('no such thing')")
    entries = entries_in(tmp_path)[:1]
    run(entries)
    assert states(entries) == ["failed"] and entries[0].reason == "exit code 1: ValueError: no such thing"
    assert not (entries[0].folder / "run.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_has_runs_save_and_starts_no_more(tmp_path, monkeypatch, number):
    stand_in(tmp_path, monkeypatch, d2_1e12_s1="long")
    entries = entries_in(tmp_path)
    threading.Thread(target=lambda: (until(lambda: entries[0].progress.step > 1), os.kill(os.getpid(), number))).start()
    requests = run(entries)
    assert requests.received == [number]
    assert states(entries) == ["interrupted", "waiting", "waiting"]
    assert entries[0].reason.startswith("saved at step") and starts(entries[1].folder) == []
    again = entries_in(tmp_path)
    (tmp_path / "behaviour.json").write_text("{}")
    run(again)
    assert states(again) == ["finished"] * 3
    first, second = starts(again[0].folder)
    assert first[1] == "0" and int(second[1]) > 1  # it went on


def test_a_second_request_kills_what_does_not_end(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, d2_1e12_s1="stubborn")
    entries = entries_in(tmp_path)
    first_heeded = threading.Event()

    def press_twice():
        until(lambda: entries[0].progress.step == 1)
        os.kill(os.getpid(), signal.SIGINT)
        first_heeded.wait(5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_twice).start()
    shown = []

    def show():
        shown.append(1)
        if len(shown) > 1 and entries[0].progress.step == 1:
            threading.Timer(0.3, first_heeded.set).start()

    run(entries, show=show)
    assert states(entries) == ["interrupted", "waiting", "waiting"] and entries[0].reason == "killed by SIGKILL"


def test_a_run_that_somebody_else_ended_is_interrupted_and_the_others_go_on(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, d2_1e12_s1="long")
    entries = entries_in(tmp_path)

    def end_it():
        until(lambda: starts(entries[0].folder))
        until(lambda: entries[0].progress.step > 1)
        os.kill(int(starts(entries[0].folder)[0][0]), signal.SIGTERM)

    threading.Thread(target=end_it).start()
    run(entries)
    assert states(entries) == ["interrupted", "finished", "finished"]


def alone(lock: Path, parent: int, *command: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-S", run_alone.__file__, str(lock), str(parent)]
    return subprocess.Popen([*program, sys.executable, *command], stdout=subprocess.PIPE, text=True)


def test_whoever_comes_second_waits_for_the_run(tmp_path):
    held = tmp_path / "held"
    wait = f"import os, time; open({str(held)!r}, 'w').close()\nwhile os.path.exists({str(held)!r}): time.sleep(0.02)"
    first = alone(tmp_path / "lock", os.getpid(), "-c", wait)
    until(held.exists)
    second = alone(tmp_path / "lock", os.getpid(), "-c", "print('mine')")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.5)
    held.unlink()
    assert second.communicate(timeout=20)[0] == "mine\n" and first.wait(20) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_runs_do_not_outlive_a_sweep_that_is_killed(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, d2_1e12_s1="long")
    (entry, *_) = entries_in(tmp_path)
    program = f"from tests.scaling.test_sweep_runner import *\nrun(entries_in(Path({str(tmp_path)!r})), 1)"
    root = str(Path(__file__).resolve().parents[2])
    sweep = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": root})
    until(lambda: entry.progress.step > 1)
    sweep.kill()
    sweep.wait()
    until(lambda: entry.progress.status == "interrupted")  # asked by the kernel, it has saved
    assert len(starts(entry.folder)) == 1


class QueuedJob:
    """Of a cluster: it waits, or it runs, until it is stopped."""

    def __init__(self, run, waits, stopped):
        self.run, self.reason, self.stopped = run, waits, stopped

    def ended(self):
        return "CANCELLED" if self.run.name in self.stopped else None

    def waits(self):
        return self.reason

    def stop(self):
        self.stopped.append(self.run.name)

    kill = stop


def test_jobs_that_wait_are_stopped_before_those_whose_place_they_would_take(tmp_path):
    entries, stopped, shown = entries_in(tmp_path), [], []

    class Cluster:
        slots = 10

        def start(self, runs):
            return [QueuedJob(run, why, stopped) for (run, _), why in zip(runs, (None, "Resources", ""), strict=True)]

    requests = StopRequests()

    def show():
        shown.append([(entry.state, entry.reason) for entry in entries])
        requests.received.append(signal.SIGINT)

    saved = {"status": "interrupted", "reason": "saved at step 7", "train": [], "val": []}
    entries[0].folder.mkdir(parents=True)
    (entries[0].folder / "run.json").write_text(json.dumps(saved))
    run_all(entries, Cluster(), requests, show)
    assert shown[0] == [("running", ""), ("queued", "Resources"), ("queued", "")]
    first, second, third = (entry.run.name for entry in entries)
    assert stopped[:3] == [second, third, first]
    assert shown[-1] == [("interrupted", "saved at step 7"), *[("interrupted", "CANCELLED")] * 2]


def test_a_record_is_put_right_only_if_it_says_that_the_run_goes_on(tmp_path):
    note_death(tmp_path, "gone")
    assert not (tmp_path / "run.json").exists()
    for status, after in (("running", "failed"), ("finished", "finished"), ("interrupted", "interrupted")):
        (tmp_path / "run.json").write_text(json.dumps({"status": status, "train": [], "val": []}))
        note_death(tmp_path, "gone")
        assert read_progress(tmp_path).status == after


def test_the_last_line_of_a_log(tmp_path):
    log = tmp_path / "log.txt"
    assert last_line(log) == ""
    log.write_text("$ vnc fit\n")
    assert last_line(log) == ""
    log.write_text("$ vnc fit\nfirst\n  second  \n\n")
    assert last_line(log) == "second"


def test_exit_codes_in_words():
    assert (how_ended(0), how_ended(2), how_ended(-9)) == ("", "exit code 2", "killed by SIGKILL")


def test_devices_are_divided():
    gpus = [str(index) for index in range(8)]
    assert divide(1, gpus, 8, 16, {}) == [{}]
    assert divide(2, [], None, 5, {}) == [{"OMP_NUM_THREADS": "2"}] * 2
    assert divide(3, [], None, 2, {}) == [{"OMP_NUM_THREADS": "1"}] * 3
    assert divide(2, [], None, 8, {"OMP_NUM_THREADS": "3"}) == [{}, {}]  # the user's own
    threads = {"OMP_NUM_THREADS": "8"}
    assert divide(2, gpus, None, 16, {}) == [
        threads | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, threads | {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    ]  # fmt: skip
    named = ["GPU-a", "GPU-b"]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in divide(2, named, 1, 2, {})] == named


@pytest.mark.parametrize(
    ("jobs", "gpus", "devices", "said"),
    [(3, ["0", "1"], None, "2 GPUs are not enough for 3 runs with one each"),
     (2, ["0", "1"], 2, "2 GPUs are not enough for 2 runs with 2 each"), (0, [], None, "must be at least 1")],
)  # fmt: skip
def test_too_many_jobs_are_refused(jobs, gpus, devices, said):
    with pytest.raises(UserError, match=said):
        divide(jobs, gpus, devices, 8, {})


def test_runs_on_the_cpu_see_no_gpus():
    assert visible_gpus("cpu") == []
