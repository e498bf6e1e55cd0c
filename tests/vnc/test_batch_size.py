"""Out of memory: smaller micro-batches leave the run what it would have been with them from the start, on every rank;
`device_batch_size: auto` takes the largest that fits."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.lanes import start
from datamodules.packing import PackingReport
from datamodules.streaming import StepBatches
from tests.fitting import losses, tensors, vnc
from tests.launching import ended, ranks
from vnc import batch_size, batch_trial
from vnc.batch_size import regroup, with_fewer_rows, with_rows
from vnc.batch_trial import Request, SilentWire, Trial, largest_that_fits
from vnc.depth import make_plan
from vnc.errors import UserError
from vnc.gpt import GPT
from vnc.module import VNCModule
from vnc.optimizer import MuonAdamW
from vnc.processes import Processes

STEPS = 3
TRAIN = [
    "fit", "--data", "TinyWorld", "--data.vocab_size", 512, "--data.val_tokens", 512, "--model.depth", 2,
    "--model.aspect_ratio", 16, "--model.head_dim", 16, "--model.sequence_len", 32, "--model.total_batch_tokens", 512,
    "--model.warmup_steps", 2, "--model.compute_dtype", "float32", "--model.clip_norm", 0.5,
    "--samples.every_n_steps", 0, "--trainer.log_every_n_steps", 1, "--trainer.accelerator", "cpu",
    "--dist_muon.timeout_seconds", 60,
]  # fmt: skip
SCRIPT = '''
"""vnc on a device that has memory for a few rows only: where, says the environment."""
import json
import os
import torch
import cli
from vnc.buckets import Bucket
from vnc.gpt import GPT, Block

most, place = int(os.environ["OOM_ROWS"]), os.environ["OOM_PLACE"]
first = json.loads(os.environ["OOM_FIRST"])  # by rank: its first micro-batch that is too large
now = {"rows": 0, "calls": 0, "sends": 0}


def ask():
    rank = os.environ.get("LOCAL_RANK", "0")
    if now["rows"] > most and rank in first and now["calls"] > first[rank]:
        now["rows"] = 0  # what follows this error has memory enough
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")


def summed_loss(self, inputs, targets, z_loss=0.0, real=GPT.summed_loss):
    now["rows"], now["sends"] = len(inputs), 0
    now["calls"] += len(inputs) > most
    if place == "forward":
        ask()
    return real(self, inputs, targets, z_loss)


def forward(self, x, *rest, real=Block.forward):
    x = real(self, x, *rest)
    if place == "backward" and x.requires_grad:
        x.register_hook(lambda gradient: ask())
    return x


def send(self, gradient, ordered, real=Bucket._send):
    now["sends"] += 1
    if place == "launch" and now["sends"] == 3:
        ask()
    return real(self, gradient, ordered)


GPT.summed_loss, Block.forward, Bucket._send = summed_loss, forward, send
if __name__ == "__main__":
    cli.main()
'''


def short_of_memory(
    folder: Path, name: str, *arguments: object, rows: int, first: dict[int, int], place: str, devices: int = 1
) -> str:
    """What `vnc` prints to stderr with devices that have memory for `rows` rows, on the ranks in `first` from that
    micro-batch on; it must succeed."""
    (folder / "script.py").write_text(SCRIPT)
    at = {
        "OOM_ROWS": rows,
        "OOM_PLACE": place,
        "OOM_FIRST": json.dumps({str(rank): call for rank, call in first.items()}),
    }
    command = [folder / "script.py", *TRAIN, "--model.num_steps", STEPS, "--name", name, *arguments]
    processes = ranks(devices, folder, *command, **at)
    assert set(ended(*processes)) == {0}, [process.err for process in processes]
    return "".join(process.err for process in processes)


def assert_same_run(one: Path, other: Path) -> None:
    mine, theirs = (tensors(run / "checkpoints" / "last") for run in (one, other))
    assert mine.keys() == theirs.keys() and len(mine) > 10
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert losses(one) == losses(other) and len(losses(one)) == STEPS
    first, second = (json.loads((run / "checkpoints/last/plan.json").read_text()) for run in (one, other))
    assert first["device_batch_size"] == second["device_batch_size"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """16 rows a step in micro-batches of 2, from the first step on."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert vnc(patch, *TRAIN, "--model.num_steps", STEPS, "--model.device_batch_size", 2, "--name", "two") == 0
    return folder / "runs" / "two"


