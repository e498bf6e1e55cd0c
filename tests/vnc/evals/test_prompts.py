"""The rules that published CORE figures depend on, each shown on an example small enough to check by eye."""

import random

import numpy as np
import pytest

from vnc.errors import UserError
from vnc.evals.bundle import Task
from vnc.evals.examples import Example, LanguageModeling, MultipleChoice, Schema
from vnc.evals.prompts import (
    Prompt,
    common_prefix,
    cut_to_context,
    fewshot_places,
    judged_spans,
    make_questions,
    prompt_texts,
    scored_rows,
)
from vnc.tokenizer import Tokenizer


def test_rows_are_shuffled_with_1337_before_the_cut() -> None:
    rows = list("abcdefghijkl")
    random.Random(1337).shuffle(rows)
    assert ["abcdefghijkl"[place] for place in scored_rows(12)] == rows
    assert scored_rows(12, 5) == scored_rows(12)[:5]
    assert scored_rows(3, 10) == scored_rows(3)


@pytest.mark.parametrize(("count", "shots"), [(2, 1), (11, 10), (40, 3), (1500, 10), (700, 0)])
def test_fewshot_examples_are_drawn_from_all_other_rows(count: int, shots: int) -> None:
    for place in {0, 1, count // 2, count - 1}:
        others = [other for other in range(count) if other != place]
        assert fewshot_places(count, place, shots) == random.Random(1234 + place).sample(others, shots)


def test_texts_of_each_kind() -> None:
    shots: list[Example] = [MultipleChoice("Q: 1+1", ("3", "2"), 1)]
    asked = MultipleChoice("Q: 2+2", ("4", "5", "6"), 0)
    before = "Q: 1+1\nA: 2\n\nQ: 2+2\nA: "
    assert prompt_texts(asked, shots, "\nA: ") == [before + "4", before + "5", before + "6"]

    shots = [Schema(("Ann", "Bob"), "went home.", 1)]
    schema = Schema(("The cup", "The ball"), "rolled.", 0)
    assert prompt_texts(schema, shots, " ") == [
        "Bob went home.\n\nThe cup rolled.",
        "Bob went home.\n\nThe ball rolled.",
    ]

    # Contexts are trimmed, continuations are not, and the prompt without the answer ends before the space.
    shots = [LanguageModeling("  one two \n", "three ")]
    assert prompt_texts(LanguageModeling(" four five  ", "six"), shots, " ") == [
        "one two three \n\nfour five",
        "one two three \n\nfour five six",
    ]
    assert prompt_texts(LanguageModeling("Who?", "Ann"), [], "\nAnswer: ") == ["Who?\nAnswer:", "Who?\nAnswer: Ann"]


def test_judged_tokens_of_each_kind() -> None:
    def spans(ids: list[list[int]], kind: str) -> list[tuple[list[int], int]]:
        return [(prompt.tokens.tolist(), prompt.start) for prompt in judged_spans(ids, kind)]  # type: ignore[arg-type]

    assert spans([[0, 5, 6, 7], [0, 5, 6, 8, 9]], "multiple_choice") == [([0, 5, 6, 7], 3), ([0, 5, 6, 8, 9], 3)]
    assert spans([[0, 5], [0, 5, 6]], "multiple_choice") == [([0, 5], 2), ([0, 5, 6], 2)]  # the first has none
    assert spans([[0, 5, 7, 8], [0, 6, 6, 7, 8]], "schema") == [([0, 5, 7, 8], 2), ([0, 6, 6, 7, 8], 3)]
    assert spans([[0, 5, 7], [0, 5, 7]], "schema") == [([0, 5, 7], 1), ([0, 5, 7], 1)]  # BOS is never judged
    assert spans([[0, 5, 6], [0, 5, 6, 7, 8]], "language_modeling") == [([0, 5, 6, 7, 8], 3)]
    # The end of the context and the answer became one token: it is judged, since it holds the answer.
    assert spans([[0, 5, 6], [0, 5, 9, 8]], "language_modeling") == [([0, 5, 9, 8], 2)]


def test_common_prefix() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 4, 5], [1, 2]]) == 2
    assert common_prefix([[1, 2], [1, 2]]) == 2
    assert common_prefix([[1], [2]]) == 0


def test_long_prompts_keep_their_last_tokens() -> None:
    tokens = np.arange(10, dtype=np.int32)
    kept = cut_to_context(Prompt(tokens, 8), 6)
    assert (kept.tokens.tolist(), kept.start) == ([4, 5, 6, 7, 8, 9], 4)
    inside = cut_to_context(Prompt(tokens, 2), 6)  # the continuation itself is too long
    assert (inside.tokens.tolist(), inside.start) == ([4, 5, 6, 7, 8, 9], 1)
    short = Prompt(tokens, 8)
    assert cut_to_context(short, 10) is short


def test_questions_start_with_bos_and_know_their_row(tokenizer: Tokenizer) -> None:
    examples = tuple(MultipleChoice(f"Mara {n}", ("a goat", "a cat"), n % 2) for n in range(200))
    task = Task("t", "multiple_choice", 1, " ", 0.5, examples)
    questions = [*make_questions(task, tokenizer, 1000)]
    assert [question.row for question in questions] == scored_rows(200)
    for place, question in enumerate(questions):
        assert question.gold == question.row % 2
        shot = questions[fewshot_places(200, place, 1)[0]].row
        for prompt, choice in zip(question.prompts, ("a goat", "a cat"), strict=True):
            assert prompt.tokens[0] == tokenizer.bos_id
            solved = f"Mara {shot} {('a goat', 'a cat')[shot % 2]}\n\n"
            assert tokenizer.decode(prompt.tokens[1:]) == f"{solved}Mara {question.row} {choice}"


def test_more_solved_examples_than_other_rows(tokenizer: Tokenizer) -> None:
    task = Task("t", "language_modeling", 3, " ", 0.0, (LanguageModeling("a", "b"),) * 9)
    assert len([*make_questions(task, tokenizer, 100, max_examples=4)]) == 4
    with pytest.raises(UserError, match="t: its 3 solved examples .* from 2 other rows; score at least 4 rows"):
        next(make_questions(task, tokenizer, 100, max_examples=3))
