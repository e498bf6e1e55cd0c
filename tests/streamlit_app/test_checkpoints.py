"""Which checkpoints the app finds, what it says of them, and that it stays below its folder."""

import json
import os
import shutil
from pathlib import Path

import pytest

from streamlit_app.checkpoints import find_checkpoints, locate
from vnc.errors import UserError


def test_chat_and_base_are_told_apart(parrots: Path) -> None:
    found = {each.name: each for each in find_checkpoints(parrots)}
    assert {name: each.kind for name, each in found.items()} == {
        "parrot/checkpoints/step_00000300": "chat",
        "cuckoo/checkpoints/step_00000020": "chat",
        "base/checkpoints/step_00000100": "base",
    }
    parrot = found["parrot/checkpoints/step_00000300"]
    assert parrot.label == "parrot · chat · step 300 (last)" and parrot.title == "parrot · step 300 (last)"
    assert parrot.folder == locate(parrots, parrot.name)
    assert find_checkpoints(parrots)[0] == parrot  # chat before base, `last` before others


def test_an_empty_or_missing_folder(tmp_path: Path) -> None:
    assert find_checkpoints(tmp_path) == find_checkpoints(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda folder: (folder / "model.json").write_text("{"), "model.json cannot be read"),
        (lambda folder: (folder / "model.json").write_text('{"format": 1, "config": {}}'), "model.json"),
        (lambda folder: (folder / "model.json").write_text('{"format": 1, "config": 3, "chat": true}'), "model.json"),
        (lambda folder: (folder / "model.json").write_text('{"format": 9}'), "format 9"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model"),
        (lambda folder: os.truncate(folder / "model.safetensors", 5_000), "truncated or damaged"),
    ],
)
def test_broken_ones_are_listed_last_with_the_reason(own_runs: Path, damage, reason: str) -> None:
    damage(own_runs / "parrot" / "checkpoints" / "step_00000300")
    found = find_checkpoints(own_runs)
    assert [bool(each.problem) for each in found] == [False, False, True]
    assert found[-1].kind is None and reason in found[-1].problem and found[-1].label.startswith("parrot · broken")
    assert str(own_runs) not in found[-1].problem and "\n" not in found[-1].problem


def test_sharded_weights_are_needed_whole(own_runs: Path) -> None:
    folder = own_runs / "parrot" / "checkpoints" / "step_00000300"
    (folder / "model").mkdir()
    (folder / "model.safetensors").rename(folder / "model" / "shard.safetensors")
    assert not find_checkpoints(own_runs)[0].problem
    os.truncate(folder / "model" / "shard.safetensors", 100)
    assert "shard.safetensors is truncated" in find_checkpoints(own_runs)[-1].problem
    (folder / "model" / "shard.safetensors").unlink()
    assert "no *.safetensors" in find_checkpoints(own_runs)[-1].problem


def test_links_out_of_the_folder_are_not_followed(own_runs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(own_runs / "cuckoo", outside / "secret")
    (own_runs / "link").symlink_to(outside / "secret")
    (own_runs / "cuckoo" / "checkpoints" / "away").symlink_to(outside / "secret" / "checkpoints" / "step_00000020")
    assert all(outside not in each.folder.resolve().parents for each in find_checkpoints(own_runs))
    assert len(find_checkpoints(own_runs)) == 3
    for name in ("link/checkpoints/step_00000020", "cuckoo/checkpoints/away", "../outside/secret", str(outside), ".."):
        with pytest.raises(UserError, match="no such checkpoint"):
            locate(own_runs, name)


@pytest.mark.parametrize("name", ["model.json", "tokenizer.json", "model.safetensors"])
def test_files_that_are_links_out_of_the_folder_are_not_read(own_runs: Path, tmp_path: Path, name: str) -> None:
    file = own_runs / "cuckoo" / "checkpoints" / "step_00000020" / name
    shutil.move(file, tmp_path / name)
    file.symlink_to(tmp_path / name)
    assert "outside the runs folder" in find_checkpoints(own_runs)[-1].problem


def test_what_is_being_written_is_left_alone(own_runs: Path) -> None:
    checkpoints = own_runs / "parrot" / "checkpoints"
    shutil.copytree(checkpoints / "step_00000300", checkpoints / ".partial-step_00000400-77")
    assert len(find_checkpoints(own_runs)) == 3


def test_links_in_a_circle(own_runs: Path) -> None:
    (own_runs / "circle").symlink_to(own_runs)
    (own_runs / "self").symlink_to(own_runs / "self")
    assert len(find_checkpoints(own_runs)) == 3
    with pytest.raises(UserError):
        locate(own_runs, "self")


def test_an_export_is_found_and_read_only(own_runs: Path) -> None:
    export = own_runs / "my model"
    shutil.copytree(own_runs / "cuckoo" / "checkpoints" / "step_00000020", export)
    values = json.loads((export / "model.json").read_text())
    before = sorted((path, path.stat().st_mtime_ns) for path in own_runs.rglob("*"))
    labels = [each.label for each in find_checkpoints(own_runs)]
    assert "my model · chat" in labels and values["chat"]
    assert sorted((path, path.stat().st_mtime_ns) for path in own_runs.rglob("*")) == before
