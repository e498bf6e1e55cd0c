"""Runs as jobs of a cluster (SLURM), or of submitit's own local executor, through submitit (`vnc[slurm]`).

A job is one task that runs `vnc fit` as a child (scaling/fit_task.py), which itself starts a process for each GPU. Jobs
of SLURM outlive the sweep that has submitted them: a sweep finds those of an earlier one again by the file jobs.json.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scaling.fit_task import FitTask
from scaling.json_files import write_json
from scaling.processes import fit_arguments, how_ended
from scaling.slurm_queue import JobState, Queue, QueueError, ask
from scaling.sweep_plan import PlannedRun
from scaling.sweep_progress import read_progress
from vnc.errors import UserError

if TYPE_CHECKING:
    import submitit

Cluster = Literal["slurm", "local"]
FOLDER = "submitit"
JOBS_NAME = "jobs.json"
SAVING_SECONDS = 180  # between SLURM's warning and the end
MOST_TIME_LIMITS = 100
"""Time limits that a run may use up, one after another. submitit's own 3 would end a long run unfinished."""
ONE_TASK = ("tasks_per_node", "nodes", "slurm_ntasks_per_node", "slurm_nodes", "slurm_gpus_per_task")
NO_SUBSTANCE = ("You can check", "- ", "srun: ", "slurmstepd", "submitit ")
"""Beginnings of lines in which submitit and SLURM tell how they end a job, whatever the cause."""
TOLD_TO_END = ("CANCELLED", "PREEMPTED")
"""States of jobs that have had to end early: no result is expected of them, but their run may have been saved."""
RESULT_SECONDS = 15.0
"""The result of a job that has ended is waited for so long: file systems of clusters may show it late."""


class SubmittedJob:
    """A job that trains the run in `folder`, watched by its result and by its state."""

    def __init__(self, job: submitit.Job[int], folder: Path) -> None:
        self.job, self.folder = job, folder
        self.ended_at: float | None = None  # when that was seen, in seconds, monotonic

    def state(self) -> JobState:
        raise NotImplementedError

    def ended(self) -> str | None:
        if self.job.paths.result_pickle.exists():
            error = self.job.exception()
            return how_ended(self.job.result()) if error is None else self._told(last_words(str(error)))
        state = self.state()
        if not state.ended:
            self.ended_at = None
            return None
        look_again(self.job.paths.folder)
        look_again(self.folder)
        self.ended_at = self.ended_at or time.monotonic()
        if state.name not in TOLD_TO_END and time.monotonic() - self.ended_at < RESULT_SECONDS:
            return None
        saved = state.name in TOLD_TO_END and read_progress(self.folder).status == "interrupted"
        if saved or state.name == "COMPLETED":
            return ""
        words = last_words(self.job.stderr() or "")
        return self._told(": ".join(part for part in (state.name, words) if part))

    def waits(self) -> str | None:
        state = self.state()
        return state.reason if state.waits else None

    def stop(self) -> None:
        self.job.cancel(check=False)  # it may have ended just now

    def kill(self) -> None:
        self.stop()

    def _told(self, how: str) -> str:
        return f"job {self.job.job_id}: {how}"


class LocalJob(SubmittedJob):
    """A job of submitit's local executor, which tells less: it is running, or it is not."""

    def state(self) -> JobState:
        if not self.job.done():
            return JobState("RUNNING")
        return JobState("FAILED" if self.job.stderr() else "COMPLETED")


class SlurmJob(SubmittedJob):
    def __init__(self, job: submitit.Job[int], folder: Path, queue: Queue) -> None:
        super().__init__(job, folder)
        self.queue = queue
        queue.watch(job.job_id)

    def state(self) -> JobState:
        return self.queue.state(self.job.job_id)

    def ended(self) -> str | None:
        how = super().ended()
        if how is not None:
            self.queue.forget(self.job.job_id)
        return how

    def stop(self) -> None:
        super().stop()
        self.queue.hurry()


