"""The knob: one number, `depth`, sets the model and every hyperparameter of its training.

`model_config` turns depth into sizes, `make_plan` turns sizes and a budget into a `TrainingPlan`. The rules are those
of nanochat's recipe (July 2026) for the modern preset and GPT-2's for the classic one; the reference model, at which
every scale factor is 1, has depth 12. No torch in here.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from vnc.config import GPTConfig
from vnc.errors import UserError
from vnc.flops import count_parameters, flops_per_token

Preset = Literal["modern", "gpt2"]
Stage = Literal["pretraining", "midtraining"]

REFERENCE_DEPTH = 12
REFERENCE_BATCH_TOKENS = 2**19
REFERENCE_WIDTH = 768
BATCH_EXPONENT = 0.383  # optimal batch grows as tokens^0.383 (arXiv 2505.13738)
HORIZON_EXPONENT = 0.32  # optimal rates shrink as tokens^-0.32 (arXiv 2409.19913)
REFERENCE_DECAY = 0.28
DEFAULT_RATIO = 12.0  # tokens for each scaling parameter
CLASSIC_STEPS = 19_531  # 10B tokens in batches of 2^19
MAX_DEVICE_BATCH_SIZE = 32  # rows of a micro-batch when the user names no number
MIDTRAINING_LR = 0.8  # of pretraining's rates
SAME_UP_TO_PROCESSES = 8  # numbers of processes that divide this get the same micro-batches by default


@dataclass(frozen=True)
class Group:
    """Hyperparameters of one parameter group at learning-rate multiplier 1."""

    kind: Literal["muon", "adamw"]
    lr: float
    betas: tuple[float, float]
    """AdamW: (beta1, beta2). Muon: (unused: momentum has its own schedule, beta2 of the per-neuron variance)."""
    weight_decay: float


@dataclass(frozen=True)
class TrainingPlan:
    """Everything decided before the first step; written into every checkpoint and run record."""

    preset: Preset
    depth: int
    config: GPTConfig
    num_steps: int
    total_batch_tokens: int
    """Tokens of one optimizer step, over all processes."""
    device_batch_size: int
    """Rows of one micro-batch on one process."""
    micro_batches: int
    """Micro-batches of one step on one process."""
    world_size: int
    target_tokens: int
    """The horizon that the tokens-per-parameter ratio asks for; batch and weight decay follow it even when the steps
    were given explicitly or by a FLOPs budget."""
    param_data_ratio: float
    batch_lr_scale: float
    """Factor on all rates: 1 where 2^19 tokens is the batch for this horizon."""
    dmodel_lr_scale: float
    weight_decay: float
    """Initial decay of the matrices; the schedule takes it to 0."""
    groups: dict[str, Group]
    warmup_steps: int
    schedule: Literal["warmdown", "cosine", "midtraining"]
    final_lr_fraction: float

    @property
    def train_tokens(self) -> int:
        return self.num_steps * self.total_batch_tokens

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step, over all processes."""
        return self.total_batch_tokens // self.config.sequence_len

    @property
    def flops_per_token(self) -> int:
        return flops_per_token(self.config)

    @property
    def total_flops(self) -> int:
        return self.flops_per_token * self.train_tokens

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str) -> TrainingPlan:
        """The inverse of `to_dict`. `source` names the file for the error message."""
        known = {field.name for field in dataclasses.fields(cls)}
        if set(values) != known:
            raise UserError(f"{source}: not a training plan of this version of vnc (keys differ: "
                            f"{sorted(set(values) ^ known)})")  # fmt: skip
        groups = {
            name: Group(group["kind"], group["lr"], (group["betas"][0], group["betas"][1]), group["weight_decay"])
            for name, group in values["groups"].items()
        }
        config = GPTConfig.from_dict(values["config"], f"{source} (config)")
        return cls(**(values | {"config": config, "groups": groups}))


