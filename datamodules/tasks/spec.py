"""What a user writes about a task, and how it is opened: conversations to train on, and others to validate with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.tasks import arc, custom_json, gsm8k, mmlu, smoltalk
from datamodules.tasks.spelling import Spelling
from datamodules.tasks.table import SUFFIXES, Table, open_table
from datamodules.tasks.task import HELD_OUT_MOST, HELD_OUT_SHARE, Task, hold_out
from datamodules.tasks.tinyworld import TinyWorldChat
from vnc.errors import UserError

TaskName = Literal["smoltalk", "mmlu", "gsm8k", "arc_easy", "arc_challenge", "spelling", "tinyworld", "json"]

# Read from files: how to make the task, the columns it reads, and the split that is trained on.
FROM_FILES: dict[str, tuple[Callable[[Table], Task], tuple[str, ...], str]] = {
    "smoltalk": (smoltalk.SmolTalk, smoltalk.COLUMNS, "train"),
    "mmlu": (mmlu.Mmlu, mmlu.COLUMNS, "auxiliary_train"),
    "gsm8k": (gsm8k.Gsm8k, gsm8k.COLUMNS, "train"),
    "arc_easy": (lambda table: arc.Arc("easy", table), arc.COLUMNS, "train"),
    "arc_challenge": (lambda table: arc.Arc("challenge", table), arc.COLUMNS, "train"),
    "json": (custom_json.CustomJSON, custom_json.COLUMNS, "train"),
}
GENERATED: dict[str, Callable[[int, bool], Task]] = {"spelling": Spelling, "tinyworld": TinyWorldChat}
GENERATED_SIZE = 10_000
VALIDATION_SPLITS = ("validation", "val", "test")  # the first of these that is there


@dataclass(frozen=True)
class TaskSpec:
    """One task of a mixture.

    Args:
        task: which kind; json is a file of your own.
        path: file, or folder with <split>.parquet or <split>.jsonl; null takes data_dir/<task>.
        epochs: how often each conversation comes in an epoch of the mixture, such as 3 or 0.5.
        weight: share of the mixture under sampling "weighted", in proportion to the other weights; null means 1.
        size: how many conversations to make up (spelling, tinyworld); null means 10,000.
        split: name of the split to train on; null takes the task's own (train; auxiliary_train for mmlu).
    """

    task: TaskName
    path: str | None = None
    epochs: float = 1.0
    weight: float | None = None
    size: int | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if self.task not in FROM_FILES and self.task not in GENERATED:
            raise UserError(f"--data.tasks: no task {self.task!r}; there are {', '.join([*FROM_FILES, *GENERATED])}")
        for key in ("epochs", "weight", "size"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise self._wrong(f"{key}={value}: must be above 0; to leave a task out, take it from the list")
        if self.task in GENERATED and (self.path is not None or self.split is not None):
            raise self._wrong("it is made up and reads no files; leave out path and split, and set size")
        if self.task in FROM_FILES and self.size is not None:
            raise self._wrong("size is for tasks that are made up; here epochs says how much of it is read")
        if self.task == "json" and self.path is None:
            raise self._wrong("it needs path: your file of conversations, one in each line")

    def _wrong(self, problem: str) -> UserError:
        return UserError(f"--data.tasks, {self.task}: {problem}")


@dataclass(frozen=True, eq=False)
class OpenedTask:
    """A task, ready to be read."""

    train: Task
    validation: Task
    """Conversations that training never sees; there may be none."""
    identity: str
    """Tells other data from these: names, sizes and counts, no folders."""


def open_task(spec: TaskSpec, data_dir: Path) -> OpenedTask:
    """Opens what `spec` asks for. Raises UserError that names what is missing and how to get it."""
    if spec.task in GENERATED:
        make, size = GENERATED[spec.task], spec.size or GENERATED_SIZE
        validation = make(max(1, min(HELD_OUT_MOST, size // HELD_OUT_SHARE)), True)
        return OpenedTask(make(size, False), validation, f"{size} made up")
    make_task, columns, usual = FROM_FILES[spec.task]
    place, split = Path(spec.path) if spec.path else data_dir / spec.task, spec.split or usual
    if place.suffix in SUFFIXES and not place.is_dir():
        if spec.split is not None:
            raise UserError(f"--data.tasks, {spec.task}: split is for a folder of splits, and {place} names a file; "
                            "leave one of them out")  # fmt: skip
        path, others = place, []
    else:
        path, others = _find(place, split, spec.task), [name for name in VALIDATION_SPLITS if name != split]
    whole = make_task(open_table(path, columns))
    found = [file for name in others for file in _files(place, name)]
    if found:
        training, validation, kept = whole, make_task(open_table(found[0], columns)), found[0].name
    else:
        training, part = hold_out(whole)
        validation, kept = part, f"{len(part)} of them"
    size = path.stat().st_size
    return OpenedTask(training, validation, f"{path.name}, {size} bytes, {len(whole)} conversations, validation {kept}")


def _find(folder: Path, split: str, task: str) -> Path:
    files = _files(folder, split)
    if not files:
        others = [path for path in folder.glob("*") if path.suffix in SUFFIXES] if folder.is_dir() else []
        there = f" (there are {', '.join(sorted(path.name for path in others))})" if others else ""
        way_out = "name a file with path" if task == "json" else (
            "`vnc prepare task_mixture` fetches it; or set --data.data_dir, or take the task from --data.tasks"
        )  # fmt: skip
        raise UserError(f"{folder / split}.parquet (or .jsonl): no such file for task {task}{there}; {way_out}")
    return files[0]


def _files(folder: Path, split: str) -> list[Path]:
    return [path for suffix in SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
