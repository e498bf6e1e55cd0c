"""Causal attention, with or without a sliding window, by the fastest exact route each device offers.

Every route computes the same thing: query i sees the keys j with 0 <= i - j < window. `masked_attention` is the plain
reference with a full (time, time) mask; the others never build one:

- CUDA: fused kernels that skip what lies outside the window (vnc/cuda/attention.py).
- CPU: blocks of queries, each against just the keys it can see, as plain matrix products. On CPUs with bf16 products
  this runs 1.6 to 2.2 times as fast as the fused kernel, with a window of a quarter 2 to 3.5 times; with fp32 products
  about as fast (benchmarks/attention.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from vnc.c.attention import CausalAttention, takes_attention
from vnc.cuda.attention import cuda_attention, has_kernel
from vnc.tiles import tiles

QUERY_BLOCK = 128


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float) -> torch.Tensor:
    """Softmax(scale * q k^T) v over the window. All of q, k, v and the result are (batch, heads, time, head_dim)."""
    time = q.size(2)
    if q.device.type == "cpu" and takes_attention(q):
        return CausalAttention.apply(q, k, v, window, scale)  # type: ignore[no-untyped-call,no-any-return]
    if q.device.type == "cpu":
        return BlockCausalAttention.apply(q, k, v, min(window, time), scale)  # type: ignore[no-untyped-call,no-any-return]
    if q.device.type == "cuda" and has_kernel(q, window):
        return cuda_attention(q, k, v, window, scale)
    return masked_attention(q, k, v, window, scale)


def visible(queries: torch.Tensor, keys: torch.Tensor, window: int) -> torch.Tensor:
    """(queries, keys) booleans from two vectors of positions: may this query see that key?"""
    distance = queries[:, None] - keys[None, :]
    return (distance >= 0) & (distance < window)


def masked_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float) -> torch.Tensor:
    """The reference: every score is computed, then masked. Also the route of devices without a better one."""
    positions = torch.arange(q.size(2), device=q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible(positions, positions, window), scale=scale)


class BlockCausalAttention(torch.autograd.Function):
    """Blocks of `QUERY_BLOCK` queries against the keys from the window's start to the block's end.

    Keeps the probabilities for backward (half of time^2 for each head, less with a window) and sums the gradients of
    keys and values, to which several blocks contribute, in fp32. Some heads at a time, so that what passes from one
    product to the next stays in a cache.
    """

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float) -> torch.Tensor:
        shape, time = q.shape, q.size(2)
        q, k, v = (x.reshape(-1, time, shape[-1]) for x in (q, k, v))
        out = torch.empty_like(q)
        probabilities = []
        for some in _some_heads(q):
            for start, stop, first in _blocks(time, window):
                keys = k[some, first:stop].contiguous()  # transposing a slice takes twice as long in the product
                scores = scaled_bmm(q[some, start:stop], keys.mT, scale)
                _mask_(scores, window)
                p = torch.softmax(scores, dim=-1)
                out[some, start:stop] = torch.bmm(p, v[some, first:stop])
                probabilities.append(p)
        ctx.save_for_backward(q, k, v, *probabilities)
        ctx.shape, ctx.window, ctx.scale = shape, window, scale
        return out.view(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        q, k, v, *probabilities = ctx.saved_tensors
        gradient = gradients[0].reshape(q.shape)
        grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
        at_least_fp32 = torch.promote_types(q.dtype, torch.float32)
        p = iter(probabilities)
        for some in _some_heads(q):
            sum_k, sum_v = (torch.zeros_like(x[some], dtype=at_least_fp32) for x in (k, v))
            for start, stop, first in _blocks(q.size(1), ctx.window):
                block, grad_out = next(p), gradient[some, start:stop]
                sum_v[:, first:stop] += torch.bmm(block.mT, grad_out)
                grad_p = torch.bmm(grad_out, v[some, first:stop].contiguous().mT)
                grad_scores = torch._softmax_backward_data(grad_p, block, -1, block.dtype)
                grad_q[some, start:stop] = scaled_bmm(grad_scores, k[some, first:stop], ctx.scale)
                sum_k[:, first:stop] += scaled_bmm(grad_scores.mT, q[some, start:stop], ctx.scale)
            grad_k[some], grad_v[some] = sum_k, sum_v
        return grad_q.view(ctx.shape), grad_k.view(ctx.shape), grad_v.view(ctx.shape), None, None


def _some_heads(x: torch.Tensor) -> Iterator[slice]:
    """Tiles of the heads in (heads of all rows, time, head_dim): as many as have scores of one block in a cache."""
    return tiles(x.size(0), QUERY_BLOCK * x.size(1) * x.element_size())


def scaled_bmm(a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """scale * a b, (n, rows, cols), without a pass over the result."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale)


def _mask_(scores: torch.Tensor, window: int) -> None:
    """Set to minus infinity what a block's queries cannot see of (..., queries, keys), whose last positions are the
    same: keys to come, in the last square, and keys before the window, in the first one."""
    queries, keys = scores.shape[-2:]
    oldest = keys - queries  # keys before the first query
    future = torch.full((queries, queries), -math.inf, dtype=scores.dtype).triu_(1)
    scores[..., oldest:] += future
    if window < keys:
        scores[..., :queries] += torch.full((queries, queries), -math.inf, dtype=scores.dtype).tril_(oldest - window)


def _blocks(time: int, window: int) -> list[tuple[int, int, int]]:
    """(first query, end of queries, first key) of each block."""
    return [
        (start, min(start + QUERY_BLOCK, time), max(0, start - window + 1)) for start in range(0, time, QUERY_BLOCK)
    ]
