"""A bundle of in-context-learning tasks, in the layout in which DCLM and nanochat publish CORE:

    core.yaml            icl_tasks: label, dataset_uri, num_fewshot, icl_task_type, continuation_delimiter of each task
    eval_meta_data.csv   what guessing scores on each task ("Eval Task", "Random baseline" in percent)
    eval_data/**.jsonl   one row a line

Reading checks everything that scoring relies on, so that a mistake in a file is told with its line and key before the
model is asked anything.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from vnc.errors import UserError

Kind = Literal["multiple_choice", "schema", "language_modeling"]

LIST_FILE, BASELINE_FILE, DATA_FOLDER = "core.yaml", "eval_meta_data.csv", "eval_data"
TASK_KEYS = {
    *("label", "dataset_uri", "num_fewshot", "icl_task_type", "continuation_delimiter"),
    "has_categories",  # rows name their category; CORE averages over rows all the same
}
DEFAULT_DELIMITER = " "


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


Example = MultipleChoice | Schema | LanguageModeling


@dataclass(frozen=True)
class Task:
    """One task with its rows."""

    label: str
    kind: Kind
    num_fewshot: int
    """Solved examples shown before each question."""
    delimiter: str
    """What stands between a question and its answer."""
    baseline: float
    """Accuracy of guessing, 0 to 1."""
    examples: tuple[Example, ...]
    """In the order of the file; all of the class that `kind` names."""


@dataclass(frozen=True)
class LeftOut:
    """A task that is listed but cannot be scored."""

    label: str
    reason: str


@dataclass(frozen=True)
class Bundle:
    tasks: tuple[Task, ...]
    left_out: tuple[LeftOut, ...] = ()


def read_bundle(folder: Path, labels: Collection[str] | None = None) -> Bundle:
    """The tasks listed in folder/core.yaml, or those of them that `labels` names, in the order of the list.

    A task whose data file is absent is left out by name; anything malformed raises UserError.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a bundle has {LIST_FILE}, {BASELINE_FILE} and {DATA_FOLDER}/")
    entries = _read_list(folder / LIST_FILE)
    known = [entry["label"] for entry in entries]
    for label in labels or ():
        if label not in known:
            raise UserError(f"{folder / LIST_FILE} has no task {label!r}; it has {', '.join(dict.fromkeys(known))}")
    baselines = _read_baselines(folder / BASELINE_FILE)
    tasks, left_out = [], []
    for entry in entries:
        label, uri = entry["label"], entry["dataset_uri"]
        if labels is not None and label not in labels:
            continue
        if label not in baselines:
            raise UserError(f"{folder / BASELINE_FILE} has no row for the task {label!r}; add its Random baseline")
        path = folder / DATA_FOLDER / uri
        if not path.is_file():
            left_out.append(LeftOut(label, f"{DATA_FOLDER}/{uri} is not in the bundle"))
            continue
        kind, delimiter = entry["icl_task_type"], entry.get("continuation_delimiter", DEFAULT_DELIMITER)
        examples = tuple(read_examples(path, kind))
        for shots in entry["num_fewshot"]:
            tasks.append(Task(label, kind, shots, delimiter, baselines[label], examples))
    if not tasks:
        raise UserError(f"{folder}: the data of all its tasks is missing, such as {left_out[0].reason.split()[0]}")
    return Bundle(tuple(tasks), tuple(left_out))


def read_examples(path: Path, kind: Kind) -> Iterator[Example]:
    """The rows of a JSONL file; UserError names the line and key of the first that is not of this kind."""
    empty = True
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        empty = False
        try:
            yield parse_example(json.loads(line), kind)
        except ValueError as error:  # json's own errors are ValueErrors too
            raise UserError(f"{path}, line {number}: {error}") from None
    if empty:
        raise UserError(f"{path}: no rows in it; remove the task or restore the file")


