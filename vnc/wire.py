"""Wire: the collectives that training uses, asynchronous, with their bytes counted.

A `Transfer` holds the tensors of its collective until it has been waited for: the backend reads and writes them in the
meantime, and what Python lets go of, the allocator hands to someone else. With one process nothing is sent.

What a rank sends, for N ranks and a buffer of S bytes: all-to-all, reduce-scatter and all-gather S (N-1)/N each,
all-reduce 2 S (N-1)/N (Thakur et al., Int. J. HPC Applications 19(1), 2005). gloo's reduce-scatter is an all-reduce
inside and sends twice as much (benchmarks/dist_muon.py measures it).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.distributed as dist

# torch 2.13 renamed the two; 2.11 has the old names only.
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class Transfer:
    """A collective on its way, or one that had nothing to send."""

    def __init__(self, work: Any = None, *tensors: torch.Tensor) -> None:
        self._work, self._tensors = work, tensors

    def wait(self) -> None:
        """Return when the result is there (on CUDA: when the current stream is ordered after it)."""
        if self._work is not None:
            self._work.wait()
        self._work, self._tensors = None, ()


class Wire:
    """The collectives of the processes that train together. All ranks must start the same ones in the same order."""

    def __init__(self, rank: int = 0, world_size: int = 1, group: Any = None) -> None:
        self.rank, self.world_size, self.group = rank, world_size, group
        self.sent: Counter[str] = Counter()
        """Bytes that this rank has had to send, by collective."""

    def reduce_scatter(self, part: torch.Tensor, full: torch.Tensor) -> Transfer:
        """part = this rank's part of the sum of `full` over all ranks; full: (world_size, n), part: (n,)."""
        if self.world_size == 1:
            return Transfer()
        self._count("reduce_scatter", full)
        work = _reduce_scatter(part.view(-1), full.view(-1), group=self.group, async_op=True)
        return Transfer(work, part, full)

    def exchange(self, received: torch.Tensor, full: torch.Tensor) -> Transfer:
        """received[r] = what rank r has at full[rank]: a reduce-scatter but for the sum. Both (world_size, n)."""
        if self.world_size == 1:
            return Transfer()
        self._count("exchange", full)
        work = dist.all_to_all_single(received.view(-1), full.view(-1), group=self.group, async_op=True)
        return Transfer(work, received, full)

    def all_gather(self, full: torch.Tensor, part: torch.Tensor) -> Transfer:
        """full[r] = rank r's `part`; `part` may be full[rank] itself. full: (world_size, n), part: (n,)."""
        if self.world_size == 1:
            return Transfer()
        self._count("all_gather", full)
        return Transfer(_all_gather(full.view(-1), part.view(-1), group=self.group, async_op=True), full, part)

    def all_reduce(self, tensor: torch.Tensor) -> Transfer:
        """tensor = its sum over all ranks, the same bits on each."""
        if self.world_size == 1:
            return Transfer()
        self._count("all_reduce", tensor, passes=2)
        return Transfer(dist.all_reduce(tensor, group=self.group, async_op=True), tensor)

    def _count(self, name: str, full: torch.Tensor, passes: int = 1) -> None:
        self.sent[name] += passes * full.nbytes * (self.world_size - 1) // self.world_size
