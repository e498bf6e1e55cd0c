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
    return measure_matmul(device, dtype), "measured: product of 1024 x 1024 matrices, best of 10"


def measure_matmul(device: torch.device, dtype: torch.dtype, size: int = 1024, repeats: int = 10) -> float:
    """FLOP/s of the fastest of `repeats` products of two (size, size) matrices."""
    import torch

    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 2):
        start = time.perf_counter()
        product = a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
        del product
    return 2 * size**3 / best
