"""Kernels in Triton (Tillet et al., 2019) for what training does between matrix products on a GPU, where the compiler
needs more passes over memory than there have to be. Each works on tiles of a matrix, one program for each tile;
vnc/cuda/heads.py and vnc/cuda/loss.py say what is computed, and call them.

Imported where they are called: triton comes with torch's builds for CUDA alone.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile_of_heads(cos, sin, rows, times, HEADS: tl.constexpr, HALF: tl.constexpr, ROWS: tl.constexpr):
    """A program's rows, each one head of one token: (rows, where the query of each stands in qkv, channels of half a
    head, which rows there are, cos, sin)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token, channel = row // HEADS, tl.arange(0, HALF)[None, :]
    real = row < rows
    angle = (token % times)[:, None] * HALF + channel
    c = tl.load(cos + angle, mask=real[:, None], other=0.0).to(tl.float32)
    s = tl.load(sin + angle, mask=real[:, None], other=0.0).to(tl.float32)
    start = token.to(tl.int64) * (6 * HEADS * HALF) + row % HEADS * (2 * HALF)
    return row.to(tl.int64), start, channel, real, c, s


@triton.jit
def turn_and_normalize(x, y, inverse, cos, sin, row, channel, real, eps, HALF: tl.constexpr):
    """Some rows of one head each: x and y point to these rows' first channels."""
    left = tl.load(x[:, None] + channel, mask=real[:, None], other=0.0).to(tl.float32)
    right = tl.load(x[:, None] + channel + HALF, mask=real[:, None], other=0.0).to(tl.float32)
    left, right = left * cos - right * sin, right * cos + left * sin
    scale = tl.rsqrt(tl.sum(left * left + right * right, axis=1) / (2 * HALF) + eps)
    place = y + row[:, None] * (2 * HALF) + channel
    tl.store(place, left * scale[:, None], mask=real[:, None])
    tl.store(place + HALF, right * scale[:, None], mask=real[:, None])
    tl.store(inverse + row, scale, mask=real)


