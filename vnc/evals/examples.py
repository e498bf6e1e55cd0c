"""The rows of tasks, one class for each type of task, and how JSON becomes one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["multiple_choice", "schema", "language_modeling", "generation_task_with_answers", "code_evaluation"]


@dataclass(frozen=True)
class MultipleChoice:
    """One question, several answers: which answer is the likeliest continuation?"""

    query: str
    choices: tuple[str, ...]
    gold: int
    """Index of the right choice."""


@dataclass(frozen=True)
class Schema:
    """Several contexts, one continuation: after which context is it the likeliest? (Winograd's schemas.)"""

    context_options: tuple[str, ...]
    continuation: str
    gold: int
    """Index of the right context."""


@dataclass(frozen=True)
class LanguageModeling:
    """The continuation itself must be what the model would say, word for word."""

    context: str
    continuation: str


@dataclass(frozen=True)
class Generation:
    """The model writes, and what it writes must begin with one of the answers."""

    context: str
    answer: str
    aliases: tuple[str, ...] = ()
    """Other answers that are right too."""
    chain_of_thought: str = ""
    """What leads to the answer, shown in solved examples."""

    @property
    def answers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.answer, *self.aliases)))


@dataclass(frozen=True)
class Code:
    """The model goes on with a program, which must then give the right results."""

    prompt: str
    canonical_solution: str
    entry_point: str
    """The function that is called."""
    test_inputs: tuple[str, ...]
    """Python expressions, each a tuple of arguments."""
    test_outputs: tuple[str, ...]
    """Python expressions."""


Judged = MultipleChoice | Schema | LanguageModeling  # by likelihood
Example = Judged | Generation | Code


def parse_example(row: Any, kind: Kind) -> Example:
    """One row as `json.loads` gives it. Raises ValueError naming the key at fault."""
    if not isinstance(row, dict):
        raise ValueError(f"a row must be a JSON object, not {type(row).__name__}")
    match kind:
        case "multiple_choice":
            choices = _texts(row, "choices", 2)
            return MultipleChoice(text(row, "query"), choices, _index(row, "gold", len(choices)))
        case "schema":
            options = _texts(row, "context_options", 2)
            return Schema(options, text(row, "continuation"), _index(row, "gold", len(options)))
        case "language_modeling":
            return LanguageModeling(text(row, "context"), _words(row, "continuation", "there is nothing to predict"))
        case "generation_task_with_answers":
            aliases = _texts(row, "aliases", 0) if "aliases" in row else ()
            thought = text(row, "chain_of_thought") if "chain_of_thought" in row else ""
            answer = _words(row, "answer", "every text would begin with it")
            return Generation(text(row, "context"), answer, tuple(filter(None, aliases)), thought)
        case "code_evaluation":
            if row.get("language", "python") != "python":
                raise ValueError(f"language {row['language']!r}: only python can be run")
            inputs, outputs = _texts(row, "test_inputs", 1), _texts(row, "test_outputs", 1)
            if len(inputs) != len(outputs):
                raise ValueError(f"{len(inputs)} test_inputs but {len(outputs)} test_outputs")
            name = text(row, "entry_point")
            if not name.isidentifier():
                raise ValueError(f"key 'entry_point' must be the name of a function, found {shown(row, 'entry_point')}")
            return Code(text(row, "prompt"), text(row, "canonical_solution"), name, inputs, outputs)


def text(row: dict[str, Any], key: str) -> str:
    if not isinstance(row.get(key), str):
        raise ValueError(f"key {key!r} must be a string, found {shown(row, key)}")
    value: str = row[key]
    return value


def shown(row: dict[str, Any], key: str) -> str:
    """What stands at a key, short enough for a message."""
    if key not in row:
        return "none"
    found = json.dumps(row[key])
    return found if len(found) <= 60 else f"{found[:60]}..."


def _words(row: dict[str, Any], key: str, reason: str) -> str:
    value = text(row, key)
    if not value:
        raise ValueError(f"key {key!r} is empty: {reason}")
    return value


def _texts(row: dict[str, Any], key: str, least: int) -> tuple[str, ...]:
    values = row.get(key)
    if not isinstance(values, list) or len(values) < least or not all(isinstance(value, str) for value in values):
        number = {0: "", 1: "one or more ", 2: "two or more "}[least]
        raise ValueError(f"key {key!r} must be a list of {number}strings, found {shown(row, key)}")
    return tuple(values)


def _index(row: dict[str, Any], key: str, count: int) -> int:
    value = row.get(key)
    if type(value) is not int or not 0 <= value < count:
        raise ValueError(f"key {key!r} must be a whole number from 0 to {count - 1}, found {shown(row, key)}")
    return value
