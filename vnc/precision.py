"""Where a model runs and in which dtype its matrix products do, decided in one place that can say why."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from vnc.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(setting: str) -> torch.device:
    """The device named by `setting`; "auto" takes a GPU if there is one. UserError for one that is not there."""
    name = setting if setting != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # unknown names, and builds or machines without that device
        raise UserError(f"device={setting}: not available here; use auto or cpu") from error


def choose_compute_dtype(setting: str, device: torch.device | str) -> tuple[torch.dtype, str]:
    """(dtype, reason) for `setting` "auto", "bfloat16" or "float32" on `device`.

    "auto" takes bfloat16 where the hardware multiplies it natively: CUDA capability 8.0 and up, CPUs with AVX512-BF16
    or AMX; float32 elsewhere.
    """
    device = torch.device(device)
    if setting in DTYPES:
        emulated = setting == "bfloat16" and device.type == "cpu" and not cpu_bf16_feature()
        beware = ", though this CPU has to emulate it: float32 is many times as fast" if emulated else ""
        return DTYPES[setting], f"{setting}, as asked{beware}"
    if setting != "auto":
        raise UserError(f"compute_dtype={setting!r}: use auto, {' or '.join(DTYPES)}")
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return torch.bfloat16, f"bfloat16: CUDA capability {major}.{minor} has bf16 tensor cores"
        return torch.float32, f"float32: CUDA capability {major}.{minor} has no bf16 tensor cores"
    if device.type == "cpu":
        feature = cpu_bf16_feature()
        if feature:
            return torch.bfloat16, f"bfloat16: this CPU has {feature}"
        return torch.float32, "float32: this CPU has no native bf16 products"
    return torch.float32, f"float32: bf16 is not tested on {device.type}"


def cpu_bf16_feature() -> str:
    """The instruction set with bf16 products that this CPU has, or an empty string."""
    if "amx_bf16" in cpu_flags():
        return "AMX-BF16"
    return "AVX512-BF16" if "avx512_bf16" in cpu_flags() else ""


@functools.cache
def cpu_flags() -> frozenset[str]:
    """What Linux says that this CPU can do, in its words; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
