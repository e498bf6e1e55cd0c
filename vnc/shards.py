"""Shards: what this rank owns, updates and holds optimizer state for. Three kinds, one for each kind of parameter.

    MatrixShard   the blocks' matrices, by Muon. Whole matrices are dealt to the ranks, so that each is
                  orthogonalised by its owner alone.
    TableShard    one embedding or head, by AdamW. Dealt by rows.
    TinyShard     everything small. Every rank holds and updates all of it.

Matrices of equal size (a layer's four square ones; its two of the MLP, which are each other's transposes in shape) lie
in one buffer (buckets, world_size, m, elements), in the order in which backward reaches them. A bucket is the smallest
number of whole layers whose matrices can be dealt evenly, m to each rank: with 4 square matrices a layer that is one
layer for 1, 2 or 4 ranks (m = 4, 2, 1) and two layers for 8 (m = 1). The buffer is filled up to whole buckets.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch

from vnc.buckets import TINY, Bucket, Piece, Replicated
from vnc.muon import adamw_update, muon_update, variance_shape
from vnc.wire import Wire

ADAM_EPS = 1e-10
# Numbers that are updated together, on accelerators and on CPUs: the update makes a dozen passes over temporaries of
# their size, which on a CPU should come from its caches.
TOGETHER = (2**26, 2**21)


class Shard(Protocol):
    """What MuonAdamW needs of any of them."""

    @property
    def buckets(self) -> Sequence[Bucket]: ...

    def update(self, step: int) -> None:
        """Update the owned weights from the owned gradients. `step` counts from 1."""
        ...

    def pieces(self) -> Iterable[tuple[torch.nn.Parameter, dict[str, Piece]]]:
        """For each parameter of which this rank owns a part: `weight` and the state, as live views."""
        ...

    def state(self) -> list[torch.Tensor]:
        """The buffers of optimizer state."""
        ...

    def gradients(self) -> list[torch.Tensor]:
        """The owned gradients, (..., n): matrices or rows of n numbers each."""
        ...


class MatrixShard:
    """Matrices of equal size, by Muon."""

    def __init__(
        self,
        layers: list[list[torch.nn.Parameter]],
        group: dict[str, Any],
        wire: Wire,
        compute_dtype: torch.dtype,
        gather_dtype: torch.dtype,
        heads: Mapping[torch.nn.Parameter, int],
    ) -> None:
        """layers: for each layer, as backward reaches it, its parameters, (rows, cols) or (n, rows, cols) each and
        alike in all layers. group: the param group whose rates apply. heads: of parameters of which not whole matrices
        but blocks of rows are orthogonalised, how many."""
        self.group, self.compute_dtype, self.rank = group, compute_dtype, wire.rank
        self.device = layers[0][0].device
        shapes = [tuple(p.shape[-2:]) for p in layers[0] for _ in range(slots(p))]
        if any([tuple(p.shape[-2:]) for p in layer for _ in range(slots(p))] != shapes for layer in layers):
            raise ValueError("the layers' matrices differ in shape")
        size, world = math.prod(shapes[0]), wire.world_size
        per_bucket = world // math.gcd(world, len(shapes))  # layers
        m = per_bucket * len(shapes) // world
        count = -(-len(layers) // per_bucket)
        weights = torch.zeros((count, world, m * size), dtype=gather_dtype, device=self.device)
        self.weights = weights[:, wire.rank].view(count, m, size) if gather_dtype == torch.float32 else self._zeros(
            count, m, size
        )  # fmt: skip
        self.gradient, self.momentum = self._zeros(count, m, size), self._zeros(count, m, size)
        self.second_moment = self._zeros(count, m, max(shapes[0]))
        self.buckets = [
            Bucket(
                [p for layer in layers[b * per_bucket : (b + 1) * per_bucket] for p in layer],
                weights[b], self.weights[b].view(-1), self.gradient[b].view(-1), wire,
            )
            for b in range(count)
        ]  # fmt: skip
        kinds = [(*p.shape[-2:], heads.get(p, 1)) for p in layers[0] for _ in range(slots(p))]
        mine = [kinds[(wire.rank * m + j) % len(kinds)] for j in range(m)]
        self.places = {kind: progression([j for j in range(m) if mine[j] == kind]) for kind in dict.fromkeys(mine)}
        """The slots of a bucket that are updated together, by (rows, cols, heads)."""

    def update(self, step: int) -> None:
        group = self.group
        for (rows, cols, heads), places in self.places.items():
            owned = (
                matrices(self.weights[:, places], rows, cols),
                matrices(self.gradient[:, places], rows, cols),
                matrices(self.momentum[:, places], rows, cols),
                matrices(self.second_moment[:, places], *variance_shape(rows, cols)),
            )
            buckets = max(1, TOGETHER[self.device.type == "cpu"] // owned[0][0].numel())
            for first in range(0, len(self.weights), buckets):
                weights, gradient, momentum, second_moment = (part[first : first + buckets] for part in owned)
                muon_update(
                    weights, gradient, momentum, second_moment, lr=group["lr"], momentum_coefficient=group["momentum"],
                    beta2=group["betas"][1], weight_decay=group["weight_decay"], compute_dtype=self.compute_dtype,
                    heads=heads,
                )  # fmt: skip

    def pieces(self) -> Iterable[tuple[torch.nn.Parameter, dict[str, Piece]]]:
        m = self.weights.size(1)
        for b, bucket in enumerate(self.buckets):
            start = 0  # the parameter's first slot in the bucket
            for parameter in bucket.parameters:
                n, (rows, cols) = slots(parameter), parameter.shape[-2:]
                first, last = (min(max(0, slot - self.rank * m), m) for slot in (start, start + n))
                if first < last:
                    skipped = first + self.rank * m - start  # matrices of this parameter that other ranks own
                    found = {}
                    for name, buffer, shape in (
                        ("weight", self.weights, (rows, cols)),
                        ("momentum", self.momentum, (rows, cols)),
                        ("second_moment", self.second_moment, variance_shape(rows, cols)),
                    ):
                        tensor = matrices(buffer[b, first:last], *shape)
                        if parameter.dim() == 2:
                            found[name] = Piece.whole(tensor[0])
                        else:
                            found[name] = Piece((n, *shape), (skipped, 0, 0), tensor)
                    yield parameter, found
                start += n

    def state(self) -> list[torch.Tensor]:
        return [self.momentum, self.second_moment]

    def gradients(self) -> list[torch.Tensor]:
        return [self.gradient]

    def _zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.float32, device=self.device)


class TableShard:
    """An embedding or a head, by AdamW: each rank owns neighbouring rows, the last one perhaps fewer."""

    def __init__(
        self, parameter: torch.nn.Parameter, group: dict[str, Any], wire: Wire, gather_dtype: torch.dtype
    ) -> None:
        self.group, self.parameter, self.rank = group, parameter, wire.rank
        rows, cols = parameter.shape
        self.rows = -(-rows // wire.world_size)
        weights = torch.zeros((wire.world_size, self.rows * cols), dtype=gather_dtype, device=parameter.device)

        def zeros() -> torch.Tensor:
            return torch.zeros(self.rows, cols, dtype=torch.float32, device=parameter.device)

        self.weights = weights[wire.rank].view(self.rows, cols) if gather_dtype == torch.float32 else zeros()
        self.gradient, self.exp_avg, self.exp_avg_sq = zeros(), zeros(), zeros()
        self.buckets = [Bucket([parameter], weights, self.weights.view(-1), self.gradient.view(-1), wire)]

    def update(self, step: int) -> None:
        adamw(self.weights, self.gradient, self.exp_avg, self.exp_avg_sq, self.group, step)

    def pieces(self) -> Iterable[tuple[torch.nn.Parameter, dict[str, Piece]]]:
        rows, cols = self.parameter.shape
        first = self.rank * self.rows
        count = min(self.rows, rows - first)
        if count > 0:
            tensors = {"weight": self.weights, "exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}
            yield (
                self.parameter,
                {name: Piece((rows, cols), (first, 0), tensor[:count]) for name, tensor in tensors.items()},
            )

    def state(self) -> list[torch.Tensor]:
        return [self.exp_avg, self.exp_avg_sq]

    def gradients(self) -> list[torch.Tensor]:
        return [self.gradient]


class TinyShard:
    """What is too small to deal out, each parameter by its group's rule, on every rank alike."""

    def __init__(
        self, members: list[tuple[torch.nn.Parameter, dict[str, Any]]], wire: Wire, compute_dtype: torch.dtype
    ) -> None:
        """members: parameters with their param groups."""
        self.members, self.compute_dtype = members, compute_dtype
        self.bucket = Replicated([parameter for parameter, _ in members], wire)
        self.buckets = [self.bucket]
        self.gradient = self.bucket.cut(self.bucket.owned_gradient)  # by parameter
        self.moments: list[dict[str, torch.Tensor]] = []
        for parameter, group in members:
            second = torch.zeros_like(parameter)
            if group["kind"] == "muon":
                *leading, rows, cols = parameter.shape
                second = second.new_zeros((*leading, *variance_shape(rows, cols)))
                self.moments.append({"momentum": torch.zeros_like(parameter), "second_moment": second})
            else:
                self.moments.append({"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": second})

    def update(self, step: int) -> None:
        alike: dict[tuple[int, torch.Size], list[int]] = defaultdict(list)
        for i, (parameter, group) in enumerate(self.members):
            if group["kind"] == "muon":
                alike[id(group), parameter.shape].append(i)
            else:
                moments = self.moments[i]
                adamw(parameter.data, self.gradient[i], moments["exp_avg"], moments["exp_avg_sq"], group, step)
        for members in alike.values():
            self._muon(members)

    def _muon(self, members: list[int]) -> None:
        """Equal matrices together: they are few numbers, so stacking them costs less than a call for each."""
        parameters = [self.members[i][0] for i in members]
        group = self.members[members[0]][1]
        weights = torch.stack([p.data for p in parameters])
        gradient = torch.stack([self.gradient[i] for i in members])
        state = {name: torch.stack([self.moments[i][name] for i in members]) for name in self.moments[members[0]]}
        muon_update(
            weights, gradient, state["momentum"], state["second_moment"], lr=group["lr"],
            momentum_coefficient=group["momentum"], beta2=group["betas"][1], weight_decay=group["weight_decay"],
            compute_dtype=self.compute_dtype,
        )  # fmt: skip
        for position, i in enumerate(members):
            parameters[position].data.copy_(weights[position])
            for name, tensor in self.moments[i].items():
                tensor.copy_(state[name][position])

    def pieces(self) -> Iterable[tuple[torch.nn.Parameter, dict[str, Piece]]]:
        for (parameter, _), moments in zip(self.members, self.moments, strict=True):
            tensors = {"weight": parameter.data} | moments
            yield parameter, {name: Piece.whole(tensor) for name, tensor in tensors.items()}

    def state(self) -> list[torch.Tensor]:
        return [tensor for moments in self.moments for tensor in moments.values()]

    def gradients(self) -> list[torch.Tensor]:
        return [self.bucket.owned_gradient]


def adamw(
    weights: torch.Tensor,
    gradient: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    group: dict[str, Any],
    step: int,
) -> None:
    """AdamW with the rates of a param group."""
    adamw_update(
        weights, gradient, exp_avg, exp_avg_sq, step=step, lr=group["lr"], betas=group["betas"], eps=ADAM_EPS,
        weight_decay=group["weight_decay"],
    )  # fmt: skip


def is_tiny(parameter: torch.nn.Parameter) -> bool:
    return parameter.dim() < 2 or parameter.numel() < TINY


def slots(parameter: torch.nn.Parameter) -> int:
    """How many matrices a parameter is: (rows, cols) is one, (n, rows, cols) is n."""
    return 1 if parameter.dim() == 2 else parameter.size(0)


def matrices(buffer: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """A view (..., rows, cols) of a buffer (..., rows * cols)."""
    return buffer.view(*buffer.shape[:-1], rows, cols)


def progression(numbers: list[int]) -> slice:
    """The slice that selects `numbers`, which must be evenly spaced; ValueError otherwise."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    found = slice(numbers[0], numbers[-1] + 1, step)
    if list(range(found.start, found.stop, step)) != numbers:
        raise ValueError(f"matrices at {numbers} are not evenly spaced")
    return found
