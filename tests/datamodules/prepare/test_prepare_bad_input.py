"""Everything that can be wrong with files, folders, options and disks ends in one line, or is left out and counted."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.prepare import spill
from datamodules.prepare.batches import Format
from datamodules.prepare.readers import read_file
from vnc.errors import UserError

Refused = Callable[..., str]
Run = Callable[..., tuple[int, str, str]]

GOOD = "".join(json.dumps({"text": f"good {number}"}) + "\n" for number in range(10))


def bad_parquet(path: Path) -> None:
    raw = pa.array([b"one", b"\xff\xfe", b"", None, b"five"], type=pa.binary())
    pq.write_table(pa.table({"text": raw.view(pa.string())}), path)


@pytest.mark.parametrize(
    "name, content, reason, message",
    [
        ("a.txt", b"caf\xe9", "not UTF-8", r"a.txt: not UTF-8 \(byte 3\)"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "caf\xe9"}\n', "not UTF-8", "a.jsonl:2: not UTF-8"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "not UTF-8", "a.jsonl:1: not UTF-8 .*surrogate"),
        ("a.csv", b'n,text\n1,"two\nlines"\n2,caf\xe9\n', "not UTF-8", "a.csv:4: not UTF-8"),
        ("a.csv", b'n,text\n1,"never closed\n', "broken CSV", "a.csv:2: broken CSV"),
        ("a.csv", b"n,text\n1\n", "no such column", "a.csv:2: no such column"),
        ("a.csv", b"n,body\n1,x\n", "no such column", "a.csv: no such column .*'text', but n, body"),
        (
            "a.jsonl",
            b'{"text": "x"}\n{"body": "y"}\n',
            "no such column",
            "a.jsonl:2: no such column .*'text', but body",
        ),
        ("a.jsonl", b'{"text": 7}\n', "not a string", "a.jsonl:1: not a string .*'text' is a int"),
        ("a.jsonl", b"[1]\n", "broken JSON", "a.jsonl:1: broken JSON .*a list, not an object"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "broken JSON", "a.jsonl:1: broken JSON"),
        ("a.txt.gz", b"\x1f\x8b\x08 not a packed file", "unreadable file", "a.txt.gz: unreadable file"),
        ("a.parquet", b"PAR1 but no more", "unreadable file", "a.parquet: unreadable file"),
    ],
)
def test_a_broken_file(
    tmp_path: Path,
    refused: Refused,
    vnc_prepare: Run,
    manifest_of: Any,
    name: str,
    content: bytes,
    reason: str,
    message: str,
) -> None:
    """By default it stops the run, and leaves no trace; with skip, the rest is prepared and this is counted."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "good.jsonl").write_text(GOOD)
    (source / name).write_bytes(content)
    line = refused("text", "--source", source, "--out", tmp_path / "out")
    assert re.search(message, line) and "--on_error skip" in line
    assert not (tmp_path / "out").exists()
    code, said, shown = vnc_prepare("text", "--source", source, "--out", tmp_path / "out", "--on_error", "skip")
    assert code == 0 and re.search(message, shown) and f"1 {reason}" in said
    assert manifest_of(tmp_path / "out")["left_out"] == {reason: 1}
    assert manifest_of(tmp_path / "out")["documents"] in (10, 11)


def test_five_broken_lines(tmp_path: Path, refused: Refused, vnc_prepare: Run, manifest_of: Any, texts_of: Any) -> None:
    """All are counted, the first few shown with their place; the user chooses to stop or to leave them out."""
    lines = GOOD.splitlines()
    for at in (1, 4, 5, 9, 12):
        lines.insert(at - 1, '{"text": "cut short')
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    line = refused("text", "--source", tmp_path / "a.jsonl", "--out", tmp_path / "out")
    assert "a.jsonl: 5 things in it cannot be used" in line
    assert [place in line for place in ("a.jsonl:1:", "a.jsonl:4:", "a.jsonl:5:", "a.jsonl:9:")] == [True] * 3 + [False]
    code, said, shown = vnc_prepare(
        "text", "--source", tmp_path / "a.jsonl", "--out", tmp_path / "out", "--on_error", "skip"
    )
    assert code == 0 and "5 left out (5 broken JSON)" in said
    assert shown.count("broken JSON (Unterminated string") == 3 and "a.jsonl:5:" in shown and "a.jsonl:9:" not in shown
    assert manifest_of(tmp_path / "out")["left_out"] == {"broken JSON": 5}
    assert sorted(texts_of(tmp_path / "out")) == sorted(f"good {number}" for number in range(10))


