"""SIGTERM, and SLURM's warning before it takes the machines away: save after the step in hand and end with exit code 0.

A signal may reach one process or all, in the middle of anything. So the handler only notes it, and the processes agree
at points that all of them pass: the start, the end of a step, the end of a batch of validation.
"""

from __future__ import annotations

import os
import signal
import subprocess
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.text import Text

from callbacks.checkpoint_writer import CheckpointWriter
from callbacks.console import CONSOLE
from vnc.processes import Processes

SCONTROL_SECONDS = 60.0


class Preempted(SystemExit):
    """The run was asked to end early and does so in good order: its process ends with exit code 0."""

    def __init__(self, message: str) -> None:
        super().__init__(0)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Preemption(Callback):
    """Ends the run after a signal: every process in the same place, the checkpoint published.

    Under SLURM the signal of `SLURMEnvironment.requeue_signal` (SIGUSR1) also puts the job back into the queue. After
    the last step nothing is left to be gone on with: the run ends as it would have anyway.

    Must come after RunRecord and CheckpointWriter in the trainer's callbacks: the step's row is in the checkpoint, and
    the record says "interrupted" before SLURM is told to end the job."""

    def __init__(self, writer: CheckpointWriter) -> None:
        self.writer = writer
        self.requested = False  # by any signal, to this process
        self.requeue = False  # by SLURM's own
        self._requeue_signal: int | None = None
        self._former: dict[int, Any] = {}  # handlers by signal

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """From here on signals are heeded. Earlier, while processes wait for each other to appear and data is prepared,
        they end the process at once: nothing is lost, and nobody may be there to agree with."""
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if isinstance(environment, SLURMEnvironment):
            self._requeue_signal = environment.requeue_signal
        for number in (signal.SIGTERM, self._requeue_signal):
            if number is not None:
                self._former[number] = signal.signal(number, self._note)
        # Lightning's own handlers broadcast and save while they handle the signal, amid whatever it has interrupted.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.requeue = self.requeue or number == self._requeue_signal

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._agreed(trainer, self.requested):
            return
        if trainer.global_step == 0:
            self._end(trainer, "stopped before the first step: nothing was trained, nothing is saved")
        self._end(trainer, f"stopped before another step; go on from step {trainer.global_step} with --resume true")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._save_if_asked(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._save_if_asked(trainer, pl_module)  # all processes have the same number of batches

    def _save_if_asked(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        if trainer.global_step >= module.last_step or not self._agreed(trainer, self.requested):
            return
        self.writer.save(trainer)
        self.writer.finish(trainer)  # also one that is written beside training
        self._end(trainer, f"saved at step {trainer.global_step}; go on with --resume true")

    def _agreed(self, trainer: Trainer, flag: bool) -> bool:
        """Whether the flag is set on any process; all of them must ask."""
        processes: Processes = getattr(trainer.strategy, "processes", Processes())
        return processes.any(flag)

    def _end(self, trainer: Trainer, message: str) -> None:
        self.requeue = self._agreed(trainer, self.requeue)
        if trainer.is_global_zero:
            say(message)
        raise Preempted(message)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, Preempted):
            self._restore()
            return
        # The handlers stay for the rest of the process: a second signal must not end it on its way out.
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if self.requeue and trainer.is_global_zero and getattr(environment, "auto_requeue", False):
            say(requeue_job())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}


def requeue_job() -> str:
    """Put this SLURM job back into the queue; returns what came of it, in one line."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    command = ["scontrol", "requeue", job]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=SCONTROL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        said = " ".join((getattr(error, "stderr", None) or "").split())
        return f"job {job} is not in the queue again: {said or error}; submit it anew with --resume true"
    return f"job {job} is in the queue again and will go on by itself"


def say(text: str) -> None:
    CONSOLE.print(Text(text), soft_wrap=True)