def model_config(
    depth: int,
    *,
    preset: Preset = "modern",
    vocab_size: int | None = None,
    sequence_len: int | None = None,
    aspect_ratio: int = 64,
    head_dim: int | None = None,
    window_pattern: str | None = None,
) -> GPTConfig:
    """Sizes for `depth` layers: width = depth x aspect_ratio, rounded up to whole heads.

    None takes the preset's own value: vocabulary 32,768 and 50,257, context 2,048 and 1,024, heads of 128 and 64,
    windows SSSL and L.
    """
    if depth < 1:
        raise UserError(f"depth={depth}: must be at least 1")
    if aspect_ratio < 1:
        raise UserError(f"aspect_ratio={aspect_ratio}: must be at least 1")
    modern = preset == "modern"
    head_dim = head_dim if head_dim is not None else (128 if modern else 64)
    if head_dim < 1:
        raise UserError(f"head_dim={head_dim}: must be at least 1")
    width = -(-depth * aspect_ratio // head_dim) * head_dim
    sizes: dict[str, Any] = dict(n_layer=depth, n_embd=width, n_head=width // head_dim)
    given = dict(vocab_size=vocab_size, sequence_len=sequence_len, window_pattern=window_pattern)
    sizes |= {key: value for key, value in given.items() if value is not None}
    return GPTConfig(**sizes) if modern else GPTConfig.gpt2(**sizes)


def make_plan(
    depth: int = REFERENCE_DEPTH,
    *,
    config: GPTConfig | None = None,
    preset: Preset = "modern",
    vocab_size: int | None = None,
    sequence_len: int | None = None,
    aspect_ratio: int = 64,
    head_dim: int | None = None,
    window_pattern: str | None = None,
    num_steps: int | None = None,
    target_flops: float | None = None,
    param_data_ratio: float | None = None,
    warmup_steps: int | None = None,
    total_batch_tokens: int | None = None,
    device_batch_size: int | None = None,
    lr_scale: float = 1.0,
    matrix_lr: float | None = None,
    world_size: int = 1,
    stage: Stage = "pretraining",
) -> TrainingPlan:
    """Sizes, horizon, batch and learning rates for `depth`.

    The number of steps comes from `num_steps`, else from `target_flops`, else from `param_data_ratio` tokens for
    each scaling parameter; with none of them given, the modern preset takes a ratio of 12 and the classic one
    19,531 steps. `total_batch_tokens` overrides the batch rule and nothing else of the horizon; rates follow a batch
    that is larger than the rule's, and one that is smaller only with `config` (otherwise `small_batch_lr_scale`).
    `config` is that of a model that exists already: its sizes are taken. `device_batch_size` None takes the largest
    number of rows up to 32 that divides an eighth of the batch (or a process's share of it, where 8 does not divide
    it). `lr_scale` multiplies the rates that follow the batch, `matrix_lr` sets Muon's own; either way the
    matrices' decay changes inversely, so that its product with the rate stays.

    Stage midtraining, for a model that has been pretrained, follows nanochat's recipe (July 2026): 0.8 of the rates, no
    warm-up, the second half linear to 0, no decay of the matrices, which pretraining has taken to 0 already.
    """
    sizes = dict(preset=preset, vocab_size=vocab_size, sequence_len=sequence_len, aspect_ratio=aspect_ratio,
                 head_dim=head_dim, window_pattern=window_pattern)  # fmt: skip
    from_scratch = config is None
    if config is None:
        config = model_config(depth, **sizes)  # type: ignore[arg-type]
    else:
        sizes |= dict(vocab_size=config.vocab_size, sequence_len=config.sequence_len, head_dim=config.head_dim,
                      window_pattern=config.window_pattern)  # fmt: skip
    reference = model_config(REFERENCE_DEPTH, **sizes)  # type: ignore[arg-type]
    numbers = dict(
        num_steps=num_steps,
        target_flops=target_flops,
        param_data_ratio=param_data_ratio,
        warmup_steps=warmup_steps,
        total_batch_tokens=total_batch_tokens,
        device_batch_size=device_batch_size,
        lr_scale=lr_scale,
        matrix_lr=matrix_lr,
        world_size=world_size,
    )
    for key, value in numbers.items():
        least = 0 if key == "warmup_steps" else 1e-9 if key in ("param_data_ratio", "lr_scale", "matrix_lr") else 1
        if value is not None and not least <= value < math.inf:
            raise UserError(f"{key}={value}: must be {'0 or more' if least == 0 else 'positive'}")

    if preset == "gpt2" and num_steps is None and target_flops is None and param_data_ratio is None:
        num_steps = CLASSIC_STEPS
    param_data_ratio = param_data_ratio if param_data_ratio is not None else DEFAULT_RATIO
    scaling = count_parameters(config).scaling(config)
    reference_tokens = param_data_ratio * count_parameters(reference).scaling(reference)
    target_tokens = int(param_data_ratio * scaling)

    if preset == "gpt2":
        rule_batch = REFERENCE_BATCH_TOKENS
    else:
        exact = REFERENCE_BATCH_TOKENS * (target_tokens / reference_tokens) ** BATCH_EXPONENT
        rule_batch = 2 ** round(math.log2(exact))
    batch = total_batch_tokens if total_batch_tokens is not None else rule_batch
    rows, micro_batches = split_batch(batch, config.sequence_len, device_batch_size, world_size)

    if num_steps is not None:
        steps = num_steps
    elif target_flops is not None:
        steps = round(target_flops / (flops_per_token(config) * batch))
        if steps < 1:
            one = flops_per_token(config) * batch
            raise UserError(f"target_flops={target_flops:g}: less than half of one step of {batch:,} tokens "
                            f"({one:.3g} FLOPs); raise it, or lower total_batch_tokens or depth")  # fmt: skip
    else:
        steps = target_tokens // batch
        if steps < 1:
            raise UserError(f"param_data_ratio={param_data_ratio:g}: {target_tokens:,} tokens are less than one step "
                            f"of {batch:,}; raise it, or lower total_batch_tokens")  # fmt: skip

    batch_root = batch_lr_scale = math.sqrt(batch / REFERENCE_BATCH_TOKENS)  # for AdamW and Muon alike
    if from_scratch and batch < rule_batch:
        batch_lr_scale = max(batch_root, small_batch_lr_scale(rule_batch, steps * batch / target_tokens))
    dmodel_lr_scale = (config.n_embd / REFERENCE_WIDTH) ** -0.5
    if preset == "modern":
        # Keeps batch / (lr x decay x tokens) constant (arXiv 2405.13698).
        decay = REFERENCE_DECAY * batch_root * (reference_tokens / target_tokens)
        decay *= batch_root / batch_lr_scale / lr_scale
        groups = modern_groups(batch_lr_scale * lr_scale, dmodel_lr_scale, decay)
    else:
        decay = 0.1
        groups = classic_groups(lr_scale, decay)
    if matrix_lr is not None:
        decay *= groups["matrices"].lr / matrix_lr
        groups["matrices"] = dataclasses.replace(groups["matrices"], lr=matrix_lr, weight_decay=decay)
    warmup, schedule, final = (40, "warmdown", 0.05) if preset == "modern" else (715, "cosine", 0.1)
    if stage == "midtraining":
        warmup, schedule, final, decay = 0, "midtraining", 0.0, 0.0
        groups = {name: dataclasses.replace(group, lr=group.lr * MIDTRAINING_LR) for name, group in groups.items()}
        groups["matrices"] = dataclasses.replace(groups["matrices"], weight_decay=0.0)
    return TrainingPlan(
        preset=preset,
        depth=depth,
        config=config,
        num_steps=steps,
        total_batch_tokens=batch,
        device_batch_size=rows,
        micro_batches=micro_batches,
        world_size=world_size,
        target_tokens=target_tokens,
        param_data_ratio=param_data_ratio,
        batch_lr_scale=batch_lr_scale,
        dmodel_lr_scale=dmodel_lr_scale,
        weight_decay=decay,
        groups=groups,
        warmup_steps=warmup_steps if warmup_steps is not None else warmup,
        schedule=schedule,  # type: ignore[arg-type]
        final_lr_fraction=final,
    )


def small_batch_lr_scale(rule_batch: int, share: float) -> float:
    """Factor on the rates in batches smaller than the rule's, in a run of `share` of the horizon's tokens.

    That of the rule's batch; shorter runs want larger rates (by tokens^-0.32, arXiv 2409.19913), up to the reference's.
    Measured in docs/depth.md.
    """
    return min(1.0, math.sqrt(rule_batch / REFERENCE_BATCH_TOKENS) * math.pow(max(1.0, 1 / share), HORIZON_EXPONENT))


def split_batch(
    total_batch_tokens: int, sequence_len: int, device_batch_size: int | None, world_size: int
) -> tuple[int, int]:
    """(rows of a micro-batch, micro-batches) on each of `world_size` processes for one step of `total_batch_tokens`.

    A `device_batch_size` larger than what a process reads in a step becomes that: more processes, fewer micro-batches.
    """
    rows, rest = divmod(total_batch_tokens, sequence_len)
    if rest:
        near = max(1, round(total_batch_tokens / sequence_len)) * sequence_len
        raise UserError(f"total_batch_tokens={total_batch_tokens}: not a whole number of rows of sequence_len="
                        f"{sequence_len}; {near} is")  # fmt: skip
    if rows % world_size:
        fitting = [n for n in range(1, world_size) if rows % n == 0]
        raise UserError(
            f"{world_size} processes cannot share {rows} rows a step (total_batch_tokens={total_batch_tokens} / "
            f"sequence_len={sequence_len}); process counts that can: {fitting}"
        )
    mine = rows // world_size
    divisors = [n for n in range(1, mine + 1) if mine % n == 0]
    if device_batch_size is None:
        # Where the step's rows allow, the same micro-batches on 1, 2, 4 and 8 processes: then their sums agree exactly.
        common = math.lcm(SAME_UP_TO_PROCESSES, world_size)
        share = rows // common if rows % common == 0 else mine
        device_batch_size = max(n for n in range(1, MAX_DEVICE_BATCH_SIZE + 1) if share % n == 0)
    device_batch_size = min(device_batch_size, mine)
    if mine % device_batch_size:
        raise UserError(
            f"device_batch_size={device_batch_size}: does not divide the {mine} rows that each process reads in a step "
            f"(total_batch_tokens={total_batch_tokens} / sequence_len={sequence_len} / {world_size} processes); "
            f"these do: {divisors[:12]}"
        )
    return device_batch_size, mine // device_batch_size


def modern_groups(batch_lr_scale: float, dmodel_lr_scale: float, matrix_decay: float) -> dict[str, Group]:
    """Learning rates of the modern preset; base values from nanochat's tuned depth-12 recipe (July 2026)."""
    adam = batch_lr_scale * dmodel_lr_scale
    return {
        "matrices": Group("muon", 0.02 * batch_lr_scale, (0.0, 0.9), matrix_decay),
        "head": Group("adamw", 0.008 * adam, (0.8, 0.96), 0.01),
        "embedding": Group("adamw", 0.3 * adam, (0.8, 0.995), 0.001),
        "value_embeds": Group("adamw", 0.15 * adam, (0.8, 0.995), 0.01),
        "residual": Group("adamw", 0.005 * batch_lr_scale, (0.8, 0.95), 0.05),
        "x0": Group("adamw", 0.5 * batch_lr_scale, (0.96, 0.95), 0.0),
        "smear": Group("adamw", 0.2 * batch_lr_scale, (0.8, 0.95), 0.0),
    }


def classic_groups(lr_scale: float, decay: float) -> dict[str, Group]:
    """GPT-2's single learning rate for everything AdamW holds, and Muon's own for the matrices."""
    return {
        "matrices": Group("muon", 0.02 * lr_scale, (0.0, 0.9), decay),
        "embedding": Group("adamw", 6e-4 * lr_scale, (0.9, 0.95), decay),
        "scalars": Group("adamw", 6e-4 * lr_scale, (0.9, 0.95), 0.0),
    }
