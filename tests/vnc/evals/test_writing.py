"""Tasks in which the model writes, against their rules stated once more, one row and one token at a time."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.vnc.evals.conftest import CONTEXT, sentences
from vnc.checkpoint import LoadedModel
from vnc.errors import UserError
from vnc.evals.bundle import Bundle, Task, Writing
from vnc.evals.examples import Code, Generation, LanguageModeling
from vnc.evals.prompts import Share
from vnc.evals.results import TaskResult, Written
from vnc.evals.suite import merge, score_bundle
from vnc.evals.writing import (
    answer_tokens,
    continuations,
    is_right,
    normalized,
    question_texts,
    score_written,
)
from vnc.gpt import GPT
from vnc.tokenizer import Tokenizer


def generation(
    examples: Sequence[Generation], shots: int = 0, delimiter: str = " ", settings: Writing | None = None
) -> Task:
    return Task("asked", "generation_task_with_answers", shots, delimiter, 0.0, tuple(examples),
                writing=settings or Writing())  # fmt: skip


def animals() -> list[Generation]:
    """The eight sentences of conftest.py; the model has learnt the first five, without others before them."""
    return [Generation(row["context"].strip(), row["continuation"]) for row in sentences()]


PEOPLE = [
    Generation(f"Who lives in house {number}?", f"M{number}", (f"Miss {number}",) if number % 2 else (),
               f"House {number} is hers. " if number % 3 else "")
    for number in range(9)
]  # fmt: skip
SETTINGS = Writing("Q: ", "The answer is ", False, ("\n\n", "Q:"))


def plain_prompts(task: Task, max_examples: int | None = None) -> list[str]:
    """llm-foundry's rule: a text that grows by an example at a time, each but the first begun by a newline."""
    rows: list[Any] = list(task.examples)
    random.Random(1337).shuffle(rows)
    rows = rows[:max_examples]
    prompts = []
    for place, row in enumerate(rows):
        others = [other for number, other in enumerate(rows) if number != place]
        text = ""
        for shot in [*random.Random(1234 + place).sample(others, task.num_fewshot), None]:
            example = shot or row
            text += "\n" if text else ""
            text += task.writing.question_prelimiter + example.context + task.delimiter
            if shot is not None and shot.chain_of_thought:
                text += shot.chain_of_thought + task.writing.cot_delimiter
            text += shot.answer if shot is not None else ""
        prompts.append(text.rstrip())
    return prompts


@pytest.mark.parametrize("shots", [0, 1, 4])
@pytest.mark.parametrize("max_examples", [None, 5])
@pytest.mark.parametrize(("delimiter", "settings"), [(" ", Writing()), ("\n\nA:", SETTINGS), ("\nA: ", SETTINGS)])
def test_prompts(shots: int, max_examples: int | None, delimiter: str, settings: Writing) -> None:
    task = generation(PEOPLE, shots, delimiter, settings)
    found = question_texts(task, max_examples)
    assert found == plain_prompts(task, max_examples)
    assert question_texts(task, max_examples, Share(1, 3)) == found[1::3]


def test_a_prompt_to_look_at() -> None:
    task = generation([PEOPLE[1], PEOPLE[3]], 1, "\nA: ", SETTINGS)
    assert sorted(question_texts(task)) == [
        "Q: Who lives in house 1?\nA: House 1 is hers. The answer is M1\nQ: Who lives in house 3?\nA:",
        "Q: Who lives in house 3?\nA: M3\nQ: Who lives in house 1?\nA:",
    ]


def test_prompts_of_programs_are_programs() -> None:
    rows = [Code(f"def f{n}(x):\n", f"    return {n}\n", f"f{n}", ("(1,)",), (str(n),)) for n in range(2)]
    task = Task("code", "code_evaluation", 1, " ", 0.0, tuple(rows), writing=SETTINGS)
    assert sorted(question_texts(task)) == [
        "def f0(x):\n    return 0\n\ndef f1(x):",
        "def f1(x):\n    return 1\n\ndef f0(x):",
    ]


def test_too_few_rows_for_the_solved_examples() -> None:
    with pytest.raises(UserError, match="asked: its 9 solved examples must come from 8 other rows"):
        question_texts(generation(PEOPLE, 9))
    with pytest.raises(UserError, match="its 4 solved examples must come from 2 other rows"):
        question_texts(generation(PEOPLE, 4), max_examples=3)


