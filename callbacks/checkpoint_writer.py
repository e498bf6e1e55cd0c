"""When to save and what to keep. The format is vnc/checkpoint.py's; this decides steps, links and retention."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_only

from vnc import checkpoint as files
from vnc.errors import UserError
from vnc.processes import Processes

ENDING_SECONDS = 60.0  # for a checkpoint that is being written when the run fails
STEP_NAME = re.compile(r"step_(\d{8,})(\.\d+)?")


class CheckpointWriter(Callback):
    """Saves every `every_n_steps` steps and after the last one, before anything else that could fail is tried.

    `last` points to the newest checkpoint, `best` to the one with the lowest validation bits per byte. What either
    points to is never removed. Several processes write one checkpoint together.

    Args:
        folder: Where checkpoints go; the command line sets it to runs/NAME/checkpoints.
        every_n_steps: Steps between checkpoints.
        keep_last: Newest checkpoints to keep.
        keep_best: Also save and keep the one with the lowest validation bits per byte.
        asynchronous: Copy the numbers and go on training while they are written. `last` moves on when all are.
    """

    def __init__(
        self,
        folder: str = "checkpoints",
        every_n_steps: int = 250,
        keep_last: int = 2,
        keep_best: bool = True,
        asynchronous: bool = False,
    ) -> None:
        if every_n_steps < 1 or keep_last < 1:
            raise UserError(f"checkpoint: every_n_steps={every_n_steps} and keep_last={keep_last} must be at least 1")
        self.folder = Path(folder)
        self.every_n_steps, self.keep_last, self.keep_best = every_n_steps, keep_last, keep_best
        self.asynchronous = asynchronous
        self.best: float | None = None
        self.best_target: Path | None = None  # the checkpoint that `best` is to point to
        self.saved_step = -1  # the step of the newest checkpoint of this process
        self.target: Path | None = None  # and where it is
        self.pending: Future[None] | None = None  # set until `last` points to it

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            remove_partial(self.folder)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.pending is not None and self.pending.done():
            self.finish(trainer)
        step = trainer.global_step
        module: Any = pl_module
        if step % self.every_n_steps == 0 or step >= module.last_step:
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or not self.keep_best:
            return
        value = float(trainer.callback_metrics["val/bits_per_byte"])
        if self.best is not None and not value < self.best:
            return
        self.best = value
        self.save(trainer)
        self.best_target = self.target
        if self.pending is None:
            self._point()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.finish(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        with contextlib.suppress(Exception):  # the exception at hand says more
            self.finish(trainer, ENDING_SECONDS)

    def save(self, trainer: Trainer) -> None:
        """Publish a checkpoint of the current step, unless this process has done so, and point `last` to it (when
        asynchronous, in one of the next steps). All ranks call this after the same step."""
        step = trainer.global_step
        if step == self.saved_step:
            return
        self.finish(trainer)
        self.target = together(trainer).agree(free_name(self.folder, step))
        with told_as_user_error(self.target, self.folder):
            trainer.save_checkpoint(self.target, storage_options={"background": self.asynchronous})
        self.saved_step = step
        self.pending = getattr(trainer.strategy, "saving", None)
        if not self.asynchronous:
            self.finish(trainer)

    def finish(self, trainer: Trainer, seconds: float | None = None) -> None:
        """Wait for the checkpoint that is being written, if any, and point `last` to it."""
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        assert self.target is not None
        with told_as_user_error(self.target, self.folder):
            pending.result(seconds)
        self._point()

    @rank_zero_only
    def _point(self) -> None:
        assert self.target is not None
        files.point(self.folder / "last", self.target)
        if self.best_target is not None:
            files.point(self.folder / "best", self.best_target)
            self.best_target = None
        self.prune()

    @rank_zero_only
    def prune(self) -> None:
        """Remove all but the newest `keep_last` checkpoints and those that `last` and `best` point to."""
        found = sorted((path for path in self.folder.iterdir() if STEP_NAME.fullmatch(path.name)), key=age)
        kept = {(self.folder / link).resolve() for link in ("last", "best")}
        for path in found[: -self.keep_last]:
            if path.resolve() not in kept:
                # Renamed first, so that a reader meets a whole checkpoint or none.
                doomed = path.parent / f"{files.PARTIAL}{path.name}"
                path.rename(doomed)
                shutil.rmtree(doomed)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def together(trainer: Trainer) -> Processes:
    """The processes of the run."""
    return getattr(trainer.strategy, "processes", Processes())


@contextlib.contextmanager
def told_as_user_error(target: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{target} could not be written ({error}); earlier checkpoints are untouched: free some "
                        f"space and go on with --ckpt_path {folder / 'last'}") from error  # fmt: skip


def age(path: Path) -> tuple[int, int]:
    """Sort key: the step, then the number of the repetition."""
    name, _, repetition = path.name.partition(".")
    return int(name.removeprefix("step_")), int(repetition or 0)


def free_name(folder: Path, step: int) -> Path:
    """step_00000250, or step_00000250.1 where a run that was resumed from an earlier step gets there again."""
    path, repetition = folder / f"step_{step:08d}", 0
    while path.exists():
        repetition += 1
        path = folder / f"step_{step:08d}.{repetition}"
    return path


@rank_zero_only
def remove_partial(folder: Path) -> None:
    """Remove what a process that died while saving left behind."""
    for path in folder.glob(f"{files.PARTIAL}*"):
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