def test_what_holds_nothing_is_left_out_without_asking(tmp_path: Path, vnc_prepare: Run, manifest_of: Any) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD + '{"text": null}\n{"text": ""}\n{"text": " \\n"}\n\n')
    (tmp_path / "b.txt").write_bytes(b"")
    pq.write_table(pa.table({"text": ["x", None, "", "\t"]}), tmp_path / "c.parquet")
    assert vnc_prepare("text", "--source", tmp_path, "--out", tmp_path / "out")[0] == 0
    assert manifest_of(tmp_path / "out")["left_out"] == {"empty": 6, "null": 2}
    assert manifest_of(tmp_path / "out")["documents"] == 11


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_kinds_of_parquet_strings(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.array(["a", "", None, "a"], kind)}), tmp_path / "a.parquet")
    batches = list(read_file(tmp_path / "a.parquet", "a.parquet", Format()))
    assert [text for batch in batches for text in batch.texts.to_pylist()] == ["a", "a"]
    assert sorted(problem.reason for batch in batches for problem in batch.problems) == ["empty", "null"]


def test_broken_parquet(tmp_path: Path, refused: Refused, vnc_prepare: Run, manifest_of: Any, texts_of: Any) -> None:
    source = tmp_path / "in"
    source.mkdir()
    bad_parquet(source / "a.parquet")
    assert "a.parquet, row 1: not UTF-8" in refused("text", "--source", source, "--out", tmp_path / "out")
    table = pa.table({"text": [f"{number} {number**9}" for number in range(60)]})
    pq.write_table(table, source / "b.parquet", row_group_size=20, write_page_checksum=True, compression="none",
                   use_dictionary=False)  # fmt: skip
    content = bytearray((source / "b.parquet").read_bytes())
    content[content.index(str(25**9).encode())] ^= 1  # in the second row group
    (source / "b.parquet").write_bytes(content)
    pq.write_table(pa.table({"text": [1, 2]}), source / "c.parquet")
    assert vnc_prepare("fineweb_edu", "--source", source, "--out", tmp_path / "out", "--on_error", "skip")[0] == 0
    left_out = {"empty": 1, "not UTF-8": 1, "not a string": 1, "null": 1, "unreadable file": 1}
    assert manifest_of(tmp_path / "out")["left_out"] == left_out
    good = [f"{number} {number**9}" for number in [*range(20), *range(40, 60)]]
    assert sorted(texts_of(tmp_path / "out")) == sorted([*good, "one", "five"])