def test_the_longest_answer_is_how_long_an_answer_may_be(tokenizer: Tokenizer) -> None:
    def tokens(text: str) -> int:
        return len(tokenizer.encode(text))

    rows = [Generation("a", "goat"), Generation("b", "cat", ("a very long-winded cat, so",)), Generation("c", "owl")]
    assert answer_tokens(generation(rows), tokenizer) == tokens("a very long-winded cat, so")
    thinking = [*rows, Generation("d", "pig", ("swine",), "There is a donkey and a hedgehog on the road")]
    settings = Writing(cot_delimiter=" so it is ")
    expected = tokens("There is a donkey and a hedgehog on the road so it is swine") + 10
    assert answer_tokens(generation(thinking, settings=settings), tokenizer) == expected
    code = Task("code", "code_evaluation", 0, " ", 0.0, (Code("def f():", "", "f", ("()",), ("1",)),))
    assert answer_tokens(code, tokenizer) == 512


ANSWER = Generation("?", "The Beatles", ("Fab Four", "The Fab 4!"))


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("The Beatles", True),
        (" the beatles, of course\n", True),
        ("Beatles", True),
        ("a BEATLES-like band", True),
        ("“Beatles”", False),  # these quotation marks are not among those that are dropped
        ("‘Beatles’", True),
        ("`the_beatles`", True),
        ("fab  four", True),
        ("FAB\n4", True),
        ("Beat les", False),
        ("I think the Beatles", False),
        ("Beatle", False),
        ("", False),
    ],
)
def test_an_answer_begins_with_an_accepted_one(written: str, right: bool) -> None:
    assert is_right(generation([ANSWER]), ANSWER, written) is right


@pytest.mark.parametrize(
    ("written", "right"),
    [("18", True), ("18.5", True), ("187", True), (" 18", False), ("x18", False), ("$18", False), ("1,8", False)],
)
def test_without_normalisation_every_character_counts(written: str, right: bool) -> None:
    """A longer number begins with a shorter one: the published rule, kept for the published scores."""
    task = generation([], settings=Writing(do_normalization=False))
    assert is_right(task, Generation("?", "18"), written) is right


@pytest.mark.parametrize(
    ("written", "right"),
    [
        (" She has 9 eggs. The answer is 18", True),
        ("The answer is 9. No: The answer is 18.", True),
        ("The answer is 18. The answer is 9", False),
        ("18", True),  # no reasoning, the answer at once
        (" She has 18 eggs", False),
        ("The answer is 18\n\nQ: Another? The answer is 9", True),
        ("The answer is 18 Q: Another? The answer is 9", True),
        ("Q: Another? The answer is 18", False),
        ("\n\nThe answer is 18", False),
    ],
)
def test_the_answer_is_what_follows_the_last_delimiter_before_the_first_stop(written: str, right: bool) -> None:
    assert is_right(generation([], settings=SETTINGS), Generation("?", "18"), written) is right


def test_normalisation() -> None:
    assert normalized("  The U.S.A. -- an (old) ANTHEM_of a land ") == "u s old anthem of land"
    assert normalized("Theatre, another, atheist") == "theatre another atheist"  # articles are whole words
    assert normalized("…") == "…" and normalized("a the an") == normalized("?!'\"") == ""


def test_an_accepted_answer_of_which_nothing_is_left_accepts_nothing() -> None:
    task = generation([])
    assert not is_right(task, Generation("?", "The", ("!",)), "anything")
    assert is_right(task, Generation("?", "The", ("!", "any")), "anything")


def plain_text(loaded: LoadedModel, prompt: str, tokens: int, stops: Sequence[str] = ()) -> str:
    """Greedy, a token at a time, the whole text read anew for each; cut where a stop begins."""
    tokenizer, context = loaded.tokenizer, loaded.gpt.config.sequence_len
    ids = tokenizer.encode(prompt)
    ids = [tokenizer.bos_id, *ids[max(0, len(ids) - (context - tokens - 1)) :]]
    end = {tokenizer.bos_id, tokenizer.special("<|im_end|>")}
    said: list[int] = []
    while len(said) < tokens:
        with torch.no_grad():
            token = int(loaded.gpt.logits(loaded.gpt(torch.tensor([ids + said])))[0, -1].argmax())
        if token in end:
            break
        said.append(token)
    text = tokenizer.decode(said)
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


