"""Causal attention for training and scores on a CPU, in C (vnc/c/causal_attention.c), for bf16 and fp32."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from vnc.c.library import call, library
from vnc.c.training import runs_in_c


class CSizes(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_long) for name in ("B", "H", "T", "D", "window")), ("scale", ctypes.c_float)]


class CRows(ctypes.Structure):
    """(B, H, T, D) wherever its rows of D numbers lie."""

    _fields_ = [("start", ctypes.c_void_p), *((name, ctypes.c_long) for name in ("b", "h", "t"))]

    @classmethod
    def of(cls, x: torch.Tensor) -> CRows:
        assert x.stride(3) == 1
        return cls(x.data_ptr(), *x.stride()[:3])


def takes_attention(q: torch.Tensor) -> bool:
    return runs_in_c(q) and q.size(-1) % 2 == 0 and library("causal_attention", q.dtype) is not None


class CausalAttention(torch.autograd.Function):
    """Softmax(scale * q k^T) v over the window: (B, H, T, D) each. The result's memory is (B, T, H, D)."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float) -> torch.Tensor:
        q, k, v = q.contiguous(), k.contiguous(), _with_rows(v)
        B, H, T, D = q.shape
        out, log_sums = q.new_empty((B, T, H, D)), torch.empty((B, H, T))
        sizes = CSizes(B, H, T, D, window, scale)
        call("causal_attention", q.dtype, "attention", sizes, q, k, CRows.of(v), out, log_sums)
        ctx.save_for_backward(q, k, v, out, log_sums)
        ctx.sizes = sizes
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, log_sums = ctx.saved_tensors
        gradient = _with_rows(gradient)
        of_q, of_k, of_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(out)
        given = CRows.of(gradient), q, k, CRows.of(v), out, log_sums
        call("causal_attention", q.dtype, "attention_backward", ctx.sizes, *given, of_q, of_k, of_v)
        return of_q, of_k, of_v.transpose(1, 2), None, None


def _with_rows(x: torch.Tensor) -> torch.Tensor:
    return x if x.stride(3) == 1 else x.contiguous()
