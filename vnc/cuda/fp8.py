"""Training's matrix products in 8-bit floating point (arXiv 2209.05433), at twice the rate of bf16 on Hopper and later.

Inputs and weights are rounded to e4m3 (largest 448), gradients to e5m2 (largest 57,344), each tensor scaled so that its
own largest number just fits. Sums are fp32, results bf16; weights and the optimizer stay fp32. Finding the scale is a
pass over the tensor, which a compiler joins to its neighbours; rounding, in the layouts that the products of forward
and backward want, is another.
"""

from __future__ import annotations

from typing import Any

import torch

from vnc.cuda.triton_support import runs_triton

TILE = 128  # rows and columns that one program of the kernel rounds
SMALLEST = 128  # rows or columns: smaller matrices are not worth it
LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57_344.0}  # finite numbers of the two formats


def fp8_linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x W^T (..., out) in the dtype of x (..., in) for weight (out, in); sizes are multiples of 16."""
    y: torch.Tensor = _Fp8Linear.apply(x.flatten(0, -2), weight.to(x.dtype))  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], -1)


def suits_fp8(weight: torch.Tensor) -> bool:
    return min(weight.shape) >= SMALLEST and all(size % 16 == 0 for size in weight.shape)


def rounded(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(8-bit numbers, fp32 scalar): their product is nearly x."""
    scale = scale_of(x, dtype)
    return (x.float() / scale).clamp(-LARGEST[dtype], LARGEST[dtype]).to(dtype), scale


def rounded_both_ways(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`rounded`, and the 8-bit numbers transposed, (columns, rows): each is what one product needs. On a GPU one kernel
    makes both."""
    if runs_triton(x.device):
        scale = scale_of(x, dtype)
        return *_round_both_ways(x, scale, dtype), scale
    y, scale = rounded(x, dtype)
    return y, y.t().contiguous(), scale


def scale_of(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.abs().amax().float().clamp(min=1e-12) / LARGEST[dtype]


class _Fp8Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        x8, x8_transposed, x_scale = rounded_both_ways(x, torch.float8_e4m3fn)
        weight8, weight_scale = rounded(weight, torch.float8_e4m3fn)
        ctx.save_for_backward(x8_transposed, x_scale, weight8, weight_scale)
        ctx.dtype = x.dtype
        return _product(x8, weight8.t(), x_scale, weight_scale, ctx.dtype, fast=True)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x8_transposed, x_scale, weight8, weight_scale = ctx.saved_tensors
        gradient, gradient_transposed, scale = rounded_both_ways(gradients[0], torch.float8_e5m2)
        of_x = _product(gradient, _by_columns(weight8), scale, weight_scale, ctx.dtype)
        of_weight = _product(gradient_transposed, x8_transposed.t(), scale, x_scale, ctx.dtype)
        return of_x, of_weight


@torch.library.custom_op("vnc::round_both_ways", mutates_args=())
def _round_both_ways(x: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    from vnc.cuda.triton_kernels import round_both_ways

    rows, columns = x.shape
    y, transposed = results = _both_ways(x, dtype)
    with torch.cuda.device(x.device):
        round_both_ways[-(-rows // TILE), -(-columns // TILE)](
            x.contiguous(), scale, y, transposed, rows, columns, LARGEST[dtype], TILE, TILE, num_warps=8
        )
    return results


def _both_ways(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return x.new_empty(x.shape, dtype=dtype), x.new_empty(x.shape[::-1], dtype=dtype)


@_round_both_ways.register_fake
def _(x: Any, scale: Any, dtype: Any) -> Any:
    return _both_ways(x, dtype)


def _by_columns(matrix: torch.Tensor) -> torch.Tensor:
    """The same matrix, laid out column after column: the kernel wants the right-hand side so."""
    return matrix.t().contiguous().t()


def _product(
    a: torch.Tensor, b: torch.Tensor, a_scale: torch.Tensor, b_scale: torch.Tensor, dtype: torch.dtype,
    fast: bool = False,
) -> torch.Tensor:  # fmt: skip
    """fast: sums with fewer bits, enough for what goes forward."""
    return torch._scaled_mm(a, b, scale_a=a_scale, scale_b=b_scale, out_dtype=dtype, use_fast_accum=fast)
