"""Fewer rows in a micro-batch, after a device has run out of memory.

The number decides how a step's rows are grouped, not which they are: row i of a step is in its micro-batch
i % (world_size * micro_batches) (datamodules/streaming.py). So a run that has gone on with smaller micro-batches is,
bit for bit, the run that had them from the start.
"""

from __future__ import annotations

import dataclasses
import gc

import torch

from vnc.depth import TrainingPlan
from vnc.errors import UserError

OOM_STEPS = 10  # steps of a process in which it answers an out-of-memory error with smaller micro-batches


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory: the allocator's own error, or a library's that asked past it."""
    words = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def release_memory(device: torch.device) -> None:
    """Give back what nobody refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def share_of_rows(plan: TrainingPlan) -> int:
    """Rows that one process reads in a step."""
    return plan.device_batch_size * plan.micro_batches


def with_rows(plan: TrainingPlan, device_batch_size: int) -> TrainingPlan:
    """The same plan in micro-batches of `device_batch_size` rows, which divides a process's share."""
    return dataclasses.replace(
        plan, device_batch_size=device_batch_size, micro_batches=share_of_rows(plan) // device_batch_size
    )


def with_fewer_rows(plan: TrainingPlan) -> TrainingPlan:
    """The plan with the largest micro-batches of at most half as many rows; UserError when they have one already."""
    rows = plan.device_batch_size
    if rows == 1:
        raise UserError(f"out of memory with device_batch_size=1: one row of sequence_len={plan.config.sequence_len} "
                        "is too much for the device; lower model.sequence_len or model.depth, or train on more "
                        "devices")  # fmt: skip
    return with_rows(plan, max(n for n in range(1, rows // 2 + 1) if share_of_rows(plan) % n == 0))


def regroup(rows: torch.Tensor, device_batch_size: int) -> torch.Tensor:
    """A step's rows (micro_batches, device_batch_size, row_len) as a reader with the new size would have grouped them:
    in its own order, row j of a process is in micro-batch j % micro_batches."""
    if rows.size(1) == device_batch_size:
        return rows
    in_order = rows.transpose(0, 1).flatten(0, 1)
    return in_order.view(device_batch_size, -1, rows.size(2)).transpose(0, 1).contiguous()