@pytest.mark.parametrize("place", ["forward", "backward"])
def test_one_process_goes_on_as_if_it_had_begun_with_less(tmp_path, reference, place):
    said = short_of_memory(tmp_path, "run", "--model.device_batch_size", 8, rows=2, first={0: 1}, place=place)
    assert "device_batch_size=8: going on with 4 (4 micro-batches instead of 2" in said
    assert "device_batch_size=4: going on with 2 (8 micro-batches instead of 4" in said
    assert_same_run(tmp_path / "runs" / "run", reference)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "first"),
    [
        ("forward", {1: 0}),  # in the first micro-batch of rank 1
        ("forward", {0: 1, 1: 0}),  # in different micro-batches
        ("backward", {0: 1}),
        ("backward", {0: 0, 1: 0}),
        ("launch", {1: 1}),
    ],
)
def test_all_processes_go_on_together(tmp_path, reference, place, first):
    """Micro-batches of 2 on two processes are those of the reference, and so are the sums."""
    said = short_of_memory(tmp_path, "run", "--model.device_batch_size", 4, devices=2, rows=2,
                           first=first, place=place)  # fmt: skip
    assert said.count("out of memory") == 1 and "going on with 2 (4 micro-batches instead of 2" in said
    assert_same_run(tmp_path / "runs" / "run", reference)


@pytest.mark.slow
def test_where_gradients_are_summed_once_a_step(tmp_path):
    once = ["--dist_muon.reduce_every_micro_batch", "false"]
    for name, rows, size, place, first in (("less", 2, 2, "forward", {}), ("run", 2, 4, "backward", {0: 0, 1: 1})):
        short_of_memory(tmp_path, name, "--model.device_batch_size", size, *once, devices=2, rows=rows, first=first,
                        place=place)  # fmt: skip
    assert_same_run(tmp_path / "runs" / "run", tmp_path / "runs" / "less")


def run_out(monkeypatch, rows, from_step=0):
    """In this process, more than `rows` rows are too many, from a step on."""
    real, steps = GPT.summed_loss, iter(range(10**6))

    def summed_loss(self, inputs, targets, z_loss=0.0):
        if len(inputs) > rows and next(steps) >= from_step:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return real(self, inputs, targets, z_loss)

    monkeypatch.setattr(GPT, "summed_loss", summed_loss)


def test_one_row_that_does_not_fit_ends_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_out(monkeypatch, rows=0)
    with pytest.warns(UserWarning, match="going on with 1 "):
        assert vnc(monkeypatch, *TRAIN, "--model.num_steps", 2, "--model.device_batch_size", 2, "--name", "x") == 2
    assert "one row of sequence_len=32 is too much" in capsys.readouterr().err


def test_later_it_is_a_failure_with_a_way_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_out(monkeypatch, rows=8, from_step=batch_size.OOM_STEPS)
    agreements = []
    monkeypatch.setattr(VNCModule, "_processes", property(lambda self: agreements.append(1) or Processes()))
    arguments = ["--model.num_steps", 12, "--model.device_batch_size", 16, "--checkpoint.every_n_steps", 5]
    assert vnc(monkeypatch, *TRAIN, *arguments, "--name", "x") == 2
    error = capsys.readouterr().err
    assert "out of memory in step 11" in error and "lower model.device_batch_size (it is 16)" in error
    assert "Traceback" not in error
    assert len(agreements) == batch_size.OOM_STEPS, "the processes agree in the first steps, and no longer"


class Numbered:
    """Windows whose rows are numbers, so that a row can be told by its first one."""

    name, count, row_len = "numbers", 4, 3

    def rows(self, epoch, window):
        return np.arange(30 * 3, dtype=np.int32).reshape(30, 3) + 1000 * window, PackingReport()

    def expect(self, epoch, window):
        pass


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize(("before", "after"), [(12, 6), (12, 4), (6, 3), (3, 1), (4, 4), (2, 6)])
def test_regrouped_rows_are_what_the_reader_would_have_delivered(world, before, after):
    def batches(size):
        return StepBatches(Numbered(), 5, start(4), steps=2, micro_batches=12 // size, device_batch_size=size,
                           rank=world - 1, world=world)  # fmt: skip

    for one, other in zip(batches(before), batches(after), strict=True):
        assert torch.equal(regroup(one.rows, after), other.rows)


def small_plan(**changes):
    return make_plan(2, **(dict(vocab_size=512, sequence_len=64, aspect_ratio=32, head_dim=32, num_steps=4,
                                total_batch_tokens=64 * 24) | changes))  # fmt: skip


def test_fewer_rows_are_the_largest_divisor_up_to_half():
    plan, sizes = with_rows(small_plan(), 24), []
    while plan.device_batch_size > 1:
        plan = with_fewer_rows(plan)
        sizes.append((plan.device_batch_size, plan.micro_batches))
    assert sizes == [(12, 2), (6, 4), (3, 8), (1, 24)]
    with pytest.raises(UserError, match="device_batch_size=1"):
        with_fewer_rows(plan)


def test_libraries_that_ran_out_of_memory_are_known():
    for message in ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", "CUDA error: out of memory"):
        assert batch_size.is_out_of_memory(RuntimeError(message))
    assert not batch_size.is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))