def look_again(folder: Path) -> None:
    """Have a network file system forget what it remembers of a folder, so that files of other machines are seen."""
    with contextlib.suppress(OSError):  # there may be no such folder
        folder.chmod(stat.S_IMODE(folder.stat().st_mode))


def last_words(text: str) -> str:
    """The last line of substance of submitit's long report on a job, or of what a job wrote; empty if there is none."""
    lines = [line.strip() for line in text.splitlines() if re.search(r"\w", line)]
    return next((line for line in reversed(lines) if not line.startswith(NO_SUBSTANCE)), "")


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
        self.folder, self.queue = out / FOLDER, Queue()
        for key in ONE_TASK:
            if key in parameters:
                raise UserError(f"submitit: {key} cannot be set: a job is one task, and starts the processes for "
                                "trainer.devices itself")  # fmt: skip
        parameters = dict(parameters)
        asked: dict[str, Any] = {"name": out.name, "timeout_min": 60 * 24, "tasks_per_node": 1}
        if gpus:
            asked["gpus_per_node"] = gpus
        if cluster == "slurm":
            asked |= {
                "slurm_array_parallelism": jobs,
                "slurm_signal_delay_s": SAVING_SECONDS,
                # Some clusters requeue the jobs alone that ask for it.
                "slurm_additional_parameters": {"requeue": True} | parameters.pop("slurm_additional_parameters", {}),
            }
        try:
            self.executor = submitit.AutoExecutor(self.folder, cluster, slurm_max_num_timeout=MOST_TIME_LIMITS)
            self.executor.update_parameters(**(asked | parameters))
        except (AssertionError, RuntimeError, NameError, TypeError, ValueError) as error:
            raise UserError(f"submitit: {str(error).splitlines()[0]}") from None

    @property
    def slots(self) -> int:
        return 1_000_000 if self.cluster == "slurm" else self.jobs

    def start(self, runs: Sequence[tuple[PlannedRun, Path]]) -> list[SubmittedJob]:
        """Raises UserError for what SLURM refuses."""
        tasks = [FitTask(fit_arguments(self.base_arguments, run, folder), folder) for run, folder in runs]
        if self.cluster == "local":
            return [LocalJob(self.executor.submit(task), task.folder) for task in tasks]
        jobs = self._earlier([run.name for run, _ in runs])
        fresh = [(run.name, task) for (run, _), task in zip(runs, tasks, strict=True) if run.name not in jobs]
        if fresh:
            jobs |= zip((name for name, _ in fresh), self._submit([task for _, task in fresh]), strict=True)
            write_json(self.folder / JOBS_NAME, self._noted() | {name: job.job_id for name, job in jobs.items()})
        return [SlurmJob(jobs[run.name], folder, self.queue) for run, folder in runs]

    def _submit(self, tasks: Sequence[FitTask]) -> list[submitit.Job[int]]:
        """As one array."""
        import submitit

        said = io.StringIO()
        try:
            # The environment of a job in which the sweep itself may be running is not for others.
            with contextlib.redirect_stderr(said), submitit.helpers.clean_env(), self.executor.batch():
                return [self.executor.submit(task) for task in tasks]
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            why = "; ".join(line.removeprefix("sbatch: error: ") for line in str(error).splitlines())
            raise UserError(
                f"SLURM refuses the jobs: {why} (submitit, in the sweep's file, is what they ask for)"
            ) from None

    def _earlier(self, names: Sequence[str]) -> dict[str, submitit.Job[int]]:
        """The jobs of an earlier sweep in this folder that still wait or run, by the name of the run."""
        import submitit

        noted = {name: job for name, job in self._noted().items() if name in names}
        try:
            states = ask(noted.values())
        except QueueError as error:
            raise UserError(str(error)) from None
        alive = {job for job, state in states.items() if not state.ended and state.name != "COMPLETING"}
        return {name: submitit.SlurmJob(self.folder, job) for name, job in noted.items() if job in alive}

    def _noted(self) -> dict[str, str]:
        path = self.folder / JOBS_NAME
        noted: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return noted
