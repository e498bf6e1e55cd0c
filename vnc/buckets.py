"""Buckets: parameters that travel together, and where their weights and gradients lie.

    weights    (world_size, part)   on every rank; each parameter is a view of it
    gradient   (world_size, part)   fp32, while backward fills it; each `.grad` is a view of it
    owned_*    (part,)              this rank's share: what the optimizer updates, and holds state for

Reduce-scatter takes `gradient` to `owned_gradient`, the update writes `owned_weights`, all-gather fills `weights`. The
gradient buffer is made when backward reaches its first parameter and let go when it has been reduced, so a rank holds
whole gradients only on their way. With one process `gradient` is `owned_gradient` and stays.

Where weights are gathered in bf16, `weights` is bf16 and `owned_weights` an fp32 master of the owner's alone;
otherwise it is the owner's row of `weights`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vnc.wire import Transfer, Wire

TINY = 1_024  # parameters with fewer elements, and vectors, are not worth dealing out: every rank keeps them


@dataclass(frozen=True)
class Piece:
    """This rank's part of a tensor that is called `shape` on disk: a block of it, beginning at `offsets`."""

    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    tensor: torch.Tensor

    @classmethod
    def whole(cls, tensor: torch.Tensor) -> Piece:
        return cls(tuple(tensor.shape), (0,) * tensor.dim(), tensor)

    def copy(self) -> Piece:
        """The same numbers in memory of their own, on the CPU."""
        return Piece(self.shape, self.offsets, self.tensor.detach().to("cpu", copy=True))


class Bucket:
    """Parameters in one buffer that is dealt to the ranks in equal parts, in the order of the ranks."""

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        weights: torch.Tensor,
        owned_weights: torch.Tensor,
        owned_gradient: torch.Tensor,
        wire: Wire,
    ) -> None:
        """weights: (world_size, part), to be filled from `parameters` and then the place where they live;
        owned_weights, owned_gradient: (part,) fp32."""
        self.parameters, self.weights, self.wire = parameters, weights, wire
        self.owned_weights, self.owned_gradient = owned_weights, owned_gradient
        self.gradient: torch.Tensor | None = None
        self.missing = 0  # parameters whose gradient has not come in this micro-batch
        self.reductions = 0  # in this step
        self._empty = True  # nothing has been added to owned_gradient in this step
        self._views: list[torch.Tensor] = []
        self._reducing: tuple[Transfer, torch.Tensor] | None = None
        self._gathering = Transfer()
        device, dtype = weights.device, owned_weights.dtype
        shares_memory = owned_weights.untyped_storage().data_ptr() == weights.untyped_storage().data_ptr()
        full = weights if shares_memory else torch.zeros(weights.shape, dtype=dtype, device=device)
        for parameter, view in zip(parameters, self.cut(full), strict=True):
            view.copy_(parameter.data)
        if not shares_memory:
            weights.copy_(full)
            owned_weights.copy_(full[wire.rank])  # never a Replicated: its weights are fp32
        for parameter, view in zip(parameters, self.cut(weights), strict=True):
            parameter.data = view
            if view.dtype != torch.float32:
                parameter.grad_dtype = torch.float32  # sums over micro-batches stay fp32
        self.sharded = wire.world_size > 1
        """Whether the whole gradient is more than the owned one, and comes and goes."""
        if not self.sharded:
            self.gradient = owned_gradient.view_as(weights)
            self._attach()

    # Gradients, in the order of events.

    def open(self) -> None:
        """Have a gradient buffer that gradients can be added to: of zeros if it is new."""
        self.finish_reduce()  # of an earlier micro-batch
        if self.gradient is None:
            self.gradient = torch.zeros(self.weights.shape, dtype=torch.float32, device=self.weights.device)
            self._attach()

    def reduce(self, ordered: bool) -> None:
        """Start to sum the gradient over all ranks and add that to the owned one. A parameter that got none counts as
        zeros. ordered: add the ranks' parts one by one, in the order of the ranks."""
        self.open()
        assert self.gradient is not None
        for parameter, view in zip(self.parameters, self._views, strict=True):
            if parameter.grad is not view:
                raise RuntimeError("a gradient has left its buffer (was it set to None?): MuonAdamW would not see it")
        if self.sharded:
            received, transfer = self._send(self.gradient, ordered)
            self._reducing = transfer, received
        self.reductions += 1

    def _send(self, gradient: torch.Tensor, ordered: bool) -> tuple[torch.Tensor, Transfer]:
        """(what is to be added row by row, its transfer)."""
        if ordered:
            received = torch.empty_like(gradient)
            return received, self.wire.exchange(received, gradient)
        received = torch.empty_like(self.owned_gradient)
        return received[None], self.wire.reduce_scatter(received, gradient)

    def finish_reduce(self) -> None:
        """Wait for the sum, then let the whole gradient go."""
        if self._reducing is None:
            return
        transfer, received = self._reducing
        transfer.wait()
        self._reducing = None
        for part in received:
            if self._empty:
                self.owned_gradient.copy_(part)
                self._empty = False
            else:
                self.owned_gradient += part
        self.close()

    def close(self) -> None:
        """Let the gradient buffer go."""
        self.gradient, self._views = None, []
        for parameter in self.parameters:
            parameter.grad = None

    def gradient_buffers(self) -> list[torch.Tensor]:
        """What is held of gradients now: the owned part, the whole one, and what is being received."""
        held = [self.owned_gradient]
        if self.gradient is not None:
            held.append(self.gradient)
        return held if self._reducing is None else [*held, self._reducing[1]]

    def clear(self) -> None:
        """Be ready for the next step: no gradient, or zeros."""
        self.finish_reduce()
        self.reductions, self._empty = 0, True
        if self.sharded:
            self.close()
        elif self.gradient is not None:
            self.gradient.zero_()
            self._attach()

    # Weights.

    def gather(self) -> None:
        """Start to fetch what the other ranks have updated."""
        mine = self.weights[self.wire.rank]
        if mine.data_ptr() != self.owned_weights.data_ptr():
            mine.copy_(self.owned_weights)
        self._gathering = self.wire.all_gather(self.weights, mine)

    def wait(self) -> None:
        """The weights are whole when this returns."""
        self._gathering.wait()

    def cut(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        """Views of `buffer`, one after the other, of the parameters' shapes."""
        flat, views, start = buffer.view(-1), [], 0
        for parameter in self.parameters:
            views.append(flat[start : start + parameter.numel()].view(parameter.shape))
            start += parameter.numel()
        return views

    def _attach(self) -> None:
        assert self.gradient is not None
        if not self._views:
            self._views = self.cut(self.gradient)
        for parameter, view in zip(self.parameters, self._views, strict=True):
            parameter.grad = view


class Replicated(Bucket):
    """Small parameters that every rank keeps and updates alike: its owned gradient is the whole sum."""

    def __init__(self, parameters: list[torch.nn.Parameter], wire: Wire) -> None:
        count = sum(parameter.numel() for parameter in parameters)
        weights, gradient = (torch.zeros(1, count, dtype=torch.float32, device=parameters[0].device) for _ in range(2))
        super().__init__(parameters, weights, weights[0], gradient[0], wire)

    def _send(self, gradient: torch.Tensor, ordered: bool) -> tuple[torch.Tensor, Transfer]:
        if ordered:
            received = gradient.new_empty(self.wire.world_size, gradient.numel())
            return received, self.wire.all_gather(received, gradient)
        return gradient, self.wire.all_reduce(gradient)

    def gather(self) -> None:
        """Every rank has updated all of it."""
