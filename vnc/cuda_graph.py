"""A micro-batch recorded once as two CUDA graphs, forward and backward, and replayed: Python's part of it, hundreds of
calls, is then two. On a GPU that waits for Python it decides the speed: a micro-batch of 16,384 tokens at depth 4 took
13 ms, of which the device worked 5 (docs/PERFORMANCE.md). What is computed is the same, to the last bit.

A recording reads and writes the same memory each time it is played: weights, gradients, and what it allocated. So it
serves where gradients stay in their buffers, which is on one process, and as long as the model's shape, memory and
settings stay what they were.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from vnc.batch_size import release_memory
from vnc.gpt import GPT

FREE_SHARE = 1 / 8  # of the card's memory that must be left, for the optimizer and for scores


class LossRecorder:
    """`gpt.summed_loss`, from a recording once there is one."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        """Whether to record: False from where it was tried in vain."""
        self._recorded: RecordedLoss | None = None

    def summed_loss(self, gpt: GPT, inputs: torch.Tensor, targets: torch.Tensor, z_loss: float) -> torch.Tensor:
        if self._recorded is not None and self._recorded.shape == inputs.shape:
            return self._recorded(inputs, targets)
        return gpt.summed_loss(inputs, targets, z_loss)

    def record(self, gpt: GPT, shape: torch.Size, z_loss: float) -> None:
        """Record micro-batches of this shape, if that is wanted and not done. If it cannot be, say so once."""
        if not self.wanted or self._recorded is not None:
            return
        try:
            self._recorded = RecordedLoss(gpt, shape, z_loss)
        except RuntimeError as error:
            self.wanted = False
            warnings.warn(f"going on without a CUDA graph: {str(error).splitlines()[0]}", stacklevel=1)
        if self._recorded is None:  # and what the attempt held is gone
            release_memory(gpt.wte.weight.device)

    def drop(self) -> None:
        """Let the recording and its memory go."""
        self._recorded = None


class RecordedLoss:
    """`gpt.summed_loss` and its backward for micro-batches of one shape."""

    def __init__(self, gpt: GPT, shape: torch.Size, z_loss: float) -> None:
        """Records, for which the micro-batch runs once on made-up tokens; no gradient changes. Every parameter must
        have its gradient, and no result of an earlier `summed_loss` may still be held. RuntimeError if there is too
        little memory, or something cannot be recorded."""
        device = gpt.wte.weight.device
        self.shape = shape
        self._inputs = torch.zeros(shape, dtype=torch.int64, device=device)
        self._targets = torch.zeros_like(self._inputs)
        self._gradient = torch.zeros((), device=device)
        self._kept = gpt.rotary(shape[1]) if gpt.config.positions == "rope" else None  # the model may make a longer one
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self._anchor = torch.zeros((), device=device, requires_grad=True)
        torch.cuda.empty_cache()  # what other streams have kept cannot be used on the one that records
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.device(device):
            with torch.cuda.stream(stream):  # compiles, chooses and loads what is missing; 0 is added to the gradients
                gpt.summed_loss(self._inputs, self._targets, z_loss).backward(self._gradient)  # type: ignore[no-untyped-call]
            # Threads of the data loader may go on: only what this one may not do ends a recording.
            options: dict[str, Any] = dict(stream=stream, capture_error_mode="thread_local")
            with torch.cuda.graph(self._forward, **options):
                loss = gpt.summed_loss(self._inputs, self._targets, z_loss)
            with torch.cuda.graph(self._backward, pool=self._forward.pool(), **options):
                loss.backward(self._gradient)  # type: ignore[no-untyped-call]
            self._loss = loss.detach()
            torch.cuda.current_stream(device).wait_stream(stream)
            free, total = torch.cuda.mem_get_info(device)
        if free < FREE_SHARE * total:
            raise RuntimeError(f"it would leave {free / 2**30:.1f} GiB of the GPU's memory free")

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the losses of (B, T) targets as `GPT.summed_loss` returns it. Its backward must come before the next
        call."""
        summed: torch.Tensor = _Replay.apply(self._anchor, self, inputs, targets)  # type: ignore[no-untyped-call]
        return summed

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self._inputs.copy_(inputs)
        self._targets.copy_(targets)
        self._forward.replay()
        return self._loss.clone()

    def backward(self, gradient: torch.Tensor) -> None:
        self._gradient.copy_(gradient)
        self._backward.replay()


class _Replay(torch.autograd.Function):
    """Has autograd play the backward when it comes to it. The anchor is what makes it come."""

    @staticmethod
    def forward(
        ctx: Any, anchor: torch.Tensor, recorded: RecordedLoss, inputs: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        ctx.recorded = recorded
        return recorded.forward(inputs, targets)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, None, None, None]:
        ctx.recorded.backward(gradients[0])
        return None, None, None, None
