"""The chat and question sets: from the Hub or a local folder, one file a split, with the columns and order they had."""

import io
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import Hub, commit, running

from datamodules.prepare.task_mixture import MIXTURE, TASKS

Run = Callable[..., tuple[int, str, str]]


def chat(first: int, count: int) -> pa.Table:
    messages = [[{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": f"a {n}"}]
                for n in range(first, first + count)]  # fmt: skip
    return pa.table({"messages": messages, "source": [f"s{n % 3}" for n in range(first, first + count)]})


def question(split: str, count: int = 30) -> pa.Table:
    return pa.table({"question": [f"{split} {n}?" for n in range(count)], "choices": [["a", "b"]] * count,
                     "answer": list(range(count))})  # fmt: skip


def packed(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """smoltalk's training split is in three files; gsm8k exists only as the Hub's conversion."""
    repositories: dict[str, dict[str, dict[str, bytes]]] = {
        "HuggingFaceTB/smol-smoltalk": {"main": {
            **{f"data/train-0000{k}-of-00003.parquet": packed(chat(1_500 * k, 1_500)) for k in range(3)},
            "data/test-00000-of-00001.parquet": packed(chat(9_000, 20)),
        }},
        "cais/mmlu": {"main": {
            "README.md": b"", "anatomy/test-00000-of-00001.parquet": packed(question("anatomy")),
            **{f"all/{split}-00000-of-00001.parquet": packed(question(split)) for split in TASKS["mmlu"].splits},
        }},
        "openai/gsm8k": {"main": {"main/train.jsonl": b""}, "refs/convert/parquet": {
            f"main/{split}/0000.parquet": packed(question(split)) for split in ("train", "test")}},
        "allenai/ai2_arc": {"main": {
            f"{folder}/{split}-00000-of-00001.parquet": packed(question(f"{folder} {split}"))
            for folder in ("ARC-Easy", "ARC-Challenge") for split in ("train", "validation", "test")}},
        "openai/openai_humaneval": {"main": {
            "openai_humaneval/test-00000-of-00001.parquet": packed(question("humaneval"))}},
    }  # fmt: skip
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    with running(repositories) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_from_the_hub(tmp_path: Path, hub: Hub, vnc_prepare: Run, manifest_of: Any, contents: Any) -> None:
    out = tmp_path / "out"
    code, said, _ = vnc_prepare("task_mixture", "--out", out)
    assert code == 0 and "4,880 rows in 14 files" in said
    names = [f"{name}/{split}.parquet" for name in MIXTURE.split(",") for split in TASKS[name].splits]
    assert sorted(contents(out)) == sorted([*names, "manifest.json"])
    assert [shard["name"] for shard in manifest_of(out)["shards"]] == names
    assert pq.read_table(out / "smoltalk" / "train.parquet").to_pylist() == chat(0, 4_500).to_pylist()
    assert pq.read_table(out / "mmlu" / "auxiliary_train.parquet") == question("auxiliary_train")
    assert pq.read_table(out / "gsm8k" / "test.parquet") == question("test")
    assert pq.read_table(out / "arc_challenge" / "validation.parquet") == question("ARC-Challenge validation")
    assert commit("openai/gsm8k", "refs/convert/parquet") in manifest_of(out)["source"]
    assert vnc_prepare("verify", "--data", out)[0] == 0
    assert "prepared already" in vnc_prepare("task_mixture", "--out", out)[1]


def test_humaneval_only_where_it_is_named(tmp_path: Path, hub: Hub, vnc_prepare: Run, contents: Any) -> None:
    assert "humaneval" not in MIXTURE
    assert vnc_prepare("task_mixture", "--tasks", "gsm8k,humaneval", "--out", tmp_path / "out")[0] == 0
    assert pq.read_table(tmp_path / "out" / "humaneval" / "test.parquet") == question("humaneval")


def test_a_hub_that_fails_in_the_middle(
    tmp_path: Path, hub: Hub, vnc_prepare: Run, refused: Any, contents: Any
) -> None:
    """What is finished is not fetched again."""
    assert vnc_prepare("task_mixture", "--tasks", "arc_easy,gsm8k", "--out", tmp_path / "whole")[0] == 0
    hub.fault = lambda method, path: 500 if method == "GET" and "gsm8k/resolve" in path else None
    arguments = ("task_mixture", "--tasks", "arc_easy,gsm8k", "--out", tmp_path / "out")
    assert "openai/gsm8k: main/train/0000.parquet: the Hub keeps failing" in refused(*arguments)
    assert (tmp_path / "out" / "arc_easy" / "test.parquet").exists()
    hub.fault = lambda method, path: "cut" if len(hub.requests) % 5 == 0 else None
    hub.requests.clear()
    assert vnc_prepare(*arguments)[0] == 0
    assert not any("ai2_arc/resolve" in path for _, path in hub.requests)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "local"
    for name in ("gsm8k", "arc_easy"):
        (folder / name).mkdir(parents=True)
    for split in TASKS["gsm8k"].splits:
        rows = question(split).to_pylist()
        (folder / "gsm8k" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split in TASKS["arc_easy"].splits:
        pq.write_table(question(split), folder / "arc_easy" / f"{split}.parquet")
    return folder


def test_from_local_files(tmp_path: Path, local: Path, vnc_prepare: Run) -> None:
    out = tmp_path / "out"
    assert vnc_prepare("task_mixture", "--tasks", "gsm8k,arc_easy", "--source", local, "--out", out)[0] == 0
    for name in ("gsm8k", "arc_easy"):
        for split in TASKS[name].splits:
            assert pq.read_table(out / name / f"{split}.parquet") == question(split)


def test_the_real_gsm8k(tmp_path: Path, shared_data: Path, vnc_prepare: Run) -> None:
    (tmp_path / "local" / "gsm8k").mkdir(parents=True)
    for split in ("train", "test"):
        (tmp_path / "local" / "gsm8k" / f"{split}.jsonl").symlink_to(shared_data / "chat" / f"gsm8k_{split}.jsonl")
    out = tmp_path / "out"
    assert vnc_prepare("task_mixture", "--tasks", "gsm8k", "--source", tmp_path / "local", "--out", out)[0] == 0
    lines = (shared_data / "chat" / "gsm8k_test.jsonl").read_text().splitlines()
    assert pq.read_table(out / "gsm8k" / "test.parquet").to_pylist() == [json.loads(line) for line in lines]


def test_bad_input(tmp_path: Path, local: Path, refused: Any, hub: Hub) -> None:
    out = tmp_path / "out"

    def line(tasks: str, source: Path = local) -> str:
        said: str = refused("task_mixture", "--tasks", tasks, "--source", source, "--out", out)
        assert not out.exists()
        return said

    assert "--tasks hellaswag: there are smoltalk, mmlu, gsm8k" in line("gsm8k,hellaswag")
    assert "gsm8k is named twice, and both would be written to gsm8k/" in line("gsm8k, arc_easy, gsm8k")
    assert "no mmlu/auxiliary_train.parquet or .jsonl in it" in line("mmlu")
    assert "no such folder" in line("gsm8k", tmp_path / "nowhere")
    path = local / "gsm8k" / "train.jsonl"
    good = path.read_text()
    path.write_text(good.replace("train 3?", 'train "3?'))
    assert "train.jsonl:4: broken JSON" in line("gsm8k")
    path.write_text(good + "[]\n")
    assert "train.jsonl:31: a list, not an object" in line("gsm8k")
    path.write_text(good + '{"answer": "thirty"}\n')
    assert "do not agree on the kinds of their values" in line("gsm8k")
    path.write_text("\n")
    assert "train.jsonl: holds no rows" in line("gsm8k")
    (local / "gsm8k" / "train.parquet").write_bytes(b"PAR1")
    assert "both would become gsm8k/train.parquet" in line("gsm8k")
    path.unlink()
    assert "train.parquet: not a whole Parquet file" in line("gsm8k")
    hub.repositories.pop("openai/gsm8k")
    assert "openai/gsm8k: no such dataset on the Hub" in refused("task_mixture", "--tasks", "gsm8k", "--out", out)
    out.mkdir()
    (out / "gsm8k").mkdir()
    assert "holds gsm8k, which is not from a preparation" in refused("task_mixture", "--source", local, "--out", out)


class Crash(BaseException):
    """Nothing in the code catches it."""


def test_a_crash_at_every_flush(
    tmp_path: Path, local: Path, vnc_prepare: Run, contents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("task_mixture", "--tasks", "gsm8k,arc_easy", "--source", local, "--out")
    assert vnc_prepare(*arguments, tmp_path / "whole")[0] == 0
    flush, left = os.fsync, 0

    def failing(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Crash
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    for crash in itertools.count(1):
        left, out = crash, tmp_path / str(crash)
        try:
            assert vnc_prepare(*arguments, out)[0] == 0
            break
        except Crash:
            assert vnc_prepare(*arguments, out)[0] == 0
            assert contents(out) == contents(tmp_path / "whole")
    assert crash > 15
