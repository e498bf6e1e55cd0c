"""MuonAdamW: which parameter is updated by which rule, and where its numbers lie.

Matrices of one shape lie together in an *arena*: one contiguous buffer (slots, rows, cols) of weights and one of
gradients. Each parameter and each `.grad` is a view of its slots, so nothing is ever stacked or copied back. Slots are
in the order in which backward reaches them (last layer first). `world_size` consecutive slots are a *bucket*, one
matrix for each rank: a rank owns the slots `rank`, `rank + world_size`, ..., a strided view, and holds optimizer state
for them alone. Everything that is not a block's matrix is updated by AdamW.

World size 1 owns every slot by the same arithmetic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

from vnc.depth import TrainingPlan
from vnc.gpt import GPT
from vnc.muon import adamw_update, muon_update, variance_shape
from vnc.schedule import decay_multiplier, lr_multiplier, muon_momentum

ADAM_EPS = 1e-10


class MatrixArena:
    """Same-shaped matrices in one buffer; `parameters` become views of it."""

    def __init__(self, parameters: list[torch.nn.Parameter], world_size: int = 1, rank: int = 0) -> None:
        """parameters: (rows, cols) or (n, rows, cols) each, in the order of their slots."""
        first = parameters[0]
        self.rows, self.cols = first.shape[-2:]
        self.parameters = parameters
        self.counts = [1 if p.dim() == 2 else p.size(0) for p in parameters]
        slots = -(-sum(self.counts) // world_size) * world_size  # the last bucket is filled up with empty slots
        shape = (slots, self.rows, self.cols)
        self.weights = torch.zeros(shape, dtype=first.dtype, device=first.device)
        self.gradients = torch.zeros_like(self.weights)
        buckets = slots // world_size
        self.owned_weights = self.weights.view(buckets, world_size, self.rows, self.cols)[:, rank]
        self.owned_gradients = self.gradients.view(buckets, world_size, self.rows, self.cols)[:, rank]
        self.momentum = torch.zeros((buckets, self.rows, self.cols), dtype=torch.float32, device=first.device)
        self.second_moment = torch.zeros(variance_shape(buckets, self.rows, self.cols), device=first.device)
        start = 0
        for parameter, count in zip(parameters, self.counts, strict=True):
            view = self.weights[start : start + count].view(parameter.shape)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = self.gradients[start : start + count].view(parameter.shape)
            start += count

    def state_views(self) -> Iterable[tuple[torch.nn.Parameter, dict[str, torch.Tensor]]]:
        """Each parameter with its optimizer state, (rows, cols)- or (n, rows, cols)-shaped views."""
        start = 0
        for parameter, count in zip(self.parameters, self.counts, strict=True):
            state = {"momentum": self.momentum, "second_moment": self.second_moment}
            leading = parameter.shape[:-2]
            yield (
                parameter,
                {
                    name: tensor[start : start + count].view(*leading, *tensor.shape[1:])
                    for name, tensor in state.items()
                },
            )
            start += count


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the blocks' matrices, AdamW for the rest; one param group for each entry of `plan.groups`.

    Gradients are buffers that live as long as the optimizer: `zero_grad` fills them with zeros, never with None.
    """

    def __init__(self, gpt: GPT, plan: TrainingPlan) -> None:
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
        super().__init__(groups, defaults={})
        self.compute_dtype = gpt.compute_dtype
        self.step_count = 0
        self.arenas: list[MatrixArena] = []
        for group in self.param_groups:
            if group["kind"] == "muon":
                by_shape: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
                for parameter in group["params"]:
                    by_shape[parameter.shape[-2:]].append(parameter)
                self.arenas += [MatrixArena(parameters) for parameters in by_shape.values()]
            else:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
                    self.state[parameter] = {
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
        for arena in self.arenas:
            self.state.update(arena.state_views())
        self._gradients = [(p, p.grad) for group in self.param_groups for p in group["params"]]

    def set_schedule(self, plan: TrainingPlan, step: int) -> None:
        """Set learning rates, momentum and decay for `step` (from 0). A pure function of plan and step."""
        for group in self.param_groups:
            group["lr"] = group["base_lr"] * lr_multiplier(plan, step)
            if group["kind"] == "muon":
                group["momentum"] = muon_momentum(plan, step)
                group["weight_decay"] = group["base_decay"] * decay_multiplier(plan, step)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every weight from its gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for parameter, gradient in self._gradients:
            if parameter.grad is not gradient:
                raise RuntimeError("a gradient has left its buffer (was it set to None?): MuonAdamW would not see it")
        self.step_count += 1
        for group in self.param_groups:
            if group["kind"] == "adamw":
                for parameter in group["params"]:
                    state = self.state[parameter]
                    adamw_update(
                        parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"], step=self.step_count,
                        lr=group["lr"], betas=group["betas"], eps=ADAM_EPS, weight_decay=group["weight_decay"],
                    )  # fmt: skip
            else:
                for arena in self.arenas:
                    muon_update(
                        arena.owned_weights, arena.owned_gradients, arena.momentum, arena.second_moment,
                        lr=group["lr"], momentum_coefficient=group["momentum"], beta2=group["betas"][1],
                        weight_decay=group["weight_decay"], compute_dtype=self.compute_dtype,
                    )  # fmt: skip
        return loss

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Fill the buffers with zeros, and put back any that was taken from its parameter."""
        for arena in self.arenas:
            arena.gradients.zero_()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        for group in self.param_groups:
            if group["kind"] == "adamw":
                for parameter in group["params"]:
                    parameter.grad.zero_()

    @torch.no_grad()
    def gradient_norm(self) -> torch.Tensor:
        """Euclidean norm of all gradients together, fp32 scalar."""
        parts = [arena.owned_gradients for arena in self.arenas]
        for group in self.param_groups:
            if group["kind"] == "adamw":
                parts += [parameter.grad for parameter in group["params"]]
        norm: torch.Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part) for part in parts]))
        return norm

    def named_state(self, gpt: GPT) -> dict[str, torch.Tensor]:
        """Optimizer state under `<parameter name>.<state name>`: live tensors, to be saved or loaded into."""
        return {
            f"{name}.{key}": tensor
            for name, parameter in gpt.named_parameters()
            for key, tensor in self.state[parameter].items()
        }


def group_parameters(gpt: GPT) -> dict[str, list[torch.nn.Parameter]]:
    """Parameters by the group names of `TrainingPlan.groups`; matrices in the order in which backward reaches them."""
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
