"""What is found in a written answer."""

import json
from pathlib import Path

import pytest

from datamodules.tasks.spelling import Spelling
from vnc.evals.chatcore.grading import final_number, last_letters, last_number
from vnc.evals.chatcore.suite import spelled_right
from vnc.spelling import spelling_question


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so 18.\n#### 18", "18"),
        ("#### $1,250.00.", "1250"),
        ("#### 18.50 dollars", "18.5"),
        ("#### -7", "-7"),
        ("#### -$7", "-7"),
        ("#### $-7", "-7"),
        ("#### -.50", "-0.5"),
        ("#### -0.0", "0"),
        ("#### 007", "7"),
        ("####  72 and then #### 73", "72"),
        ("####72%", "72"),
        ("#### 10.", "10"),
        ("#### 2,000,000", "2000000"),
        ("#### 5,", "5"),
        ("#### ten", None),
        ("the answer is 72", None),
        ("", None),
    ],
)
def test_final_number(text: str, found: str | None) -> None:
    assert final_number(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The letters of apple are: a p p l e.", "apple"),
        ("A-P-P-L-E", "apple"),
        ("Sure!\na, p, p, l, e!\n", "apple"),
        ("a p p l", "appl"),
        ("* a\n* p\n", "ap"),
        ("I spell it apple", None),
        ("a p p l e, as in pie", None),
        ("", None),
    ],
)
def test_last_letters(text: str, found: str | None) -> None:
    assert last_letters(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("in it 3 times: 3.", "3"),
        ("(1) (2)\nSo 02!", "2"),
        ("none", None),
        ("3 or 4?", "4"),
        ("10", "10"),
        ("2.5", None),
    ],
)
def test_last_number(text: str, found: str | None) -> None:
    assert last_number(text) == found


def test_the_answers_that_training_teaches_are_right_and_broken_ones_wrong() -> None:
    taught = Spelling(256, validation=True)
    for index in range(256):
        question = spelling_question(index, validation=True)
        segments = taught.conversation(index).messages[1].segments
        text = "".join(segment.text for segment in segments if segment.kind == "text")  # what `answer` returns
        assert spelled_right(text, question)
        if question.letter is None:
            last = question.word[-1]
            assert not spelled_right(text.replace(f" {last}.", "."), question)
            assert not spelled_right(text.replace(f" {last}.", f" {last} {last}."), question)
        else:
            assert not spelled_right(
                text.replace(f": {question.expected}.", f": {int(question.expected) + 1}."), question
            )
        assert not spelled_right("", question)


def test_gsm8k_s_own_answers_are_all_found(shared_data: Path) -> None:
    """Oracle: they are plain numbers, with commas and two decimals at most, so floats tell which are equal."""
    answers = [json.loads(line)["answer"] for line in (shared_data / "chat/gsm8k_test.jsonl").open()]
    for answer in answers:
        written = answer.rpartition("#### ")[2]
        found = final_number(answer)
        assert found is not None and float(found) == float(written.replace(",", ""))
