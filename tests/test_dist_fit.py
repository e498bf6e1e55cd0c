"""`vnc fit --trainer.devices N` from end to end: real processes, one command each."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.fitting import SMALL, losses, tensors
from tests.launching import Process, ended, ranks, started, wait_for
from vnc.checkpoint import load_model

QUICK = ["--dist_muon.heartbeat_seconds", "5", "--dist_muon.timeout_seconds", "60"]


def command(name: str, *more: object) -> list[object]:
    settings = [*SMALL, "--name", name, "--trainer.accelerator", "cpu", *QUICK]
    settings[settings.index("--model.device_batch_size") + 1] = "1"
    return ["-m", "cli", "fit", *settings, *more]


def launched(folder: Path, name: str, devices: int, *more: object) -> Process:
    """The command that starts its further processes itself."""
    return Process(folder, *command(name, *more), "--trainer.devices", devices, GOMP_SPINCOUNT=0)


def fit(folder: Path, name: str, devices: int, *more: object) -> None:
    """The same processes, started side by side."""
    processes = ranks(devices, folder, *command(name, *more), GOMP_SPINCOUNT=0)
    assert set(ended(*processes)) == {0}, [process.out + process.err for process in processes]


def same(folder: Path, first: str, *others: str) -> bool:
    """Whether the runs took the same way, and ended with the same weights and optimizer state, bit for bit."""
    expected = tensors(folder / "runs" / first / "checkpoints" / "last")
    for other in others:
        found = tensors(folder / "runs" / other / "checkpoints" / "last")
        assert losses(folder / "runs" / other) == losses(folder / "runs" / first), other
        assert found.keys() == expected.keys() and len(found) > 40
        assert [name for name in expected if not torch.equal(found[name], expected[name])] == [], other
    return True


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory with runs/one: 20 steps by one process."""
    folder = tmp_path_factory.mktemp("home")
    fit(folder, "one", 1, "--checkpoint.every_n_steps", 5)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
def test_any_number_of_processes_trains_to_the_same_weights(home, devices):
    if devices == 2:
        processes = [launched(home, "by_2", 2)]
    else:
        processes = ranks(devices, home, *command("by_8"))
    assert set(ended(*processes)) == {0}, [process.out + process.err for process in processes]
    assert same(home, "one", f"by_{devices}")
    assert "".join(process.out for process in processes).count("compute dtype") == 1  # one process speaks
    record = json.loads((home / "runs" / f"by_{devices}" / "run.json").read_text())
    assert record["status"] == "finished" and record["plan"]["world_size"] == devices
    assert [row["step"] for row in record["val"]] == [10, 20]


@pytest.mark.slow
def test_saved_on_four_resumed_on_two_on_one_on_four(home):
    """And the other way of saving: in the background."""
    last = home / "runs" / "elastic" / "checkpoints" / "last"
    for devices, until in ((4, 5), (2, 9), (1, 14), (4, -1)):
        more = ["--checkpoint.asynchronous", "true"] if devices == 2 else []
        fit(home, "elastic", devices, "--resume", "true", "--trainer.max_steps", until, *more)
        assert json.loads((last / "trainer.json").read_text())["global_step"] == (until if until > 0 else 20)
    assert same(home, "one", "elastic")


@pytest.mark.slow
def test_weights_held_in_bf16_train_alike(home):
    """The masters are the owners'; the forward is the same."""
    compute = ["--model.compute_dtype", "bfloat16", "--trainer.max_steps", 6]  # emulated on many a processor
    fit(home, "fp32_held", 1, *compute)
    fit(home, "bf16_held", 2, *compute, "--dist_muon.gather_dtype", "bfloat16")
    assert same(home, "fp32_held", "bf16_held")


@pytest.mark.slow
def test_clipping_and_one_reduction_a_step(home):
    """Clipped runs agree as well; sums in another order (once a step) agree to rounding at first."""
    fit(home, "clipped_1", 1, "--model.clip_norm", 0.3)
    fit(home, "clipped_2", 2, "--model.clip_norm", 0.3)
    assert same(home, "clipped_1", "clipped_2")
    assert losses(home / "runs" / "clipped_1") != losses(home / "runs" / "one")
    fit(home, "once", 2, "--dist_muon.reduce_every_micro_batch", "false", "--dist_muon.overlap", "false")
    pairs = list(zip(losses(home / "runs" / "once"), losses(home / "runs" / "one"), strict=True))
    assert all(abs(a - b) < 1e-4 * b for a, b in pairs)


@pytest.mark.slow
def test_a_number_of_processes_that_does_not_divide_is_told_once(home):
    process = launched(home, "bad", 3)
    assert ended(process) == [2], process.err
    output = process.out + process.err
    assert output.count("error:") == 1 and "3 processes cannot share 8 rows" in output and "[1, 2]" in output


def members(pid: int) -> dict[int, int]:
    """Process ids by rank: the launched process is rank 0, its children are the others."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = {0: pid}
    for child in children:
        for entry in Path(f"/proc/{child}/environ").read_text().split("\0"):
            if entry.startswith("LOCAL_RANK="):
                found[int(entry.partition("=")[2])] = int(child)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_run_and_resuming_continues_exactly(home, victim):
    name = f"killed_{victim}"
    arguments = (name, 2, "--checkpoint.every_n_steps", 1, "--resume", "true")
    last = home / "runs" / name / "checkpoints" / "last"
    with started(launched(home, *arguments)) as (process,):
        wait_for(last.exists, process)
        time.sleep(0.2)
        by_rank = members(process.popen.pid)
        assert len(by_rank) == 2
        os.kill(by_rank[victim], signal.SIGKILL)
        killed_at = time.monotonic()
        while alive := [pid for pid in by_rank.values() if runs(pid)]:
            assert time.monotonic() - killed_at < 40, alive
            time.sleep(0.05)
        assert process.end() not in (0, 2) and f"rank {victim} " in process.out + process.err
    load_model(last)
    fit(home, *arguments)
    assert same(home, "one", name)


def runs(pid: int) -> bool:
    """Whether the process has not ended; one whose end nobody has asked for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
