"""Files of records: Parquet and JSON Lines alike, one record at a time, and each mistake with its place."""

import json
import pickle
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from datamodules.tasks import table as tables
from datamodules.tasks.table import open_table
from vnc.errors import UserError

ROWS = [{"question": f"q{number}", "answer": number, "choices": ["a", "é\n"] * number} for number in range(7)]


def write(path: Path, rows: list[Any]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_both_formats_give_the_same_records_also_in_another_process(tmp_path: Path, suffix: str) -> None:
    table = open_table(write(tmp_path / f"rows{suffix}", ROWS), ["question", "choices", "answer", "train"])
    for copy in (table, pickle.loads(pickle.dumps(table))):
        assert [copy[index].values for index in range(len(copy))] == ROWS
        assert copy[4].where.endswith("row 4" if suffix == ".parquet" else "line 5")


def test_a_parquet_file_is_read_without_the_columns_that_nobody_needs(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", [row | {"extra": "x" * 100} for row in ROWS])
    assert open_table(path, ["question"])[0].values == {"question": "q0"}


@given(st.lists(st.sampled_from(['{"a": 1}', "[1]", "7", "", " ", "\t\r", '"é"'])), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_lines_are_those_of_a_plain_reader(tmp_path: Path, lines: list[str], ended: bool) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(("\n".join(lines) + ("\n" if ended else "")).encode())
    expected = [(number, json.loads(line)) for number, line in enumerate(lines, start=1) if line.strip()]
    if not expected:
        with pytest.raises(UserError, match="no records in it"):
            open_table(path, [])
        return
    table = open_table(path, [])
    found = [table[index] for index in range(len(table))]
    assert [record.where for record in found] == [f"{path}, line {number}" for number, _ in expected]
    assert [record.values for record in found] == [
        value if isinstance(value, dict) else {"messages": value} for _, value in expected
    ]


def test_lines_that_cross_the_blocks_in_which_a_file_is_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SCANNED", 5)
    table = open_table(write(tmp_path / "rows.jsonl", ROWS), [])
    assert [table[index].values for index in range(len(table))] == ROWS


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"question": ', "not JSON in UTF-8"),
        (b"q: 1", "not JSON in UTF-8"),
        (b'"\xff"', "not JSON in UTF-8"),
        (b"[" * 100_000, "not JSON in UTF-8"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n' + line + b"\n")
    with pytest.raises(UserError, match=f"rows.jsonl, line 3: {problem}.*correct this record, or drop it") as caught:
        open_table(path, [])[1]
    assert "\n" not in str(caught.value)


def test_a_parquet_row_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff"]).buffers())
    pq.write_table(pa.table({"question": bad}), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="rows.parquet, row 1: not UTF-8"):
        open_table(tmp_path / "rows.parquet", ["question"])[1]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "half.parquet").write_bytes(write(tmp_path / "whole.parquet", ROWS).read_bytes()[:-20])
    write(tmp_path / "empty.parquet", ROWS[:0])
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), tmp_path / "none.parquet")
    (tmp_path / "empty.jsonl").touch()
    for name, problem in [
        ("half.parquet", "not a whole Parquet file .*fetch or write it again"),
        ("empty.parquet", "none of the columns question in it"),
        ("none.parquet", "no records in it"),
        ("empty.jsonl", "no records in it"),
        ("absent.jsonl", "no such file"),
        ("rows.csv", r"conversations are read from \.parquet or \.jsonl files"),
    ]:
        with pytest.raises(UserError, match=f"{name}: {problem}"):
            open_table(tmp_path / name, ["question"])
    with pytest.raises(UserError, match="none of the columns text, messages in it, only question, answer, choices"):
        open_table(tmp_path / "whole.parquet", ["text", "messages"])


def test_a_line_separator_within_a_text_does_not_end_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\rfour"
    (tmp_path / "rows.jsonl").write_bytes(f'{{"a": "{text.replace(chr(13), chr(92) + "r")}"}}\n[1]\n'.encode())
    table = open_table(tmp_path / "rows.jsonl", [])
    assert len(table) == 2 and table[0].text("a") == text
