"""`vnc fit` from end to end: what a run leaves behind, exact resume, guards, and failures after the last step."""

import csv
import json
import math
import random
import signal
import time

import pytest
import torch

from tests.fitting import SMALL, losses, tensors, vnc
from tests.launching import Process
from vnc.checkpoint import load_model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory with one run of 20 steps, runs/whole, and the vocabulary it trained."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert vnc(patch, "fit", *SMALL, "--name", "whole", "--checkpoint.every_n_steps", 5) == 0
    return folder


@pytest.fixture
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


def test_a_run_leaves_its_record(here):
    run = here / "runs" / "whole"
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert [row["step"] for row in record["train"]] == list(range(20))
    assert [row["step"] for row in record["val"]] == [10, 20]
    assert record["plan"]["num_steps"] == 20 and record["params"]["total"] > 0
    assert all(math.isfinite(row["loss"]) for row in record["train"])
    assert record["train"][-1]["tokens_per_second"] > 0
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 22 and float(rows[-1]["val/bits_per_byte"]) == record["val"][-1]["bits_per_byte"]
    assert (run / "config.yaml").is_file() and list(run.glob("events.out.tfevents.*"))


def test_a_run_learns(here):
    values = losses(here / "runs" / "whole")
    assert values[-1] < values[0] - 0.2


def test_every_weight_has_learnt(here):
    """A gradient has reached every parameter's optimizer state, and no projection is left at its initial zero."""
    found = tensors(here / "runs" / "whole" / "checkpoints" / "last")
    moments = {name: tensor for name, tensor in found.items() if name.endswith((".momentum", ".exp_avg"))}
    assert len(moments) == len([name for name in found if name.startswith("model.")])
    assert [name for name, tensor in moments.items() if not tensor.abs().max() > 0] == []
    assert all(
        found[f"model.blocks.{i}.{part}.proj.weight"].abs().max() > 0 for i in (0, 1) for part in ("attn", "mlp")
    )


def test_retention_keeps_the_newest_and_the_best(here):
    names = sorted(path.name for path in (here / "runs" / "whole" / "checkpoints").iterdir())
    assert names == ["best", "last", "step_00000015", "step_00000020"]


def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(here, monkeypatch):
    half = [*SMALL, "--name", "half", "--checkpoint.every_n_steps", 5]
    assert vnc(monkeypatch, "fit", *half, "--trainer.max_steps", 10) == 0
    assert len(losses(here / "runs" / "half")) == 10
    assert vnc(monkeypatch, "fit", *half, "--resume", "true") == 0
    whole, resumed = here / "runs" / "whole", here / "runs" / "half"
    assert losses(resumed) == losses(whole)
    mine, theirs = (tensors(run / "checkpoints" / "last") for run in (resumed, whole))
    assert mine.keys() == theirs.keys() and len(mine) > 40
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    for name in ("data.json", "plan.json"):
        files = [(run / "checkpoints" / "last" / name).read_text() for run in (resumed, whole)]
        assert files[0] == files[1]
    val = [json.loads((run / "run.json").read_text())["val"] for run in (resumed, whole)]
    assert val[0] == val[1]
    tables = [list(csv.DictReader((run / "metrics.csv").open())) for run in (resumed, whole)]
    for key in ("step", "train/loss_ema", "train/gradient_norm", "train/tokens", "val/bits_per_byte"):
        assert [row[key] for row in tables[0]] == [row[key] for row in tables[1]]


