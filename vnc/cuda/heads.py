"""Queries, keys and values out of their common product, on a GPU: rotated and normalised in one pass forward and one
backward. Compiled from plain words (vnc/elementwise.py) they take two and five times the memory traffic: a compiler
does not join a concatenation of halves to a sum over both, nor the three gradients to one.

The pass keeps its results for backward, which attention keeps anyway, and one number for each head of a token.
Shapes: B rows, T positions, H heads, D = head_dim.
"""

from __future__ import annotations

from typing import Any

import torch

from vnc.cuda.triton_support import runs_triton

ROWS = 16  # heads of tokens that one program works on


def takes_heads(qkv: torch.Tensor, cos: torch.Tensor, normalize: bool) -> bool:
    """Whether `gpu_heads` takes these: 16-bit numbers on CUDA, and every row at positions 0 .. T-1."""
    half = qkv.size(-1) // 2
    return (
        normalize
        and runs_triton(qkv.device)
        and qkv.dtype in (torch.bfloat16, torch.float16)
        and (half & (half - 1)) == 0
        and cos.shape == (qkv.size(1), 1, 1, half)
    )


def gpu_heads(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """qkv: (B, T, 3, H, D). cos, sin: (T, 1, 1, D/2). Returns queries, keys and values, (B, T, H, D) each; values are a
    view of qkv."""
    return _Heads.apply(qkv, cos, sin)  # type: ignore[no-untyped-call,no-any-return]


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        q, k, q_inverse, k_inverse = _turn_and_normalize(qkv, cos, sin)
        ctx.save_for_backward(q, k, q_inverse, k_inverse, cos, sin)
        return q, k, qkv[:, :, 2]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _turn_back(*gradients, *ctx.saved_tensors), None, None


@torch.library.custom_op("vnc::turn_and_normalize", mutates_args=())
def _turn_and_normalize(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(queries, keys, and what each of their heads was multiplied by to have unit RMS (B, T, H) fp32)."""
    from vnc.cuda.triton_kernels import heads_forward

    q, k, q_inverse, k_inverse = results = _results(qkv)
    B, T, _, H, D = qkv.shape
    rows, eps = B * T * H, torch.finfo(torch.float32).eps
    with torch.cuda.device(qkv.device):
        heads_forward[(-(-rows // ROWS),)](
            qkv.contiguous(), cos.contiguous(), sin.contiguous(), q, k, q_inverse, k_inverse, rows, T, eps, H, D // 2,
            ROWS,
        )  # fmt: skip
    return results


@torch.library.custom_op("vnc::turn_back", mutates_args=())
def _turn_back(
    of_q: torch.Tensor, of_k: torch.Tensor, of_v: torch.Tensor, q: torch.Tensor, k: torch.Tensor,
    q_inverse: torch.Tensor, k_inverse: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The gradient of the product (B, T, 3, H, D) from those of its three parts."""
    from vnc.cuda.triton_kernels import heads_backward

    B, T, H, D = q.shape
    of_qkv, rows = q.new_empty((B, T, 3, H, D)), B * T * H
    with torch.cuda.device(q.device):
        heads_backward[(-(-rows // ROWS),)](
            of_q.contiguous(), of_k.contiguous(), of_v.contiguous(), q, k, q_inverse, k_inverse, cos.contiguous(),
            sin.contiguous(), of_qkv, rows, T, H, D // 2, ROWS,
        )  # fmt: skip
    return of_qkv


def _results(qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    B, T, _, H, D = qkv.shape
    q, scale = qkv.new_empty((B, T, H, D)), qkv.new_empty((B, T, H), dtype=torch.float32)
    return q, torch.empty_like(q), scale, torch.empty_like(scale)


@_turn_and_normalize.register_fake
def _(qkv: Any, cos: Any, sin: Any) -> Any:
    return _results(qkv)


@_turn_back.register_fake
def _(of_q: Any, of_k: Any, of_v: Any, q: Any, *_: Any) -> Any:
    B, T, H, D = q.shape
    return q.new_empty((B, T, 3, H, D))
