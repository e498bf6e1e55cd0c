"""Processes that do one thing together, such as write a checkpoint: agree on a value, and succeed or fail as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

Value = TypeVar("Value")


class OtherRankError(Exception):
    """Another rank has failed at what was to be done together; the message names it and says how."""


class Processes:
    """The processes of one group of `torch.distributed`, which must be one for CPU tensors (gloo); by default this
    process alone. All of them must make the same calls in the same order. A process that dies in the meantime makes the
    others' calls raise, at once or after the group's time-out: none waits for ever."""

    def __init__(self, rank: int = 0, world_size: int = 1, group: Any = None) -> None:
        self.rank, self.world_size, self.group = rank, world_size, group

    def agree(self, value: Value) -> Value:
        """The value of rank 0."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def gather(self, value: Value) -> list[Value]:
        """The values of all of them, by rank, on each of them. Values must survive pickling."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any of them."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.group)
        return bool(flags)

    def together(self, act: Callable[[], None] | None) -> None:
        """Call `act` (None: nothing to do here) and wait for the others. What any of them raised is raised on all: its
        own on the process itself, on those that succeeded the lowest rank's, which names it."""
        failure: Exception | None = None
        try:
            if act is not None:
                act()
        except Exception as error:
            failure = error
        if self.world_size > 1:
            told = None if failure is None else f"{type(failure).__name__}: {failure}"
            failures: list[str | None] = [None] * self.world_size
            dist.all_gather_object(failures, told, group=self.group)
            if failure is None:
                for rank, text in enumerate(failures):
                    if text is not None:
                        raise OtherRankError(f"rank {rank}: {text}")
        if failure is not None:
            raise failure