def test_truncated_parquet(tmp_path: Path, refused: Refused) -> None:
    pq.write_table(pa.table({"text": ["one", "two"] * 500}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    for kept in (0, 4, len(content) // 2, len(content) - 1):
        (tmp_path / "a.parquet").write_bytes(content[:kept])
        line = refused("text", "--source", tmp_path / "a.parquet", "--out", tmp_path / "out")
        assert "a.parquet: unreadable file" in line


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--source", "nowhere"), "--source nowhere: no such file or folder"),
        (("--source", ","), "--source: names no file or folder"),
        (("--source", "empty"), "empty: no files of the kinds .txt, "),
        (("--source", "a.pdf"), "a.pdf: not one of the kinds that can be read"),
        (("--source", "a.txt,a.txt"), "a.txt is given twice"),
        (("--source", "in,in/x.txt"), "in/x.txt is given twice"),
        (("--source", "link.txt,a.txt"), "a.txt is given twice .also as link.txt"),
        (("--source", "a.txt"), "the sources hold one document that can be used; at least two"),
        (("--source", "blank.txt"), "the sources hold no documents"),
        (("--source", "in", "--val_documents", "3"), "--val_documents 3: the sources hold 3 documents"),
        (("--source", "in", "--val_documents", "0"), "--val_documents 0: must be at least 1"),
        (("--source", "in", "--shard_mb", "0"), "--shard_mb 0: must be at least 1"),
        (("--source", "in", "--row_group", "-1"), "--row_group -1: must be at least 1"),
        (("--source", "in", "--seed", "-1"), "--seed -1: must be 0 or more"),
        (("--source", "in", "--document", ""), "--document: empty"),
        (("--source", "in", "--column", ""), "--column: empty"),
        (("--source", "in", "--on_error", "maybe"), "on_error"),
    ],
)
def test_bad_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("in/x.txt", "in/y.txt", "in/z.txt", "a.txt", "a.pdf", "empty/b.docx"):
        (tmp_path / name).write_text(name)
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "link.txt").symlink_to("a.txt")
    assert re.search(message, refused("text", *arguments, "--out", "out"))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_unknown_kinds_are_named_and_counted(tmp_path: Path, vnc_prepare: Run, manifest_of: Any) -> None:
    (tmp_path / "in").mkdir()
    for name in ("x.txt", "y.txt", *(f"{number}.pdf" for number in range(7))):
        (tmp_path / "in" / name).write_text(name)
    _, _, shown = vnc_prepare("text", "--source", tmp_path / "in", "--out", tmp_path / "out")
    assert "passed over 7 files of unknown kinds: " in shown and "0.pdf" in shown and "6.pdf" not in shown
    assert manifest_of(tmp_path / "out")["left_out"] == {"unknown kind of file": 7}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "good.jsonl").write_text(GOOD)
    return tmp_path / "good.jsonl"


