"""The numbers of each training step: loss, speed, utilisation, and what the run has cost so far."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vnc.depth import TrainingPlan
from vnc.schedule import lr_multiplier, muon_momentum

LOSS_EMA = 0.9
WARMUP_STEPS = 2  # steps of a process whose time is not counted as speed: they allocate and compile


class TrainingMetrics(Callback):
    """Logs train/* for each step. Speed is smoothed over recent steps; time spent on validation, samples and
    checkpoints is not training time, waiting for data is."""

    def __init__(self) -> None:
        self.ema = 0.0  # of the loss, biased towards 0: divided by (1 - LOSS_EMA^steps) when shown
        self.ema_steps = 0
        self.seconds = 0.0  # of training, over all processes of this run one after another
        self.speed: float | None = None  # smoothed tokens per second
        self.steps_here = 0
        self.wait = self.counted = 0.0  # seconds after the first steps: waited for data, and all of them
        self.peak = float("nan")
        self._idle_since = self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        self.peak = module.peak_flops
        self._idle_since = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        plan: TrainingPlan = pl_module.plan  # type: ignore[assignment]
        loss = float(outputs["loss"])  # also waits for the device, so the clock is honest
        now = time.perf_counter()
        wait, seconds = self._started - self._idle_since, now - self._idle_since
        step, done = trainer.global_step - 1, trainer.global_step
        self.ema = LOSS_EMA * self.ema + (1 - LOSS_EMA) * loss
        self.ema_steps += 1
        self.seconds += seconds
        self.steps_here += 1
        if self.steps_here > WARMUP_STEPS:
            self.wait, self.counted = self.wait + wait, self.counted + seconds
            speed = plan.total_batch_tokens / seconds
            self.speed = speed if self.speed is None else 0.8 * self.speed + 0.2 * speed
        values = {
            "train/loss": loss,
            "train/loss_ema": self.ema / (1 - LOSS_EMA**self.ema_steps),
            "train/gradient_norm": float(outputs["gradient_norm"]),
            "train/lr": lr_multiplier(plan, step) * plan.groups["matrices"].lr,
            "train/momentum": muon_momentum(plan, step),
            "train/tokens": float(done * plan.total_batch_tokens),
            "train/flops": float(done * plan.total_batch_tokens * plan.flops_per_token),
            "train/hours": self.seconds / 3600,
            "train/step_seconds": seconds,
            "train/data_wait_seconds": wait,
            "train/data_wait_share": self.wait / max(self.counted, 1e-9),
        }
        values |= {f"data/{name}": share for name, share in (batch.shares or {}).items()}
        if self.speed is not None:
            values["train/tokens_per_second"] = self.speed
            values["train/mfu"] = self.speed * plan.flops_per_token / (self.peak * trainer.world_size)
        # Tensors of the CPU: of numbers Lightning would make tensors on the GPU, which waits for each of them.
        pl_module.log_dict({name: torch.tensor(value) for name, value in values.items()}, rank_zero_only=True)

    def resume_clock(self) -> None:
        """Time from here on is training again."""
        self._idle_since = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.resume_clock()

    def state_dict(self) -> dict[str, Any]:
        return {"ema": self.ema, "ema_steps": self.ema_steps, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.ema, self.ema_steps = state_dict["ema"], state_dict["ema_steps"]
        self.seconds = state_dict["seconds"]


class ClockRestart(Callback):
    """The last callback of a step: time that callbacks took between steps is not training time."""

    def __init__(self, metrics: TrainingMetrics) -> None:
        self.metrics = metrics

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.metrics.resume_clock()
