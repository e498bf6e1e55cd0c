"""`vnc prepare text` on good files: every document once, in the order of the keys, whatever their form."""

import csv
import gzip
import io
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.parquet import read_shards
from datamodules.prepare import spill
from datamodules.prepare.batches import Format
from datamodules.prepare.order import keys
from datamodules.prepare.readers import read_file

Run = Callable[..., tuple[int, str, str]]


def shuffled(texts: list[str], seed: int) -> list[str]:
    """The oracle: all in memory, sorted by key."""
    return [texts[position] for position in np.argsort(keys(0, len(texts), seed))]


def write_tree(folder: Path) -> list[str]:
    """Files of every kind; their documents in the order in which they are read."""
    (folder / "b" / ".git").mkdir(parents=True)
    (folder / "a.txt").write_text("one file\nof two lines\n")
    (folder / "a.txt.gz").write_bytes(gzip.compress("packed: é".encode()))
    (folder / "b" / "c.jsonl").write_text("".join(json.dumps({"id": n, "text": f"line {n}"}) + "\n" for n in range(50)))
    table = io.StringIO()
    csv.writer(table).writerows([["n", "text"], *([n, f'cell "{n}",\nover two lines'] for n in range(30))])
    (folder / "b" / "d.csv").write_text(table.getvalue())
    pq.write_table(pa.table({"text": [f"row {n}" for n in range(700)], "x": range(700)}), folder / "b" / "e.parquet",
                   row_group_size=300)  # fmt: skip
    (folder / "b" / "f.md").write_bytes(b"\xef\xbb\xbf# Title after a byte order mark")
    (folder / "b" / ".git" / "hidden.txt").write_text("no")
    (folder / ".hidden.txt").write_text("no")
    return ["one file\nof two lines\n", "packed: é", *(f"line {n}" for n in range(50)),
            *(f'cell "{n}",\nover two lines' for n in range(30)), *(f"row {n}" for n in range(700)),
            "# Title after a byte order mark"]  # fmt: skip


def test_every_kind_of_file(tmp_path: Path, vnc_prepare: Run, texts_of: Any, manifest_of: Any) -> None:
    expected = write_tree(tmp_path / "in")
    code, said, _ = vnc_prepare("text", "--source", tmp_path / "in", "--out", tmp_path / "out", "--row_group", 100)
    assert code == 0 and "744 documents" in said
    assert texts_of(tmp_path / "out") == shuffled(expected, 42)
    training, validation = read_shards(tmp_path / "out")
    assert [shard.row_groups for shard in training] == [(100,) * 7 + (44,)] and validation.documents == 783 // 20
    manifest = manifest_of(tmp_path / "out")
    assert manifest["documents"] == 783 and manifest["left_out"] == {} and manifest["dataset"] == "text"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "shard_00000.parquet",
                                                                         "shard_00001.parquet"]  # fmt: skip
    sources = pq.read_table(tmp_path / "out" / "shard_00000.parquet")["source"].to_pylist()
    assert set(sources) <= {"a.txt", "a.txt.gz", "b/c.jsonl", "b/d.csv", "b/e.parquet", "b/f.md"}
    assert str(tmp_path) not in json.dumps(manifest["shards"])


def test_verify_and_again(tmp_path: Path, vnc_prepare: Run, refused: Any, contents: Any) -> None:
    write_tree(tmp_path / "in")
    arguments = ("text", "--source", tmp_path / "in", "--out", tmp_path / "out")
    assert vnc_prepare(*arguments)[0] == 0
    before = contents(tmp_path / "out")
    code, said, _ = vnc_prepare(*arguments)
    assert code == 0 and "prepared already" in said and contents(tmp_path / "out") == before
    assert "seed 42, now it is 43" in refused(*arguments, "--seed", 43)
    code, said, _ = vnc_prepare("verify", "--data", tmp_path / "out")
    assert code == 0 and "783 documents" in said
    assert "no manifest.json" in refused("verify", "--data", tmp_path / "in")
    shard = tmp_path / "out" / "shard_00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"X")
    assert "shard_00001.parquet: its content differs" in refused("verify", "--data", tmp_path / "out")
    shard.unlink()
    assert "shard_00001.parquet: missing" in refused(*arguments)


