"""runs/NAME/run.json and metrics.csv: the run as data, written while it goes on. Sweeps, plots and the app read them.

Lightning's CSVLogger removes earlier rows when a run is resumed; these files keep them.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import vnc
from callbacks.preemption import Preempted
from vnc.depth import TrainingPlan
from vnc.flops import count_parameters

TRAIN_KEYS = {
    "loss": "train/loss",
    "loss_ema": "train/loss_ema",
    "tokens_per_second": "train/tokens_per_second",
    "tokens": "train/tokens",
    "flops": "train/flops",
    "hours": "train/hours",
}


class RunRecord(Callback):
    """Keeps the record of every logged step, of every validation and of the end.

    `budget` are the FLOPs that the run was asked to spend, null where another setting decides its length. `hours` is
    the time from the start of fitting, over all processes of this run one after another, with validation, saving and
    steps that were lost; a step's own `hours` are those of training alone (callbacks/metrics.py).

    A step's row is noted when the step ends and written to disk just before the next one starts, after the weights have
    been saved. Checkpoints carry the rows in between, so that a process killed there loses none.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.record: dict[str, Any] = {}
        self._hours_before = 0.0
        self._started = 0.0
        self.columns: list[str] = []
        self.unwritten: list[dict[str, Any]] = []  # rows of metrics.csv

    def state_dict(self) -> dict[str, Any]:
        return {"unwritten": list(self.unwritten)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.unwritten = state_dict["unwritten"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        module: Any = pl_module
        plan: TrainingPlan = module.plan
        counts = count_parameters(plan.config)
        first = trainer.global_step
        earlier = self._earlier()
        kept = keep_before(first, earlier)
        self._hours_before, self._started = float(earlier.get("hours", 0.0)), time.monotonic()
        wanted = module.plan_arguments
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.record = {
            "status": "running",
            "name": self.folder.name,
            "plan": plan.to_dict(),
            "budget": wanted["target_flops"] if wanted["num_steps"] is None else None,
            "seed": torch.initial_seed(),
            "params": dataclasses.asdict(counts) | {"total": counts.total, "scaling": counts.scaling(plan.config)},
            "flops_per_token": plan.flops_per_token,
            "device": device_name(pl_module.device),
            "devices": trainer.num_devices,
            "world_size": trainer.world_size,
            "versions": {
                "vnc": vnc.__version__,
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "python": platform.python_version(),
            },  # fmt: skip
            "started": kept.get("started", time.strftime("%Y-%m-%dT%H:%M:%S%z")),
            "hours": self._hours_before,
            "floor_bits_per_byte": getattr(datamodule, "entropy_floor", None),
            "train": kept.get("train", []),
            "val": kept.get("val", []),
            "evals": kept.get("evals", []),
        }
        self._trim_csv(first)
        rows, self.unwritten = self.unwritten, []
        for row in rows:  # a checkpoint's, which the process that saved it may not have lived to write
            if row["step"] not in {known["step"] for known in self.record["train"]}:
                self._note(row)
        self._write()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module: Any = pl_module
        done = trainer.global_step
        every = getattr(trainer, "log_every_n_steps", 1)
        if not trainer.is_global_zero or (done % every and done < module.last_step and done > 1):
            return
        self.record["plan"] = module.plan.to_dict()  # smaller micro-batches, if the device has run out of memory
        logged = trainer.callback_metrics.items()
        metrics = {key: float(value) for key, value in logged if key.startswith(("train/", "data/"))}
        self._note({"step": done - 1} | metrics)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.unwritten and trainer.is_global_zero:  # a resumed checkpoint gives its rows to every rank
            self._write()

    def _note(self, row: dict[str, Any]) -> None:
        """Take a step's row into the record, still unwritten."""
        self.record["train"].append(
            {"step": row["step"]} | {key: row[metric] for key, metric in TRAIN_KEYS.items() if metric in row}
        )
        self.unwritten.append(row)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or not trainer.is_global_zero:
            return
        value = float(trainer.callback_metrics["val/bits_per_byte"])
        plan: TrainingPlan = pl_module.plan  # type: ignore[assignment]
        tokens = trainer.global_step * plan.total_batch_tokens
        self.record["val"].append(
            {
                "step": trainer.global_step,
                "bits_per_byte": value,
                "tokens": tokens,
                "flops": tokens * plan.flops_per_token,
            }
        )
        self.unwritten.append({"step": trainer.global_step, "val/bits_per_byte": value})
        self._write()

    def add_evaluation(self, summary: dict[str, Any]) -> None:
        """A benchmark's averages at a step, or why there are none; in place of an earlier one of the same step."""
        same = (summary["step"], summary["suite"])
        self.record["evals"] = [row for row in self.record["evals"] if (row["step"], row["suite"]) != same]
        self.record["evals"].append(summary)
        self._write()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        plan: Any = pl_module.plan
        self._finish(trainer, "finished" if trainer.global_step >= plan.num_steps else "interrupted")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self.record:
            interrupted = isinstance(exception, KeyboardInterrupt | Preempted)
            self._finish(trainer, "interrupted" if interrupted else "failed", str(exception))

    def _finish(self, trainer: Trainer, status: str, reason: str | None = None) -> None:
        if trainer.is_global_zero and self.record:
            self.record["status"] = status
            if reason:
                self.record["reason"] = reason
            self._write()

    def _earlier(self) -> dict[str, Any]:
        """What an earlier process of this run recorded."""
        path = self.folder / "run.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.record["hours"] = self._hours_before + (time.monotonic() - self._started) / 3600
        for row in self.unwritten:
            self._append_csv(row)
        self.unwritten = []
        fresh = self.folder / ".run.json"
        fresh.write_text(json.dumps(self.record, indent=1) + "\n")
        os.replace(fresh, self.folder / "run.json")

    def _trim_csv(self, first: int) -> None:
        """Keep the rows of metrics.csv that belong to steps before `first`."""
        path = self.folder / "metrics.csv"
        rows: list[dict[str, str]] = []
        if first > 0 and path.is_file():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    limit = first if row.get("val/bits_per_byte") else first - 1
                    if int(row["step"]) <= limit:
                        rows.append(row)
        self.columns = list(rows[0]) if rows else []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite_csv(rows)

    def _append_csv(self, row: dict[str, Any]) -> None:
        path = self.folder / "metrics.csv"
        if set(row) <= set(self.columns):
            with path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)
            return
        rows: list[dict[str, Any]] = []
        if self.columns:
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
        self.columns += [key for key in row if key not in self.columns]
        self._rewrite_csv([*rows, row])

    def _rewrite_csv(self, rows: list[dict[str, Any]]) -> None:
        fresh = self.folder / ".metrics.csv"
        with fresh.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            if self.columns:
                writer.writeheader()
                writer.writerows(rows)
        os.replace(fresh, self.folder / "metrics.csv")


def keep_before(first: int, earlier: dict[str, Any]) -> dict[str, Any]:
    """What an earlier record says of the steps before `first`; nothing when the run begins anew."""
    if first == 0 or not earlier:
        return {}
    return earlier | {
        "train": [row for row in earlier["train"] if row["step"] < first],
        "val": [row for row in earlier["val"] if row["step"] <= first],
        "evals": [row for row in earlier.get("evals", []) if row["step"] <= first],
    }


def device_name(device: torch.device) -> str:
    """A name a reader recognises: the GPU's, or the processor's kind with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type} ({platform.machine()}, {threads} {'thread' if threads == 1 else 'threads'})"
