"""What a task is: conversations by number. And how some of them are kept away from training for validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from datamodules.lanes import shuffled
from vnc.conversation import Conversation

HELD_OUT_SHARE = 20  # one conversation in so many
HELD_OUT_MOST = 1_000
HELD_OUT_ORDER = 0x4E1D  # marks the draws of this purpose


class Task(Protocol):
    """Conversations of one kind."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def conversation(self, index: int) -> Conversation:
        """Number `index`, from 0; always the same. It may hold nothing to learn: the reader leaves such out.

        Raises UserError, naming file and record, where the data is broken."""
        ...


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the conversations of a task."""

    task: Task
    indices: npt.NDArray[np.int64]

    @property
    def name(self) -> str:
        return self.task.name

    def __len__(self) -> int:
        return len(self.indices)

    def conversation(self, index: int) -> Conversation:
        return self.task.conversation(int(self.indices[index]))


def hold_out(task: Task) -> tuple[Task, Part]:
    """A task without a validation split of its own, in two: what is trained on, and what is held out for validation.

    One conversation in 20, 1,000 at most, at least one where there are two; a single one is trained on. Which ones
    depends on the number of conversations alone, so every run on the same data holds out the same.
    """
    held = min(HELD_OUT_MOST, max(len(task) // HELD_OUT_SHARE, min(1, len(task) - 1)))
    order = shuffled(len(task), HELD_OUT_ORDER)
    return (Part(task, np.sort(order[held:])) if held else task), Part(task, np.sort(order[:held]))
