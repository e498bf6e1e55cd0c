"""What the blocks do between matrix products: RMSNorm, rotary embedding and squared ReLU.

`plain_...` say what is computed, in the fewest words; autograd makes their backward, and torch.compile or a GPU's fused
kernels make them fast. On a CPU every pass over a tensor of millions of numbers costs about a hundredth of a matrix
product, and autograd's backward of these few lines makes twenty. So there the same is written as functions with their
gradients by hand: statistics and intermediate results in fp32, one rounding at the end, tile by tile (vnc/tiles.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from vnc.c import training as c_training
from vnc.cuda.heads import gpu_heads, takes_heads
from vnc.tiles import tiles

Rotary = tuple[torch.Tensor, torch.Tensor]  # cos and sin of the angles, (..., D/2), broadcastable to half of a head


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) over the last dimension (arXiv 1910.07467, without weights), in the dtype of x."""
    if x.device.type != "cpu":
        return plain_rms_norm(x)
    if c_training.runs_in_c(x):
        return c_training.RMSNorm.apply(x)  # type: ignore[no-untyped-call,no-any-return]
    return _RMSNorm.apply(x)  # type: ignore[no-untyped-call,no-any-return]


def squared_relu(x: torch.Tensor) -> torch.Tensor:
    """max(x, 0)^2 (arXiv 2109.08668)."""
    if x.device.type != "cpu":
        return plain_squared_relu(x)
    if c_training.runs_in_c(x):
        return c_training.SquaredReLU.apply(x)  # type: ignore[no-untyped-call,no-any-return]
    return _SquaredReLU.apply(x)  # type: ignore[no-untyped-call,no-any-return]


