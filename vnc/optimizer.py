"""MuonAdamW: which parameter is updated by which rule, on which rank, and when its numbers move.

Muon for the blocks' matrices, AdamW for the rest (vnc/muon.py has the arithmetic). Every rank holds all weights, and
owns a share of them (vnc/shards.py): it alone updates those, and holds optimizer state and, once they are summed,
gradients for them alone. That is ZeRO-2 (arXiv 1910.02054, section 5). One step:

    backward        buckets of gradients are summed into their owners' shards as they are completed (vnc/reducer.py)
    step            each rank updates what it owns, and starts to gather what the others have updated
    next forward    each layer waits for its own weights just before it is used

World size 1 owns everything by the same code, and nothing moves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

from vnc.buckets import Bucket, Piece
from vnc.depth import TrainingPlan
from vnc.gpt import GPT, Block
from vnc.reducer import GradientReducer, storage_bytes
from vnc.schedule import decay_multiplier, lr_multiplier, muon_momentum
from vnc.shards import MatrixShard, Shard, TableShard, TinyShard, is_tiny
from vnc.wire import Wire


class MuonAdamW(torch.optim.Optimizer):
    """One param group for each entry of `plan.groups`.

    Parameters become views of buckets (vnc/buckets.py), and `.grad` a view of the bucket's gradient where and while
    there is one: `zero_grad` lets the optimizer decide, and never detaches a gradient from its buffer.
    """

    def __init__(
        self,
        gpt: GPT,
        plan: TrainingPlan,
        wire: Wire | None = None,
        *,
        reduce_every_micro_batch: bool = True,
        ordered: bool = True,
        overlap: bool = True,
        gather_dtype: torch.dtype = torch.float32,
    ) -> None:
        """wire: the processes that train together; None is this one alone. reduce_every_micro_batch, ordered, overlap:
        see `GradientReducer`. gather_dtype: of the weights that every rank holds; the owners' are fp32 always."""
        super().__init__(param_groups(gpt, plan), defaults={})
        self.wire = wire if wire is not None else Wire()
        self.step_count = 0
        members = {parameter: group for group in self.param_groups for parameter in group["params"]}
        matrices = next(group for group in self.param_groups if group["kind"] == "muon")
        heads = attention_heads(gpt)
        self.shards: list[Shard] = [
            MatrixShard(layers, matrices, self.wire, gpt.compute_dtype, gather_dtype, heads) for layers in families(gpt)
        ]
        self.tables = {
            parameter: TableShard(parameter, group, self.wire, gather_dtype)
            for parameter, group in members.items()
            if group["kind"] == "adamw" and not is_tiny(parameter)
        }
        self.shards += self.tables.values()
        tiny = [(parameter, group) for parameter, group in members.items() if is_tiny(parameter)]
        self.shards += [TinyShard(tiny, self.wire, gpt.compute_dtype)] if tiny else []
        self.bucket_of = {p: bucket for shard in self.shards for bucket in shard.buckets for p in bucket.parameters}
        last_first = dict.fromkeys(self.bucket_of[p] for p in reversed(backward_order(gpt)))
        self.reducer = GradientReducer(list(reversed(last_first)), reduce_every_micro_batch, ordered, overlap)
        if self.wire.world_size > 1:
            self._wait_where_used(gpt)

    def set_schedule(self, plan: TrainingPlan, step: int) -> None:
        """Set learning rates, momentum and decay for `step` (from 0). A pure function of plan and step."""
        for group in self.param_groups:
            group["lr"] = group["base_lr"] * lr_multiplier(plan, step)
            if group["kind"] == "muon":
                group["momentum"] = muon_momentum(plan, step)
                group["weight_decay"] = group["base_decay"] * decay_multiplier(plan, step)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the owned weights from the owned gradients and start to gather the others'.

        Unless a `reducer` that was begun has flushed already, this is where gradients are summed: `loss.backward();
        optimizer.step()` is enough for one micro-batch.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.finish_gradients()
        self.wait_for_weights()
        self.step_count += 1
        # In the order in which the next forward needs them, so that what is needed first is on its way first.
        for shard in sorted(self.shards, key=self._first_use):
            shard.update(self.step_count)
            for bucket in reversed(shard.buckets):
                bucket.gather()
        return loss

    def finish_gradients(self) -> None:
        """Return when the owned gradients hold the sums over all ranks."""
        if not any(bucket.reductions for bucket in self.reducer.buckets):
            self.reducer.begin(last=True)
        self.reducer.flush()
        self.reducer.finish()

    def wait_for_weights(self) -> None:
        """Return when all weights are whole: before they are read other than by the model's forward."""
        for bucket in self.reducer.buckets:
            bucket.wait()

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Drop the gradients, or fill their buffers with zeros, and put back any that was taken from its parameter."""
        for bucket in self.reducer.buckets:
            bucket.clear()

    @torch.no_grad()
    def owned_square(self) -> torch.Tensor:
        """This rank's share of the squared Euclidean norm of all gradients, an fp64 scalar: the sum over the ranks is
        the whole. Replicated gradients count on rank 0.

        Norms of whole matrices and rows in fp32, which do not depend on the number of ranks, summed in fp64."""
        parts = [
            torch.linalg.vector_norm(gradient, dim=-1).double().square().sum()
            for shard in self.shards
            for gradient in shard.gradients()
            if not isinstance(shard, TinyShard) or self.wire.rank == 0
        ]
        return torch.stack(parts).sum()

    @torch.no_grad()
    def scale_gradients(self, factor: torch.Tensor) -> None:
        """Multiply all gradients; each rank its own."""
        for bucket in self.reducer.buckets:
            bucket.owned_gradient.mul_(factor)

    def named_pieces(self, gpt: GPT) -> tuple[dict[str, Piece], dict[str, Piece]]:
        """(weights under parameter names, optimizer state under `<parameter name>.<state name>`): what this rank holds
        of them, live, to be saved or loaded into. Weights are those of the owners, fp32."""
        names = {parameter: name for name, parameter in gpt.named_parameters()}
        weights: dict[str, Piece] = {}
        state: dict[str, Piece] = {}
        for shard in self.shards:
            for parameter, pieces in shard.pieces():
                weights[names[parameter]] = pieces.pop("weight")
                state |= {f"{names[parameter]}.{name}": piece for name, piece in pieces.items()}
        return weights, state

    def held_bytes(self) -> dict[str, int]:
        """Bytes of gradients and optimizer state on this rank now, and the most gradients at once so far."""
        state = [tensor for shard in self.shards for tensor in shard.state()]
        gradients = self.reducer.gradient_bytes()
        return {
            "gradients": gradients,
            "optimizer_state": storage_bytes(state),
            "peak_gradients": max(gradients, self.reducer.peak_bytes),
        }

    def _first_use(self, shard: Shard) -> int:
        """Sort key: embeddings, the small ones, the blocks' matrices, the head."""
        order = ("embedding", "value_embeds", "scalars", "matrices", "head")
        if isinstance(shard, TinyShard):
            return order.index("scalars")
        return order.index(shard.group["name"]) if isinstance(shard, MatrixShard | TableShard) else len(order)

    def _wait_where_used(self, gpt: GPT) -> None:
        """Have each module wait for its weights just before it runs."""

        def wait(buckets: Iterable[Bucket]) -> Any:
            found = list(dict.fromkeys(buckets))

            def hook(*_: Any) -> None:
                for bucket in found:
                    bucket.wait()

            return hook

        of_blocks = set()
        for layer, block in enumerate(gpt.blocks):
            used = list(block.parameters())
            if str(layer) in gpt.value_embeds:
                used += gpt.value_embeds[str(layer)].parameters()
            of_blocks |= set(used)
            block.register_forward_pre_hook(wait(self.bucket_of[p] for p in used))
        # The head is used by the losses, which begin with the model's own forward.
        head = set(gpt.lm_head.parameters()) if gpt.lm_head is not None else set()
        gpt.register_forward_pre_hook(wait(self.bucket_of[p] for p in set(gpt.parameters()) - of_blocks - head))
        gpt.register_forward_hook(wait(self.bucket_of[p] for p in head))


