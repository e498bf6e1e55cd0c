"""A queue in which sessions take turns: one thread works on many jobs, a small step of each at a time.

Each round every session that has work gets one step, however many jobs it has; a session with several alternates
between them. So nobody waits for another's whole answer, and a model is used by one thread only. At most `places` jobs
are under way; the others wait in order of arrival, and beyond `waiting` of them new ones are refused.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Generator
from typing import Protocol

from vnc.errors import UserError

LOG = logging.getLogger(__name__)


class Job(Protocol):
    """Work that is done in steps."""

    session: str

    def steps(self) -> Generator[None]:
        """Each `yield` ends a step. Closed between two steps when the job is over early."""
        ...

    def over(self) -> bool:
        """Whether nobody wants the rest: asked before each step, from the working thread."""
        ...

    def ended(self, error: Exception | None) -> None:
        """Called once, from the working thread: the job's last step is done, it was over, or a step has failed."""
        ...


class Turns:
    """The working thread and its queue. Its methods may be called from any thread."""

    def __init__(self, places: int, waiting: int, per_session: int) -> None:
        self.places, self.waiting, self.per_session = places, waiting, per_session
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: dict[str, deque[tuple[Job, Generator[None]]]] = {}  # by session; the first is next
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Takes the job in. Raises UserError where the session has too many already, or all do."""
        with self._changed:
            if self._closed:
                raise UserError("the app is closing; start it again")
            mine = Counter(each.session for each in self._jobs() if not each.over())[job.session]
            if mine >= self.per_session:
                raise UserError(f"{mine} answers are under way here already; wait for one to end, or stop it")
            if sum(not each.over() for each in self._waiting) >= self.waiting:
                raise UserError(f"the queue is full ({self.waiting} questions are waiting); try again in a moment")
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="model", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread after its present step; jobs that are left end as if nobody wanted them."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _jobs(self) -> list[Job]:
        return [*self._waiting, *(job for jobs in self._running.values() for job, _ in jobs)]

    def _work(self) -> None:
        while (turn := self._next()) is not None:
            job, steps = turn
            more = _step(job, steps)
            with self._changed:  # the session goes to the end of the row, and so does this job among its own
                mine = self._running.pop(job.session)
                mine.popleft()
                if more:
                    mine.append((job, steps))
                if mine:
                    self._running[job.session] = mine
        for job in self._jobs():
            job.ended(None)

    def _next(self) -> tuple[Job, Generator[None]] | None:
        """The job whose turn it is, once there is one; None when the queue is closed."""
        with self._changed:
            while not self._closed:
                while self._waiting and sum(map(len, self._running.values())) < self.places:
                    job = self._waiting.popleft()
                    self._running.setdefault(job.session, deque()).append((job, job.steps()))
                if self._running:
                    return next(iter(self._running.values()))[0]
                self._changed.wait()
        return None


def _step(job: Job, steps: Generator[None]) -> bool:
    """Whether more is to come. A job that fails ends alone; the fault goes to the log, and what a user can mend to the
    user."""
    error: Exception | None = None
    try:
        if not job.over():
            next(steps)
            return True
        steps.close()
    except StopIteration:
        pass
    except Exception as fault:
        error = fault
        if not isinstance(fault, UserError):
            LOG.exception("an answer failed")
    job.ended(error)
    return False
