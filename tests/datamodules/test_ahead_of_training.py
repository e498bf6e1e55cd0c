"""Batches drawn by a thread: the same ones, in order, errors where they are asked for, and no thread left behind."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from datamodules.ahead_of_training import AHEAD, AheadOfTraining
from vnc.errors import UserError
from vnc.rows import StepBatch

CPU = torch.device("cpu")


class Counting:
    """Batches 0, 1, 2, ..., with a note of how many were drawn and whether the last iterator was closed."""

    def __init__(self, count: int, broken: int = -1) -> None:
        self.count, self.broken, self.drawn, self.closed = count, broken, 0, False

    def __iter__(self) -> Iterator[StepBatch]:
        try:
            for number in range(self.count):
                if number == self.broken:
                    raise UserError("shard 3: broken")
                self.drawn = number + 1
                yield StepBatch(torch.full((1, 1, 2), number), None)
        finally:
            self.closed = True


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "batches ahead"]


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.01)
    assert condition()  # type: ignore[operator]


def test_all_batches_come_in_order_and_again_in_another_epoch() -> None:
    ahead = AheadOfTraining(Counting(20), CPU)
    for _ in range(2):
        assert [int(batch.rows[0, 0, 0]) for batch in ahead] == list(range(20))
    assert threads() == []


def test_they_are_drawn_ahead_but_not_without_end() -> None:
    batches = Counting(100)
    stream = iter(AheadOfTraining(batches, CPU))
    next(stream)
    wait_for(lambda: batches.drawn == 1 + AHEAD + 1)  # one in hand, those in the queue, and the next one made
    time.sleep(0.2)
    assert batches.drawn == 1 + AHEAD + 1
    stream.close()  # type: ignore[attr-defined]
    assert batches.closed and threads() == []


def test_an_error_is_raised_where_its_batch_is_due() -> None:
    stream = iter(AheadOfTraining(Counting(10, broken=2), CPU))
    assert [int(next(stream).rows[0, 0, 0]) for _ in range(2)] == [0, 1]
    with pytest.raises(UserError, match=r"\Ashard 3: broken\Z"):
        next(stream)
    wait_for(lambda: threads() == [])