def param_groups(gpt: GPT, plan: TrainingPlan) -> list[dict[str, Any]]:
    """The param groups of the optimizer: `plan.groups` with their parameters."""
    members = group_parameters(gpt)
    groups: list[dict[str, Any]] = []
    for name, planned in plan.groups.items():
        if parameters := members.pop(name, []):
            groups.append(
                dict(
                    params=parameters,
                    name=name,
                    kind=planned.kind,
                    base_lr=planned.lr,
                    lr=planned.lr,
                    betas=planned.betas,
                    base_decay=planned.weight_decay,
                    weight_decay=planned.weight_decay,
                    momentum=0.0,
                )  # fmt: skip
            )
    if members:
        raise ValueError(f"no learning rate planned for {sorted(members)}")
    return groups


def group_parameters(gpt: GPT) -> dict[str, list[torch.nn.Parameter]]:
    """Parameters by the group names of `TrainingPlan.groups`."""
    groups: dict[str, list[torch.nn.Parameter]] = defaultdict(list)
    for block in reversed(list(gpt.blocks)):
        for parameter in reversed(list(block.parameters())):
            groups["matrices" if parameter.dim() >= 2 else "scalars"].append(parameter)
    groups["embedding"] += gpt.wte.parameters()
    if gpt.wpe is not None:
        groups["embedding"] += gpt.wpe.parameters()
    if gpt.lm_head is not None:
        groups["head"] += gpt.lm_head.parameters()
    groups["value_embeds"] += list(gpt.value_embeds.parameters())
    groups["scalars"] += list(gpt.final_norm.parameters())
    if gpt.config.extras:
        groups["residual"].append(gpt.residual_scale)
        groups["x0"].append(gpt.x0_scale)
        groups["smear"] += [*gpt.smear_gate.parameters(), gpt.smear_scale, gpt.backout_scale]
    return {name: parameters for name, parameters in groups.items() if parameters}


