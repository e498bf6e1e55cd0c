"""`vnc plan`: what a run will be and cost, printed before anyone spends money. No torch in here: it starts at once."""

from __future__ import annotations

import dataclasses
import json as json_module
from typing import Any

from vnc.depth import Preset, TrainingPlan, make_plan
from vnc.flops import MemoryEstimate, count_parameters, estimate_memory
from vnc.hardware import PEAK_BF16_FLOPS

SHOWN_GPUS = ("H100", "A100", "RTX 4090")


def plan(
    depth: int = 12,
    preset: Preset = "modern",
    vocab_size: int | None = None,
    sequence_len: int | None = None,
    aspect_ratio: int = 64,
    head_dim: int | None = None,
    window_pattern: str | None = None,
    num_steps: int | None = None,
    target_flops: float | None = None,
    param_data_ratio: float | None = None,
    total_batch_tokens: int | None = None,
    device_batch_size: int | None = None,
    devices: int = 1,
    mfu: float = 0.4,
    json: bool = False,
) -> None:
    """Print the plan of a run: sizes, parameters, FLOPs, tokens, batch, learning rates, memory and time.

    Args:
        depth: Layers; the one knob.
        preset: modern or gpt2.
        vocab_size: Number of tokens; the preset's own when null.
        sequence_len: Context in tokens; the preset's own when null.
        aspect_ratio: Width for each layer of depth.
        head_dim: Channels of one attention head; the preset's own when null.
        window_pattern: Attention spans by layer, S = quarter context and L = whole; the preset's own when null.
        num_steps: Optimizer steps; decides the horizon when given.
        target_flops: Training FLOPs; decides the horizon when num_steps is null.
        param_data_ratio: Tokens for each scaling parameter; decides the horizon when both others are null.
        total_batch_tokens: Tokens of one optimizer step; the recipe's own when null.
        device_batch_size: Rows of one micro-batch on one device; when null the largest up to 32 with which
            1 to 8 devices compute the same micro-batches.
        devices: Devices that share each step.
        mfu: Share of a GPU's peak FLOP/s that training is taken to reach, for the times.
        json: Print JSON instead of a table.
    """
    made = make_plan(
        depth, preset=preset, vocab_size=vocab_size, sequence_len=sequence_len, aspect_ratio=aspect_ratio,
        head_dim=head_dim, window_pattern=window_pattern, num_steps=num_steps, target_flops=target_flops,
        param_data_ratio=param_data_ratio, total_batch_tokens=total_batch_tokens, device_batch_size=device_batch_size,
        world_size=devices,
    )  # fmt: skip
    print(as_json(made, mfu) if json else as_table(made, mfu))


def as_dict(plan: TrainingPlan, mfu: float) -> dict[str, Any]:
    """The plan under the key names of the reference table (docs: depth), and what goes beyond it."""
    config, counts = plan.config, count_parameters(plan.config)
    parameters = dataclasses.asdict(counts)
    if not counts.wpe:
        del parameters["wpe"]
    memory = estimate_memory(config, plan.device_batch_size, plan.world_size)
    return {
        "depth": plan.depth,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        **parameters,
        "total": counts.total,
        "flops_per_token": plan.flops_per_token,
        "scaling_params": counts.scaling(config),
        "target_tokens": plan.target_tokens,
        "total_batch_tokens": plan.total_batch_tokens,
        "num_steps": plan.num_steps,
        "batch_lr_scale": plan.batch_lr_scale,
        "dmodel_lr_scale": plan.dmodel_lr_scale,
        "weight_decay": plan.weight_decay,
        "windows": list(config.windows),
        "preset": plan.preset,
        "vocab_size": config.vocab_size,
        "sequence_len": config.sequence_len,
        "train_tokens": plan.train_tokens,
        "total_flops": plan.total_flops,
        "devices": plan.world_size,
        "device_batch_size": plan.device_batch_size,
        "micro_batches": plan.micro_batches,
        "learning_rates": {name: group.lr for name, group in plan.groups.items()},
        "weight_decays": {name: group.weight_decay for name, group in plan.groups.items()},
        "memory_bytes": dataclasses.asdict(memory) | {"total": memory.total},
        "mfu": mfu,
        "hours": hours(plan, mfu),
    }