def test_a_silent_wire_holds_what_one_of_many_would():
    plan, bytes_held = small_plan(), {}
    for world in (1, 4):
        trainee = batch_trial.Trainee(request(small_plan(world_size=world), [2]))
        trainee.train(2)
        assert all(p.isfinite().all() for p in trainee.gpt.parameters())
        bytes_held[world] = trainee.optimizer.held_bytes()
    oracle = MuonAdamW(GPT(plan.config), plan, SilentWire(3, 4)).held_bytes()
    assert bytes_held[4]["optimizer_state"] == oracle["optimizer_state"]
    assert bytes_held[4]["optimizer_state"] < 0.35 * bytes_held[1]["optimizer_state"]
    assert bytes_held[4]["gradients"] < 0.35 * bytes_held[1]["gradients"]


def request(plan, candidates, memory=None):
    return Request(plan.to_dict(), candidates, "cpu", "float32", memory=memory)


def test_candidates_divide_the_share_of_a_process():
    plan = small_plan(total_batch_tokens=64 * 96, world_size=2)
    assert batch_trial.candidates(plan, torch.device("cpu")) == [1, 2, 3, 4, 6, 8, 12, 16, 24]
    assert batch_trial.candidates(plan, torch.device("cuda")) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 48]
    with pytest.raises(UserError, match="give a number"):
        batch_trial.candidates(plan, torch.device("mps"))


@pytest.mark.slow
def test_the_trial_takes_the_largest_that_fits():
    """Rows of 1,024 tokens, so that activations outweigh the noise of an allocator."""
    plan = small_plan(sequence_len=1024, total_batch_tokens=1024 * 16)
    sizes = [1, 2, 4, 8, 16]
    all_of_them, said = largest_that_fits(request(plan, sizes, memory=64 * 10**9), seconds=100)
    assert all_of_them.device_batch_size == 16 and "the largest that was tried" in said
    some, said = largest_that_fits(request(plan, sizes, memory=all_of_them.peak // 2), seconds=100)
    assert 1 <= some.device_batch_size < 16 and "the largest that fits" in said
    assert some.peak <= some.limit == int(0.8 * (all_of_them.peak // 2))
    with pytest.raises(UserError, match="not even one row of sequence_len=1024"):
        largest_that_fits(request(plan, sizes, memory=10**6), seconds=100)


def test_a_trial_that_fails_says_why():
    with pytest.raises(UserError, match=r"the trial failed \(.*no_such_dtype.*\); give a number"):
        largest_that_fits(Request(small_plan().to_dict(), [1], "cpu", "no_such_dtype", memory=10**9), seconds=60)
    with pytest.raises(UserError, match="more than 0 s"):
        largest_that_fits(request(small_plan(), [1], 10**9), seconds=0.01)


@pytest.mark.slow
def test_auto_on_the_command_line(tmp_path, monkeypatch, capsys):
    """The trial's answer is used; a run that goes on keeps the checkpoint's; validation needs none."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def trial(request, seconds):
        asked.append(request.candidates)
        return Trial(4, True, 10**9, 2 * 10**9), "device_batch_size 4: the largest that fits, by trial"

    monkeypatch.setattr(batch_trial, "largest_that_fits", trial)
    arguments = [*TRAIN, "--model.device_batch_size", "auto", "--name", "run", "--model.num_steps", 4]
    assert vnc(monkeypatch, *arguments, "--trainer.max_steps", 2) == 0
    assert asked == [[1, 2, 4, 8, 16]] and "by trial" in capsys.readouterr().out
    plan = json.loads(Path("runs/run/checkpoints/last/plan.json").read_text())
    assert (plan["device_batch_size"], plan["micro_batches"]) == (4, 4)
    assert vnc(monkeypatch, *arguments, "--resume", "true") == 0
    assert len(asked) == 1 and "device_batch_size 4: the checkpoint's" in capsys.readouterr().out
    assert vnc(monkeypatch, "validate", *TRAIN[1:TRAIN.index("--samples.every_n_steps")], "--model.device_batch_size",
               "auto", "--ckpt_path", "runs/run", "--trainer.accelerator", "cpu") == 0  # fmt: skip
    assert len(asked) == 1


@pytest.mark.parametrize(("value", "code"), [("8", 0), ("null", 0), ("most", 2), ("0", 2)])
def test_what_the_option_takes(tmp_path, monkeypatch, capsys, value, code):
    monkeypatch.chdir(tmp_path)
    arguments = ["--model.num_steps", 1, "--model.device_batch_size", value, "--name", "run"]
    assert vnc(monkeypatch, *TRAIN, *arguments) == code
    assert ("device_batch_size" in capsys.readouterr().err) == (code == 2)


@pytest.mark.slow
def test_auto_on_two_processes(tmp_path):
    """Rank 0 tries, in a real process; both take its answer."""
    said = short_of_memory(tmp_path, "run", "--model.device_batch_size", "auto", devices=2, rows=99, first={},
                           place="forward")  # fmt: skip
    plan = json.loads((tmp_path / "runs/run/checkpoints/last/plan.json").read_text())
    assert plan["device_batch_size"] == 8 and "error" not in said
