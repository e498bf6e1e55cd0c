"""Rows per second of the in-context-learning scorer, and its decisions beside nanochat's core_eval on the same weights.

    python benchmarks/icl.py --checkpoint DIR --bundle DIR [--tasks piqa,arc_easy,winograd,lambada_openai] [--rows 100]
        [--dtype float32] [--nanochat CHECKOUT] [--repeats 3]

Ours is timed from the rows as read to their outcomes, tokenising included, all tasks one by one. nanochat's evaluator
gets the same model through the interface that it expects, so its time is what one example at a time costs on this
model, without nanochat's own model.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from vnc.evals.bundle import Task, read_bundle
from vnc.evals.evaluate import open_model
from vnc.evals.examples import Example, LanguageModeling, MultipleChoice, Schema
from vnc.evals.prompts import scored_rows
from vnc.evals.suite import score_task
from vnc.memory import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--tasks", default="piqa,arc_easy,winograd,lambada_openai")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--nanochat")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()
    loaded, reason = open_model(options.checkpoint, "cpu", options.dtype)
    print(f"{loaded.source}, {reason}, {torch.get_num_threads()} threads, up to {options.rows} rows a task")
    labels = None if options.tasks == "all" else options.tasks.split(",")
    differing = compared = 0
    for task in read_bundle(Path(options.bundle), labels).tasks:
        seconds = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            result = score_task(loaded, task, options.rows)
            seconds.append(time.perf_counter() - start)
        line = f"{task.label:36} {task.num_fewshot:3} shots {len(result.outcomes):5} rows"
        line += f"  {statistics.median(seconds):7.2f} s"
        if options.nanochat:
            theirs, their_seconds = nanochats(options.nanochat, loaded, task, options.rows)
            mine = [outcome.correct for outcome in result.outcomes]
            different = sum(a is not None and a != b for a, b in zip(theirs, mine, strict=True))
            differing += different
            compared += sum(a is not None for a in theirs)
            line += f"  nanochat {their_seconds:7.2f} s ({their_seconds / statistics.median(seconds):.1f} x)"
            line += f"  {different} of {len(mine)} decisions differ, {theirs.count(None)} it cannot make"
        print(line, flush=True)
    if options.nanochat:
        print(f"{differing} of {compared} decisions differ")


def nanochats(checkout: str, loaded: Any, task: Task, rows: int) -> tuple[list[bool | None], float]:
    """nanochat's decision on each row, None where it stops at an assertion, and its seconds."""
    sys.path.insert(0, checkout)
    from nanochat import core_eval  # type: ignore[import-not-found]

    class Model:
        max_seq_len = loaded.gpt.config.sequence_len

        def __call__(self, ids: torch.Tensor) -> torch.Tensor:
            return loaded.gpt.logits(loaded.gpt(ids))  # type: ignore[no-any-return]

    tokenizer = loaded.tokenizer

    class Encoder:
        def get_bos_token_id(self) -> int:
            return tokenizer.bos_id  # type: ignore[no-any-return]

        def __call__(self, texts: list[str], prepend: int) -> list[list[int]]:
            return [[prepend, *ids] for ids in tokenizer.encode_batch(texts)]

    data = [as_row(task.examples[row]) for row in scored_rows(len(task.examples), rows)]
    meta = {"task_type": task.kind, "num_fewshot": task.num_fewshot, "continuation_delimiter": task.delimiter}
    found: list[bool | None] = []
    start = time.perf_counter()
    for place in range(len(data)):
        try:
            correct = core_eval.evaluate_example(place, Model(), Encoder(), data, torch.device("cpu"), meta)
            found.append(bool(correct))
        except AssertionError:  # a continuation that is longer than the context
            found.append(None)
    return found, time.perf_counter() - start


def as_row(example: Example) -> dict[str, Any]:
    match example:
        case MultipleChoice():
            return {"query": example.query, "choices": list(example.choices), "gold": example.gold}
        case Schema():
            return {"context_options": list(example.context_options), "continuation": example.continuation,
                    "gold": example.gold}  # fmt: skip
        case LanguageModeling():
            return {"context": example.context, "continuation": example.continuation}


if __name__ == "__main__":
    main()