def parse_example(row: Any, kind: Kind) -> Example:
    """One row as `json.loads` gives it. Raises ValueError naming the key at fault."""
    if not isinstance(row, dict):
        raise ValueError(f"a row must be a JSON object, not {type(row).__name__}")
    if kind == "multiple_choice":
        choices = _texts(row, "choices")
        return MultipleChoice(_text(row, "query"), choices, _index(row, "gold", len(choices)))
    if kind == "schema":
        options = _texts(row, "context_options")
        return Schema(options, _text(row, "continuation"), _index(row, "gold", len(options)))
    continuation = _text(row, "continuation")
    if not continuation:
        raise ValueError("key 'continuation' is empty: there is nothing to predict")
    return LanguageModeling(_text(row, "context"), continuation)


def _text(row: dict[str, Any], key: str) -> str:
    if not isinstance(row.get(key), str):
        raise ValueError(f"key {key!r} must be a string, found {_shown(row, key)}")
    value: str = row[key]
    return value


def _texts(row: dict[str, Any], key: str) -> tuple[str, ...]:
    values = row.get(key)
    if not isinstance(values, list) or len(values) < 2 or not all(isinstance(value, str) for value in values):
        raise ValueError(f"key {key!r} must be a list of two or more strings, found {_shown(row, key)}")
    return tuple(values)


def _index(row: dict[str, Any], key: str, count: int) -> int:
    value = row.get(key)
    if type(value) is not int or not 0 <= value < count:
        raise ValueError(f"key {key!r} must be a whole number from 0 to {count - 1}, found {_shown(row, key)}")
    return value


def _shown(row: dict[str, Any], key: str) -> str:
    if key not in row:
        return "none"
    text = json.dumps(row[key])
    return text if len(text) <= 60 else f"{text[:60]}..."


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path.parent} is no bundle: it has no {path.name}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None


def _read_list(path: Path) -> list[dict[str, Any]]:
    """The entries of icl_tasks, checked; num_fewshot is a list of numbers in each."""
    try:
        content = yaml.safe_load(_read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    entries = content.get("icl_tasks") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: needs a key icl_tasks with a list of tasks")
    for number, entry in enumerate(entries, start=1):
        try:
            _check_entry(entry)
        except ValueError as error:
            name = entry.get("label") if isinstance(entry, dict) else None
            raise UserError(f"{path}, task {number} ({name or 'without a label'}): {error}") from None
    labels = [entry["label"] for entry in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"{path}: the task {label!r} stands there twice; give each a label of its own")
    return entries


def _check_entry(entry: Any) -> None:
    if not isinstance(entry, dict):
        raise ValueError("must be a mapping of keys")
    for key in ("label", "dataset_uri", "icl_task_type"):
        _text(entry, key)
    if unknown := sorted(map(str, set(entry) - TASK_KEYS)):
        raise ValueError(f"key {unknown[0]!r} is not known; known are {', '.join(sorted(TASK_KEYS))}")
    kind, kinds = entry["icl_task_type"], get_args(Kind)
    if kind not in kinds:
        raise ValueError(f"icl_task_type {kind!r} is not known; known are {', '.join(kinds)}")
    if "continuation_delimiter" in entry:
        _text(entry, "continuation_delimiter")
    shots = entry.get("num_fewshot")
    if not isinstance(shots, list) or not shots or not all(type(shot) is int and shot >= 0 for shot in shots):
        raise ValueError(f"key 'num_fewshot' must be a list such as [10], found {_shown(entry, 'num_fewshot')}")


def _read_baselines(path: Path) -> dict[str, float]:
    """Accuracy of guessing by task label, 0 to 1."""
    baselines = {}
    reader = csv.DictReader(_read_text(path).splitlines())
    for column in ("Eval Task", "Random baseline"):
        if column not in (reader.fieldnames or ()):
            raise UserError(f"{path}: has no column {column!r}")
    for row in reader:
        try:
            percent = float(row["Random baseline"])
        except (TypeError, ValueError):
            percent = -1.0
        if not 0 <= percent < 100:
            raise UserError(f"{path}, line {reader.line_num}: Random baseline of {row['Eval Task']!r} must be a "
                            f"percentage from 0 to below 100, found {row['Random baseline']!r}")  # fmt: skip
        baselines[row["Eval Task"]] = 0.01 * percent
    return baselines
