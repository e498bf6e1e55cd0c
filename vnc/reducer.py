"""When gradients are summed over the ranks, and in which order: bucket by bucket while backward goes on.

Hooks on the parameters say when autograd is about to reach a bucket and when it has written a gradient. Buckets are
launched in one fixed order, the same on every rank, however gradients come: collectives are matched by their order, so
a rank that has no gradient for some parameter (or ran out of memory half way) must not launch another one first. What
is left when backward has ended, `flush` launches.

Floating-point sums depend on their order, and AdamW makes a step of full size out of a gradient that is nothing but
rounding. So that any number of processes trains to the same weights, the order is fixed: micro-batch a of a step is the
same rows whoever computes it (datamodules/streaming.py), rank r of N computes a = r, r + N, ..., and gradients are
added as a = 0, 1, 2, ...: after every micro-batch, rank by rank.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial

import torch

from vnc.buckets import Bucket

IN_FLIGHT = 2  # buckets on their way at a time where gradients are let go as backward goes on


class GradientReducer:
    """Launches the reductions of `buckets`, which stand in the order in which backward completes them."""

    def __init__(
        self, buckets: Sequence[Bucket], every_micro_batch: bool = True, ordered: bool = True, overlap: bool = True
    ) -> None:
        """every_micro_batch: reduce after each micro-batch and not only after the last (gradients stay sharded under
        accumulation). ordered: add the ranks' gradients in the order of the ranks. overlap: launch while backward goes
        on; without, all after it."""
        self.buckets, self.every_micro_batch = buckets, every_micro_batch
        self.ordered, self.overlap = ordered, overlap
        self.reducing = False
        self.next = 0  # the first bucket that has not been launched in this micro-batch
        self.launched_bytes = {"in backward": 0, "after it": 0}
        self.peak_bytes = 0
        """The most bytes of gradients held at once, seen at the start of each reduction between processes."""
        self._in_flight: deque[Bucket] = deque()
        for bucket in buckets:
            for parameter in bucket.parameters:
                parameter.register_hook(partial(self._before, bucket))  # type: ignore[no-untyped-call]
                parameter.register_post_accumulate_grad_hook(partial(self._after, bucket))  # type: ignore[no-untyped-call]

    def begin(self, last: bool) -> None:
        """Before the backward of a micro-batch; `last`: no other follows in this step."""
        self.reducing, self.next = last or self.every_micro_batch, 0
        for bucket in self.buckets:
            bucket.missing = len(bucket.parameters)

    def flush(self) -> None:
        """After backward: launch what it has not."""
        if self.reducing:
            while self.next < len(self.buckets):
                self._launch("after it")
        self.reducing = False

    def finish(self) -> None:
        """Wait until all sums are there."""
        for bucket in self.buckets:
            bucket.finish_reduce()
        self._in_flight.clear()

    def abandon(self, micro_batches_left: int) -> None:
        """After an error in a backward: launch what the other ranks wait for, in this micro-batch and the
        `micro_batches_left` after it; the sums are worthless."""
        self.flush()
        for left in range(micro_batches_left, 0, -1):
            self.begin(last=left == 1)
            self.flush()

    def gradient_bytes(self) -> int:
        """Bytes of gradients held now."""
        return storage_bytes([tensor for bucket in self.buckets for tensor in bucket.gradient_buffers()])

    def _before(self, bucket: Bucket, _gradient: torch.Tensor) -> None:
        bucket.open()

    def _after(self, bucket: Bucket, _parameter: torch.Tensor) -> None:
        bucket.missing -= 1
        while self.reducing and self.overlap and self.next < len(self.buckets) and not self.buckets[self.next].missing:
            self._launch("in backward")

    def _launch(self, when: str) -> None:
        bucket = self.buckets[self.next]
        bucket.reduce(self.ordered)
        self.next += 1  # not if that has failed: `abandon` will launch it
        if bucket.sharded:  # others stay what they are
            self.peak_bytes = max(self.peak_bytes, self.gradient_bytes())
        self.launched_bytes[when] += bucket.weights.numel() * 4
        self._in_flight.append(bucket)
        if self.every_micro_batch and len(self._in_flight) > IN_FLIGHT:
            self._in_flight.popleft().finish_reduce()


def storage_bytes(tensors: Sequence[torch.Tensor]) -> int:
    """Bytes of the storages behind `tensors`, each counted once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
