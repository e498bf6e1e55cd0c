"""Runs as jobs of a cluster (SLURM), or of submitit's own local executor, through submitit (`vnc[slurm]`).

A job is one task that runs `vnc fit` as a child, which itself starts a process for each GPU. When SLURM warns that it
will take the machine away, or that the time is up, submitit asks the job for a checkpoint: the child saves, and the job
goes back into the queue.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scaling.processes import fit_arguments, how_ended, popen
from scaling.sweep_plan import PlannedRun
from vnc.errors import UserError

if TYPE_CHECKING:
    import submitit

Cluster = Literal["slurm", "local"]
FOLDER = "submitit"
SAVING_SECONDS = 180  # between SLURM's warning and the end
CHILD_ENVIRONMENT = {"SLURM_JOB_NAME": "bash"}
"""The name by which Lightning tells a shell from a batch job: the child is to start its processes by itself."""


@dataclass
class FitTask:
    """What a job does; pickled for it. Called, it returns the exit code of `vnc fit`."""

    arguments: list[str]
    folder: Path
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"arguments": self.arguments, "folder": self.folder, "child": None}

    def __call__(self) -> int:
        self.child = popen(self.arguments, self.folder, CHILD_ENVIRONMENT)
        try:
            while not exited(self.child.pid):
                time.sleep(0.1)
        except BaseException:  # Ctrl-C, and what submitit raises in a signal handler
            self.child.terminate()
            raise
        return self.child.wait()

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit, in a signal handler, before the job is requeued."""
        import submitit

        if self.child is not None:
            os.kill(self.child.pid, signal.SIGTERM)
            while not exited(self.child.pid):
                time.sleep(0.1)
        return submitit.helpers.DelayedSubmission(self)


def exited(pid: int) -> bool:
    """Whether a child has ended, without reaping it: safe in a handler that has interrupted Popen's own waiting."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


class SubmittedJob:
    def __init__(self, job: submitit.Job[int]) -> None:
        self.job = job

    def ended(self) -> str | None:
        if not self.job.done():
            return None
        error = self.job.exception()
        if error is None:
            return how_ended(self.job.result())
        return f"job {self.job.job_id}: {last_words(str(error))}"

    def stop(self) -> None:
        self.job.cancel()

    kill = stop


def last_words(text: str) -> str:
    """The last line that says something of submitit's long report on a job."""
    lines = [line.strip() for line in text.splitlines() if re.search(r"\w", line)]
    told = [line for line in lines if not line.startswith(("You can check", "- "))]
    return (told or lines or ["it failed"])[-1]


class Submitit:
    """Launches runs through submitit: all at once as an array of which `jobs` go on at a time on SLURM; here `jobs` at
    a time.

    Args:
        cluster: slurm, or local for processes of this machine.
        base_arguments: What all runs are given alike.
        out: The sweep's folder, which all machines must see.
        jobs: Runs at a time.
        parameters: What submitit's executor is to ask for, by its own names.
        gpus: GPUs of one run.
    """

    def __init__(
        self,
        cluster: Cluster,
        base_arguments: Sequence[str],
        out: Path,
        jobs: int,
        parameters: Mapping[str, Any],
        gpus: int,
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError(f"--executor {cluster} needs submitit: pip install 'vnc[slurm]'") from None
        self.base_arguments, self.cluster, self.jobs = list(base_arguments), cluster, jobs
        asked = {"name": out.name, "timeout_min": 60 * 24, "gpus_per_node": gpus, "tasks_per_node": 1}
        if cluster == "slurm":
            asked |= {"slurm_array_parallelism": jobs, "slurm_signal_delay_s": SAVING_SECONDS}
        try:
            self.executor = submitit.AutoExecutor(folder=out / FOLDER, cluster=cluster)
            self.executor.update_parameters(**(asked | dict(parameters)))
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise UserError(f"submitit: {' '.join(str(error).split())}") from None

    @property
    def slots(self) -> int:
        return 1_000_000 if self.cluster == "slurm" else self.jobs

    def start(self, runs: Sequence[tuple[PlannedRun, Path]]) -> list[SubmittedJob]:
        tasks = [FitTask(fit_arguments(self.base_arguments, run, folder), folder) for run, folder in runs]
        if self.cluster == "local":
            return [SubmittedJob(self.executor.submit(task)) for task in tasks]
        with self.executor.batch():
            submitted = [self.executor.submit(task) for task in tasks]
        return [SubmittedJob(job) for job in submitted]
