"""A mistake in a file is told with its place."""

from pathlib import Path

import pytest

from vnc.errors import UserError
from vnc.evals.json_rows import Row, read_json_lines, read_json_list

ROW = Row("f.jsonl, line 3", {"name": "a", "empty": " ", "n": 3, "flag": True, "long": "x" * 200})


def test_values() -> None:
    assert (ROW.text("name"), ROW.text("empty"), ROW.words("name"), ROW.whole_number("n")) == ("a", " ", "a", 3)


def test_mistakes_name_line_key_and_value() -> None:
    for read, said in [
        (lambda: ROW.text("n"), "key 'n' must be a string, found 3"),
        (lambda: ROW.text("none"), "key 'none' must be a string, found none"),
        (lambda: ROW.words("empty"), "key 'empty' must be a string that is not empty, found \" \""),
        (lambda: ROW.whole_number("flag"), "key 'flag' must be a whole number, found true"),
        (lambda: ROW.whole_number("long"), 'found "' + "x" * 59 + r"\.\.\."),
    ]:
        with pytest.raises(UserError, match=f"^f.jsonl, line 3: .*{said}$"):
            read()


def test_lines_are_counted_with_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('\n{"a": "x\u2028y"}\n\n{"a": 2}')
    assert [(row.where, row.values["a"]) for row in read_json_lines(path)] == [
        (f"{path}, line 2", "x\u2028y"),
        (f"{path}, line 4", 2),
    ]
    path.with_suffix(".json").write_text('[{"a": 1}, {"a": 2}]')
    rows = read_json_list(path.with_suffix(".json"))
    assert [row.where for row in rows] == [f"{tmp_path / 'f.json'}, item 1", f"{tmp_path / 'f.json'}, item 2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n", "no rows in it"),
        (b'{"a": 1}\n{"a": \n', "line 2: not JSON"),
        (b"[1]\n", "line 1: a row must be a JSON object, not list"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_lines_that_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"f.jsonl.*{said}"):
        read_json_lines(path)


@pytest.mark.parametrize(
    ("content", "said"), [("{}", "a list of objects"), ("[]", "a list"), ("[3]", "item 1: a row"), ("[", "not JSON")]
)
def test_lists_that_are_none(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"f.json.*{said}"):
        read_json_list(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="f.jsonl: no such file"):
        read_json_lines(tmp_path / "f.jsonl")
