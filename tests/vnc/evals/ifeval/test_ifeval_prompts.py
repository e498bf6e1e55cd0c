from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vnc.errors import UserError
from vnc.evals.ifeval.prompts import Instruction, Prompt, read_prompts
from vnc.evals.ifeval.registry import KINDS
from vnc.evals.ifeval.scoring import check_prompts, judge

ROW: dict[str, Any] = {
    "key": 7,
    "prompt": "Write of owls.",
    "instruction_id_list": ["keywords:existence", "punctuation:no_comma"],
    "kwargs": [{"keywords": ["owl", "night"], "num_words": None}, {}],
}


def row(**changes: Any) -> dict[str, Any]:
    return ROW | changes


def asks(name: str, **arguments: Any) -> dict[str, Any]:
    return row(instruction_id_list=[name], kwargs=[arguments])


def test_file_and_folder_give_the_same_prompts(write: Callable[..., Path]) -> None:
    path = write(ROW, "", row(key=8, prompt="Again."))
    prompts = read_prompts(path)
    assert prompts == read_prompts(path.parent)
    assert prompts[0] == Prompt(
        7,
        "Write of owls.",
        (Instruction("keywords:existence", {"keywords": ("owl", "night")}), Instruction("punctuation:no_comma", {})),
    )
    assert [prompt.key for prompt in prompts] == [7, 8]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "line 2: Expecting"),
        ("[]", "a prompt must be a JSON object, not list"),
        (row(key="x"), "'key' must be a whole number, found \"x\""),
        (row(prompt=" "), "'prompt' must be a string that is not blank"),
        (row(instruction_id_list=[]), "'instruction_id_list' must be a list of one or more names"),
        (row(kwargs=[{}]), "'kwargs' must be a list of 2 objects"),
        (row(kwargs=[{"keywords": ["owl"]}, 3]), "'kwargs' of punctuation:no_comma must be an object, found 3"),
        (asks("keywords:existance"), 'names "keywords:existance", which is none of change_case:'),
        (
            asks("keywords:existence"),
            "'keywords' in 'kwargs' of keywords:existence must be a list of strings, found none",
        ),
        (
            asks("keywords:existence", keywords=["a", ""]),
            "'keywords' in 'kwargs' of keywords:existence must be a string",
        ),
        (asks("punctuation:no_comma", letter="a"), "'kwargs' of punctuation:no_comma has 'letter'; known are none"),
        (asks("length_constraints:number_words", num_words=5, relation="at most"), "one of 'less than', 'at least'"),
        (
            asks("length_constraints:number_words", num_words=True, relation="at least"),
            "must be a whole number, 0 or more",
        ),
        (
            asks("length_constraints:number_words", num_words=-1, relation="at least"),
            "must be a whole number, 0 or more",
        ),
        (asks("keywords:letter_frequency", letter="ab", let_frequency=1, let_relation="at least"), "a single letter"),
        (
            asks("length_constraints:nth_paragraph_first_word", num_paragraphs=2, nth_paragraph=3, first_word="a"),
            "must be at most num_paragraphs, 2",
        ),
        (
            asks("length_constraints:nth_paragraph_first_word", num_paragraphs=2, nth_paragraph=0, first_word="a"),
            "must be a whole number, 1 or more, found 0",
        ),
        (row(prompt="Others."), "'key' is the same as in line 1"),
        (row(key=8), "'prompt' is the same as in line 1"),
    ],
)
def test_mistakes_are_named_with_line_and_key(write: Callable[..., Path], bad: Any, message: str) -> None:
    path = write(ROW, bad)
    with pytest.raises(UserError) as error:
        read_prompts(path)
    assert str(error.value).startswith(f"{path}, line 2: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path, write: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="no such file; give IFEval's input_data.jsonl"):
        read_prompts(tmp_path / "absent.jsonl")
    with pytest.raises(UserError, match="input_data.jsonl: no such file"):
        read_prompts(tmp_path)
    with pytest.raises(UserError, match="no prompts in it"):
        read_prompts(write(""))
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(binary)


def test_the_published_prompts_are_all_supported(shared_data: Path) -> None:
    """541 prompts, 834 instructions, 25 types; a blank response follows none of them, strictly or loosely."""
    prompts = read_prompts(shared_data / "ifeval")
    types = Counter(instruction.id for prompt in prompts for instruction in prompt.instructions)
    assert (len(prompts), types.total(), set(types)) == (541, 834, set(KINDS))
    for prompt in prompts:
        assert not any(judgement.strict or judgement.loose for judgement in judge(prompt, " \n \n"))


def test_every_published_instruction_gives_a_judgement(shared_data: Path) -> None:
    pytest.importorskip("langdetect", reason="the extra vnc[ifeval] is not installed")
    prompts = read_prompts(shared_data / "ifeval")
    check_prompts(prompts)
    followed = [
        judgement.strict for prompt in prompts for judgement in judge(prompt, "An owl flew over the dark mill.")
    ]
    assert len(followed) == 834
    assert set(followed) == {True, False}
