"""What training does between matrix products on a CPU, in C (vnc/c/training.c), for bf16 and fp32: one pass over its
tensors where torch's operations make several. vnc/elementwise.py and vnc/loss.py define what is computed, and do it
themselves where `runs_in_c` says no.

Shapes: B rows, T positions, H heads, D = head_dim.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from vnc.c.library import call, library

Rotary = tuple[torch.Tensor, torch.Tensor]


def runs_in_c(x: torch.Tensor) -> bool:
    """Whether these functions take a tensor like x: not on a GPU, in other dtypes, nor in what torch compiles."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and library("training", x.dtype) is not None


def _call(function: str, dtype: torch.dtype, *arguments: torch.Tensor | int | float | None) -> None:
    assert all(each.is_contiguous() for each in arguments if isinstance(each, torch.Tensor))
    call("training", dtype, function, *arguments)


class RMSNorm(torch.autograd.Function):
    """`elementwise.rms_norm`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        x, width = x.contiguous(), x.size(-1)
        y, scale = torch.empty_like(x), torch.empty(x.numel() // width)
        _call("rms_norm", x.dtype, x, y, scale, len(scale), width)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        y, scale = ctx.saved_tensors
        result = torch.empty_like(y)
        _call("rms_norm_backward", y.dtype, gradient.contiguous(), y, scale, result, len(scale), y.size(-1))
        return result


class SquaredReLU(torch.autograd.Function):
    """`elementwise.squared_relu`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        _call("squared_relu", x.dtype, x, y, x.numel())
        ctx.save_for_backward(x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        result = torch.empty_like(x)
        _call("squared_relu_backward", x.dtype, gradient.contiguous(), x, result, x.numel())
        return result


class Heads(torch.autograd.Function):
    """`elementwise.split_heads`: qkv (B, T, 3, H, D) -> queries and keys (B, H, T, D), values (B, T, H, D)."""

    @staticmethod
    def forward(
        ctx: Any, qkv: torch.Tensor, rotary: Rotary | None, normalize: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        qkv = qkv.contiguous()
        B, T, _, H, D = qkv.shape
        qk, scale = qkv.new_empty((2, B, H, T, D)), torch.empty((2, B, H, T)) if normalize else None
        # Angles (T, 1, 1, D/2), the same in all rows, or (B, T, 1, 1, D/2).
        tables = (None, None) if rotary is None else tuple(table.float().contiguous() for table in rotary)
        apart = 0 if tables[0] is None or tables[0].dim() == 4 else T * (D // 2)
        _call("heads", qkv.dtype, qkv, *tables, apart, qk, scale, B, T, H, D)
        ctx.save_for_backward(qk, scale, *tables)
        ctx.apart = apart
        return qk[0], qk[1], qkv[:, :, 2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        qk, scale, *tables = ctx.saved_tensors
        _, B, H, T, D = qk.shape
        result = qk.new_empty((B, T, 3, H, D))
        parts = [gradient.contiguous() for gradient in gradients]
        _call("heads_backward", qk.dtype, *parts, qk, scale, *tables, ctx.apart, result, B, T, H, D)
        return result, None, None


def cross_entropy_(
    logits: torch.Tensor, targets: torch.Tensor, softcap: float, z_loss: float, want_gradient: bool
) -> torch.Tensor:
    """The loss of each token, (tokens,) fp32, as vnc/loss.py defines it. logits: (tokens, vocabulary), overwritten with
    the gradient of the losses' sum if that is wanted; targets: (tokens,) int64, -1 where nothing counts."""
    losses = torch.empty(len(logits))
    _call("cross_entropy", logits.dtype, logits, targets.contiguous(), losses, *logits.shape, float(softcap),
          float(z_loss), int(want_gradient))  # fmt: skip
    return losses