@triton.jit
def heads_forward(
    qkv, cos, sin, q, k, q_inverse, k_inverse, rows, times, eps,
    HEADS: tl.constexpr, HALF: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """A row is one head of one token; qkv is (tokens, 3, HEADS, 2 HALF), q and k are (rows, 2 HALF)."""
    row, start, channel, real, c, s = tile_of_heads(cos, sin, rows, times, HEADS, HALF, ROWS)
    x = qkv + start
    turn_and_normalize(x, q, q_inverse, c, s, row, channel, real, eps, HALF)
    turn_and_normalize(x + 2 * HEADS * HALF, k, k_inverse, c, s, row, channel, real, eps, HALF)


@triton.jit
def turn_back(gradient, y, inverse, result, cos, sin, row, channel, real, HALF: tl.constexpr):
    """The gradient of `turn_and_normalize`: what is along y has no effect, since y's length is fixed."""
    place = row[:, None] * (2 * HALF) + channel
    y_left = tl.load(y + place, mask=real[:, None], other=0.0).to(tl.float32)
    y_right = tl.load(y + place + HALF, mask=real[:, None], other=0.0).to(tl.float32)
    left = tl.load(gradient + place, mask=real[:, None], other=0.0).to(tl.float32)
    right = tl.load(gradient + place + HALF, mask=real[:, None], other=0.0).to(tl.float32)
    scale = tl.load(inverse + row, mask=real, other=0.0)[:, None]
    along = tl.sum(left * y_left + right * y_right, axis=1)[:, None] / (2 * HALF)
    left, right = (left - y_left * along) * scale, (right - y_right * along) * scale
    tl.store(result[:, None] + channel, left * cos + right * sin, mask=real[:, None])
    tl.store(result[:, None] + channel + HALF, right * cos - left * sin, mask=real[:, None])


@triton.jit
def heads_backward(
    of_q, of_k, of_v, q, k, q_inverse, k_inverse, cos, sin, of_qkv,
    rows, times, HEADS: tl.constexpr, HALF: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Gradients of q, k and v, (rows, 2 HALF) each, to that of qkv, which is (tokens, 3, HEADS, 2 HALF)."""
    row, start, channel, real, c, s = tile_of_heads(cos, sin, rows, times, HEADS, HALF, ROWS)
    result = of_qkv + start
    turn_back(of_q, q, q_inverse, result, c, s, row, channel, real, HALF)
    turn_back(of_k, k, k_inverse, result + 2 * HEADS * HALF, c, s, row, channel, real, HALF)
    place = row[:, None] * (2 * HALF) + channel
    result += 4 * HEADS * HALF
    tl.store(result[:, None] + channel, tl.load(of_v + place, mask=real[:, None]), mask=real[:, None])
    tl.store(result[:, None] + channel + HALF, tl.load(of_v + place + HALF, mask=real[:, None]), mask=real[:, None])


LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def squashed(x, softcap, CAPPED: tl.constexpr, COARSE: tl.constexpr):
    """tanh(x / softcap), or x itself if it is not CAPPED. COARSE: by NVIDIA's instruction, off by 2^-11 at most."""
    if CAPPED and COARSE:
        x = tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [x * (1 / softcap)], dtype=tl.float32, is_pure=True, pack=1
        )
    elif CAPPED:
        x = 2 * tl.sigmoid(x * (2 / softcap)) - 1
    return x


@triton.jit
def slope(x, CAPPED: tl.constexpr):
    """The derivative of softcap * tanh(logit / softcap) where the tanh is x, or 1 if it is not CAPPED."""
    y = 1.0
    if CAPPED:
        y -= x * x
    return y


@triton.jit
def power_of_two(x, COARSE: tl.constexpr):
    """2^x. COARSE: nothing is done for results below 2^-126, which are 0."""
    if COARSE:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return tl.exp2(x)


@triton.jit
def cross_entropy(
    logits, targets, losses, softcap, z_loss,
    VOCAB: tl.constexpr, COLUMNS: tl.constexpr, IGNORED: tl.constexpr, CAPPED: tl.constexpr, COARSE: tl.constexpr,
    SHIFTED: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The loss of one token, whose logits are overwritten with its gradient: those of VOCAB columns, 0 in the others.
    Reads its row twice, the second time from a cache. Exponents are to the base 2, as the GPU's are."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row).to(tl.int32)  # IGNORED is no column
    logits += row * COLUMNS
    valid = target != IGNORED
    factor = LOG2_E
    if CAPPED:
        factor *= softcap
    # Read before the sums, behind which warps wait for each other: after them a faster one may have overwritten it.
    at_target = squashed(tl.load(logits + tl.where(valid, target, 0)).to(tl.float32), softcap, CAPPED, COARSE)
    shift = 0.0
    if SHIFTED:
        largest = tl.full((BLOCK,), -float("inf"), tl.float32)
        for start in range(0, VOCAB, BLOCK):
            column = start + tl.arange(0, BLOCK)
            x = tl.load(logits + column, mask=column < VOCAB, other=-float("inf")).to(tl.float32)
            largest = tl.maximum(largest, factor * squashed(x, softcap, CAPPED, COARSE))
        shift = tl.max(largest)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, VOCAB, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(logits + column, mask=column < VOCAB, other=0.0).to(tl.float32)
        power = power_of_two(factor * squashed(x, softcap, CAPPED, COARSE) - shift, COARSE)
        total += tl.where(column < VOCAB, power, 0.0)
    log_sum = tl.log2(tl.sum(total)) + shift
    natural = log_sum / LOG2_E
    tl.store(losses + row, tl.where(valid, natural - at_target * (factor / LOG2_E) + z_loss * natural * natural, 0.0))
    if not GRADIENT:
        return
    share = tl.where(valid, 1 + 2 * z_loss * natural, 0.0)
    for start in range(0, COLUMNS, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(logits + column, mask=column < VOCAB, other=0.0).to(tl.float32)
        x = squashed(x, softcap, CAPPED, COARSE)
        gradient = power_of_two(factor * x - log_sum, COARSE) * share * slope(x, CAPPED)
        tl.store(logits + column, tl.where(column < VOCAB, gradient, 0.0), mask=column < COLUMNS)
    tl.debug_barrier()  # what follows is written after the same place was
    gradient = (power_of_two(factor * at_target - log_sum, COARSE) * share - 1) * slope(at_target, CAPPED)
    tl.store(logits + target, gradient, mask=valid)


@triton.jit
def round_both_ways(
    x, scale, y, transposed, rows, columns, LARGEST: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """A tile of x (rows, columns) over its scale, in the 8 bits of y (rows, columns) and transposed (columns, rows)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    tile = tl.load(x + row[:, None] * columns + column[None, :], mask=inside, other=0.0).to(tl.float32) / tl.load(scale)
    rounded = tl.clamp(tile, -LARGEST, LARGEST).to(y.dtype.element_ty)
    tl.store(y + row[:, None] * columns + column[None, :], rounded, mask=inside)
    tl.store(transposed + column[:, None] * rows + row[None, :], tl.trans(rounded), mask=tl.trans(inside))
