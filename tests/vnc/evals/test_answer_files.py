"""Files are written whole, and nothing is lost."""

import os
from pathlib import Path

import pytest

from vnc.errors import UserError
from vnc.evals.answer_files import checked_model_id, file_name, write_kept


def test_other_content_is_kept_beside(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "answers.jsonl"
    for text in ("one\n", "one\n", "two\n", "three \u00fc\n"):
        write_kept(path, text)
    names = {each.name: each.read_text(encoding="utf-8") for each in path.parent.iterdir()}
    assert names == {"answers.jsonl": "three \u00fc\n", "answers.jsonl.1": "one\n", "answers.jsonl.2": "two\n"}


def test_the_same_content_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_kept(path, "one\n")
    os.utime(path, (1, 1))
    write_kept(path, "one\n")
    assert path.stat().st_mtime == 1


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="answers.jsonl: cannot be written"):
        write_kept(tmp_path / "file" / "answers.jsonl", "one")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a b", ".hidden", "-x", "a\n"])
def test_names_that_are_no_file_names(name: str) -> None:
    with pytest.raises(UserError, match="model id"):
        checked_model_id(name)


def test_names() -> None:
    assert checked_model_id("d12_step-5.000") == "d12_step-5.000"
    assert file_name("org/gpt-4o mini:2024.1") == "org_gpt-4o_mini_2024.1"
