"""Rows and step batches: what the data rooms hand to the model.

A row is `sequence_len + 1` numbers that start with BOS. A number >= 0 is a token id, read as input and learnt as
target. A negative number v stands for the id `~v` (bitwise not): read as input, ignored as target. So one tensor
carries ids and loss mask, and padding is `~bos_id`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

IGNORED = -1


class StepBatch(NamedTuple):
    """All that one training step (or one validation step) of one process reads."""

    rows: torch.Tensor
    """int32, (micro_batches, device_batch_size, sequence_len + 1)."""
    position: dict[str, Any] | None
    """The reader's state after this batch, JSON-able; None in validation."""
    shares: dict[str, float] | None = None
    """What became of the tokens that this process has read so far, as shares by name, to be logged."""


def inputs_and_targets(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(..., sequence_len + 1) numbers -> int64 inputs and targets, (..., sequence_len) each; ignored targets are -1."""
    rows = rows.long()
    inputs = torch.where(rows < 0, ~rows, rows)[..., :-1]
    targets = rows.clamp(min=IGNORED)[..., 1:]
    return inputs.contiguous(), targets.contiguous()