def test_continuations_equal_one_token_at_a_time(model: LoadedModel) -> None:
    prompts = [row.context for row in animals()] + ["Mara", "so", "the road " * 3, "Otto said a long story " * 20]
    heard: list[int] = []
    for stops in ((), (" in", "cat"), ("e",)):
        found = continuations(model, prompts, 12, stops, heard.append)
        assert found == [plain_text(model, prompt, 12, stops) for prompt in prompts]
        assert len(set(found)) > 3
    assert heard == [1] * (3 * len(prompts))
    assert continuations(model, [], 12) == []
    # More than half of the context is never written, so that a question is read at all.
    assert continuations(model, prompts[:2], 1_000) == [plain_text(model, each, CONTEXT // 2) for each in prompts[:2]]


def test_what_was_learnt_by_heart_is_right(model: LoadedModel) -> None:
    task = generation(animals())
    heard: list[int] = []
    result = score_written(model, task, done=heard.append)
    assert isinstance(result, TaskResult) and heard == [1] * 8
    assert (result.label, result.kind, result.num_fewshot, result.baseline) == ("asked", task.kind, 0, 0.0)
    order = list(range(8))
    random.Random(1337).shuffle(order)
    assert [outcome.row for outcome in result.outcomes] == order
    right = {outcome.row for outcome in result.outcomes if outcome.correct}
    assert right >= set(range(5)) and len(right) < 8  # what it was not taught it does not know
    limit = answer_tokens(task, model.tokenizer)
    for outcome in result.outcomes:
        example = task.examples[outcome.row]
        assert isinstance(outcome, Written) and isinstance(example, Generation)
        assert outcome.answer == plain_text(model, example.context, limit) and outcome.expected == example.answer
    exact = generation(animals(), settings=Writing(do_normalization=False))
    scored = score_written(model, exact)
    assert isinstance(scored, TaskResult) and scored.accuracy == 0.0  # it writes a space first


def test_stops_decide_what_is_compared(model: LoadedModel) -> None:
    """Taught "goat in Thornby": up to " in" it is the animal."""
    beasts = [Generation(row.context, row.answer.split()[0]) for row in animals()]
    result = score_written(model, generation(beasts, settings=Writing(early_stopping_criteria=(" in",))))
    assert isinstance(result, TaskResult)
    written = {outcome.row: outcome for outcome in result.outcomes if isinstance(outcome, Written)}
    assert [written[row].answer for row in range(5)] == [f" {beasts[row].answer}" for row in range(5)]
    assert all(written[row].correct for row in range(5))


def test_delimiters_decide_what_is_compared(model: LoadedModel) -> None:
    """After " in " it is the town, unless the model goes on to another one."""
    towns = [Generation(row.context, row.answer.split()[-1], (), row.answer.split()[0]) for row in animals()]
    task = generation(towns, settings=Writing(cot_delimiter=" in ", do_normalization=False))
    result = score_written(model, task)
    assert isinstance(result, TaskResult) and 0 < result.accuracy < 1
    for outcome in result.outcomes:
        text = plain_text(model, towns[outcome.row].context, answer_tokens(task, model.tokenizer))
        assert outcome.correct == text.split(" in ")[-1].startswith(towns[outcome.row].answer)


@pytest.mark.parametrize("count", [2, 3, 11])
def test_shares_join_to_the_whole(model: LoadedModel, count: int) -> None:
    """Eleven shares of eight rows: some have none. Beside a task of another kind, in the order of the bundle."""
    judged = Task("judged", "language_modeling", 1, " ", 0.0,
                  tuple(LanguageModeling(row["context"], row["continuation"]) for row in sentences()))  # fmt: skip
    bundle = Bundle((generation(animals(), 2), judged, generation(animals(), settings=SETTINGS)))
    whole = score_bundle(model, bundle)
    shares = [score_bundle(model, bundle, share=Share(number, count)) for number in range(count)]
    assert [task.kind for task in whole.tasks] == [task.kind for task in bundle.tasks]
    joined = merge(shares)
    assert joined.tasks[0] == whole.tasks[0] and joined.tasks[2] == whole.tasks[2]
    assert joined.score == whole.score


def test_max_examples_takes_shuffled_rows(model: LoadedModel) -> None:
    whole, cut = score_written(model, generation(animals())), score_written(model, generation(animals()), 3)
    assert isinstance(whole, TaskResult) and isinstance(cut, TaskResult)
    assert cut.outcomes == whole.outcomes[:3]
    progress: list[tuple[str, int]] = []
    score_bundle(model, Bundle((generation(animals(), 1),)), 3, lambda label, rows: progress.append((label, rows)))
    assert progress == [("asked", 1)] * 3


def test_nothing_is_left_changed(model: LoadedModel) -> None:
    gpt = GPT(model.gpt.config)
    gpt.load_state_dict(model.gpt.state_dict())
    in_training = dataclasses.replace(model, gpt=gpt.train())
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert score_written(in_training, generation(animals(), 2)) == score_written(model, generation(animals(), 2))
    assert torch.equal(torch.random.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]
    assert gpt.training
    for name, parameter in gpt.named_parameters():
        assert parameter.requires_grad and parameter.grad is None
        assert torch.equal(parameter, model.gpt.get_parameter(name))
