"""What the blocks do between matrix products: RMSNorm, rotary embedding and squared ReLU.

`plain_...` say what is computed, in the fewest words; autograd makes their backward, and torch.compile or a GPU's fused
kernels make them fast. On a CPU every pass over a tensor of millions of numbers costs about a hundredth of a matrix
product, and autograd's backward of these few lines makes twenty. So there the same is written as functions with their
gradients by hand: statistics and intermediate results in fp32, one rounding at the end, memory reused (docs/LOG.md).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

Rotary = tuple[torch.Tensor, torch.Tensor]  # cos and sin of the angles, (..., D/2), broadcastable to half of a head


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) over the last dimension (arXiv 1910.07467, without weights), in the dtype of x."""
    if x.device.type != "cpu":
        return plain_rms_norm(x)
    return _RMSNorm.apply(x)  # type: ignore[no-untyped-call,no-any-return]


def squared_relu(x: torch.Tensor) -> torch.Tensor:
    """max(x, 0)^2 (arXiv 2109.08668)."""
    if x.device.type != "cpu":
        return plain_squared_relu(x)
    return _SquaredReLU.apply(x)  # type: ignore[no-untyped-call,no-any-return]


def heads(qk: torch.Tensor, rotary: Rotary | None, normalize: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys as attention takes them: turned by their positions, then normalised to unit RMS (QK-norm).

    qk: (B, T, 2, H, D). Both results are (B, H, T, D) in its dtype.
    """
    if qk.device.type != "cpu":
        return plain_heads(qk, rotary, normalize)
    cos, sin = rotary if rotary is not None else (None, None)
    return _Heads.apply(qk, cos, sin, normalize)  # type: ignore[no-untyped-call,no-any-return]


def plain_rms_norm(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (x.size(-1),))


def plain_squared_relu(x: torch.Tensor) -> torch.Tensor:
    return F.relu(x).square()


def plain_heads(qk: torch.Tensor, rotary: Rotary | None, normalize: bool) -> tuple[torch.Tensor, torch.Tensor]:
    if rotary is not None:
        qk = rotate(qk, *rotary)
    if normalize:
        qk = plain_rms_norm(qk)
    return qk[:, :, 0].transpose(1, 2), qk[:, :, 1].transpose(1, 2)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding (arXiv 2104.09864): turn the pairs (x[d], x[d + D/2]) by the angle of their position.

    x: (B, T, ..., D); cos, sin: broadcastable to (B, T, ..., D/2).
    """
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        wide = _wide(x)
        scale = _inverse_rms(wide)
        y = (wide * scale).to(x.dtype) if wide is x else wide.mul_(scale).to(x.dtype)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        y, scale = ctx.saved_tensors
        return _rms_norm_backward(_wide(gradients[0]), _wide(y), scale).to(y.dtype)


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive.square()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (positive,) = ctx.saved_tensors  # 0 wherever the gradient is 0
        gradient: torch.Tensor = gradients[0] * positive
        return gradient.mul_(2)


class _Heads(torch.autograd.Function):
    """Works on (2, B, H, T, D): queries and keys, in the order in which attention reads them."""

    @staticmethod
    def forward(
        ctx: Any, qk: torch.Tensor, cos: torch.Tensor | None, sin: torch.Tensor | None, normalize: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        B, T, _, H, D = qk.shape
        y = torch.empty((2, B, H, T, D), dtype=_wide_dtype(qk)).copy_(qk.permute(2, 0, 3, 1, 4))
        if cos is not None and sin is not None:
            y = _turn_(y, cos, sin)
        scale = _inverse_rms(y) if normalize else None
        if scale is not None:
            y = y.mul_(scale)
        y = y.to(qk.dtype)
        ctx.save_for_backward(y, cos, sin, scale)
        q, k = y.unbind(0)
        return q, k

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        y, cos, sin, scale = ctx.saved_tensors
        gradient = torch.empty(y.shape, dtype=_wide_dtype(y))
        for mine, theirs in zip(gradient, gradients, strict=True):
            mine.copy_(theirs)
        if scale is not None:
            gradient = _rms_norm_backward(gradient, _wide(y), scale)
        if cos is not None:
            gradient = _turn_(gradient, cos, -sin)
        _, B, H, T, D = gradient.shape
        return torch.empty((B, T, 2, H, D), dtype=y.dtype).copy_(gradient.permute(1, 3, 0, 2, 4)), None, None, None


def _wide_dtype(x: torch.Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _wide(x: torch.Tensor) -> torch.Tensor:
    """x in fp32 at least: a copy, or x itself."""
    return x.to(_wide_dtype(x))


def _inverse_rms(x: torch.Tensor) -> torch.Tensor:
    """1 / sqrt(mean(x^2) + eps), (..., 1), with the eps that torch's rms_norm takes by default."""
    lengths: torch.Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return lengths.square_().div_(x.size(-1)).add_(torch.finfo(x.dtype).eps).rsqrt_()


def _rms_norm_backward(gradient: torch.Tensor, y: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """scale * (gradient - y * mean(gradient * y)): what is along y has no effect, since y's length is fixed."""
    along = (gradient * y).mean(dim=-1, keepdim=True)
    return torch.addcmul(gradient, y, along, value=-1).mul_(scale)


def _turn_(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """`rotate` in place for x (2, B, H, T, D), as x * (cos, cos) + (right, left) * (-sin, sin): long runs of memory are
    multiplied at a time, not half heads."""
    cos, sin = (table[..., 0, 0, :].unsqueeze(-3).to(x.dtype) for table in (cos, sin))  # (B or 1, 1, T, D/2)
    left, right = x.chunk(2, dim=-1)
    swapped = torch.cat((right, left), dim=-1)
    return x.mul_(torch.cat((cos, cos), dim=-1)).addcmul_(swapped, torch.cat((-sin, sin), dim=-1))