def families(gpt: GPT) -> list[list[list[torch.nn.Parameter]]]:
    """The blocks' matrices that can share a buffer: those of equal size. For each family, for each layer as backward
    reaches it, that layer's parameters as backward reaches them."""
    found: dict[tuple[int, int], list[list[torch.nn.Parameter]]] = defaultdict(list)
    for block in reversed(list(gpt.blocks)):
        layer = defaultdict(list)
        for parameter in reversed(list(block.parameters())):
            if not is_tiny(parameter):
                rows, cols = parameter.shape[-2:]
                layer[rows * cols, max(rows, cols)].append(parameter)
        for size, parameters in layer.items():
            found[size].append(parameters)
    return list(found.values())


def attention_heads(gpt: GPT) -> dict[torch.nn.Parameter, int]:
    """How many heads share the rows of the matrices of queries, keys and values; Muon takes each head by itself."""
    return {block.attn.qkv: gpt.config.n_head for block in gpt.blocks if isinstance(block, Block)}


def backward_order(gpt: GPT) -> list[torch.nn.Parameter]:
    """All parameters, roughly as backward completes their gradients: head, blocks from the last to the first with their
    value embeddings, then what all layers use, then positions and tokens."""
    order = [*gpt.lm_head.parameters()] if gpt.lm_head is not None else []
    for layer, block in reversed(list(enumerate(gpt.blocks))):
        assert isinstance(block, Block)
        for parameter in reversed([p for p in block.parameters() if not is_tiny(p)]):
            if parameter is block.attn.qkv and str(layer) in gpt.value_embeds:
                order += gpt.value_embeds[str(layer)].parameters()  # looked up after this product
            order.append(parameter)
    rest = [p for p in reversed(list(gpt.parameters())) if p not in set(order)]
    return order + sorted(rest, key=lambda p: not is_tiny(p))
