"""What makes training faster without changing the model: compiling, decided by arithmetic that can be said in one line
(seconds to compile against seconds saved), and products in 8 bits for those who ask."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from typing import Any, Literal

import torch

from vnc.c import library as c_library
from vnc.cuda.attention import leave_compiled_code
from vnc.cuda.fp8 import suits_fp8
from vnc.depth import TrainingPlan
from vnc.errors import UserError
from vnc.gpt import GPT, Attention, Linear

# Measured at depth 12 on an H200 (docs/PERFORMANCE.md).
EAGER_MFU = 0.2  # share of the peak that eager steps reach, for the estimate of a run's length
SAVED_SHARE = 0.5  # of a step's time
COMPILE_SECONDS = 35.0  # for the four kinds of blocks of a model, and what is before and after them


def compile_in_place(
    gpt: GPT, plan: TrainingPlan, setting: Literal["auto", "on", "off"], device: torch.device, peak_flops: float
) -> str:
    """Compile `gpt` if `setting` or sense asks for it, and return what was decided and why.

    Compiled piece by piece: equal blocks share their code, so that more of them take no more compiling."""
    if setting == "auto":
        wanted, reason = worth_compiling(plan, device, peak_flops)
    else:
        wanted, reason = setting == "on", "as asked"
    if wanted:
        for module, name in [*((block, "forward") for block in gpt.blocks), (gpt, "embed"), (gpt, "back_out")]:
            setattr(module, name, compiled_for_training(getattr(module, name)))  # and not its hooks
    return f"{'on' if wanted else 'off'}: {reason}"


def use_fp8(gpt: GPT, device: torch.device) -> str:
    """Have the large matrices of the blocks multiplied in 8 bits in training, and return what to say of it. UserError
    where that cannot be done."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        raise UserError("model.fp8=true needs a GPU that multiplies in 8 bits (CUDA capability 8.9 or later); "
                        "leave it out")  # fmt: skip
    if gpt.compute_dtype != torch.bfloat16:
        raise UserError(f"model.fp8=true needs model.compute_dtype=bfloat16, not {gpt.compute_dtype}")
    if gpt.config.bias:
        raise UserError("model.fp8=true: not for models with biases (model.preset=gpt2)")
    count = 0
    for module in gpt.blocks.modules():
        if isinstance(module, Attention | Linear):
            weight = module.qkv.flatten(0, 1) if isinstance(module, Attention) else module.weight
            module.fp8 = suits_fp8(weight)
            count += module.fp8
    return f"products with {count} matrices of the blocks in FP8"


def compiled_for_training(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`function`, compiled for calls that autograd records. Those have one shape; samples and scores, which come in all
    shapes and would be compiled anew for each, run as they were."""
    leave_compiled_code()
    compiled = torch.compile(function, dynamic=False)

    @functools.wraps(function)
    def either(*arguments: Any, **options: Any) -> torch.Tensor:
        return (compiled if torch.is_grad_enabled() else function)(*arguments, **options)

    return either


def worth_compiling(plan: TrainingPlan, device: torch.device, peak_flops: float) -> tuple[bool, str]:
    """(whether compiling pays for itself over the planned steps, why). `peak_flops`: of one device, per second."""
    if device.type == "cpu":
        # Compiling rounds differently. The estimate below rests on a measured speed, which depends on what else the
        # machine does, and the same command must give the same weights.
        way = (
            "in C (vnc/c)"
            if c_library.has_pages()
            else "in Python (vnc/elementwise.py); a C compiler would speed it up"
        )
        return False, f"on a CPU what is between matrix products is written by hand, {way}"
    if device.type != "cuda":
        return False, f"not tested on {device.type}"
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        return False, "no C compiler is installed"
    seconds = plan.total_flops / plan.world_size / (EAGER_MFU * peak_flops)
    saved = SAVED_SHARE * seconds
    return (
        saved > COMPILE_SECONDS,
        f"it would save about {saved:.0f} s of this run and take about {COMPILE_SECONDS:.0f} s",
    )
