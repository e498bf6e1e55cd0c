"""One line that says how training goes: step, loss, bits per byte, speed, utilisation, time left.

On a terminal the line is redrawn; into a file or a pipe a new line is written now and then.
"""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.live import Live
from rich.text import Text

from callbacks.console import CONSOLE
from vnc.flops import count_parameters

PIPE_SECONDS = 10.0
BAR_WIDTH = 12


class Progress(Callback):
    """Shows the progress of `fit` on the first process."""

    def __init__(self) -> None:
        self.live: Live | None = None
        self.last_line = 0.0
        self.started = 0.0
        self.first_step = 0
        self.val_bpb: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = time.perf_counter()
        self.first_step = trainer.global_step
        module: Any = pl_module
        if trainer.is_global_zero:
            plan = module.plan
            self.say(
                f"depth {plan.depth}: {count_parameters(plan.config).total:,} parameters, {plan.num_steps:,} steps of "
                f"{plan.total_batch_tokens:,} tokens, {plan.total_flops:.2e} FLOPs"
            )
            for note in module.notes:
                self.say(note)
        if trainer.is_global_zero and CONSOLE.is_terminal:
            self.live = Live(Text(""), console=CONSOLE, refresh_per_second=4)
            self.live.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero:
            return
        if trainer.global_step == self.first_step + 1 or self._at_end(trainer, pl_module):
            self.say_what_data_cost(trainer)
        line = self.line(trainer, pl_module)
        if self.live is not None:
            self.live.update(Text(line))
        elif time.perf_counter() - self.last_line > PIPE_SECONDS or self._at_end(trainer, pl_module):
            self.last_line = time.perf_counter()
            CONSOLE.print(Text(line), soft_wrap=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.val_bpb = float(trainer.callback_metrics["val/bits_per_byte"])
            datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
            floor = getattr(datamodule, "entropy_floor", None)
            beside = "" if floor is None else f"; the text's own entropy is {floor:.4f} ({self.val_bpb / floor:.3f} x)"
            if trainer.is_global_zero:
                self.say(f"step {trainer.global_step}: validation {self.val_bpb:.4f} bits per byte{beside}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        CONSOLE.print(Text(text), soft_wrap=True)

    def say_what_data_cost(self, trainer: Trainer) -> None:
        """What became of the tokens read so far, but for those that were simply learnt."""
        wording = {
            "data/cropped": "of tokens cropped",
            "data/repeated": "of cells repeated",
            "data/padded": "of cells padding",
            "data/left_out": "of documents left out, with nothing to learn",
        }
        shares = ((float(trainer.callback_metrics.get(name, 0.0)), words) for name, words in wording.items())
        said = [f"{share:.2%} {words}" for share, words in shares if share]
        if said:
            self.say(f"data so far: {', '.join(said)}")

    def line(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """The line for the current step."""
        plan: Any = pl_module.plan
        metrics, done = trainer.callback_metrics, trainer.global_step
        filled = round(BAR_WIDTH * done / plan.num_steps)
        parts = [f"{'█' * filled}{'░' * (BAR_WIDTH - filled)} step {done}/{plan.num_steps}"]
        parts.append(f"loss {float(metrics['train/loss_ema']):.3f}")
        if self.val_bpb is not None:
            parts.append(f"val {self.val_bpb:.3f} bpb")
        if "train/tokens_per_second" in metrics:
            parts.append(f"{float(metrics['train/tokens_per_second']):,.0f} tokens/s")
            parts.append(f"MFU {100 * float(metrics['train/mfu']):.0f}%")
        elapsed = time.perf_counter() - self.started
        left = elapsed / max(1, done - self.first_step) * (plan.num_steps - done)
        parts.append(f"{clock(left)} left")
        return " · ".join(parts)

    def _at_end(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        module: Any = pl_module
        return bool(trainer.global_step >= module.last_step)

    def _stop(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None


def clock(seconds: float) -> str:
    """1:05:09, or 5:09 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
