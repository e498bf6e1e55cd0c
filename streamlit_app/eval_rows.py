"""One row of a benchmark as a person reads it: what was asked, what could be answered, what the model preferred and by
how much. Texts come from the benchmark's own files; what is known without them comes from the outcome alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from vnc.errors import UserError
from vnc.evals.bundle import Bundle, Task, read_bundle
from vnc.evals.chatcore.tasks import ChatTask, CodeTask, LetterTask, SumTask, read_chat_tasks
from vnc.evals.examples import Code, Generation, LanguageModeling, MultipleChoice, Schema
from vnc.evals.gauntlet import read_gauntlet
from vnc.evals.prompts import fewshot_places, prompt_texts, scored_rows
from vnc.evals.suites import TINYWORLD, open_bundle


@dataclass(frozen=True)
class Asked:
    """The texts of one row."""

    before: str
    """Solved examples that stand before the question; empty without."""
    question: str
    options: tuple[str, ...] = ()
    """What is compared; empty where the model writes."""
    expected: str | None = None
    """What would be right, where nothing is compared."""


@dataclass(frozen=True)
class Option:
    letter: str
    text: str | None
    """None where the benchmark's files are not at hand."""
    loss: float | None
    """Nats per token; None for an option with no token of its own."""
    preferred: bool
    right: bool


Rows = Bundle | tuple[ChatTask, ...]


def read_rows(suite: str, folder: str | None) -> Rows:
    """The benchmark's own files; TinyWorld's CORE where no folder is named. Raises UserError."""
    if suite == "chatcore":
        if folder is None:
            raise UserError(
                "the folder of its questions is not known: name the one that vnc prepare task_mixture wrote"
            )
        return read_chat_tasks(Path(folder)).tasks
    if suite == "gauntlet":
        if folder is None:
            raise UserError("the gauntlet's folder is not known: name it")
        return read_gauntlet(Path(folder)).bundle
    return open_bundle(None) if folder in (None, TINYWORLD) else read_bundle(Path(str(folder)))


def asked(rows: Rows, label: str, num_fewshot: int, outcomes: Sequence[Mapping[str, Any]], place: int) -> Asked:
    """The texts of the row at `place` of a task's outcomes. Raises UserError where the files have other rows than the
    ones that were scored."""
    row = int(outcomes[place]["row"])
    if isinstance(rows, Bundle):
        for task in rows.tasks:
            if (task.label, task.num_fewshot) == (label, num_fewshot):
                return _asked_of_bundle(task, [int(outcome["row"]) for outcome in outcomes], place)
    else:
        for chat_task in rows:
            if chat_task.label == label:
                if row >= len(chat_task.rows):
                    raise _other_rows(label, row)
                return _asked_of_chat(chat_task, row)
    raise UserError(f"the folder has no task {label}")


def _asked_of_bundle(task: Task, scored: list[int], place: int) -> Asked:
    if scored_rows(len(task.examples), len(scored)) != scored:
        raise _other_rows(task.label, scored[place])
    example = task.examples[scored[place]]
    match example:
        case Generation():
            return Asked("", example.context, expected=example.answer)
        case Code():
            return Asked("", example.prompt, expected=example.canonical_solution)
    shown = [task.examples[scored[shot]] for shot in fewshot_places(len(scored), place, task.num_fewshot)]
    whole = prompt_texts(example, shown, task.delimiter)[0]  # type: ignore[arg-type]  # of one kind, by the task's
    alone = prompt_texts(example, [], task.delimiter)[0]
    before = whole.removesuffix(alone).rstrip("\n")
    match example:
        case MultipleChoice():
            return Asked(before, example.query, example.choices)
        case Schema():
            return Asked(before, f"... {example.continuation}", example.context_options)
        case LanguageModeling():
            return Asked(before, example.context, expected=example.continuation)


