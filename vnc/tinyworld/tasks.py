"""TinyWorld's evaluation tasks, written as a bundle in the layout of the real CORE bundle.

`core.yaml` lists the tasks, `eval_meta_data.csv` tells what guessing scores, and `eval_data/tinyworld/` holds one JSONL
file for each. A program that scores CORE scores these without knowing the difference.
"""

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from vnc.tinyworld import phrasings as ask
from vnc.tinyworld import task_rows as rows
from vnc.tinyworld.task_rows import Row
from vnc.tinyworld.world import day_after, day_before

BASELINE = {"multiple_choice": 25, "schema": 50, "language_modeling": 0}  # percent, from guessing
COLUMNS = (
    *("Eval Task", "Task Category", "Task Type", "#shots", "#datapoints"),
    *("Random baseline", "Centered Metric?", "Description"),
)


@dataclass(frozen=True)
class Task:
    """One task of the bundle; `rows` makes its rows."""

    label: str
    kind: Literal["multiple_choice", "schema", "language_modeling"]
    description: str
    rows: Callable[[], Iterable[Row]]


TASKS = (
    Task(
        "tinyworld_home_town",
        "multiple_choice",
        "Where each of 36 people lives.",
        lambda: rows.about_people(ask.HOME_TOWN, "town"),
    ),
    Task(
        "tinyworld_job",
        "multiple_choice",
        "What people work as.",
        lambda: rows.about_people(ask.JOB, "job"),
    ),
    Task(
        "tinyworld_pet",
        "multiple_choice",
        "What kind of animal people keep.",
        lambda: rows.about_people(ask.PET, "kind"),
    ),
    Task(
        "tinyworld_favourites",
        "multiple_choice",
        "The colour and the food that people like best.",
        lambda: chain(rows.about_people(ask.COLOUR, "colour"), rows.about_people(ask.FOOD, "food")),
    ),
    Task(
        "tinyworld_two_steps",
        "multiple_choice",
        "The town of a pet's owner, and of the one person with a job.",
        lambda: rows.about_people(ask.PET_HOME + ask.JOB_HOME, "town"),
    ),
    Task(
        "tinyworld_towns",
        "multiple_choice",
        "Which towns are neighbours, and what there is to see.",
        lambda: chain(rows.neighbours(ask.NEIGHBOURS), rows.landmarks(ask.LANDMARKS)),
    ),
    Task(
        "tinyworld_days",
        "multiple_choice",
        "The day after and the day before.",
        lambda: chain(rows.days(ask.NEXT_DAY, day_after), rows.days(ask.DAY_BEFORE, day_before)),
    ),
    Task(
        "tinyworld_opposites",
        "multiple_choice",
        "Words and their opposites.",
        lambda: rows.opposites(ask.OPPOSITES),
    ),
    Task(
        "tinyworld_sums",
        "multiple_choice",
        "Sums of two numbers from two to seven.",
        lambda: rows.sums(ask.SUMS),
    ),
    Task(
        "tinyworld_whose",
        "schema",
        "Of which of two people a statement is true.",
        lambda: rows.whose(ask.HOMES + ask.OWNERS),
    ),
    Task(
        "tinyworld_pet_names",
        "language_modeling",
        "The name of a pet, given its owner and its kind.",
        lambda: rows.pet_names(ask.PET_NAMES),
    ),
    Task(
        "tinyworld_sequences",
        "language_modeling",
        "Days and numbers in order.",
        lambda: rows.sequences(ask.DAYS_IN_ORDER, ask.NUMBERS_IN_ORDER),
    ),
)


def write_bundle(folder: Path) -> None:
    """Write all tasks under `folder`, made if need be. The same bytes every time."""
    (folder / "eval_data" / "tinyworld").mkdir(parents=True, exist_ok=True)
    entries, table = ["# The tasks of TinyWorld; dataset_uri is relative to eval_data/.\nicl_tasks:\n"], []
    for task in TASKS:
        lines = [json.dumps(row) + "\n" for row in task.rows()]
        uri = f"tinyworld/{task.label.removeprefix('tinyworld_')}.jsonl"
        (folder / "eval_data" / uri).write_text("".join(lines), encoding="utf-8")
        entries.append(f"- label: {task.label}\n  dataset_uri: {uri}\n")
        entries.append(f"  num_fewshot: [0]\n  icl_task_type: {task.kind}\n")
        kind, baseline = task.kind.replace("_", " "), BASELINE[task.kind]
        table.append((task.label, "tinyworld", kind, 0, len(lines), baseline, "", task.description))
    (folder / "core.yaml").write_text("".join(entries), encoding="utf-8")
    with (folder / "eval_meta_data.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *table])
