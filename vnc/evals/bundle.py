"""A bundle of in-context-learning tasks, in the layout in which DCLM, nanochat and Mosaic publish theirs:

    core.yaml            icl_tasks: label, dataset_uri, num_fewshot, icl_task_type, continuation_delimiter of each task
    gauntlet.yaml        the same for Mosaic's gauntlet, with its categories (gauntlet.py)
    eval_meta_data.csv   what guessing scores on each task ("Eval Task", "Random baseline" in percent)
    eval_data/**.jsonl   one row a line (examples.py)

Reading checks everything that scoring relies on, so that a mistake in a file is told with its line and key before the
model is asked anything.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from vnc.errors import UserError
from vnc.evals.examples import Example, Kind, parse_example, shown, text

LIST_FILE, BASELINE_FILE, DATA_FOLDER = "core.yaml", "eval_meta_data.csv", "eval_data"
WRITING_KEYS = {"cot_delimiter", "question_prelimiter", "do_normalization", "early_stopping_criteria"}
TASK_KEYS = {
    *("label", "dataset_uri", "num_fewshot", "icl_task_type", "continuation_delimiter"),
    "has_categories",  # rows name their category; CORE averages over rows all the same, the gauntlet over categories
} | WRITING_KEYS
DEFAULT_DELIMITER = " "


@dataclass(frozen=True)
class Writing:
    """How the answers of a generation task are asked for and read (llm-foundry's keys)."""

    question_prelimiter: str = ""
    """What stands before each question."""
    cot_delimiter: str = ""
    """What stands between the reasoning and the answer, in solved examples and in what the model writes."""
    do_normalization: bool = True
    """Compare without case, punctuation, articles and surplus white space."""
    early_stopping_criteria: tuple[str, ...] = ()
    """The model has finished where one of these begins."""


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
    categories: tuple[str, ...] = ()
    """Of each row, where rows name one."""
    writing: Writing = Writing()


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
    entries = read_list(folder, LIST_FILE)
    return read_tasks(folder, LIST_FILE, entries, read_baselines(folder / BASELINE_FILE), labels)


def read_tasks(
    folder: Path,
    list_file: str,
    entries: Iterable[dict[str, Any]],
    baselines: Mapping[str, float],
    labels: Collection[str] | None = None,
) -> Bundle:
    """The tasks of these entries, or those of them that `labels` names. `baselines` knows each by its label, or by
    "label/shots" where that makes a difference."""
    entries = list(entries)
    if labels is not None and not labels:
        raise UserError("tasks: an empty list; name at least one task, or none at all for every task")
    known = [entry["label"] for entry in entries]
    for label in labels or ():
        if label not in known:
            raise UserError(f"{folder / list_file} has no task {label!r}; it has {', '.join(dict.fromkeys(known))}")
    tasks, left_out = [], []
    for entry in entries:
        label, uri = entry["label"], entry["dataset_uri"]
        if labels is not None and label not in labels:
            continue
        path = folder / DATA_FOLDER / uri
        if not path.is_file():
            left_out.append(LeftOut(label, f"{DATA_FOLDER}/{uri} is not in the bundle"))
            continue
        kind, delimiter = entry["icl_task_type"], entry.get("continuation_delimiter", DEFAULT_DELIMITER)
        rows = list(read_rows(path))
        examples = tuple(read_examples(path, rows, kind))
        categories = tuple(str(row.get("category", "")) for _, row in rows) if entry.get("has_categories") else ()
        writing = _writing(entry)
        for shots in entry["num_fewshot"]:
            baseline = baselines.get(f"{label}/{shots}", baselines.get(label))
            if baseline is None:
                raise UserError(f"{folder / BASELINE_FILE} has no row for the task {label!r}; add its Random baseline")
            tasks.append(Task(label, kind, shots, delimiter, baseline, examples, categories, writing))
    if not tasks:
        raise UserError(f"{folder}: the data of all its tasks is missing, such as {left_out[0].reason.split()[0]}")
    return Bundle(tuple(tasks), tuple(left_out))


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, what it holds) of each line of a JSONL file that is not blank. Raises UserError."""
    empty = True
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            empty = False
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}, line {number}: {error}") from None
    if empty:
        raise UserError(f"{path}: no rows in it; remove the task or restore the file")


def read_examples(path: Path, rows: Iterable[tuple[int, Any]], kind: Kind) -> Iterator[Example]:
    """The rows of a file; UserError names the line and key of the first that is not of this kind."""
    for number, row in rows:
        try:
            yield parse_example(row, kind)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from None


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path.parent} is no bundle: it has no {path.name}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None


def read_yaml(folder: Path, name: str) -> dict[str, Any]:
    """A file of the bundle that holds a mapping. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a bundle has {LIST_FILE}, {BASELINE_FILE} and {DATA_FOLDER}/")
    path = folder / name
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return content if isinstance(content, dict) else {}


def read_list(folder: Path, name: str, key: str = "icl_tasks") -> list[dict[str, Any]]:
    """The entries of a list of tasks, checked; num_fewshot is a list of numbers in each."""
    path, entries = folder / name, read_yaml(folder, name).get(key)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: needs a key {key} with a list of tasks")
    for number, entry in enumerate(entries, start=1):
        try:
            _check_entry(entry)
        except ValueError as error:
            label = entry.get("label") if isinstance(entry, dict) else None
            raise UserError(f"{path}, task {number} ({label or 'without a label'}): {error}") from None
    labels = [entry["label"] for entry in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"{path}: the task {label!r} stands there twice; give each a label of its own")
    return entries


def _writing(entry: dict[str, Any]) -> Writing:
    values = {key: entry[key] for key in WRITING_KEYS if key in entry}
    return Writing(**values | {"early_stopping_criteria": tuple(values.get("early_stopping_criteria", ()))})


def _check_entry(entry: Any) -> None:
    if not isinstance(entry, dict):
        raise ValueError("must be a mapping of keys")
    for key in ("label", "dataset_uri", "icl_task_type"):
        text(entry, key)
    if unknown := sorted(map(str, set(entry) - TASK_KEYS)):
        raise ValueError(f"key {unknown[0]!r} is not known; known are {', '.join(sorted(TASK_KEYS))}")
    kind, kinds = entry["icl_task_type"], get_args(Kind)
    if kind not in kinds:
        raise ValueError(f"icl_task_type {kind!r} is not known; known are {', '.join(kinds)}")
    for key in ("continuation_delimiter", "cot_delimiter", "question_prelimiter"):
        if key in entry:
            text(entry, key)
    if not isinstance(entry.get("do_normalization", True), bool):
        raise ValueError(f"key 'do_normalization' must be true or false, found {shown(entry, 'do_normalization')}")
    stops = entry.get("early_stopping_criteria", [])
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(
            f"key 'early_stopping_criteria' must be a list of strings, found {shown(entry, 'early_stopping_criteria')}"
        )
    shots = entry.get("num_fewshot")
    if not isinstance(shots, list) or not shots or not all(type(shot) is int and shot >= 0 for shot in shots):
        raise ValueError(f"key 'num_fewshot' must be a list such as [10], found {shown(entry, 'num_fewshot')}")


def read_baselines(path: Path) -> dict[str, float]:
    """Accuracy of guessing by task label, 0 to 1."""
    baselines = {}
    reader = csv.DictReader(read_text(path).splitlines())
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
