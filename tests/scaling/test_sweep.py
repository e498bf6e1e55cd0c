"""`vnc scaling sweep` as a whole: with a stand-in for `vnc fit`, and with real runs of seconds that are killed, diverge
and die."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from scaling import sweep_runner
from scaling.study import read_runs
from scaling.sweep import sweep
from tests.fitting import vnc
from tests.scaling.stand_in import SETTINGS, stand_in, starts, sweep_file, until
from vnc.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["d2_1e12_s1337", "d3_1e12_s1337", "d4_1e12_s1337"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_runner, "POLL_SECONDS", 0.02)
    stand_in(tmp_path, monkeypatch)
    return tmp_path


def behave(home: Path, **behaviour: str) -> None:
    (home / "behaviour.json").write_text(json.dumps(behaviour))


def recorded(home: Path) -> list[tuple[str, str]]:
    runs = json.loads((home / "runs" / "mine" / "sweep.json").read_text())["runs"]
    return [(run["name"], run["state"]) for run in runs]


def test_all_runs_are_made_once_and_data_is_prepared_before_them(home, capsys):
    sweep(sweep_file(home))
    assert recorded(home) == [(name, "finished") for name in NAMES]
    assert (home / "data" / "prepared").read_text() == "once\n"
    sweep(sweep_file(home))
    assert [len(starts(home / "runs" / "mine" / name)) for name in NAMES] == [1, 1, 1]
    said = capsys.readouterr()
    assert "3 runs: 3 waiting" in said.out and f"{NAMES[2]}: finished, step 4 of" in said.out
    assert "warning: one budget only" in said.err


def test_only_what_is_not_finished_is_tried_again(home, capsys):
    behave(home, d2_1e12_s1337="diverges", d3_1e12_s1337="killed")
    with pytest.raises(SystemExit) as end:
        sweep(sweep_file(home))
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert (f"d2_1e12_s1337 failed: exit code 2: training stopped at step 2: the loss diverged (log: "
            f"runs/mine/{NAMES[0]}/log.txt)") in said  # fmt: skip
    assert "d3_1e12_s1337 failed: killed by SIGKILL" in said and "2 of 3 runs did not finish" in said
    assert [state for _, state in recorded(home)] == ["failed", "failed", "finished"]
    behave(home)
    sweep(sweep_file(home))
    assert [state for _, state in recorded(home)] == ["finished"] * 3
    assert [len(starts(home / "runs" / "mine" / name)) for name in NAMES] == [2, 2, 1]


def test_a_stopped_sweep_says_how_to_go_on(home, capsys):
    behave(home, d2_1e12_s1337="long")
    first = home / "runs" / "mine" / NAMES[0]
    threading.Thread(
        target=lambda: (until(lambda: starts(first) and (first / "run.json").is_file()),
                        os.kill(os.getpid(), signal.SIGINT))
    ).start()  # fmt: skip
    with pytest.raises(SystemExit) as end:
        sweep(sweep_file(home))
    assert end.value.code == 128 + signal.SIGINT
    assert "stopped: give the same command again to go on" in capsys.readouterr().err
    assert [state for _, state in recorded(home)] == ["interrupted", "waiting", "waiting"]


def test_the_grid_may_grow_but_not_change(home):
    sweep(sweep_file(home))
    sweep(sweep_file(home, depths=[2, 3, 4, 5]))
    assert len(recorded(home)) == 4 and len(starts(home / "runs" / "mine" / NAMES[0])) == 1
    changed = SETTINGS | {"model": SETTINGS["model"] | {"warmup_steps": 5}}
    (home / "settings.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(UserError, match=f"runs/mine/{NAMES[0]}: model.warmup_steps was 20 when this run was made, now "
                                        "it is 5; set it back"):  # fmt: skip
        sweep(sweep_file(home))
    elsewhere = SETTINGS | {"trainer": {"accelerator": "cpu", "devices": 2}}  # which the result does not depend on
    (home / "settings.yaml").write_text(yaml.safe_dump(elsewhere))
    sweep(sweep_file(home))
    assert len(starts(home / "runs" / "mine" / NAMES[0])) == 1


def test_what_has_not_begun_may_still_be_changed(home):
    (home / "cli.py").write_text((home / "cli.py").read_text().replace("given = ", "sys.exit('too early')\ngiven = "))
    with pytest.raises(SystemExit):
        sweep(sweep_file(home))
    stand_in(home, pytest.MonkeyPatch(), SETTINGS | {"seed_everything": 0, "guard": {"patience": 3}})
    sweep(sweep_file(home))
    kept = json.loads((home / "runs" / "mine" / NAMES[0] / "sweep_settings.json").read_text())
    assert kept["guard.patience"] == 3 and kept["seed_everything"] == 1337 and kept["model.depth"] == 2
    assert "trainer.devices" not in kept and "model.device_batch_size" not in kept


def test_a_run_that_no_sweep_has_made_is_left_alone(home):
    mine = home / "runs" / "mine" / NAMES[1]
    (mine / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=f"{NAMES[1]} holds a run that no sweep has made"):
        sweep(sweep_file(home))
    assert not (home / "runs" / "mine" / NAMES[0]).exists()  # nothing was started


def test_what_fit_refuses_is_refused_before_anything_starts(home):
    (home / "refusal").write_text("model.dept: no such option")
    with pytest.raises(UserError, match="the runs' configuration: model.dept: no such option"):
        sweep(sweep_file(home))
    (home / "refusal").unlink()
    (home / "settings.yaml").write_text(yaml.safe_dump(SETTINGS | {"model": SETTINGS["model"] | {"init_from": "x"}}))
    with pytest.raises(UserError, match="model.init_from fixes the sizes"):
        sweep(sweep_file(home))
    (home / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    with pytest.raises(UserError, match="depth 2 at 1e6: .* less than half of one step"):
        sweep(sweep_file(home, budgets=[1e6]))
    with pytest.raises(UserError, match="--jobs 0"):
        sweep(sweep_file(home), jobs=0)
    assert not (home / "runs").exists()


def test_two_sweeps_in_one_folder_are_refused(home):
    folder = home / "runs" / "mine"
    folder.mkdir(parents=True)
    with (folder / ".sweep.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another sweep is at work there"):
            sweep(sweep_file(home))
    sweep(sweep_file(home))


def test_the_plan_alone(home, capsys):
    sweep(sweep_file(home, seeds=[1, 2]), plan=True)
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["run", "d2_1e12_s1", "d3_1e12_s1", "d4_1e12_s1"]
    assert rows[1].split()[1:] == ["57,368", "1,847,296", "32.2", "451", "4,096", "9.993e+11"]
    assert not (home / "runs").exists()


# Real runs.

REAL = {
    "data.vocab_size": 512, "data.val_tokens": 512, "model.aspect_ratio": 16, "model.head_dim": 16,
    "model.sequence_len": 64, "model.total_batch_tokens": 512, "model.device_batch_size": 4, "model.warmup_steps": 2,
    "samples.every_n_steps": 0, "trainer.log_every_n_steps": 1, "trainer.val_check_interval": 100_000,
    "checkpoint.every_n_steps": 5, "trainer.accelerator": "cpu",
}  # fmt: skip
START = "import sys; from scaling.sweep import sweep; sweep(*sys.argv[1:3], jobs=int(sys.argv[3]))"


def real_sweep(
    home: Path,
    out: str,
    depths: tuple[int, ...],
    budgets: tuple[float, ...] = (6e9, 1.2e10),
    jobs: int = 2,
    **others: Any,
) -> subprocess.Popen[str]:
    (home / "base.yaml").write_text("data: TinyWorld\n")
    values = dict(depths=list(depths), budgets=list(budgets), overrides=REAL | others)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", START, sweep_file(home, **values), out, str(jobs)], cwd=home,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


def record(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    return json.loads(path.read_text()) if path.is_file() else {"status": None, "train": []}


def final(out: Path) -> dict[str, tuple[list[float], float]]:
    """Every step's loss and the last validation of each run."""
    records = {folder.name: record(folder) for folder in sorted(out.glob("d*"))}
    return {
        name: ([row["loss"] for row in found["train"]], found["val"][-1]["bits_per_byte"])
        for name, found in records.items()
    }