def test_out_that_is_not_ours(tmp_path: Path, source: Path, refused: Refused, contents: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("notes.txt", "shard_00000.parquet", ".hidden"):
        (out / name).write_text("the user's")
        assert f"holds {name}, which is not from a preparation" in refused("text", "--source", source, "--out", out)
        assert contents(out) == {name: b"the user's"}
        (out / name).unlink()
    assert "a file; name a folder" in refused("text", "--source", source, "--out", source)
    assert "cannot be written to" in refused("text", "--source", source, "--out", source / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_out_without_permission(tmp_path: Path, source: Path, refused: Refused) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    assert "cannot be written to (Permission denied)" in refused("text", "--source", source, "--out", tmp_path / "out")


def test_two_at_once(tmp_path: Path, source: Path, refused: Refused) -> None:
    import fcntl

    (tmp_path / "out" / ".prepare").mkdir(parents=True)
    with (tmp_path / "out" / ".prepare" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another vnc prepare is at work" in refused("text", "--source", source, "--out", tmp_path / "out")


def interrupted(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` until all is spilled and noted, then Ctrl-C."""
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:

        def stop(*arguments: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr("datamodules.prepare.pipeline.write_shards", stop)
        patch.setattr(sys, "argv", ["vnc", "prepare", *run()])
        import cli

        cli.main()
    assert end.value.code == 130


def test_other_settings_after_an_interruption(
    tmp_path: Path, source: Path, refused: Refused, vnc_prepare: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    arguments = ["text", "--source", str(source), "--out", str(out)]
    interrupted(lambda: arguments, monkeypatch)
    line = refused(*arguments, "--seed", 43)
    assert "interrupted preparation with seed 42, now it is 43; go on with --seed 42, or remove" in line
    assert "column text, now it is body; go on with --column text" in refused(*arguments, "--column", "body")
    assert "go on with vnc prepare text" in refused("openwebtext", "--source", "a/b", "--out", out)
    (out / "foreign.txt").write_text("x")
    assert "holds foreign.txt" in refused(*arguments)
    (out / "foreign.txt").unlink()
    assert vnc_prepare(*arguments)[0] == 0
    assert not (out / ".prepare").exists()


def test_source_that_changed_after_an_interruption(
    tmp_path: Path, source: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["text", "--source", str(source), "--out", str(tmp_path / "out")]
    interrupted(lambda: arguments, monkeypatch)
    source.write_text(GOOD + '{"text": "more"}\n')
    assert "good.jsonl: not what it was" in refused(*arguments)


@pytest.mark.parametrize("name", ["spill_00000.arrows", "shard_00000.parquet"])
def test_what_was_done_is_gone(
    tmp_path: Path, source: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out = tmp_path / "out"
    arguments = ["text", "--source", str(source), "--out", str(out)]
    if name.startswith("spill"):
        interrupted(lambda: arguments, monkeypatch)
        path = out / ".prepare" / name
    else:
        with monkeypatch.context() as patch:
            patch.setattr(
                "datamodules.prepare.pipeline.write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            patch.setattr(sys, "argv", ["vnc", "prepare", *arguments])
            import cli

            with pytest.raises(SystemExit):
                cli.main()
        path = out / name
    path.write_bytes(path.read_bytes()[:-9])
    line = refused(*arguments)
    assert str(path) in line and f"remove {out}" in line


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_disk_too_small(tmp_path: Path, source: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**9, 10**9 - 10**6, 10**6))
    line = refused("text", "--source", source, "--out", tmp_path / "deep" / "out")
    assert "0.05 GB are needed and 0.00 GB are free" in line
    assert not (tmp_path / "deep").exists()


FULL = """
import os, shutil, subprocess, sys
disk, size, *command = sys.argv[1:]
os.makedirs(disk)
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", disk], check=True)
try:
    shutil.disk_usage(disk)
    first = subprocess.run(command, capture_output=True, text=True)
    print(first.returncode, "shard" if os.path.exists(disk + "/out/.prepare/shard_00000.parquet.part") else "spill",
          first.stderr.strip(), sep="|")
    subprocess.run(["mount", "-o", "remount,size=60m", disk], check=True)
    again = subprocess.run(command, capture_output=True, text=True)
    print(again.returncode, again.stdout.strip(), again.stderr.strip(), sep="|")
    shutil.copytree(disk + "/out", disk + "-copy")
finally:
    subprocess.run(["umount", disk], check=True)
"""


@pytest.mark.parametrize("size, stopped_at", [(6_000, "spill"), (10_000, "shard")])
def test_disk_really_full(tmp_path: Path, size: int, stopped_at: str, vnc_prepare: Run, contents: Any) -> None:
    """In the middle: one line, and with more space the same command goes on to the same files."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    noise = "".join(json.dumps({"text": os.urandom(1_500).hex()}) + "\n" for _ in range(6_000))
    (tmp_path / "in.jsonl").write_text(noise)
    child = ["import sys, types; package = types.ModuleType('datamodules'); package.__path__ = ['datamodules'];"
             "sys.modules['datamodules'] = package; import datamodules.prepare.spill as spill; spill.COMMIT_BYTES = 1;"
             "import datamodules.prepare.batches as batches; batches.BATCH_DOCUMENTS = 200;"
             "import shutil; shutil.disk_usage = lambda place: type('U', (), {'free': 10**12});"
             "import cli; cli.main()"]  # fmt: skip
    arguments = ["text", "--source", tmp_path / "in.jsonl", "--shard_mb", 1, "--out"]
    command = [sys.executable, "-c", *child, "prepare", *map(str, arguments), str(tmp_path / "disk" / "out")]
    done = subprocess.run(["unshare", "-m", sys.executable, "-c", FULL, str(tmp_path / "disk"), str(size), *command],
                          cwd=Path(__file__).parents[3], capture_output=True, text=True)  # fmt: skip
    if "mount" in done.stderr and done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    first, again = done.stdout.strip().splitlines()
    assert first.startswith(f"2|{stopped_at}|error: ") and "the disk is full; what is done is kept" in first
    assert again.startswith("0|"), again
    assert vnc_prepare(*arguments, tmp_path / "whole")[0] == 0
    assert contents(tmp_path / "disk-copy") == contents(tmp_path / "whole")


def test_one_commit_for_many_small_batches(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the notes is written before enough has gathered."""
    spiller = spill.Spiller(tmp_path, 4, seed=1)
    for _ in range(100):
        spiller.add(pa.array(["text"], pa.large_string()), 0, "a")
    assert not list(tmp_path.glob("spill_*")) and not spiller.due
    spiller.commit(1, 0, {}, complete=True)
    assert sum(spill.read_state(tmp_path, 4).rows) == 100
    with pytest.raises(UserError, match="2 GiB"):
        monkeypatch.setattr(spill, "MOST_BYTES", 3)
        spiller.add(pa.array(["text"], pa.large_string()), 0, "a")