def split_heads(
    qkv: torch.Tensor, rotary: Rotary | None, normalize: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The product for queries, keys and values (B, T, 3, H, D) -> queries and keys as `heads` makes them, (B, H, T, D),
    and values (B, T, H, D), which are a view of it."""
    if rotary is not None and takes_heads(qkv, rotary[0], normalize):
        q, k, v = gpu_heads(qkv, *rotary)
        return q.transpose(1, 2), k.transpose(1, 2), v
    if c_training.runs_in_c(qkv):
        return c_training.Heads.apply(qkv, rotary, normalize)  # type: ignore[no-untyped-call,no-any-return]
    qk, v = torch.split(qkv, [2, 1], dim=2)  # two slices would each make a gradient for all three
    return *heads(qk, rotary, normalize), v[:, :, 0]


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
        width, flat = x.size(-1), x.reshape(-1, x.size(-1))
        y, scale = torch.empty_like(flat), torch.empty((len(flat), 1), dtype=_wide_dtype(x))
        for tile in tiles(len(flat), 4 * width):
            wide = _wide_copy(flat[tile])
            scale[tile] = inverse = _inverse_rms(wide)
            y[tile] = wide.mul_(inverse)
        ctx.save_for_backward(y, scale)
        return y.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        y, scale = ctx.saved_tensors
        gradient, result = gradients[0].reshape(y.shape), torch.empty_like(y)
        for tile in tiles(len(y), 4 * y.size(-1)):
            result[tile] = _rms_norm_backward(_wide_copy(gradient[tile]), _wide_copy(y[tile]), scale[tile])
        return result.view(gradients[0].shape)


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive.square()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (positive,) = ctx.saved_tensors  # 0 wherever the gradient is 0
        return torch.addcmul(positive.new_zeros(()), gradients[0], positive, value=2)  # one pass, not two


class _Heads(torch.autograd.Function):
    """Works on tiles of (2, B, H, T, D): queries and keys, in the order in which attention reads them."""

    @staticmethod
    def forward(
        ctx: Any, qk: torch.Tensor, cos: torch.Tensor | None, sin: torch.Tensor | None, normalize: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        B, T, _, H, D = qk.shape
        y = torch.empty((2, B, H, T, D), dtype=qk.dtype)
        scale = torch.empty((2, B, H, T, 1), dtype=_wide_dtype(qk)) if normalize else None
        turn = _turning(qk, cos, sin)
        for rows, times in _rectangles(B, T, 4 * 2 * H * D):
            wide = _wide_copy(qk[rows, times].permute(2, 0, 3, 1, 4))
            if turn is not None:
                wide = _turn_(wide, *(table[_of(rows, table), :, times] for table in turn))
            if scale is not None:
                scale[:, rows, :, times] = inverse = _inverse_rms(wide)
                wide.mul_(inverse)
            y[:, rows, :, times] = wide
        ctx.save_for_backward(y, cos, sin, scale)
        q, k = y.unbind(0)
        return q, k

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        y, cos, sin, scale = ctx.saved_tensors
        _, B, H, T, D = y.shape
        result = torch.empty((B, T, 2, H, D), dtype=y.dtype)
        turn = _turning(y, cos, None if sin is None else -sin)
        for rows, times in _rectangles(B, T, 4 * 2 * H * D):
            part = y[:, rows, :, times]
            wide = torch.empty(part.shape, dtype=_wide_dtype(y))
            for mine, theirs in zip(wide, gradients, strict=True):
                mine.copy_(theirs[rows, :, times])
            if scale is not None:
                wide = _rms_norm_backward(wide, _wide_copy(part), scale[:, rows, :, times])
            if turn is not None:
                wide = _turn_(wide, *(table[_of(rows, table), :, times] for table in turn))
            result[rows, times].copy_(wide.permute(1, 3, 0, 2, 4))
        return result, None, None, None


def _rectangles(rows: int, times: int, bytes_each: int) -> Iterator[tuple[slice, slice]]:
    """Tiles of (rows, times): whole rows where they fit."""
    for some_rows in tiles(rows, times * bytes_each):
        for some_times in tiles(times, (some_rows.stop - some_rows.start) * bytes_each):
            yield some_rows, some_times


def _of(rows: slice, table: torch.Tensor) -> slice:
    """The rows of a table of angles, which may be one for all."""
    return rows if len(table) > 1 else slice(None)


def _wide_dtype(x: torch.Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _wide_copy(x: torch.Tensor) -> torch.Tensor:
    """x in fp32 at least, in contiguous memory of its own."""
    return torch.empty(x.shape, dtype=_wide_dtype(x)).copy_(x)


def _inverse_rms(x: torch.Tensor) -> torch.Tensor:
    """1 / sqrt(mean(x^2) + eps), (..., 1), with the eps that torch's rms_norm takes by default."""
    lengths: torch.Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return lengths.square_().div_(x.size(-1)).add_(torch.finfo(x.dtype).eps).rsqrt_()


def _rms_norm_backward(gradient: torch.Tensor, y: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """scale * (gradient - y * mean(gradient * y)): what is along y has no effect, since y's length is fixed."""
    along = (gradient * y).mean(dim=-1, keepdim=True)
    return torch.addcmul(gradient, y, along, value=-1).mul_(scale)


def _turning(
    x: torch.Tensor, cos: torch.Tensor | None, sin: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(cos, cos) and (-sin, sin), (B or 1, 1, T, D) each, in fp32 at least: what `_turn_` multiplies by."""
    if cos is None or sin is None:
        return None
    cos, sin = (table[..., 0, 0, :].unsqueeze(-3).to(_wide_dtype(x)) for table in (cos, sin))
    cos, sin = (table if table.dim() == 4 else table[None] for table in (cos, sin))
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def _turn_(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """`rotate` in place for x (2, B, H, T, D), as x * (cos, cos) + (right, left) * (-sin, sin): long runs of memory are
    multiplied at a time, not half heads."""
    left, right = x.chunk(2, dim=-1)
    swapped = torch.cat((right, left), dim=-1)
    return x.mul_(cos).addcmul_(swapped, sin)
