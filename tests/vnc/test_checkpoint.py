"""Checkpoints: whole or absent, exact, and refused in one line when they are not what they should be."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.launching import Process, started, wait_for
from vnc import checkpoint as files
from vnc.buckets import Piece
from vnc.depth import model_config
from vnc.errors import UserError
from vnc.gpt import GPT
from vnc.sharded_tensors import save_tensors
from vnc.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(
        [f"the {n} old boats on our lake are slow but they never sink {n * n}" for n in range(99)], 320
    )


def write(folder: Path, tokenizer: Tokenizer, seed: int = 0, chat: bool = False) -> GPT:
    gpt = GPT(model_config(2, vocab_size=tokenizer.vocab_size, sequence_len=16, aspect_ratio=16, head_dim=16))
    gpt.init_weights(torch.Generator().manual_seed(seed))

    def fill(partial: Path) -> None:
        files.write_model_json(partial, gpt.config, chat)
        tokenizer.save(partial)
        save_tensors(partial / "model", {name: Piece.whole(p.data) for name, p in gpt.named_parameters()})

    files.publish(folder, fill)
    return gpt


def test_weights_come_back_bit_for_bit(tmp_path, tokenizer):
    gpt = write(tmp_path / "step", tokenizer, chat=True)
    loaded = files.load_model(tmp_path / "step", compute_dtype=torch.float32)
    assert loaded.chat and loaded.tokenizer.fingerprint == tokenizer.fingerprint
    for (name, mine), (_, theirs) in zip(gpt.named_parameters(), loaded.gpt.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def test_what_one_process_wrote_is_read_without_a_wait_for_imports(tmp_path, tokenizer):
    write(tmp_path / "step", tokenizer)
    script = (
        "import sys; from vnc.checkpoint import load_model; load_model(sys.argv[1]); "
        "assert not {'lightning', 'torch._dynamo', 'torch.distributed.checkpoint'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "step")], cwd=ROOT, check=True)


def test_blocks_of_whole_tensors_are_read(tmp_path):
    tensors = {"x": torch.arange(24.0).view(6, 4), "count": torch.tensor(3.0)}
    save_tensors(tmp_path, {name: Piece.whole(tensor) for name, tensor in tensors.items()})
    block = torch.zeros(2, 4)
    files.load_tensors(tmp_path, {"x": Piece((6, 4), (2, 0), block), "count": Piece.whole(count := torch.zeros(()))})
    assert torch.equal(block, tensors["x"][2:4]) and count == 3
    with pytest.raises(UserError, match=r"model-.*: x has shape \(6, 4\), this run needs \(6, 5\)"):
        files.load_tensors(tmp_path, {"x": Piece.whole(torch.zeros(6, 5))})


def test_a_checkpoint_holds_no_pickle(tmp_path, tokenizer):
    write(tmp_path / "step", tokenizer)
    assert {file.suffix for file in (tmp_path / "step").rglob("*") if file.is_file()} == {".json", ".safetensors"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_export_opens_and_answers_alike(tmp_path, tokenizer, dtype):
    gpt = write(tmp_path / "step", tokenizer)
    files.export(tmp_path / "step", tmp_path / "out", dtype)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"model.json", "model.safetensors", "tokenizer.json"}
    loaded = files.load_model(tmp_path / "out", compute_dtype=torch.float32)
    ids = torch.randint(0, 300, (1, 10))
    difference = (loaded.gpt.logits(loaded.gpt(ids)) - gpt.logits(gpt(ids))).abs().max()
    assert difference == 0 if dtype == "float32" else 0 < difference < 0.01
    with pytest.raises(UserError, match="exists already"):
        files.export(tmp_path / "step", tmp_path / "out")


def test_nothing_is_left_of_a_failed_write(tmp_path):
    def fail(partial: Path) -> None:
        (partial / "model.json").write_text("{}")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        files.publish(tmp_path / "step", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_means_its_last_checkpoint(tmp_path, tokenizer):
    write(tmp_path / "run" / "checkpoints" / "step_00000010", tokenizer)
    files.point(tmp_path / "run" / "checkpoints" / "last", tmp_path / "run" / "checkpoints" / "step_00000010")
    for path in ("run", "run/checkpoints", "run/checkpoints/last", "run/checkpoints/step_00000010"):
        assert files.resolve(tmp_path / path).resolve().name == "step_00000010"


def damage_nothing_there(folder):
    shutil.rmtree(folder)


def damage_other_folder(folder):
    (folder / "model.json").unlink()


def damage_truncate_shard(folder):
    shard = next((folder / "model").glob("*.safetensors"))
    os.truncate(shard, shard.stat().st_size // 2)


def damage_truncate_header(folder):
    os.truncate(next((folder / "model").glob("*.safetensors")), 5)


def damage_remove_shard(folder):
    next((folder / "model").glob("*.safetensors")).unlink()


def damage_json(folder):
    (folder / "model.json").write_text('{"format": 1, "conf')


def damage_format(folder):
    (folder / "model.json").write_text(json.dumps({"format": 99}))


def damage_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")


def damage_sizes(folder):
    values = json.loads((folder / "model.json").read_text())
    values["config"]["n_embd"] = 64
    (folder / "model.json").write_text(json.dumps(values))


@pytest.mark.parametrize("damage", [value for name, value in dict(globals()).items() if name.startswith("damage_")])
def test_damage_is_told_in_one_line_that_names_the_place(tmp_path, tokenizer, damage):
    folder = tmp_path / "step"
    write(folder, tokenizer)
    damage(folder)
    with pytest.raises(UserError) as caught:
        files.load_model(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


PUBLISH_FOREVER = """
import sys, torch
from pathlib import Path
from vnc import checkpoint as files
from vnc.buckets import Piece
from vnc.sharded_tensors import save_tensors
folder = Path(sys.argv[1])
step = len(list(folder.glob("step_*")))
while True:
    step += 1
    def fill(partial):
        for part in range(3):
            save_tensors(partial / str(part), {"x": Piece.whole(torch.full((200, 200), float(step)))})
    files.publish(folder / f"step_{step:06d}", fill)
    files.point(folder / "last", folder / f"step_{step:06d}")
"""


@pytest.mark.slow
def test_a_process_killed_at_any_moment_leaves_last_whole(tmp_path):
    """SIGKILL while publishing without pause, again and again: `last` always names a whole checkpoint."""
    draw, last = random.Random(0), tmp_path / "last"
    (tmp_path / "publish.py").write_text(PUBLISH_FOREVER)
    for _ in range(8):
        before = last.resolve().name
        with started(Process(tmp_path, "publish.py", tmp_path)) as (writer,):
            wait_for(lambda: last.resolve().name != before, writer)  # noqa: B023
            time.sleep(draw.uniform(0, 0.1))
            os.kill(writer.popen.pid, signal.SIGKILL)
            assert writer.end() == -signal.SIGKILL
        step = float(last.resolve().name.removeprefix("step_"))
        for part in range(3):
            found = {"x": torch.zeros(200, 200)}
            files.load_tensors(tmp_path / "last" / str(part), {"x": Piece.whole(found["x"])})
            assert torch.equal(found["x"], torch.full((200, 200), step))
