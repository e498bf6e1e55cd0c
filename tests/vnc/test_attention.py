"""Every route of attention against the plain masked one, in value and gradient."""

import math

import pytest
import torch

from vnc.attention import BlockCausalAttention, attention, masked_attention, visible
from vnc.flash_attention import has_kernel, windowed_flex_attention


def qkv(time, heads=3, head_dim=16, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, heads, time, head_dim, dtype=dtype, generator=generator, requires_grad=True) for _ in range(3)
    ]


def by_definition(q, k, v, window, scale):
    """One query at a time."""
    out = torch.zeros_like(q)
    for i in range(q.size(2)):
        first = max(0, i - window + 1)
        scores = (q[:, :, i : i + 1] @ k[:, :, first : i + 1].mT) * scale
        out[:, :, i : i + 1] = torch.softmax(scores, -1) @ v[:, :, first : i + 1]
    return out


@pytest.mark.parametrize("window", [1, 5, 40, 128, 300])
@pytest.mark.parametrize("time", [1, 40, 128, 129, 300])
def test_cpu_route_and_reference_follow_the_definition(time, window):
    inputs = qkv(time)
    expected = by_definition(*inputs, window, 0.3)
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    for route in (attention, masked_attention):
        found = route(*inputs, window, 0.3)
        assert torch.allclose(found, expected, atol=1e-10)
        for mine, theirs in zip(torch.autograd.grad(found.square().sum(), inputs), wanted, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-9)


def test_gradients_by_finite_differences():
    inputs = qkv(7, heads=1, head_dim=4)
    assert torch.autograd.gradcheck(lambda q, k, v: BlockCausalAttention.apply(q, k, v, 3, 0.5), inputs)


@pytest.mark.parametrize("window", [16, 100])
def test_flex_route_equals_the_reference(window):
    # Uncompiled here: the same mask and arithmetic that CUDA compiles, run as plain torch.
    inputs = [x.detach().float() for x in qkv(256)]
    found = windowed_flex_attention(*inputs, window, 0.25)
    assert torch.allclose(found, masked_attention(*inputs, window, 0.25), atol=1e-5)


def test_bfloat16_route_is_as_close_as_bfloat16_allows():
    inputs = [x.detach().bfloat16() for x in qkv(300)]
    exact = masked_attention(*(x.double() for x in inputs), 70, 0.25)
    assert (attention(*inputs, 70, 0.25).double() - exact).abs().max() < 0.03


def test_window_of_the_context_is_plain_causal():
    q, k, v = (x.detach() for x in qkv(50))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / math.sqrt(16))
    assert torch.allclose(attention(q, k, v, 50, 1 / math.sqrt(16)), expected)


def test_visible_counts_the_query_itself():
    see = visible(torch.arange(4), torch.arange(4), 2)
    assert see.tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, True, True, False],
        [False, False, True, True],
    ]


def test_kernels_that_prepare_each_length_anew_are_for_training():
    q = torch.empty(1, 1, 64, 8)  # fp32, which FlashAttention does not take
    assert has_kernel(q, window=32) and has_kernel(q, window=64)
    with torch.no_grad():
        assert not has_kernel(q, window=32) and has_kernel(q, window=64)
