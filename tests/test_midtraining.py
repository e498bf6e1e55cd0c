"""Mid-training and a user's own text, from end to end: what is taken over from the pretrained model, what is learnt."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fitting import SMALL, losses, tensors, vnc
from tests.launching import ended, ranks
from vnc import schedule
from vnc.depth import make_plan

QUIET = ["--samples.every_n_steps", "0", "--trainer.log_every_n_steps", "1", "--trainer.accelerator", "cpu"]
CHAT = ["--data", "TaskMixture", "--data.tasks", "[{task: spelling, size: 300}]", "--data.lanes", "8",
        "--data.val_tokens", "512", *QUIET]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/base, pretrained for 20 steps."""
    folder = tmp_path_factory.mktemp("midtraining")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert vnc(patch, "fit", *SMALL, "--name", "base") == 0
    return folder


@pytest.fixture
def fit(base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(base)

    def fit_(name: str, *arguments: object) -> tuple[dict[str, Any], str]:
        capsys.readouterr()
        code = vnc(monkeypatch, "fit", *CHAT, "--data.tokenizer", "runs/base/checkpoints/last", "--name", name,
                   "--model.init_from", "runs/base", *arguments)  # fmt: skip
        said = capsys.readouterr()
        assert code == 0, said.err
        return json.loads((base / "runs" / name / "run.json").read_text()), said.out

    return fit_


def test_the_recipe_of_midtraining() -> None:
    """nanochat's scripts/chat_sft.py (July 2026): rates x 0.8, constant and then linear to 0 over the second half,
    momentum 0.85 to 0.95 over 300 steps, no decay of the matrices."""
    before, plan = (make_plan(12, num_steps=1000, stage=stage) for stage in ("pretraining", "midtraining"))  # type: ignore[arg-type]
    for name, group in plan.groups.items():
        assert group.lr == pytest.approx(0.8 * before.groups[name].lr)
    assert plan.weight_decay == plan.groups["matrices"].weight_decay == 0.0 < before.weight_decay
    assert [schedule.lr_multiplier(plan, step) for step in (0, 499, 500, 750, 999)] == pytest.approx(
        [1, 1, 1, 0.5, 0.002]
    )
    assert [schedule.muon_momentum(plan, step) for step in (0, 150, 300, 900)] == pytest.approx([0.85, 0.9, 0.95, 0.95])


def test_an_epoch_is_the_horizon_and_the_batch_is_the_models(fit: Any) -> None:
    record, said = fit("epoch")
    plan, base_plan = record["plan"], json.loads(Path("runs/base/run.json").read_text())["plan"]
    assert plan["total_batch_tokens"] == base_plan["total_batch_tokens"] and plan["config"] == base_plan["config"]
    assert plan["schedule"] == "midtraining" and "one epoch: about" in said
    assert 10 < plan["num_steps"] < 100
    assert "optimizer state from runs/base/checkpoints/last" in said
    first, last = (sum(row["loss"] for row in part) / 5 for part in (record["train"][:5], record["train"][-5:]))
    assert last < first  # it learns what the assistant says


def test_the_optimizer_goes_on_where_pretraining_left_it_or_starts_afresh(fit: Any) -> None:
    warm, _ = fit("warm", "--model.num_steps", 2)
    cold, said = fit("cold", "--model.num_steps", 2, "--model.init_optimizer", "false")
    assert "optimizer state" not in said
    assert warm["train"][0]["loss"] == cold["train"][0]["loss"] and warm["train"][1]["loss"] != cold["train"][1]["loss"]
    steps = [json.loads(Path(f"runs/{name}/checkpoints/last/trainer.json").read_text()) for name in ("warm", "cold")]
    assert [step["optimizer_steps"] for step in steps] == [22, 2] and [step["global_step"] for step in steps] == [2, 2]


def test_interrupted_and_resumed_it_equals_the_uninterrupted_run(fit: Any, base: Path) -> None:
    fit("whole", "--model.num_steps", 6)
    fit("parts", "--model.num_steps", 6, "--trainer.max_steps", 3)
    fit("parts", "--model.num_steps", 6, "--resume", "true")
    one, other = (tensors(base / "runs" / name / "checkpoints" / "last") for name in ("whole", "parts"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert losses(base / "runs" / "whole") == losses(base / "runs" / "parts")


def test_metrics_and_the_console_say_what_became_of_the_tokens(fit: Any) -> None:
    _, said = fit("shares", "--model.num_steps", 3)
    assert said.count("data so far: ") == 2 and "% of cells padding" in said  # after the first step and the last
    header, *rows = Path("runs/shares/metrics.csv").read_text().splitlines()
    columns = header.split(",")
    assert {"data/cropped", "data/padded", "data/left_out", "train/data_wait_seconds"} <= set(columns)
    assert 0 < float(rows[0].split(",")[columns.index("data/padded")]) < 1


def test_midtraining_without_a_model_is_one_line(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(base)
    assert vnc(monkeypatch, "fit", *CHAT, "--data.tokenizer", "gpt2", "--model.stage", "midtraining") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "--model.init_from" in errors[0]


def test_a_setting_that_a_data_module_refuses_is_one_line(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(base)
    assert vnc(monkeypatch, "fit", *SMALL, "--data.seed", "-1") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "seed=-1" in errors[0]


def test_local_text_is_prepared_learnt_and_noticed_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(40):
        (texts / f"{number}.txt").write_text(f"Boat number {number} sails on our lake and never sinks. " * 8)
    data = ["--data", "LocalText", "--data.path", "texts", "--data.vocab_size", "280", "--data.lanes", "4",
            "--data.val_tokens", "128", *SMALL[SMALL.index("--model.depth") :], "--model.num_steps", "2"]  # fmt: skip
    assert vnc(monkeypatch, "fit", *data, "--name", "one") == 0
    assert "prepared already" not in capsys.readouterr().out
    assert {path.name for path in Path("data/local_text").iterdir()} == {"shards", "bpe_280", ".lock"}
    assert vnc(monkeypatch, "fit", *data, "--name", "two") == 0
    said = capsys.readouterr()
    assert losses(Path("runs/one")) == losses(Path("runs/two")) and "newer" not in said.err
    (texts / "3.txt").write_text("Something else.")
    with pytest.warns(UserWarning, match=r"3.txt is newer than data.local_text.shards.*remove that folder"):
        vnc(monkeypatch, "fit", *data, "--name", "three")


def test_openwebtext_is_read_as_one_stream(
    tmp_path: Path, corpus_of_boats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--data", "OpenWebText", "--data.data_dir", str(corpus_of_boats), "--data.tokenizer",
            str(corpus_of_boats / "tokenizer"), "--data.lanes", "4", "--data.val_tokens", "128"]  # fmt: skip
    small = [*SMALL[SMALL.index("--model.depth") :], "--model.preset", "gpt2", "--model.num_steps", "2"]
    assert vnc(monkeypatch, "fit", *data, *small, "--name", "owt") == 0
    state = json.loads(Path("runs/owt/checkpoints/last/data.json").read_text())
    assert state["identity"]["packing"] == "concat"


@pytest.fixture
def corpus_of_boats(tmp_path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from vnc.tokenizer import Tokenizer

    texts = [f"Boat number {number} sails on our lake and never sinks. " * 8 for number in range(60)]
    folder = tmp_path / "boats"
    folder.mkdir()
    for shard, part in enumerate((texts[:50], texts[50:])):
        pq.write_table(pa.table({"text": part}), folder / f"shard_{shard}.parquet")
    Tokenizer.train(texts, 280).save(folder / "tokenizer")
    return folder


@pytest.mark.slow
def test_two_processes_train_a_mixture_to_the_same_weights(base: Path) -> None:
    """Conversations differ in how much of them is learnt, so a step's loss must be shared out by targets over all ranks
    and micro-batches, not by rows."""
    runs = {}
    for devices in (1, 2):
        command = ("-m", "cli", "fit", *CHAT, "--data.tokenizer", "runs/base/checkpoints/last", "--model.init_from",
                   "runs/base", "--model.num_steps", 4, "--name", f"on_{devices}")  # fmt: skip
        processes = ranks(devices, base, *command)
        assert set(ended(*processes)) == {0}, [process.err for process in processes]
        runs[devices] = base / "runs" / f"on_{devices}"
    one, two = (tensors(run / "checkpoints" / "last") for run in runs.values())
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert losses(runs[1]) == losses(runs[2])