def test_resume_from_an_earlier_checkpoint_keeps_the_later_one(here, monkeypatch):
    first = here / "runs" / "whole" / "checkpoints" / "step_00000015"
    later = (here / "runs" / "whole" / "checkpoints" / "step_00000020").stat().st_ino
    assert vnc(monkeypatch, "fit", *SMALL, "--name", "whole", "--ckpt_path", first) == 0
    folder = here / "runs" / "whole" / "checkpoints"
    assert (folder / "step_00000020").stat().st_ino == later
    assert (folder / "last").resolve().name == "step_00000020.1"
    before, after = (tensors(folder / name) for name in ("step_00000020", "step_00000020.1"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(losses(here / "runs" / "whole")) == 20


def test_same_seed_same_weights_other_seed_others(here, monkeypatch):
    for name, seed in (("again", 1337), ("other", 7)):
        arguments = [*SMALL, "--name", name, "--trainer.max_steps", 3, "--seed_everything", seed]
        assert vnc(monkeypatch, "fit", *arguments) == 0
    assert losses(here / "runs" / "again") == losses(here / "runs" / "whole")[:3]
    assert losses(here / "runs" / "other") != losses(here / "runs" / "whole")[:3]


def test_a_taken_run_folder_is_refused_and_a_finished_one_not_repeated(here, monkeypatch, capsys):
    assert vnc(monkeypatch, "fit", *SMALL, "--name", "whole") == 2
    assert "holds a run already" in capsys.readouterr().err
    assert vnc(monkeypatch, "fit", *SMALL, "--name", "whole", "--resume", "true") == 0
    assert "is finished" in capsys.readouterr().out


def test_validate_gives_the_run_s_own_figure(here, monkeypatch, capsys):
    last = here / "runs" / "whole" / "checkpoints" / "last"
    arguments = [item for item in SMALL if "samples" not in str(item)]
    arguments.remove("0")
    assert vnc(monkeypatch, "validate", *arguments, "--ckpt_path", last) == 0
    figure = json.loads((here / "runs" / "whole" / "run.json").read_text())["val"][-1]["bits_per_byte"]
    assert str(figure) in capsys.readouterr().out


def test_chat_training_starts_from_a_checkpoint(here, monkeypatch):
    last = here / "runs" / "whole" / "checkpoints" / "last"
    small = SMALL[: SMALL.index("--model.depth")]
    settings = ["--model.total_batch_tokens", 256, "--model.device_batch_size", 4, "--model.num_steps", 3,
                "--samples.every_n_steps", 3, "--trainer.log_every_n_steps", 1]  # fmt: skip
    arguments = [*small, "--data.content", "chat", *settings, "--model.init_from", last, "--name", "chat"]
    assert vnc(monkeypatch, "fit", *arguments) == 0
    loaded = load_model(here / "runs" / "chat")
    assert loaded.chat and not load_model(last).chat
    assert loaded.gpt.config == load_model(last).gpt.config


def test_weights_are_saved_before_anything_after_the_last_step_can_fail(here, monkeypatch):
    from callbacks import Samples

    def fail(self, *args, **kwargs):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(Samples, "write", fail)
    arguments = [*SMALL, "--name", "broken", "--trainer.max_steps", 4]
    arguments[arguments.index("--samples.every_n_steps") + 1] = "100"
    with pytest.raises(RuntimeError, match="disk is full"):  # an internal fault keeps its traceback
        vnc(monkeypatch, "fit", *arguments)
    saved = here / "runs" / "broken" / "checkpoints" / "last"
    assert json.loads((saved / "trainer.json").read_text())["global_step"] == 4
    assert json.loads((here / "runs" / "broken" / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_loss_ends_the_run_and_keeps_the_good_checkpoint(here, monkeypatch, capsys, value):
    from vnc.gpt import GPT

    real, calls = GPT.summed_loss, []

    def sabotaged(self, *args, **kwargs):
        calls.append(1)
        loss = real(self, *args, **kwargs)
        return loss * value if len(calls) > 2 * 6 else loss  # two micro-batches a step: step 6 breaks

    monkeypatch.setattr(GPT, "summed_loss", sabotaged)
    name = f"diverged_{value}"
    assert vnc(monkeypatch, "fit", *SMALL, "--name", name, "--checkpoint.every_n_steps", 1) == 2
    assert "training stopped at step 6" in capsys.readouterr().err
    last = here / "runs" / name / "checkpoints" / "last"
    assert json.loads((last / "trainer.json").read_text())["global_step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in tensors(last).values())


def test_a_full_disk_is_told_and_earlier_checkpoints_stay(here, monkeypatch, capsys):
    from vnc import run_checkpoint

    real = run_checkpoint.save_tensors

    def full(folder, *arguments):
        if len(list((here / "runs" / "full" / "checkpoints").glob("step_*"))) >= 2:
            raise OSError(28, "No space left on device")
        real(folder, *arguments)

    monkeypatch.setattr(run_checkpoint, "save_tensors", full)
    assert vnc(monkeypatch, "fit", *SMALL, "--name", "full", "--checkpoint.every_n_steps", 2) == 2
    error = capsys.readouterr().err
    assert "No space left" in error and "earlier checkpoints are untouched" in error
    names = sorted(path.name for path in (here / "runs" / "full" / "checkpoints").iterdir())
    assert names == ["last", "step_00000002", "step_00000004"]


@pytest.mark.slow
def test_killed_training_resumes_to_the_same_weights(here):
    """SIGKILL a training process that saves at every step, at random moments, until it is through."""
    arguments = [*SMALL, "--name", "killed", "--checkpoint.every_n_steps", "1", "--resume", "true"]
    draw, kills = random.Random(1), 0
    run = here / "runs" / "killed"
    for _ in range(12):
        process = Process(here, "-m", "cli", "fit", *arguments).popen
        seen = len(list((run / "checkpoints").glob("step_*"))) if run.exists() else 0
        newest = (run / "checkpoints" / "last").resolve().name if seen else ""
        while process.poll() is None:  # until it has saved something new, then a moment longer
            if (run / "checkpoints" / "last").resolve().name not in (newest, "last") and kills < 3:
                time.sleep(draw.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        if process.wait() == 0:
            break
        load_model(run)
    assert kills == 3
    mine, theirs = (tensors(here / "runs" / name / "checkpoints" / "last") for name in ("killed", "whole"))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
