"""What a run would be and cost, from the position of a few sliders: `vnc plan` as data for the page."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from vnc.depth import Preset, TrainingPlan, make_plan
from vnc.errors import UserError
from vnc.flops import MemoryEstimate, count_parameters, estimate_memory

Budget = Literal["tokens per parameter", "FLOPs", "steps"]


@dataclass(frozen=True)
class Wish:
    """What the sliders say."""

    depth: int = 12
    preset: Preset = "modern"
    sequence_len: int = 2_048
    budget: Budget = "tokens per parameter"
    ratio: float = 12.0
    flops: float = 1e18
    steps: int = 2_000
    devices: int = 1
    device_batch_size: int | None = None
    """None: the recipe's own."""
    peak_flops: float = 989e12
    """FLOP/s of one device."""
    mfu: float = 0.4
    device_bytes: float = 80 * 2**30
    price: float = 2.5
    """Of one device for one hour, in the user's currency."""


@dataclass(frozen=True)
class Estimate:
    """What comes of it."""

    plan: TrainingPlan
    parameters: int
    scaling_parameters: int
    memory: MemoryEstimate
    """Of one device."""
    hours: float
    cost: float
    fits: bool
    """Whether the memory of one device is enough."""
    fitting_rows: int | None
    """The most rows of a micro-batch that fit, where the planned ones do not; None if not even one row fits."""

    @property
    def tokens_per_parameter(self) -> float:
        return self.plan.train_tokens / self.scaling_parameters


def estimate(wish: Wish) -> Estimate:
    """Raises UserError where the wish cannot be planned."""
    plan = make_plan(
        wish.depth,
        preset=wish.preset,
        sequence_len=wish.sequence_len,
        num_steps=wish.steps if wish.budget == "steps" else None,
        target_flops=wish.flops if wish.budget == "FLOPs" else None,
        param_data_ratio=wish.ratio if wish.budget == "tokens per parameter" else None,
        device_batch_size=wish.device_batch_size,
        world_size=wish.devices,
    )
    if not 0 < wish.mfu <= 1 or wish.peak_flops <= 0:
        raise UserError(f"mfu={wish.mfu}, peak={wish.peak_flops}: the first is a share up to 1, the second positive")
    counts = count_parameters(plan.config)
    memory = estimate_memory(plan.config, plan.device_batch_size, wish.devices)
    hours = plan.total_flops / (wish.peak_flops * wish.mfu * wish.devices) / 3600
    fits = memory.total <= wish.device_bytes
    return Estimate(
        plan=plan,
        parameters=counts.total,
        scaling_parameters=counts.scaling(plan.config),
        memory=memory,
        hours=hours,
        cost=hours * wish.devices * wish.price,
        fits=fits,
        fitting_rows=None if fits else _fitting_rows(plan, wish),
    )


def _fitting_rows(plan: TrainingPlan, wish: Wish) -> int | None:
    mine = plan.device_batch_size * plan.micro_batches
    return max(
        (rows for rows in range(1, plan.device_batch_size) if mine % rows == 0
         and estimate_memory(plan.config, rows, wish.devices).total <= wish.device_bytes),
        default=None,
    )  # fmt: skip


def over_depths(wish: Wish, depths: range) -> list[Estimate]:
    """The same wish at other depths, without those that cannot be planned."""
    found = []
    for depth in depths:
        try:
            found.append(estimate(dataclasses.replace(wish, depth=depth)))
        except UserError:  # a budget of less than one step, or of a batch that the devices cannot share
            continue
    return found


def command(wish: Wish, found: Estimate) -> str:
    """The `vnc fit` that trains this, on data of the user's choice."""
    arguments = [f"--model.preset {wish.preset}"] if wish.preset != "modern" else []
    arguments += [f"--model.depth {wish.depth}"]
    if found.plan.config.sequence_len != {"modern": 2_048, "gpt2": 1_024}[wish.preset]:
        arguments.append(f"--model.sequence_len {wish.sequence_len}")
    match wish.budget:
        case "steps":
            arguments.append(f"--model.num_steps {wish.steps}")
        case "FLOPs":
            arguments.append(f"--model.target_flops {wish.flops:g}")
        case "tokens per parameter":
            arguments.append(f"--model.param_data_ratio {wish.ratio:g}")
    rows = found.fitting_rows or wish.device_batch_size
    if rows is not None:
        arguments.append(f"--model.device_batch_size {rows}")
    if wish.devices > 1:
        arguments.append(f"--trainer.devices {wish.devices}")
    config = {"modern": "depth12", "gpt2": "gpt2_124m"}[wish.preset]
    return " ".join([f"vnc fit --config configs/{config}.yaml", *arguments])
