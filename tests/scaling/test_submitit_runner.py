"""Runs as jobs, through submitit's local executor: the same sweep, and a job whose time is up."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from scaling import sweep_runner
from scaling.fit_task import FitTask, exited
from scaling.submitit_runner import Submitit
from scaling.sweep import sweep
from tests.scaling.stand_in import stand_in, starts, sweep_file, until
from vnc.errors import UserError

submitit = pytest.importorskip("submitit", reason="submitit is an extra (vnc[slurm])")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))  # a job starts from nothing
    monkeypatch.setattr(sweep_runner, "POLL_SECONDS", 0.05)
    stand_in(tmp_path, monkeypatch, d3_1e12_s1337="diverges")
    return tmp_path


def test_a_sweep_through_the_local_executor(home, capsys):
    with pytest.raises(SystemExit) as end:
        sweep(sweep_file(home), jobs=2, executor="local")
    assert end.value.code == 1
    assert "d3_1e12_s1337 failed: exit code 2: training stopped at step 2" in capsys.readouterr().err
    (home / "behaviour.json").write_text("{}")
    sweep(sweep_file(home), executor="local")
    names = ["d2_1e12_s1337", "d3_1e12_s1337", "d4_1e12_s1337"]
    assert [len(starts(home / "runs" / "mine" / name)) for name in names] == [1, 2, 1]
    assert list((home / "runs" / "mine" / "submitit").glob("*_submitted.pkl"))


def test_a_job_that_fails_itself_is_told_in_one_line(home, capsys, monkeypatch):
    broken = home / "broken" / "scaling"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('broken for this test')")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))  # what the job imports, whatever is installed
    monkeypatch.chdir(home)
    with pytest.raises(SystemExit):
        sweep(sweep_file(home, depths=[2]), executor="local")
    said = [line for line in capsys.readouterr().err.splitlines() if "d2_1e12_s1337 failed" in line]
    assert len(said) == 1 and "broken for this test" in said[0]


def test_a_job_that_is_to_make_way_saves_and_can_be_started_again(home):
    (home / "behaviour.json").write_text('{"long": "long"}')
    folder = home / "long"
    task = FitTask(["fit", "--name", "long", "--runs_dir", str(home)], folder)
    delayed = []

    def make_way():
        until(lambda: (folder / "run.json").is_file())
        os.kill(os.getpid(), signal.SIGUSR2)

    former = signal.signal(signal.SIGUSR2, lambda *_: delayed.append(task.checkpoint()))  # as submitit does
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        threading.Thread(target=make_way).start()
        with pytest.raises(SystemExit) as end:  # interrupted in good order: no result is kept
            task()
        assert end.value.code == 0
    finally:
        signal.signal(signal.SIGUSR2, former)
        signal.signal(signal.SIGTERM, terminated)
    assert '"interrupted"' in (folder / "run.json").read_text()
    (again,) = delayed
    again.dump(home / "pickled")
    assert submitit.core.utils.DelayedSubmission.load(home / "pickled").function == FitTask(task.arguments, folder)


def test_a_child_that_has_ended_is_seen_without_reaping_it():
    child = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(0.2)"], os.environ)
    assert not exited(child)
    while not exited(child):
        time.sleep(0.02)
    assert exited(child) and os.waitpid(child, 0)[1] == 0
    assert exited(child)


def test_a_wrong_parameter_and_a_missing_cluster_are_refused(home, monkeypatch):
    with pytest.raises(UserError, match="submitit: .*slurm_colour"):
        Submitit("local", [], home / "out", 1, {"slurm_colour": "red"}, gpus=0)
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(UserError, match="submitit: .*srun"):
        Submitit("slurm", [], home / "out", 1, {}, gpus=0)  # there is no sbatch here
