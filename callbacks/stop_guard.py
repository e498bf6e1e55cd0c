"""Ends a run that has gone wrong before it can overwrite a good checkpoint."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from vnc.errors import UserError


class StopGuard(Callback):
    """Stops at a loss or gradient norm that is not finite, and at a loss that has climbed for good.

    Must come before the checkpoint writer in the trainer's callbacks: what it refuses is not saved.

    Args:
        max_rise: Nats that the smoothed loss may stand above its lowest value.
        patience: Steps in a row that it must stand there before the run ends.
    """

    def __init__(self, max_rise: float = 2.0, patience: int = 20) -> None:
        if max_rise <= 0 or patience < 1:
            raise UserError(f"guard: max_rise={max_rise} must be positive and patience={patience} at least 1")
        self.max_rise, self.patience = max_rise, patience
        self.smoothed = self.lowest = math.nan
        self.high_steps = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss, norm = float(outputs["loss"]), float(outputs["gradient_norm"])
        step = trainer.global_step - 1
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise UserError(f"training stopped at step {step}: loss {loss:g}, gradient norm {norm:g}. {ADVICE}")
        self.smoothed = loss if math.isnan(self.smoothed) else 0.9 * self.smoothed + 0.1 * loss
        self.lowest = self.smoothed if math.isnan(self.lowest) else min(self.lowest, self.smoothed)
        self.high_steps = self.high_steps + 1 if self.smoothed > self.lowest + self.max_rise else 0
        if self.high_steps >= self.patience:
            raise UserError(f"training stopped at step {step}: the loss diverged, {self.smoothed:.3f} after a low of "
                            f"{self.lowest:.3f}. {ADVICE}")  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        numbers = dict(smoothed=self.smoothed, lowest=self.lowest)
        return {key: None if math.isnan(value) else value for key, value in numbers.items()} | {
            "high_steps": self.high_steps
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.smoothed, self.lowest = (
            math.nan if state_dict[key] is None else state_dict[key] for key in ("smoothed", "lowest")
        )
        self.high_steps = state_dict["high_steps"]


ADVICE = "The last good checkpoint is kept; lower model.lr_scale, raise model.warmup_steps, or look at the data"
