"""Whether to compile, decided by arithmetic that can be said in one line: seconds to compile against seconds saved."""

from __future__ import annotations

import shutil
from typing import Literal

import torch

from vnc.depth import TrainingPlan
from vnc.gpt import GPT


def compile_in_place(gpt: GPT, plan: TrainingPlan, setting: Literal["auto", "on", "off"], device: torch.device) -> str:
    """Compile the blocks of `gpt` (not the whole model: equal blocks share their code) if `setting` or sense asks for
    it, and return what was decided and why."""
    if setting == "auto":
        wanted, reason = worth_compiling(plan, device)
    else:
        wanted, reason = setting == "on", "as asked"
    if wanted:
        for block in gpt.blocks:
            block.compile(dynamic=False)
    return f"{'on' if wanted else 'off'}: {reason}"


def worth_compiling(plan: TrainingPlan, device: torch.device) -> tuple[bool, str]:
    """Does compiling pay for itself over the planned steps?"""
    if device.type == "cuda":
        return True, "fused kernels pay for themselves within minutes on a GPU"
    if device.type != "cpu" or not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return False, f"no compiler for {device.type}"
    return False, "eager"
