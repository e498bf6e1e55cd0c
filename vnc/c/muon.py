"""What a Muon step does besides its matrix products, in C (vnc/c/muon.c), for fp32 weights on a CPU. vnc/muon.py
defines it."""

from __future__ import annotations

import ctypes

import torch

from vnc.c.library import call, library


def runs_in_c(weights: torch.Tensor, compute_dtype: torch.dtype) -> bool:
    on_cpu = weights.device.type == "cpu" and weights.dtype == torch.float32
    return on_cpu and library("muon", compute_dtype) is not None


def begin(
    gradient: torch.Tensor,
    momentum: torch.Tensor,
    coefficient: float,
    heads: int,
    safety: float,
    compute_dtype: torch.dtype,
) -> torch.Tensor:
    """Momentum in place; the blend of both, rows equilibrated, scaled so that singular values are below 1: blocks (k
    heads, rows / heads, cols) in the compute dtype. gradient, momentum: (..., rows, cols), each matrix contiguous."""
    rows, cols = gradient.shape[-2:]
    update = torch.empty(gradient.shape[:-2].numel() * heads, rows // heads, cols, dtype=compute_dtype)
    call("muon", compute_dtype, "muon_begin", _addresses(gradient), _addresses(momentum), update,
         *_sizes(gradient, heads), float(coefficient), float(safety))  # fmt: skip
    return update


def end(
    update: torch.Tensor,
    weights: torch.Tensor,
    second_moment: torch.Tensor,
    heads: int,
    lr: float,
    beta2: float,
    weight_decay: float,
) -> None:
    """Weights and second moments in place. update: blocks as `begin` makes them, orthogonalised."""
    update = update.contiguous()
    call("muon", update.dtype, "muon_end", update, _addresses(weights), _addresses(second_moment),
         *_sizes(weights, heads), float(lr), float(beta2), float(weight_decay))  # fmt: skip


def _sizes(matrices: torch.Tensor, heads: int) -> tuple[int, int, int, int]:
    *leading, rows, cols = matrices.shape
    return torch.Size(leading).numel(), rows, cols, heads


def _addresses(matrices: torch.Tensor) -> ctypes.Array[ctypes.c_void_p]:
    """Of each matrix; there may be gaps between them."""
    *leading, rows, cols = matrices.shape
    assert matrices.stride(-1) == 1 or cols == 1
    assert matrices.stride(-2) == cols or rows == 1
    first, itemsize = matrices.data_ptr(), matrices.element_size()
    places = [0]
    for size, stride in zip(leading, matrices.stride(), strict=False):
        places = [place + number * stride for place in places for number in range(size)]
    return (ctypes.c_void_p * len(places))(*(first + itemsize * place for place in places))
