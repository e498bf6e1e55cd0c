"""What a job of a cluster does: it runs `vnc fit` as a child, and has a run that must make way go on later.

Three things end a job early, and the child saves in each of them:

- its time is nearly up: SLURM sends SIGUSR2 (asked for at submission), on which submitit calls `checkpoint` and puts
  the job back into the queue;
- it is preempted: SLURM sends SIGTERM to every process, and puts the job back into the queue itself, but not if the job
  has ended within the grace time that some partitions give. Then the job asks for it;
- it is cancelled: SLURM sends SIGTERM too, and that is the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from scaling.processes import popen
from scaling.slurm_queue import ask
from scaling.sweep_progress import read_progress

if TYPE_CHECKING:
    import submitit

CHILD_ENVIRONMENT = {"SLURM_JOB_NAME": "bash"}
"""The name by which Lightning tells a shell from a batch job: the child is to start its processes by itself."""
SCONTROL_SECONDS = 60.0


@dataclass
class FitTask:
    """Pickled for the job. Called, it returns the exit code of `vnc fit`; after a run that was interrupted it raises
    SystemExit instead, by which submitit keeps no result: the job may come again."""

    arguments: list[str]
    folder: Path
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    warned: bool = False  # by SIGTERM, to this process

    def __getstate__(self) -> dict[str, Any]:
        return {"arguments": self.arguments, "folder": self.folder, "child": None, "warned": False}

    def __call__(self) -> int:
        signal.signal(signal.SIGTERM, self._pass_on)
        self.child = popen(self.arguments, self.folder, CHILD_ENVIRONMENT)
        try:
            if self.warned:
                self._terminate()
            while not exited(self.child.pid):
                time.sleep(0.1)
        except BaseException:  # Ctrl-C, and what submitit raises in a signal handler
            self._terminate()
            raise
        code = self.child.wait()
        if code or read_progress(self.folder).status != "interrupted":
            return code
        if self.warned and "SLURM_JOB_ID" in os.environ:
            requeue_if_preempted()
        raise SystemExit(0)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit, in a signal handler, before the job is requeued."""
        import submitit

        self._terminate()
        while self.child is not None and not exited(self.child.pid):
            time.sleep(0.1)
        return submitit.helpers.DelayedSubmission(self)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.warned = True
        self._terminate()

    def _terminate(self) -> None:
        """SIGTERM to the child, unless it has ended; not by way of Popen, which may be interrupted in its waiting."""
        if self.child is not None and not exited(self.child.pid):
            os.kill(self.child.pid, signal.SIGTERM)


def exited(pid: int) -> bool:
    """Whether a child has ended, without reaping it: safe in a handler that has interrupted Popen's own waiting."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def requeue_if_preempted() -> None:
    """Called in a SLURM job that has got SIGTERM. A job that was cancelled, or that SLURM requeues by itself, is
    completing by now; one that is still running has been given time to end."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    state = ask([job]).get(job)
    if state is not None and state.name == "RUNNING":
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=SCONTROL_SECONDS)
