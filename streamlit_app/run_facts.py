"""What a run is and how far it has come, as rows of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamlit_app.run_metrics import Metric
from streamlit_app.run_reader import Run
from vnc.plan_report import duration

LEFT_OUT = {"train", "val", "evals"}  # of run.json: numbers over steps, which are drawn as curves


def summary(run: Run) -> dict[str, str | int | float | None]:
    """A line about a run: one value for each column; None where it is not known."""
    return {
        "run": run.name,
        "status": said_status(run),
        "done": min(1.0, run.steps_taken / run.num_steps) if run.num_steps else None,
        "step": run.steps_taken,
        "depth": _whole(run.plan.get("depth")),
        "parameters": _whole(run.params.get("total")),
        "tokens": last(run, "train/tokens"),
        "loss": last(run, "train/loss_ema"),
        "bits per byte": last(run, "val/bits_per_byte"),
        "CORE": last(run, "core/core"),
        "ChatCORE": last(run, "chatcore/chatcore"),
        "tokens/s": None if (speed := last(run, "train/tokens_per_second")) is None else round(speed),
        "MFU": last(run, "train/mfu"),
        "hours": last(run, "train/hours"),
        "left": None if (seconds := run.seconds_left()) is None else duration(seconds / 3600),
        "device": str(run.record["device"]) if "device" in run.record else None,
    }


def said_status(run: Run) -> str:
    """The status, and when a run that calls itself running was last heard of, if that is suspiciously long ago."""
    silent = run.silent_seconds()
    return run.status if silent is None else f"running? silent for {duration(silent / 3600)}"


def last(run: Run, metric: str) -> float | None:
    """The latest value of a metric that is a number."""
    found = run.metrics.get(metric, Metric(np.empty(0), np.empty(0)))
    known = found.values[np.isfinite(found.values)]
    return float(known[-1]) if len(known) else None


def settings(runs: Sequence[Run], only_differences: bool) -> list[dict[str, str]]:
    """Plan, parameters, device and versions side by side: a row for each key, a column for each run (by its name)."""
    flat = [flattened({key: value for key, value in run.record.items() if key not in LEFT_OUT}) for run in runs]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = [
        {"setting": key} | {run.name: values.get(key, "") for run, values in zip(runs, flat, strict=True)}
        for key in keys
    ]
    if only_differences and len(runs) > 1:
        rows = [row for row in rows if len({row[run.name] for run in runs}) > 1]
    return rows


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as one, keys joined by dots; values as text."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{name}.")
        else:
            flat[name] = said(value)
    return flat


def said(value: Any) -> str:
    """A value for people: thousands with commas, floats with six digits."""
    if isinstance(value, bool) or value is None:
        return {None: "–", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}" if 1e-4 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(said, value))
    return str(value)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None
