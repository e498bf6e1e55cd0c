"""Bad input through the command line: one line on stderr that names the thing, exit code 2, nothing written over."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fitting import SMALL, vnc
from vnc.tokenizer import Tokenizer

TEXTS = [
    f"the {n} old boats on our lake are slow but they never sink, not even boat number {n * n}" for n in range(300)
]
MODEL = SMALL[SMALL.index("--model.depth") :]


def write_shards(folder: Path, *shards: list, column: str = "text") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, texts in enumerate(shards):
        pq.write_table(pa.table({column: pa.array(texts, type=pa.string())}), folder / f"shard_{number}.parquet")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A vocabulary, good data, and a run of two steps on it."""
    folder = tmp_path_factory.mktemp("bad_input")
    Tokenizer.train(TEXTS, 300).save(folder / "tokenizer")
    Tokenizer.train(TEXTS, 290).save(folder / "other_tokenizer")
    write_shards(folder / "good", TEXTS, TEXTS[:50])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert vnc(patch, "fit", *fit("good"), "--name", "good", "--trainer.max_steps", 2) == 0
    return folder


def fit(data_dir, tokenizer="tokenizer", model=MODEL):
    data = ["--data", "FineWebEdu", "--data.data_dir", data_dir, "--data.tokenizer", tokenizer, "--data.lanes", "4"]
    return [*data, "--data.val_tokens", "256", *model]


@pytest.fixture
def refused(home, monkeypatch, capsys):
    """refused(*arguments, names=...) runs vnc and checks how it ends."""
    monkeypatch.chdir(home)

    def check(*arguments, names):
        capsys.readouterr()
        assert vnc(monkeypatch, *arguments) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, lines
        for name in [names] if isinstance(names, str) else names:
            assert name in lines[0]
        return lines[0]

    return check


def test_missing_data_folder(refused):
    refused("fit", *fit("nowhere"), names=["nowhere", "no such data folder"])


def test_empty_data_folder(refused, home):
    (home / "empty").mkdir()
    refused("fit", *fit("empty"), names=["empty", "no Parquet shards"])


def test_one_shard_only(refused, home):
    write_shards(home / "one", TEXTS)
    refused("fit", *fit("one"), names=["one", "shard_0.parquet", "nothing to train on"])


def test_documents_all_empty(refused, home):
    write_shards(home / "blank", [""] * 300, TEXTS[:50])
    refused("fit", *fit("blank"), names="blank")


def test_null_document(refused, home):
    write_shards(home / "nulls", [*TEXTS[:70], None, *TEXTS[70:]], TEXTS[:50])
    refused("fit", *fit("nulls"), names=["nulls", "shard_0.parquet"])


def test_truncated_parquet(refused, home):
    folder = write_shards(home / "cut", TEXTS, TEXTS[:50])
    os.truncate(folder / "shard_0.parquet", 900)
    refused("fit", *fit("cut"), names="shard_0.parquet")


def test_damaged_row_group(refused, home):
    folder = write_shards(home / "damaged", TEXTS, TEXTS[:50])
    content = bytearray((folder / "shard_0.parquet").read_bytes())
    content[40:400] = bytes(360)
    (folder / "shard_0.parquet").write_bytes(content)
    refused("fit", *fit("damaged"), names="shard_0.parquet")


def test_no_text_column(refused, home):
    write_shards(home / "column", TEXTS, TEXTS[:50], column="body")
    refused("fit", *fit("column"), names=["shard_0.parquet", "'text'", "body"])


def test_unknown_option(refused):
    refused("fit", *fit("good"), "--model.dept", "4", names="--model.dept")


def test_unknown_key_in_a_config(refused, home):
    (home / "bad.yaml").write_text("model:\n  dept: 4\n")
    refused("fit", "--config", "bad.yaml", names="dept")


def test_config_that_is_not_there(refused):
    refused("fit", "--config", "configs/tinny.yaml", names=["tinny.yaml", "configs/tiny.yaml"])


def test_config_that_is_not_yaml(refused, home):
    (home / "broken.yaml").write_text("model: [depth: 4")
    refused("fit", "--config", "broken.yaml", names="broken.yaml")


def test_depth_zero(refused):
    refused("plan", "--depth", 0, names="depth=0")
    refused("fit", *fit("good"), "--model.depth", 0, names="depth=0")


def test_batch_that_the_micro_batch_does_not_divide(refused):
    refused("fit", *fit("good"), "--model.device_batch_size", 3, names="device_batch_size=3")


def test_missing_tokenizer(refused):
    refused("fit", *fit("good", tokenizer="no_tokenizer"), names="no_tokenizer")


def test_checkpoint_of_another_vocabulary(refused):
    for option in ("--ckpt_path", "--model.init_from"):
        refused("fit", *fit("good", "other_tokenizer"), option, "runs/good", names=["runs/good", "another vocabulary"])


def test_checkpoint_of_other_sizes(refused):
    refused("fit", *fit("good"), "--model.depth", 3, "--ckpt_path", "runs/good", names=["runs/good", "n_layer"])


def test_checkpoint_of_other_data(refused, home):
    write_shards(home / "more", TEXTS + TEXTS, TEXTS[:50])
    refused("fit", *fit("more"), "--ckpt_path", "runs/good", names="resumed on the same data")


def test_folder_that_is_no_checkpoint(refused, home):
    for verb in (
        ["chat", "--prompt", "x", "--checkpoint"],
        ["evaluate", "--checkpoint"],
        ["fit", *fit("good"), "--ckpt_path"],
    ):
        refused(*verb, "good", names=["good", "not a vnc checkpoint"])
        refused(*verb, "nowhere", names=["nowhere", "does not exist"])
    refused("fit", *fit("good"), "--ckpt_path", "tokenizer/tokenizer.json", names="is a file")
    refused("export", "good", "out", names="not a vnc checkpoint")


def test_checkpoint_with_a_truncated_shard(refused, home):
    shutil.copytree(home / "runs" / "good" / "checkpoints" / "last", home / "broken_checkpoint")
    for part in ("optimizer", "model"):
        shard = next((home / "broken_checkpoint" / part).glob("*.safetensors"))
        os.truncate(shard, shard.stat().st_size - 100)
        refused("fit", *fit("good"), "--ckpt_path", "broken_checkpoint", names=[str(shard.name), "truncated"])
    for verb in (["chat", "--prompt", "x"], ["evaluate"]):
        refused(*verb, "--checkpoint", "broken_checkpoint", names="truncated")


def test_prompt_longer_than_the_context(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    prompt = "the old boats on our lake " * 60
    assert vnc(monkeypatch, "chat", "--checkpoint", "runs/good", "--prompt", prompt, "--max_tokens", 4) == 0
    assert "left out" in capsys.readouterr().err


def test_unknown_verb(refused):
    refused("trian", names=["trian", "fit"])
    refused("tokenizer", names=["tokenizer", "train"])


def test_tokenizer_that_would_be_overwritten(refused, home):
    before = (home / "tokenizer" / "tokenizer.json").read_bytes()
    refused("tokenizer", "train", "--data", "good", "--vocab_size", 280, "--out", "tokenizer", names="exists already")
    assert (home / "tokenizer" / "tokenizer.json").read_bytes() == before
