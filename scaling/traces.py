"""Losses of runs as they went on, from their run records: what the loss curves are drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scaling.study import Convention, count, read_record

Source = Literal["val", "train"]
UNITS: dict[Source, str] = {"val": "validation bits per byte", "train": "training loss, nats per token (smoothed)"}
ENOUGH_VALIDATIONS = 4
"""A line through fewer hides the curve."""
FRONTIER_POINTS = 400


@dataclass(frozen=True)
class Trace:
    """One run from its first record to its last."""

    name: str
    parameters: float
    budget: float
    """The FLOPs of the whole run as planned."""
    tokens: tuple[float, ...]
    flops: tuple[float, ...]
    losses: tuple[float, ...]
    finished: bool


@dataclass(frozen=True)
class Traces:
    runs: tuple[Trace, ...]
    source: Source
    """Validations, where every run has enough of them, else the training loss: one figure shows one of both."""

    @property
    def unit(self) -> str:
        return UNITS[self.source]


def read_traces(folders: Iterable[Path], convention: Convention) -> Traces:
    """The curves of all runs that recorded a loss, unfinished and failed ones included. Raises UserError."""
    records = {folder.name: read_record(folder) for folder in folders}
    finished = [record for record in records.values() if record["status"] == "finished"]
    source: Source = (
        "val" if finished and all(len(record["val"]) >= ENOUGH_VALIDATIONS for record in finished) else "train"
    )
    traces = [trace(name, record, convention, source) for name, record in records.items()]
    return Traces(tuple(found for found in traces if found.losses), source)


def trace(name: str, record: dict[str, Any], convention: Convention, source: Source) -> Trace:
    """One run's curve. Validations are recorded by the steps done, rows of training by the number of the last step."""
    plan = record["plan"]
    if source == "val":
        points = [(row["step"], row["bits_per_byte"]) for row in record["val"]]
    else:
        points = [
            (row["step"] + 1, row.get("loss_ema", row["loss"])) for row in record.get("train", ()) if "loss" in row
        ]
    tokens = [step * plan["total_batch_tokens"] for step, _ in points]
    whole = plan["num_steps"] * plan["total_batch_tokens"] * record["flops_per_token"]
    return Trace(
        name=name,
        parameters=count(record["params"], convention),
        budget=record.get("budget") or whole,
        tokens=tuple(tokens),
        flops=tuple(one * record["flops_per_token"] for one in tokens),
        losses=tuple(loss for _, loss in points),
        finished=record["status"] == "finished",
    )


def frontier(runs: Sequence[Trace]) -> list[tuple[float, float]]:
    """(FLOPs, lowest loss that a run has reached with at most as many), ascending in FLOPs. Between the records of a
    run its loss is taken to go straight in log FLOPs."""
    if not runs:
        return []
    first, last = min(run.flops[0] for run in runs), max(run.flops[-1] for run in runs)
    grid = np.linspace(np.log(first), np.log(last), FRONTIER_POINTS)
    curves = [np.interp(grid, np.log(run.flops), run.losses, left=np.inf) for run in runs]
    lowest = np.minimum.accumulate(np.min(curves, axis=0))
    return list(zip(np.exp(grid).tolist(), lowest.tolist(), strict=True))
