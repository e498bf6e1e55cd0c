"""`vnc evaluate`: the scores of a checkpoint, as a table and as JSON.

Without a bundle of real tasks it scores TinyWorld's, which vnc writes itself, so it works offline. torch is imported
when a model is opened, not before, so that help and mistakes in the options come at once.
"""

from __future__ import annotations

import json as json_module
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from vnc.errors import UserError
from vnc.evals.bundle import Bundle, read_bundle
from vnc.evals.prompts import check_rows

if TYPE_CHECKING:
    from vnc.checkpoint import LoadedModel
    from vnc.evals.results import SuiteResult, TaskResult
    from vnc.evals.suite import Progress

TINYWORLD = "TinyWorld"


def evaluate(
    checkpoint: str,
    suite: Literal["core"] = "core",
    bundle: str | None = None,
    tasks: str | None = None,
    max_examples: int | None = None,
    json: str | None = None,
    device: str = "auto",
    compute_dtype: str = "auto",
) -> None:
    """Score a checkpoint on in-context-learning tasks.

    Args:
        checkpoint: Checkpoint directory, run folder (its last checkpoint) or export.
        suite: core: the tasks in the bundle's core.yaml, and the mean of their centred scores.
        bundle: Folder with core.yaml, eval_meta_data.csv and eval_data/; TinyWorld's own tasks when null.
        tasks: Score only these, by label, separated by commas.
        max_examples: At most this many rows of each task, drawn with a fixed seed.
        json: Write all scores and the outcome of every row to this file.
        device: auto, cpu or cuda; auto takes a GPU where there is one.
        compute_dtype: auto, bfloat16 or float32; auto takes bfloat16 where the hardware multiplies it natively.
    """
    labels = None if tasks is None else [label for label in map(str.strip, tasks.split(",")) if label]
    if labels is not None and not labels:
        raise UserError(f"tasks={tasks!r}: name at least one task")
    out = None if json is None else _writable(Path(json))
    content = open_bundle(bundle, labels)
    for task in content.tasks:
        check_rows(task, max_examples)
    loaded, dtype_reason = open_model(checkpoint, device, compute_dtype)
    rows = count_rows(content, max_examples)
    print(f"{loaded.source}: {len(content.tasks)} tasks of {bundle or TINYWORLD}, {rows:,} rows, in {dtype_reason}")
    from vnc.evals.suite import score_bundle

    start = time.perf_counter()
    with progress_bar(rows) as progress:
        result = score_bundle(loaded, content, max_examples, progress)
    seconds = time.perf_counter() - start
    print_table(result)
    print(f"{rows:,} rows in {seconds:.1f} s ({rows / seconds:,.0f} rows/s)")
    if out is not None:
        values = {"suite": suite, "checkpoint": str(loaded.source), "bundle": bundle or TINYWORLD,
                  "max_examples": max_examples, "compute_dtype": str(loaded.gpt.compute_dtype).removeprefix("torch."),
                  "seconds": seconds, **result.as_dict()}  # fmt: skip
        write_json(out, values)
        print(f"every row's outcome: {out}")


def open_bundle(folder: str | None, labels: list[str] | None = None) -> Bundle:
    """The bundle in `folder`, or TinyWorld's; all its tasks, or those that `labels` names."""
    if folder is not None:
        return read_bundle(Path(folder), labels)
    from vnc.tinyworld.tasks import write_bundle

    with tempfile.TemporaryDirectory(prefix="vnc_tinyworld_") as scratch:
        write_bundle(Path(scratch))
        return read_bundle(Path(scratch), labels)


def open_model(checkpoint: str, device: str, compute_dtype: str) -> tuple[LoadedModel, str]:
    """The model, frozen for inference, and what it computes in and why."""

    from vnc.checkpoint import load_model
    from vnc.engine import freeze
    from vnc.precision import choose_compute_dtype, choose_device

    place = choose_device(device)
    dtype, reason = choose_compute_dtype(compute_dtype, place)
    loaded = load_model(checkpoint, place, dtype)
    freeze(loaded.gpt)
    return loaded, reason


def count_rows(bundle: Bundle, max_examples: int | None = None) -> int:
    """Rows that will be scored in all tasks together."""
    return sum(min(len(task.examples), max_examples or len(task.examples)) for task in bundle.tasks)


@contextmanager
def progress_bar(rows: int) -> Iterator[Progress]:
    """A bar with the task at hand, rows done, their rate and the time left, where stderr is a terminal; it vanishes at
    the end."""
    from rich import progress as bars
    from rich.console import Console

    class Rate(bars.ProgressColumn):
        def render(self, task: bars.Task) -> str:
            return f"{task.speed:,.0f} rows/s" if task.speed else ""

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(), Rate(),
               bars.TimeRemainingColumn())  # fmt: skip
    console = Console(stderr=True)
    with bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        whole = bar.add_task("reading", total=rows)
        yield lambda label, done: bar.update(whole, description=label, advance=done)


def print_table(result: SuiteResult) -> None:
    """All tasks, then their averages; tasks that were left out are named below."""
    from rich.console import Console
    from rich.table import Table

    table = Table("task", box=None, pad_edge=False)
    for heading in ("shots", "rows", "accuracy", "chance", "centred"):
        table.add_column(heading, justify="right")
    for task in result.tasks:
        table.add_row(task.label, str(task.num_fewshot), f"{len(task.outcomes):,}", *_scores([task]))
    table.add_section()
    if 0 < len(result.choice_tasks) < len(result.tasks):
        count = len(result.choice_tasks)
        table.add_row(f"mean of the {count} with choices", "", "", *_scores(result.choice_tasks))
    table.add_row(f"mean of all {len(result.tasks)} (CORE: centred)", "", "", *_scores(result.tasks), style="bold")
    console = Console(highlight=False)
    console.print(table)
    for left in result.left_out:
        console.print(f"left out: {left.label} ({left.reason})", markup=False, soft_wrap=True)


def _scores(tasks: list[TaskResult] | tuple[TaskResult, ...]) -> tuple[str, str, str]:
    """Mean accuracy, chance and centred score."""
    return (
        f"{fmean(task.accuracy for task in tasks):.4f}",
        f"{fmean(task.baseline for task in tasks):.4f}",
        f"{fmean(task.centered for task in tasks):.4f}",
    )


def _writable(path: Path) -> Path:
    """Refuses, before any work is done, a place that cannot be written."""
    if path.is_dir() or not path.parent.is_dir():
        reason = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise UserError(f"json={path}: {reason}; give the name of a file in a folder that exists")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"json={path}: {path.parent} cannot be written; choose another place")
    return path


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Written beside its place, then renamed: a reader finds the old file or the new one, whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(json_module.dumps(values, indent=1) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
