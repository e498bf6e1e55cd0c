"""`vnc evaluate`: the scores of a checkpoint, as a table and as JSON; or the difference between two.

Without a bundle of real tasks it scores TinyWorld's, which vnc writes itself, so it works offline. torch is imported
when a model is opened, not before, so that help and mistakes in the options come at once.
"""

from __future__ import annotations

import json as json_module
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vnc.errors import UserError
from vnc.evals import report
from vnc.evals.suites import WITH_TASKS, Name, Prepared, Progress, Settings, prepare

if TYPE_CHECKING:
    from vnc.checkpoint import LoadedModel
    from vnc.evals.judge import Judge


def evaluate(
    checkpoint: str | None = None,
    suite: Name = "core",
    bundle: str | None = None,
    tasks: str | None = None,
    max_examples: int | None = None,
    json: str | None = None,
    compare: tuple[str, str] | None = None,
    allow_code_execution: bool = False,
    judge_url: str | None = None,
    judge_model: str | None = None,
    out: str = "answers",
    max_tokens: int = 512,
    device: str = "auto",
    compute_dtype: str = "auto",
) -> None:
    """Score a checkpoint.

    Args:
        checkpoint: Checkpoint directory, run folder (its last checkpoint) or export.
        suite: core: in-context tasks and the mean of their centred scores; gauntlet: Mosaic's, with averages of its
            categories; chatcore: a chat model's tasks; ifeval: instructions whose following can be checked; mt_bench
            and alpaca_eval: free answers, for a judge.
        bundle: Folder with the suite's data; core takes TinyWorld's own tasks when null.
        tasks: Score only these, by label, separated by commas.
        max_examples: At most this many rows of each task, drawn with a fixed seed.
        json: Write all scores and the outcome of every row to this file.
        compare: Two files written by --json, or two checkpoints, which are scored first: the paired difference between
            them, with its interval.
        allow_code_execution: Run the programs that the model writes, in a sandbox (docs/sandbox.md). Without it tasks
            of that kind are left out.
        judge_url: OpenAI-compatible endpoint that judges free answers; its key is read from OPENAI_API_KEY.
        judge_model: The judge's name there.
        out: Folder for the answers of ifeval, mt_bench and alpaca_eval, in the form that their own tools read.
        max_tokens: Tokens of an answer in these three, at most.
        device: auto, cpu or cuda; auto takes a GPU where there is one.
        compute_dtype: auto, bfloat16 or float32; auto takes bfloat16 where the hardware multiplies it natively.
    """
    if (checkpoint is None) == (compare is None):
        raise UserError("give --checkpoint DIR to score a model, or --compare A B to compare two")
    labels = None if tasks is None else tuple(label for label in map(str.strip, tasks.split(",")) if label)
    if labels is not None and not labels:
        raise UserError(f"tasks={tasks!r}: name at least one task")
    if max_tokens < 1:
        raise UserError(f"max_tokens={max_tokens}: must be at least 1")
    target = None if json is None else _writable(Path(json))
    settings = Settings(
        None if bundle is None else Path(bundle),
        labels,
        max_examples,
        allow_code_execution,
        _judge(judge_url, judge_model, Path(out)),
        Path(out),
        max_tokens,
    )
    if compare is not None:
        values = _compare(compare, suite, settings, device, compute_dtype)
    else:
        assert checkpoint is not None
        values = score(checkpoint, suite, prepare(suite, settings), settings, device, compute_dtype)
    if target is not None:
        write_json(target, values)
        print(f"every row's outcome: {target}")


def score(
    checkpoint: str, suite: Name, prepared: Prepared, settings: Settings, device: str, compute_dtype: str
) -> dict[str, Any]:
    """Scores one model, prints the table, and returns what goes into the JSON file."""
    loaded, dtype_reason = open_model(checkpoint, device, compute_dtype)
    rows = prepared.rows
    print(f"{loaded.source}: {prepared.described}, {rows:,} rows, in {dtype_reason}")
    start = time.perf_counter()
    with progress_bar(rows) as progress:
        outcome = prepared.run(loaded, progress)
    seconds = time.perf_counter() - start
    outcome.show()
    print(f"{rows:,} rows in {seconds:.1f} s ({rows / seconds:,.0f} rows/s)")
    return {
        "suite": suite,
        "checkpoint": str(loaded.source),
        "bundle": str(settings.bundle or "TinyWorld"),
        "max_examples": settings.max_examples,
        "compute_dtype": str(loaded.gpt.compute_dtype).removeprefix("torch."),
        "seconds": seconds,
        **outcome.values,
    }


def _compare(pair: tuple[str, str], suite: Name, settings: Settings, device: str, compute_dtype: str) -> dict[str, Any]:
    from vnc.evals.compare import as_dict, compare, read_results

    # What can be wrong with the files is told before a model is scored.
    results = {each: read_results(Path(each)) for each in pair if not Path(each).is_dir()}
    checkpoints = [each for each in dict.fromkeys(pair) if each not in results]
    if checkpoints and suite not in WITH_TASKS:
        raise UserError(f"compare: {suite} has no rows that are right or wrong; {', '.join(WITH_TASKS)} have")
    for name, values in results.items():
        if checkpoints and values.get("suite") != suite:
            raise UserError(f"{name} is of suite {values.get('suite')}, --suite is {suite}: compare two of one suite")
    for each in checkpoints:
        results[each] = score(each, suite, prepare(suite, settings), settings, device, compute_dtype)
        print()
    comparison = compare(results[pair[0]], results[pair[1]], pair)
    report.show_comparison(comparison, *pair)
    return {"first": pair[0], "second": pair[1], **as_dict(comparison)}


def _judge(url: str | None, model: str | None, out: Path) -> Judge | None:
    if url is None and model is None:
        return None
    if url is None or model is None:
        raise UserError("judge_url and judge_model: give both, the endpoint and the judge's name there")
    from vnc.evals.judge import Judge

    return Judge(url, model, cache=out / "judge_cache.jsonl")


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
