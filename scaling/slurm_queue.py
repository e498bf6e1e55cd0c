"""What SLURM says of its jobs, by squeue.

Not by sacct, which submitit asks: it needs accounts, which a cluster may not keep, and without them a job that was
killed would count as unknown for ever. squeue asks the controller, which remembers a job for some minutes after its end
(MinJobAge in slurm.conf).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass

LOOK_SECONDS = 10.0
"""Between two questions to the controller, which many users share."""
PATIENCE_SECONDS = 60.0
ENDED = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
})  # fmt: skip
"""States that no other follows (man squeue, "JOB STATE CODES"); a job that is put back into the queue is PENDING."""
ON_A_MACHINE = frozenset({"COMPLETING", "RUNNING", "SIGNALING", "STAGE_OUT"})


class QueueError(RuntimeError):
    """squeue did not answer; its message is one line."""


@dataclass(frozen=True)
class JobState:
    name: str
    """As squeue writes it, such as PENDING; that of GONE once the controller knows nothing of the job."""
    reason: str = ""
    """Why a job waits, such as Priority."""

    @property
    def ended(self) -> bool:
        return self.name in ENDED or self == GONE

    @property
    def waits(self) -> bool:
        """For a machine, or for one to be ready."""
        return not self.ended and self.name not in ON_A_MACHINE


GONE = JobState("no longer in the queue, and no result")
SUBMITTED = JobState("PENDING", "submitted")


def ask(jobs: Iterable[str]) -> dict[str, JobState]:
    """The states of this user's jobs, by id: 17, or 17_3 for a task of an array. Those that SLURM has forgotten are
    left out. Raises QueueError."""
    numbers = sorted({job.partition("_")[0] for job in jobs}, key=int)
    if not numbers:
        return {}
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%r",
               f"--jobs={','.join(numbers)}"]  # fmt: skip
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueError(f"squeue: {error}") from None
    if said.returncode and "Invalid job id" not in said.stderr:  # how it says that it knows none of them
        raise QueueError(" ".join(said.stderr.split()) or f"squeue ended with exit code {said.returncode}")
    rows = [line.strip().split("|", 2) for line in said.stdout.splitlines() if line.count("|") >= 2]
    return {job: JobState(name, "" if reason == "None" else reason) for job, name, reason in rows}


class Queue:
    """The states of many jobs, asked together and not too often."""

    def __init__(self) -> None:
        self.states: dict[str, JobState] = {}  # of the jobs that are watched
        self.looked = float("-inf")  # when, in seconds, monotonic

    def watch(self, job: str) -> None:
        """It has been submitted."""
        self.states[job] = SUBMITTED

    def forget(self, job: str) -> None:
        self.states.pop(job, None)

    def hurry(self) -> None:
        """Something has been done to the jobs: ask at once the next time."""
        self.looked = float("-inf")

    def state(self, job: str) -> JobState:
        """At most LOOK_SECONDS old; the last known one while the controller does not answer."""
        if time.monotonic() - self.looked > LOOK_SECONDS:
            try:
                found = ask(self.states)
                self.states = {watched: found.get(watched, GONE) for watched in self.states}
            except QueueError:
                pass  # it may be started anew; jobs go on meanwhile
            self.looked = time.monotonic()
        return self.states[job]