def _asked_of_chat(task: ChatTask, row: int) -> Asked:
    if isinstance(task, LetterTask):
        return Asked("", task.rows[row].question, task.rows[row].choices)
    if isinstance(task, SumTask):
        return Asked("", task.rows[row].question, expected=task.rows[row].expected)
    if isinstance(task, CodeTask):
        return Asked("", task.rows[row].prompt)
    return Asked("", task.rows[row].text, expected=task.rows[row].expected)


def _other_rows(label: str, row: int) -> UserError:
    return UserError(f"{label}: the folder holds other rows than those that were scored (row {row:,}); name the one "
                     "that this result was made with")  # fmt: skip


def compared(outcome: Mapping[str, Any], texts: Asked | None) -> list[Option]:
    """The options of a row that was answered by likelihood; none where the model wrote."""
    losses = outcome.get("losses")
    if not isinstance(losses, list | tuple) or outcome.get("gold") is None:
        return []
    return [
        Option(
            letter=ascii_uppercase[place] if place < len(ascii_uppercase) else str(place + 1),
            text=texts.options[place] if texts and place < len(texts.options) else None,
            loss=None if loss is None else float(loss),
            preferred=place == outcome.get("choice"),
            right=place == outcome["gold"],
        )
        for place, loss in enumerate(losses)
    ]


def differing(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Rows that one model got right and the other wrong: their places among the outcomes of the first and the second.
    Rows of which the two results expect different answers are not the same question, and are left out."""
    places = {int(outcome["row"]): place for place, outcome in enumerate(second)}
    pairs = [
        (place, places[int(outcome["row"])]) for place, outcome in enumerate(first) if int(outcome["row"]) in places
    ]
    return [
        (here, there)
        for here, there in pairs
        if bool(first[here]["correct"]) != bool(second[there]["correct"])
        and all(first[here].get(key) == second[there].get(key) for key in ("gold", "expected"))
    ]


def why(outcome: Mapping[str, Any]) -> str:
    """Why the row counts as right or wrong, in a sentence or two."""
    options = compared(outcome, None)
    if not options:
        return _why_written(outcome)
    chosen = next((option for option in options if option.preferred), None)
    right = next((option for option in options if option.right), None)
    if chosen is None or right is None:
        return "The file does not tell which option the model preferred."
    if chosen.loss is None:
        return f"{chosen.letter} has no token of its own, so it counts as chosen because it comes first."
    if chosen is not right:
        if right.loss is None:
            return f"The right answer {right.letter} has no token of its own to be judged by, so it cannot be chosen."
        return (f"Wrong: the model finds {chosen.letter} likelier than the right answer {right.letter}. "
                f"{_gap(right.loss - chosen.loss)}")  # fmt: skip
    others = [option for option in options if option is not chosen and option.loss is not None]
    if not others:
        return f"Right: {chosen.letter} is the only option with tokens of its own."
    next_best = min(others, key=lambda option: option.loss if option.loss is not None else math.inf)
    assert next_best.loss is not None
    return (f"Right: the model finds {chosen.letter} likelier than the next best, {next_best.letter}. "
            f"{_gap(next_best.loss - chosen.loss)}")  # fmt: skip


def _gap(difference: float) -> str:
    if difference <= 0:
        return "Both have the same loss, and the first of equals is chosen."
    factor = math.exp(min(difference, 50.0))
    times = f"{factor:.3g}" if factor < 100 else f"{factor:,.0f}" if factor < 1e9 else "more than a billion"
    return (f"Its loss is {difference:.3f} nats per token lower: on average each of its tokens is {times} times as "
            "likely.")  # fmt: skip


def _why_written(outcome: Mapping[str, Any]) -> str:
    if "losses" in outcome:
        loss = (outcome["losses"] or [None])[0]
        tail = f" Its loss is {loss:.3f} nats per token." if isinstance(loss, float) else ""
        if outcome["correct"]:
            return f"Right: the model's first guess is the token that stands there, all through the continuation.{tail}"
        return f"Wrong: somewhere in the continuation the model's first guess is another token.{tail}"
    if outcome["correct"]:
        return "Right: what was expected is found in what the model wrote."
    return "Wrong: what was expected is not found in what the model wrote."
