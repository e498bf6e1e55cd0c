"""Attention on a CPU, forward and backward: torch's fused kernel, blocks of queries as matrix products, and our C.

    python benchmarks/attention.py

Prints the median of 15 in milliseconds for each shape, dtype and route; bf16 where the processor multiplies it.
"""

import time

import torch
import torch.nn.functional as F

from vnc.attention import BlockCausalAttention, attention
from vnc.precision import cpu_bf16_feature


def median_ms(function, repeats=15):
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * sorted(times[3:])[repeats // 2]


def routes(shape, dtype):
    """Forward and backward by torch's kernel, by blocks, in C, and the latter with a window of a quarter."""
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    gradient, scale, length = torch.randn(shape, dtype=dtype), shape[-1] ** -0.5, shape[2]
    return (
        lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(gradient),
        lambda: BlockCausalAttention.apply(q, k, v, length, scale).backward(gradient),
        lambda: attention(q, k, v, length, scale).backward(gradient),
        lambda: attention(q, k, v, length // 4, scale).backward(gradient),
    )


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'batch, heads, time, dim':<24}{'dtype':<10}{'fused':>8}{'blocks':>8}{'C':>8}{'window = time / 4':>19}")
    for shape in ((8, 4, 512, 64), (32, 4, 256, 64), (4, 8, 1024, 64), (2, 6, 2048, 128)):
        for dtype in (*([torch.bfloat16] if cpu_bf16_feature() else []), torch.float32):
            fused, blocks, in_c, window = map(median_ms, routes(shape, dtype))
            name = ", ".join(map(str, shape))
            print(
                f"{name:<24}{str(dtype).removeprefix('torch.'):<10}{fused:8.1f}{blocks:8.1f}{in_c:8.1f}{window:19.1f}"
            )


if __name__ == "__main__":
    main()
