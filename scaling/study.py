"""A study: the finished runs from which scaling laws are fitted, each as four numbers, and where they come from.

Whoever counts parameters must say which: the conventions differ by a factor of several for small models, and move
exponents (docs/scaling_laws.md).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vnc.errors import UserError

Convention = Literal["all", "without_embeddings", "matrices_and_head"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


@dataclass(frozen=True)
class Point:
    """One run, as fits see it."""

    name: str
    parameters: float
    """N, by the study's convention."""
    tokens: float
    """D, trained on."""
    flops: float
    """C, of training."""
    loss: float
    """At the end; bits per byte, or nats per token where the study says so."""
    seed: int = 0
    budget: float | None = None
    """The FLOPs that the run was planned for: runs of one isoFLOP curve have the same. None: tell by `flops`."""


@dataclass(frozen=True)
class Excluded:
    """A run that is in no fit."""

    name: str
    reason: str


@dataclass(frozen=True)
class Study:
    points: tuple[Point, ...]
    loss_unit: str
    """What `loss` is: "bits per byte", "nats per token"."""
    convention: str
    """What `parameters` counts; for files from elsewhere whatever their column is called."""
    excluded: tuple[Excluded, ...] = ()
    notes: tuple[str, ...] = ()
    """What was assumed in reading it, a sentence each."""


def drop_highest(study: Study, number: int) -> Study:
    """Without the `number` runs of highest loss, which are excluded by name."""
    if not 0 <= number <= len(study.points):
        raise UserError(f"drop_highest={number}: must be between 0 and the number of runs, {len(study.points)}")
    ranked = sorted(range(len(study.points)), key=lambda place: study.points[place].loss)
    dropped = set(ranked[len(ranked) - number :])
    kept = tuple(point for place, point in enumerate(study.points) if place not in dropped)
    left_out = tuple(
        Excluded(point.name, f"its loss, {point.loss:.4g}, is among the {number} highest, which were to be dropped")
        for place, point in enumerate(study.points)
        if place in dropped
    )
    return dataclasses.replace(study, points=kept, excluded=(*study.excluded, *left_out))


def count(params: Mapping[str, int], convention: Convention) -> int:
    """N from the `params` of a run record.

    all: everything. without_embeddings: all but token, position and value embeddings (Kaplan et al., arXiv 2001.08361,
    leave out the first two). matrices_and_head: what token horizons are a multiple of (vnc/depth.py)."""
    match convention:
        case "all":
            return params["total"]
        case "without_embeddings":
            return params["total"] - params["wte"] - params["wpe"] - params["value_embeds"]
        case "matrices_and_head":
            return params["scaling"]


def read_runs(folders: Iterable[Path], convention: Convention = "matrices_and_head") -> Study:
    """The runs of vnc in these run folders (each with a run.json). A run that has not finished, has failed or has no
    validation is excluded by name; a folder that is no run raises UserError."""
    found = [read_run(folder, convention) for folder in folders]
    points = tuple(one for one in found if isinstance(one, Point))
    excluded = tuple(one for one in found if isinstance(one, Excluded))
    return Study(points, "bits per byte", convention, excluded)


def read_run(folder: Path, convention: Convention) -> Point | Excluded:
    """One run folder."""
    record = read_record(folder)
    status, plan = record.get("status"), record["plan"]
    if status != "finished":
        reason = f": {record['reason']}" if record.get("reason") else ""
        return Excluded(folder.name, f"{status}{reason}")
    if not record.get("val"):
        return Excluded(folder.name, "no validation in its record")
    loss = record["val"][-1]["bits_per_byte"]
    if loss is None or not math.isfinite(loss):
        return Excluded(folder.name, f"its last validation is {loss}")
    tokens = plan["num_steps"] * plan["total_batch_tokens"]
    return Point(
        name=folder.name,
        parameters=count(record["params"], convention),
        tokens=tokens,
        flops=tokens * record["flops_per_token"],
        loss=loss,
        seed=int(record.get("seed", 0)),
        budget=record.get("budget"),
    )


def read_record(folder: Path) -> dict[str, Any]:
    """The run.json of a run folder. Raises UserError."""
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not all(key in record for key in ("status", "plan", "params", "flops_per_token", "val")):
            raise ValueError("it lacks plan, params, flops_per_token or val")
    except FileNotFoundError:
        raise UserError(f"{folder}: no run of vnc (it has no run.json)") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a run record ({error})") from None
    return record  # type: ignore[no-any-return]
