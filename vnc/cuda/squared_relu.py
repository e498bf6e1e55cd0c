"""An MLP with squared ReLU whose activation costs no pass over memory of its own: the kernel that multiplies also
squares what is positive before it writes, and in backward multiplies with the derivative. Otherwise each layer reads
and writes 4 widths a token four times more, a twentieth of a micro-batch at depth 12.

Only h = relu(x up^T)^2 is kept for backward: the derivative 2 relu(x up^T) is 2 sqrt(h). The gradients of weights and
of x are ordinary products.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from vnc.cuda.triton_support import runs_triton

CAPABILITY = 9  # Hopper, for whose copy engine and matrix instructions the kernel is cut
ROWS, COLUMNS, DEPTH = 128, 256, 64  # of the tiles that a program multiplies
SMALLEST = 4096  # rows: with fewer there are not enough tiles


def takes_squared_relu(x: torch.Tensor, up: torch.Tensor) -> bool:
    """Whether `squared_relu_mlp` is made for x (..., width) and up (hidden, width)."""
    return (
        x.dtype == torch.bfloat16
        and runs_triton(x.device)
        and torch.cuda.get_device_capability(x.device)[0] == CAPABILITY
        and x.numel() >= SMALLEST * x.size(-1)
        and all(size % 8 == 0 for size in up.shape)
    )


def squared_relu_mlp(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """relu(x up^T)^2 down^T in the dtype of x (..., width), for up (hidden, width) and down (width, hidden)."""
    y: torch.Tensor = _MLP.apply(x.flatten(0, -2), up.to(x.dtype), down.to(x.dtype))  # type: ignore[no-untyped-call]
    return y.view(x.shape)


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = _square_positive(x, up)
        ctx.save_for_backward(x, up, down, h)
        return h @ down.t()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, up, down, h = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_product = _square_positive_backward(gradient, down.t().contiguous(), h)
        return of_product @ up, of_product.t() @ x, gradient.t() @ h


@torch.library.custom_op("vnc::square_positive", mutates_args=())
def _square_positive(x: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """relu(x up^T)^2: (rows, hidden)."""
    h = x.new_empty((x.size(0), up.size(0)))
    _multiply(x.contiguous(), up.contiguous(), h, h, backward=False)
    return h


@torch.library.custom_op("vnc::square_positive_backward", mutates_args=())
def _square_positive_backward(gradient: torch.Tensor, down: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """(gradient down^T) 2 sqrt(h): (rows, hidden), for down (hidden, width)."""
    of_product = torch.empty_like(h)
    _multiply(gradient, down, h, of_product, backward=True)
    return of_product


@_square_positive.register_fake
def _(x: Any, up: Any) -> Any:
    return x.new_empty((x.size(0), up.size(0)))


@_square_positive_backward.register_fake
def _(gradient: Any, down: Any, h: Any) -> Any:
    return torch.empty_like(h)


@functools.cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def _multiply(a: torch.Tensor, b: torch.Tensor, h: torch.Tensor, out: torch.Tensor, backward: bool) -> None:
    """Write to out (rows, columns) what a (rows, depth) and b (columns, depth) make; all are contiguous."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    from vnc.cuda.triton_products import squared_relu_product

    (rows, depth), columns = a.shape, out.size(1)

    def tiled(matrix: torch.Tensor, *block: int) -> Any:
        return TensorDescriptor.from_tensor(matrix, list(block))

    halves = (tiled(matrix, ROWS, COLUMNS // 2) for matrix in (h, out))
    programs = _processors(a.device)
    with torch.cuda.device(a.device):
        squared_relu_product[(programs,)](
            tiled(a, ROWS, DEPTH), tiled(b, COLUMNS, DEPTH), *halves, rows, columns, depth, backward, ROWS, COLUMNS,
            DEPTH, programs, num_warps=8, num_stages=3,
        )  # fmt: skip
