"""Which number of threads is taken, for times that are made up."""

from __future__ import annotations

from collections.abc import Callable

from vnc.decoding.thread_trials import LONGEST, SHORTEST, TRIALS, ThreadTrials


def passes(trials: ThreadTrials, count: int, seconds: Callable[[bool], float]) -> list[bool]:
    """Whether each of so many passes was alone, `seconds` of it being what one takes."""
    taken = []
    for _ in range(count):
        taken.append(trials.alone)
        trials.took(taken[-1], seconds(taken[-1]))
    return taken


def idle(alone: bool) -> float:
    return 1.7 if alone else 1.0


def busy(alone: bool) -> float:
    return 1.7 if alone else 9.0


def test_the_faster_one_after_two_trials_of_each() -> None:
    for seconds, faster_alone in ((idle, False), (busy, True)):
        taken = passes(ThreadTrials(), SHORTEST, seconds)
        assert taken[:5] == list(TRIALS)
        assert taken[5:] == [faster_alone] * (SHORTEST - 5)


def test_waking_up_does_not_count() -> None:
    trials = ThreadTrials()
    trials.took(False, 100.0)
    assert passes(trials, 10, idle)[-1] is False


def test_all_threads_must_be_worth_it() -> None:
    assert passes(ThreadTrials(), 10, lambda alone: 1.05 if alone else 1.0)[5:] == [True] * 5


def test_a_neighbour_that_comes_is_noticed_at_once() -> None:
    trials = ThreadTrials()
    passes(trials, SHORTEST // 2, idle)
    taken = passes(trials, 40, busy)
    assert taken == [False, *TRIALS] + [True] * 34


def test_one_that_goes_is_noticed_at_the_next_trials() -> None:
    trials = ThreadTrials()
    passes(trials, SHORTEST // 2, busy)
    assert passes(trials, 2 * SHORTEST, idle)[-1] is False


def test_trials_grow_rare_while_nothing_changes() -> None:
    trials = ThreadTrials()
    taken = passes(trials, 20 * LONGEST, busy)
    assert taken[-LONGEST:].count(False) <= 2 * 3
    assert taken.count(False) < 80


def test_a_slow_pass_alone_starts_no_trials() -> None:
    trials = ThreadTrials()
    passes(trials, 8, busy)
    trials.took(trials.alone, 100.0)
    assert passes(trials, 20, busy) == [True] * 20