@pytest.fixture
def one_thread():
    """As in the sweep's processes: sums on two threads differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_losses_of_runs_that_nothing_interrupts(tmp_path, monkeypatch, one_thread):
    cut = real_sweep(tmp_path, "cut", depths=(2,), jobs=1)
    first, victim = (tmp_path / "cut" / f"d2_{budget}_s1337" for budget in ("6e9", "1.2e10"))
    until(lambda: len(record(victim)["train"]) > 6, 200)
    assert record(first)["status"] == "finished"
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    until(lambda: record(victim)["status"] == "interrupted", 30)  # it has noticed, and saved
    again = real_sweep(tmp_path, "cut", depths=(2,), jobs=1)
    said, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert said.splitlines()[-1].startswith("2 finished")

    monkeypatch.chdir(tmp_path)
    options = [word for key, value in REAL.items() for word in (f"--{key}", value)]
    for run, budget in ((first, "6e9"), (victim, "1.2e10")):
        assert vnc(monkeypatch, "fit", "--data", "TinyWorld", *options, "--model.depth", 2, "--model.target_flops",
                   budget, "--name", run.name, "--runs_dir", "alone") == 0  # fmt: skip
    assert final(tmp_path / "cut") == final(tmp_path / "alone") and len(final(tmp_path / "cut")) == 2

    study = read_runs(sorted((tmp_path / "cut").glob("d*")))
    assert study.excluded == ()
    assert {(point.budget, point.seed) for point in study.points} == {(6e9, 1337), (1.2e10, 1337)}
    assert len(study.points) == 2


@pytest.mark.slow
def test_a_diverging_run_and_one_that_dies_are_left_out_and_said(tmp_path):
    process = real_sweep(tmp_path, "wild", depths=(2, 3), budgets=(3e11,), **{"model.lr_scale": 1e6})
    diverging, dying = (tmp_path / "wild" / name for name in ("d2_3e11_s1337", "d3_3e11_s1337"))
    until(lambda: trainer_of(dying), 200)
    os.kill(trainer_of(dying) or 0, signal.SIGKILL)  # while it starts: sooner than it could diverge
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "d2_3e11_s1337 failed: exit code 2: training stopped at step" in errors
    assert "d3_3e11_s1337 failed: killed by SIGKILL" in errors and "2 of 2 runs did not finish" in errors
    assert not (dying / "run.json").exists()  # nothing that a fit could take for a run
    study = read_runs([diverging])
    assert study.points == () and study.excluded[0].reason.startswith("failed: training stopped at step")


def trainer_of(folder: Path) -> int | None:
    """The process that trains a run: the one of `vnc fit` whose command line names it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[1:4] == [b"-m", b"cli", b"fit"] and str(folder.name).encode() in words:
                    return int(entry.name)
    return None
