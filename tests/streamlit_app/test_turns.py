"""The queue by itself: order of steps, limits, failures; with jobs that only write down what happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator

import pytest

from streamlit_app.turns import Turns
from vnc.errors import UserError


class Steps:
    """A job of some steps that writes its name into a common list at each."""

    def __init__(self, session: str, log: list[str], count: int, during: Callable[[int], None] | None = None) -> None:
        self.session, self.log, self.count, self.during = session, log, count, during
        self.unwanted, self.done = False, threading.Event()
        self.error: Exception | None = None
        self.closed = False

    def steps(self) -> Generator[None]:
        try:
            for number in range(self.count):
                self.log.append(self.session)
                if self.during:
                    self.during(number)
                yield
        except GeneratorExit:
            self.closed = True
            raise

    def over(self) -> bool:
        return self.unwanted

    def ended(self, error: Exception | None) -> None:
        assert not self.done.is_set()
        self.error = error
        self.done.set()


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns(places=8, waiting=4, per_session=2)
    yield turns
    turns.close()


@pytest.fixture
def gate(turns: Turns) -> Iterator[threading.Event]:
    """Holds the queue, so that what a test submits comes all at once; set it to begin."""
    gate, held = threading.Event(), threading.Event()
    turns.submit(Steps("gate", [], 1, lambda _: (held.set(), gate.wait(10))))
    assert held.wait(10)
    yield gate
    gate.set()


def finish(*jobs: Steps) -> None:
    for job in jobs:
        assert job.done.wait(10)


def test_sessions_take_turns_step_by_step(turns: Turns, gate: threading.Event) -> None:
    log: list[str] = []
    jobs = [Steps(name, log, count) for name, count in (("a", 5), ("b", 2), ("c", 3))]
    for job in jobs:
        turns.submit(job)
    gate.set()
    finish(*jobs)
    assert "".join(log) == "abcabcacaa"


def test_a_session_with_two_jobs_gets_no_more_turns_than_others(turns: Turns, gate: threading.Event) -> None:
    log: list[str] = []
    jobs = [Steps("a", log, 3), Steps("a", log, 3), Steps("b", log, 3)]
    first, second = ([], [])
    jobs[0].during, jobs[1].during = (lambda n: first.append(len(log))), (lambda n: second.append(len(log)))
    for job in jobs:
        turns.submit(job)
    gate.set()
    finish(*jobs)
    assert "".join(log) == "abababaaa"
    assert first == [1, 5, 8] and second == [3, 7, 9]  # and alternates between them


def test_a_newcomer_does_not_wait_for_an_answer_to_end(turns: Turns) -> None:
    log: list[str] = []
    new = Steps("new", log, 1)
    old = Steps("old", log, 500, lambda number: turns.submit(new) if number == 10 else None)
    turns.submit(old)
    finish(old, new)
    assert log.index("new") in (11, 12)


def test_no_more_than_its_places_at_once_and_the_rest_in_order(gate: threading.Event, turns: Turns) -> None:
    turns.places = 2
    log: list[str] = []
    jobs = [Steps(name, log, 2) for name in "abcd"]
    for job in jobs:
        turns.submit(job)
    gate.set()
    finish(*jobs)
    assert "".join(log) == "ababcdcd"
    assert [job.error for job in jobs] == [None] * 4


def test_limits(turns: Turns, gate: threading.Event) -> None:
    turns.places = 1
    log: list[str] = []
    jobs = [Steps(name, log, 1) for name in "aabb"]
    for job in jobs:
        turns.submit(job)
    with pytest.raises(UserError, match="2 answers are under way here"):
        turns.submit(Steps("a", log, 1))
    with pytest.raises(UserError, match="queue is full"):
        turns.submit(Steps("c", log, 1))
    jobs[0].unwanted = True  # who has pressed stop may ask again at once
    again = Steps("a", log, 1)
    turns.submit(again)
    gate.set()
    finish(*jobs, again)
    assert log == ["a", "b", "b", "a"]


def test_a_failing_job_takes_no_other_down(turns: Turns, gate: threading.Event, caplog) -> None:
    def fail(error: Exception) -> Callable[[int], None]:
        def during(number: int) -> None:
            if number == 1:
                raise error

        return during

    log: list[str] = []
    jobs = [
        Steps("a", log, 3), Steps("b", log, 3, fail(ValueError("inside"))),
        Steps("c", log, 3, fail(UserError("yours"))), Steps("d", log, 3),
    ]  # fmt: skip
    for job in jobs:
        turns.submit(job)
    gate.set()
    finish(*jobs)
    assert "".join(log) == "abcdabcdad"
    assert [str(job.error) for job in jobs] == ["None", "inside", "yours", "None"]
    assert [record.exc_info[0] for record in caplog.records] == [ValueError]  # the fault's traceback, once


def test_what_nobody_wants_is_closed_between_two_steps(turns: Turns) -> None:
    log: list[str] = []
    job = Steps("a", log, 100)
    job.during = lambda number: setattr(job, "unwanted", number == 3)
    turns.submit(job)
    finish(job)
    assert len(log) == 4 and job.closed and job.error is None


def test_closing_ends_everything(gate: threading.Event, turns: Turns) -> None:
    jobs = [Steps(name, [], 5) for name in "abc"]
    for job in jobs:
        turns.submit(job)
    threading.Timer(0.05, gate.set).start()
    turns.close()
    assert all(job.done.is_set() for job in jobs)
    with pytest.raises(UserError, match="closing"):
        turns.submit(Steps("a", [], 1))
