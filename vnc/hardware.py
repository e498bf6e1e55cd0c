"""How fast a machine can multiply matrices: tabled peaks of GPUs, measured peaks of CPUs. The denominator of MFU."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Dense bf16 FLOP/s without sparsity, from the makers' data sheets; the key is part of the device's name.
PEAK_BF16_FLOPS = {
    "B200": 2.25e15,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "RTX 5090": 210e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def tabled_peak(device_name: str) -> float | None:
    """Peak bf16 FLOP/s of a GPU by its name, or None when it is not in the table."""
    return next((peak for name, peak in PEAK_BF16_FLOPS.items() if name.lower() in device_name.lower()), None)


def peak_flops(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """(FLOP/s, where the figure comes from) of one device: the data sheet's for known GPUs in bf16, else measured."""
    import torch

    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        if peak := tabled_peak(name):
            return peak, f"{name}, data sheet"
    return measure_matmul(device, dtype), "measured: the fastest product of matrices, 1024 x 1024 or less"


def measure_matmul(
    device: torch.device, dtype: torch.dtype, size: int = 1024, repeats: int = 10, limit: float = 0.2
) -> float:
    """FLOP/s of the fastest of `repeats` products of two (size, size) matrices. They end when they have taken `limit`
    seconds; where a single one would take as long, as in bf16 on a CPU that has to emulate it, smaller ones serve."""
    import torch

    best, side = 0.0, size // 8
    while True:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        began = time.perf_counter()
        for _ in range(repeats + 2):
            start = time.perf_counter()
            product = a @ b
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = max(best, 2 * side**3 / (time.perf_counter() - start))
            del product
            if time.perf_counter() - began > limit:
                return best
        if side == size:
            return best
        side = size if 2 * size**3 / best < limit else min(size, 2 * side)