def hours(plan: TrainingPlan, mfu: float) -> dict[str, float]:
    """Hours on `plan.world_size` GPUs of each known kind at `mfu` of their bf16 peak."""
    return {name: plan.total_flops / (peak * mfu * plan.world_size) / 3600 for name, peak in PEAK_BF16_FLOPS.items()}


def as_json(plan: TrainingPlan, mfu: float) -> str:
    return json_module.dumps(as_dict(plan, mfu), indent=1)


def as_table(plan: TrainingPlan, mfu: float) -> str:
    """The plan for people: one fact a line, grouped."""
    config, counts = plan.config, count_parameters(plan.config)
    memory = estimate_memory(config, plan.device_batch_size, plan.world_size)
    kinds = {"S": "short", "L": "long"}
    pattern = ", ".join(f"{kinds[letter]} = {size:,}" for letter, size in _window_sizes(plan).items())
    lines = [
        f"depth {plan.depth} ({plan.preset} preset)",
        "",
        _row("width", f"{config.n_embd:,}", f"{config.n_head} heads of {config.head_dim}"),
        _row("context", f"{config.sequence_len:,} tokens", f"windows {config.window_pattern}: {pattern}"),
        _row("vocabulary", f"{config.vocab_size:,}", f"padded to {config.padded_vocab_size:,} rows"),
        "",
        _row("parameters", f"{counts.total:,}", f"{counts.scaling(config):,} count for scaling (matrices + head)"),
        *(_row(f"  {name}", f"{value:,}") for name, value in dataclasses.asdict(counts).items() if value),
        "",
        _row("tokens", f"{plan.train_tokens:,}",
             f"{plan.train_tokens / counts.scaling(config):.2f} for each scaling parameter"),
        _row("steps", f"{plan.num_steps:,}", f"of {plan.total_batch_tokens:,} tokens"),
        _row("micro-batches / step", f"{plan.micro_batches}", f"of {plan.device_batch_size} rows on each of "
             f"{plan.world_size} device{'s' * (plan.world_size > 1)}"),
        _row("FLOPs", f"{plan.total_flops:.3e}", f"{plan.flops_per_token:,} for each token"),
        "",
        *(_row(f"lr {name}", f"{group.lr:.6g}", f"{group.kind}, decay {group.weight_decay:.4g}")
          for name, group in plan.groups.items()),
        _row("schedule", plan.schedule,
             f"{plan.warmup_steps} steps of warm-up, ends at {100 * plan.final_lr_fraction:g}%"),
        "",
        *_memory_rows(memory),
        "",
        *(_row(f"time on {plan.world_size} x {name}", duration(hours(plan, mfu)[name]), f"at {100 * mfu:g}% MFU")
          for name in SHOWN_GPUS),
    ]  # fmt: skip
    return "\n".join(lines)


def _window_sizes(plan: TrainingPlan) -> dict[str, int]:
    """The span of each letter that occurs in the layers."""
    config = plan.config
    sizes = {"L": config.sequence_len}
    short = [window for window in config.windows if window < config.sequence_len]
    return ({"S": short[0]} if short else {}) | sizes


def _memory_rows(memory: MemoryEstimate) -> list[str]:
    parts = ", ".join(
        f"{name.replace('_', ' ')} {gigabytes(value)}" for name, value in dataclasses.asdict(memory).items()
    )
    return [_row("memory / device", gigabytes(memory.total), f"estimate: {parts}")]


def _row(name: str, value: str, note: str = "") -> str:
    return f"{name:<24}{value:>20}  {note}".rstrip()


def gigabytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def duration(hours: float) -> str:
    """90 s, 12 min, 3.4 h or 12 days, whichever reads best."""
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} s"
    if hours < 1.5:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"
