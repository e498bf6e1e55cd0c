"""Learning rate, momentum and weight decay as pure functions of (plan, step), so that a resumed run and an
uninterrupted one can never disagree. `step` counts from 0."""

from __future__ import annotations

import math

from vnc.depth import TrainingPlan

WARMDOWN_FRACTION = {"warmdown": 0.65, "midtraining": 0.5}
MOMENTUM_WARMUP_STEPS = 400
MIDTRAINING_MOMENTUM_STEPS = 300


def lr_multiplier(plan: TrainingPlan, step: int) -> float:
    """Factor on every group's learning rate: linear warm-up, then the preset's decay to `final_lr_fraction`."""
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    last = plan.final_lr_fraction
    if plan.schedule == "cosine":
        progress = min(1.0, (step - plan.warmup_steps) / max(1, plan.num_steps - plan.warmup_steps))
        return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress))
    warmdown = round(WARMDOWN_FRACTION[plan.schedule] * plan.num_steps)
    if step <= plan.num_steps - warmdown:
        return 1.0
    left = max(0, plan.num_steps - step) / warmdown
    return left + (1 - left) * last


def muon_momentum(plan: TrainingPlan, step: int) -> float:
    """0.85 -> 0.97 over the first 400 steps, and -> 0.90 while the learning rate goes down. In mid-training 0.85 ->
    0.95 over the first 300 steps."""
    if plan.schedule == "midtraining":
        return 0.85 + (0.95 - 0.85) * min(1.0, step / MIDTRAINING_MOMENTUM_STEPS)
    if step < MOMENTUM_WARMUP_STEPS:
        return 0.85 + (0.97 - 0.85) * step / MOMENTUM_WARMUP_STEPS
    warmdown = round(WARMDOWN_FRACTION["warmdown"] * plan.num_steps)
    start = plan.num_steps - warmdown
    if plan.schedule == "cosine" or step < start or warmdown == 0:
        return 0.97
    return 0.97 + (0.90 - 0.97) * min(1.0, (step - start) / warmdown)


def decay_multiplier(plan: TrainingPlan, step: int) -> float:
    """Factor on the matrices' weight decay: cosine from 1 to 0 (modern), constant (classic)."""
    if plan.schedule == "cosine":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(step, plan.num_steps) / plan.num_steps))
