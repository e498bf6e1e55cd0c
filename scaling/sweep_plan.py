"""A sweep's grid becomes its runs: every depth at every budget with every seed, each with the plan that it will train
by. Pure: what cannot work is refused here, and what will disappoint is said, before anything is spent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vnc.depth import TrainingPlan, make_plan
from vnc.errors import UserError
from vnc.flops import count_parameters

FEW_STEPS = 20
LEAST_DEPTHS = 3  # a parabola has three coefficients
OPTIMAL_RATIO = (12.0, 20.0)
"""Tokens for each parameter at a compute-optimal model, as far as one can tell beforehand: nanochat's 12 for matrices +
head (vnc/depth.py), Chinchilla's 20 (Hoffmann et al., arXiv 2203.15556)."""


@dataclass(frozen=True)
class Grid:
    depths: tuple[int, ...]
    budgets: tuple[float, ...]
    """Training FLOPs."""
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class PlannedRun:
    name: str
    depth: int
    budget: float
    seed: int
    plan: TrainingPlan

    @property
    def ratio(self) -> float:
        """Tokens for each parameter (matrices + head)."""
        return self.plan.train_tokens / count_parameters(self.plan.config).scaling(self.plan.config)


def run_name(depth: int, budget: float, seed: int) -> str:
    """Its folder's: d12_1e18_s1337."""
    return f"d{depth}_{short(budget)}_s{seed}"


def short(flops: float) -> str:
    """1e18, 2.5e12: as few digits as tell it apart."""
    mantissa, exponent = f"{flops:.15e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def check_grid(grid: Grid) -> None:
    """UserError for a grid that is empty, repeats itself or has impossible values."""
    for key, values, least in (("depths", grid.depths, 1), ("budgets", grid.budgets, 1), ("seeds", grid.seeds, 0)):
        if not values:
            raise UserError(f"{key}: give at least one")
        for value in values:
            if not least <= value < float("inf"):
                raise UserError(f"{key}: {value} must be {'0 or more' if least == 0 else 'at least 1'}")
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            shown = ", ".join(short(value) if key == "budgets" else str(value) for value in twice)
            raise UserError(f"{key}: {shown} twice; two runs would have the same name")


def plan_runs(grid: Grid, model: Mapping[str, Any], vocab_size: int, world_size: int = 1) -> tuple[PlannedRun, ...]:
    """The runs, small budgets first and small models first among them: what is cheap shows early what is wrong.

    Args:
        grid: What is swept.
        model: Arguments of `make_plan` that all runs share.
        vocab_size: Ids of the data's vocabulary.
        world_size: Processes of each run.

    Raises UserError, naming every run whose budget is less than one step.
    """
    check_grid(grid)
    runs, refused = [], []
    for budget in sorted(grid.budgets):
        for depth in sorted(grid.depths):
            try:
                plan = make_plan(**(dict(model) | dict(depth=depth, target_flops=budget, num_steps=None,
                                                       vocab_size=vocab_size, world_size=world_size)))  # fmt: skip
            except UserError as error:
                if "less than half of one step" not in str(error):
                    raise UserError(f"depth {depth} at {short(budget)} FLOPs: {error}") from None
                refused.append((f"depth {depth} at {short(budget)}", str(error)))
                continue
            runs += [PlannedRun(run_name(depth, budget, seed), depth, budget, seed, plan) for seed in grid.seeds]
    if refused:
        others = f" (so are: {', '.join(name for name, _ in refused[1:])})" if len(refused) > 1 else ""
        raise UserError(f"{refused[0][0]}: {refused[0][1]}{others}")
    return tuple(runs)


def warnings(runs: Sequence[PlannedRun]) -> list[str]:
    """What the sweep will not be able to show, or show only roughly; one line each."""
    said = []
    few = [run for run in runs if run.plan.num_steps < FEW_STEPS]
    if few:
        least = min(run.plan.num_steps for run in few)
        said.append(f"{_counted(few)} fewer than {FEW_STEPS} steps (the least: {least}): learning rates barely move, "
                    "and FLOPs are rounded to whole steps; lower model.total_batch_tokens")  # fmt: skip
    warming = [run for run in runs if run.plan.num_steps <= run.plan.warmup_steps]
    if warming:
        said.append(f"{_counted(warming)} no more steps than the warm-up's {warming[0].plan.warmup_steps}; lower "
                    "model.warmup_steps or model.total_batch_tokens")  # fmt: skip
    by_budget: dict[float, dict[int, PlannedRun]] = defaultdict(dict)
    for run in runs:
        by_budget[run.budget][run.depth] = run
    if min(map(len, by_budget.values())) < LEAST_DEPTHS:
        said.append(f"fewer than {LEAST_DEPTHS} depths: a budget's optimum cannot be found between them")
        return said
    if len(by_budget) < 2:
        said.append("one budget only: how the optimum moves with FLOPs cannot be told")
    for budget, models in sorted(by_budget.items()):
        edge = edge_of(list(models.values()))
        if edge:
            said.append(f"at {short(budget)} FLOPs {edge}")
    return said


def edge_of(models: Sequence[PlannedRun]) -> str | None:
    """At which edge of a budget's models the optimum is expected, and what to do; None when well inside.

    The smallest model should train on more tokens for each parameter than any optimum has, the largest on fewer."""
    ordered = sorted(models, key=lambda run: run.depth)
    smallest, largest = ordered[0], ordered[-1]
    low, high = OPTIMAL_RATIO
    if smallest.ratio <= high:
        return (f"the optimum ({low:g} to {high:g} tokens for each parameter) is expected near or below the smallest "
                f"model: depth {smallest.depth} trains on {smallest.ratio:.3g}; add smaller ones")  # fmt: skip
    if largest.ratio >= low:
        return (f"the optimum ({low:g} to {high:g} tokens for each parameter) is expected near or above the largest "
                f"model: depth {largest.depth} trains on {largest.ratio:.3g}; add larger ones")  # fmt: skip
    return None


def _counted(runs: Sequence[PlannedRun]) -> str:
    cells = sorted({(run.depth, run.budget) for run in runs})
    shown = ", ".join(f"depth {depth} at {short(budget)}" for depth, budget in cells[:3])
    more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
    return f"{shown}{more}: {'take' if len(cells) > 1 else 'takes'}"
