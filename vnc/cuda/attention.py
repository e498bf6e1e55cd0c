"""Attention on CUDA. Scores never reach the card's memory: a kernel makes them tile by tile and skips what lies outside
the window.

- 16-bit numbers: torch's FlashAttention (arXiv 2205.14135, 2307.08691), which knows windows. Where FlashAttention 3 or
  4 is installed, `torch.nn.attention.activate_flash_attention_impl("FA3")` puts its kernels in the same place.
- The whole context: scaled_dot_product_attention, which chooses between FlashAttention and cuDNN's kernel.
- Windows on Hopper, where its package is installed: cuDNN's kernel as well (vnc/cuda/cudnn_attention.py).
- Windows over fp32: FlexAttention (arXiv 2412.05496).

Shapes as in vnc/attention.py: (batch, heads, time, head_dim).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from vnc.cuda.cudnn_attention import suits_kernel, takes_cudnn, windowed_cudnn_attention

FLASH_CAPABILITY = 8  # Ampere and later
FLASH_HEAD_DIM = 256  # at most


def cuda_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float) -> torch.Tensor:
    """`vnc.attention.attention` on CUDA."""
    if window >= q.size(2):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    if torch.is_grad_enabled() and takes_cudnn(q):
        return windowed_cudnn_attention(q, k, v, window, scale)
    if takes_flash(q):
        return windowed_flash_attention(q, k, v, window, scale)
    return flex_route(q, k, v, window, scale)


def has_kernel(q: torch.Tensor, window: int) -> bool:
    """Whether `cuda_attention` should have this. cuDNN and FlexAttention prepare each length anew, which pays in
    training; scores come in all lengths."""
    return window >= q.size(2) or torch.is_grad_enabled() or takes_flash(q)


def takes_flash(q: torch.Tensor) -> bool:
    """Whether FlashAttention's kernels take tensors like `q` on its device."""
    return suits_kernel(q, FLASH_HEAD_DIM, FLASH_CAPABILITY)


def windowed_flash_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float
) -> torch.Tensor:
    """The operator behind torch's fused attention: only it has the window among its arguments. It takes (batch, time,
    heads, head_dim), the order in which the products leave queries, keys and values."""
    y: torch.Tensor = torch.ops.aten._flash_attention_forward(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), None, None, q.size(2), k.size(2), 0.0, True, False,
        scale=scale, window_size_left=window - 1, window_size_right=0,
    )[0]  # fmt: skip
    return y.transpose(1, 2)


@functools.cache
def _band(time: int, window: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def inside(_b: Any, _h: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (query >= key) & (query - key < window)

    return create_block_mask(inside, B=None, H=None, Q_LEN=time, KV_LEN=time, device=str(device))


@functools.cache
def _flex(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention


def windowed_flex_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float
) -> torch.Tensor:
    """FlexAttention over a banded block mask; the kernel visits only blocks that the band touches."""
    flex = _flex(q.device.type == "cuda")  # uncompiled it is plain torch: right anywhere, fast nowhere
    return flex(q, k, v, block_mask=_band(q.size(2), window, q.device), scale=scale)  # type: ignore[no-any-return]


flex_route = windowed_flex_attention  # what `cuda_attention` calls


def leave_compiled_code() -> None:
    """Have compiled code step out at `windowed_flex_attention`, into the kernel compiled for its band. Not by a
    decorator: that imports the compiler, which takes a second, even to talk to a model."""
    global flex_route
    flex_route = torch.compiler.disable(windowed_flex_attention, recursive=False)  # type: ignore[no-untyped-call]