def test_same_bytes_whatever_the_commits(
    tmp_path: Path, vnc_prepare: Run, contents: Any, texts_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several shards, with a commit after every batch or none: the same files; another seed: the same documents."""
    texts = [f"{n} " + f"{n * 2**40:b} " * 40 for n in range(3_000)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    arguments = ("text", "--source", tmp_path / "in.jsonl", "--shard_mb", 1, "--val_documents", 900)
    assert vnc_prepare(*arguments, "--out", tmp_path / "one")[0] == 0
    monkeypatch.setattr(spill, "COMMIT_BYTES", 1)
    assert vnc_prepare(*arguments, "--out", tmp_path / "two")[0] == 0
    assert vnc_prepare(*arguments, "--out", tmp_path / "other", "--seed", 7)[0] == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) >= 4
    assert texts_of(tmp_path / "one") == shuffled(texts, 42)
    assert texts_of(tmp_path / "other") == shuffled(texts, 7)


@pytest.mark.parametrize(
    "document, expected",
    [
        ("file", ["a\r\nb\n\nc<end>d é\n"]),
        ("line", ["a", "b", "c<end>d é"]),
        ("<end>", ["a\r\nb\n\nc", "d é\n"]),
        (r"\n\n", ["a\r\nb", "c<end>d é\n"]),
        ("é", ["a\r\nb\n\nc<end>d "]),
    ],
)
def test_documents_in_plain_text(tmp_path: Path, document: str, expected: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("a\r\nb\n\nc<end>d é\n".encode())
    batches = list(read_file(path, "a.txt", Format(document=document)))
    assert [text for batch in batches for text in batch.texts.to_pylist()] == expected
    assert batches[-1].last and batches[-1].position == path.stat().st_size


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab|\nxé"), max_size=12), max_size=12),
    st.sampled_from(["|", "||", "ab", "\n\n", "é|"]),
    st.integers(1, 9),
    st.integers(0, 12),
)
def test_delimiters_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[str], delimiter: str, chunk: int, skip: int
) -> None:
    """Read in pieces of a few bytes, from any document on, the documents are what str.split gives."""
    monkeypatch.setattr("datamodules.prepare.readers._CHUNK", chunk)
    text = delimiter.join(parts)
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    expected = text.split(delimiter)
    if not expected[-1]:
        expected.pop()  # nothing stands after the last delimiter
    batches = list(read_file(path, "a.txt", Format(document=delimiter), skip))
    assert [text for batch in batches for text in batch.texts.to_pylist()] == [t for t in expected[skip:] if t.strip()]
    assert sum(len(batch.problems) for batch in batches) == sum(not t.strip() for t in expected[skip:])


@pytest.mark.parametrize("name", ["c.jsonl", "d.csv", "e.parquet"])
def test_reading_goes_on_from_any_record(tmp_path: Path, name: str) -> None:
    write_tree(tmp_path)
    path = tmp_path / "b" / name
    every = [text for batch in read_file(path, name, Format()) for text in batch.texts.to_pylist()]
    for skip in range(0, len(every) + 2, 7):
        rest = list(read_file(path, name, Format(), skip))
        assert [text for batch in rest for text in batch.texts.to_pylist()] == every[skip:]


def test_a_document_of_50_megabytes(tmp_path: Path, vnc_prepare: Run, texts_of: Any) -> None:
    long = "all work and no play " * 2_500_000
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "long.txt").write_text(long)
    (tmp_path / "in" / "short.jsonl").write_text(
        json.dumps({"text": "short"}) + "\n" + json.dumps({"text": long + "x"})
    )
    assert vnc_prepare("text", "--source", tmp_path / "in", "--out", tmp_path / "out")[0] == 0
    assert texts_of(tmp_path / "out") == shuffled([long, "short", long + "x"], 42)


def test_ten_thousand_files(tmp_path: Path, vnc_prepare: Run, texts_of: Any) -> None:
    for number in range(10_000):
        if number % 100 == 0:
            (tmp_path / "in" / f"{number // 100:02d}").mkdir(parents=True)
        (tmp_path / "in" / f"{number // 100:02d}" / f"{number:05d}.txt").write_text(f"file {number}")
    begun = time.monotonic()
    assert vnc_prepare("text", "--source", tmp_path / "in", "--out", tmp_path / "out")[0] == 0
    assert time.monotonic() - begun < 30
    assert texts_of(tmp_path / "out") == shuffled([f"file {number}" for number in range(10_000)], 42)


def test_several_sources(tmp_path: Path, vnc_prepare: Run, texts_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they are named; an --out within a source is not read."""
    monkeypatch.chdir(tmp_path)
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text(f"{name}/x")
    (tmp_path / "c.txt").write_text("c")
    (tmp_path / "unread.pdf").write_bytes(b"")
    for _ in range(2):
        code, _, error = vnc_prepare("text", "--source", "b, c.txt,a", "--out", "a/out")
        assert code == 0
    assert texts_of(tmp_path / "a" / "out") == shuffled(["b/x", "c", "a/x"], 42)


def write_lines(folder: Path) -> None:
    """6 files of 900 lines, 10 MB in all, and one of an unknown kind."""
    folder.mkdir()
    for number in range(6):
        texts = (f"{number} {n} " + f"{(n + 7) * 2**40 // (number + 1):b} " * 40 for n in range(900))
        (folder / f"{number}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts) + " \n")
    (folder / "unknown.bin").write_bytes(b"")


@pytest.mark.slow
def test_killed_at_random_and_started_again(
    tmp_path: Path, killed_until_done: Any, contents: Any, start_prepare: Any
) -> None:
    write_lines(tmp_path / "in")
    arguments = ["text", "--source", tmp_path / "in", "--shard_mb", 1]
    whole = start_prepare([*arguments, "--out", tmp_path / "whole"])
    assert whole.communicate(timeout=60) and whole.returncode == 0
    slow = dict(commit_bytes=100_000, batch=50, slow=0.01)
    killed_until_done(tmp_path / "out", arguments, kills=10, longest=0.5, **slow)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


class Crash(BaseException):
    """Nothing in the code catches it."""


@pytest.mark.slow
def test_a_crash_at_every_flush(
    tmp_path: Path, vnc_prepare: Run, contents: Any, manifest_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th flush to the disk fails, for every n; what had not been flushed is lost; the next run makes it good."""
    write_lines(tmp_path / "in")
    arguments = ("text", "--source", tmp_path / "in", "--shard_mb", 2, "--out")
    assert vnc_prepare(*arguments, tmp_path / "whole")[0] == 0
    whole = contents(tmp_path / "whole")
    assert manifest_of(tmp_path / "whole")["left_out"] == {"empty": 6, "unknown kind of file": 1}
    monkeypatch.setattr(spill, "COMMIT_BYTES", 4_000_000)
    flush, left = os.fsync, 0

    def failing(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Crash
        if left > 0:
            flush(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    for crash in itertools.count(1):
        left, out = crash, tmp_path / str(crash)
        try:
            assert vnc_prepare(*arguments, out)[0] == 0
            break
        except Crash:
            left = -1
            for path in out.rglob("spill_*"):
                path.write_bytes(path.read_bytes() + b"rubbish that was never noted")
            assert vnc_prepare(*arguments, out)[0] == 0
            assert contents(out) == whole
            shutil.rmtree(out)
    assert crash > 20
