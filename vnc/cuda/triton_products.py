"""A matrix product in Triton for Hopper, whose copy engine loads tiles that tensor descriptors name; with squared ReLU
in it, which is what vnc/cuda/squared_relu.py needs. Imported where it is called, like vnc/cuda/triton_kernels.py.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def write_squared_relu(product, h, out, row, column, BACKWARD: tl.constexpr):
    """A part of `squared_relu_product`'s tile, to `out`."""
    if BACKWARD:
        y = product * (2 * tl.sqrt(h.load([row, column]).to(tl.float32)))
    else:
        positive = tl.maximum(product, 0.0)
        y = positive * positive
    out.store([row, column], y.to(out.dtype))


@triton.jit
def squared_relu_product(
    a, b, h, out, rows, columns, depth,
    BACKWARD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    """out (rows, columns) = relu(a b^T)^2 for a (rows, depth) and b (columns, depth), or if BACKWARD a b^T 2 sqrt(h)
    for h like out. All are tensor descriptors. A program goes from tile to tile, PROGRAMS further each time, so
    that it loads the next one while it writes the last; eight tiles below each other share their columns of b."""
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    for tile in tl.range(tl.program_id(0), down * across, PROGRAMS, flatten=True):
        first = tile // (8 * across) * 8
        height = tl.minimum(down - first, 8)
        place = tile % (8 * across)
        row, column = (first + place % height) * ROWS, place // height * COLUMNS
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for start in range(0, depth, DEPTH):
            total = tl.dot(a.load([row, start]), b.load([column, start]).T, total)
        # In two halves: what is on its way to memory must fit beside the tiles that are being loaded.
        left, right = tl.split(tl.permute(tl.reshape(total, (ROWS, 2, COLUMNS // 2)), (0, 2, 1)))
        write_squared_relu(left, h, out, row, column, BACKWARD)
        write_squared_relu(right, h, out, row, column + COLUMNS // 2, BACKWARD)
