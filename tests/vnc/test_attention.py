"""Every route of attention against the plain masked one, in value and gradient."""

import math

import pytest
import torch

from vnc.attention import BlockCausalAttention, attention, masked_attention, visible
from vnc.cuda.attention import has_kernel, windowed_flex_attention

pytestmark = pytest.mark.usefixtures("route")


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


@pytest.mark.parametrize("window", [1, 5, 40, 64, 100, 300])
@pytest.mark.parametrize("time, head_dim", [(1, 16), (7, 72), (64, 64), (65, 16), (129, 128), (300, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_each_dtype_as_near_to_the_exact_result_as_plain_blocks(time, head_dim, window, dtype):
    """Values, and the gradient of the result, lie as the model has them: positions before heads."""
    generator = torch.Generator().manual_seed(time * window)
    q, k, v, gradient = (torch.randn(2, time, 3, head_dim, generator=generator).to(dtype) for _ in range(4))
    inputs = [q.transpose(1, 2).contiguous(), k.transpose(1, 2).contiguous(), v.transpose(1, 2)]

    def results(function, wide):
        own = [x.to(wide).requires_grad_() for x in inputs]
        found = function(*own)
        return found, *torch.autograd.grad(found, own, gradient.transpose(1, 2).to(wide))

    scale = head_dim**-0.5
    exact = results(lambda *x: masked_attention(*x, window, scale), torch.float64)
    theirs = results(lambda *x: BlockCausalAttention.apply(*x, min(window, time), scale), dtype)
    for mine, other, truth in zip(results(lambda *x: attention(*x, window, scale), dtype), theirs, exact, strict=True):
        off, allowed = ((found.double() - truth).square().mean().sqrt() for found in (mine, other))
        assert mine.dtype == dtype and off <= 1.25 * allowed + 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_c_not_one_bit_depends_on_the_number_of_threads(dtype, route):
    if route == "torch":
        pytest.skip("fp32 products of torch do depend on it")
    inputs, before, found = qkv(150, dtype=dtype), torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        result = attention(*inputs, 70, 0.25)
        found.append((result, *torch.autograd.grad(result.float().square().sum(), inputs)))
    torch.set_num_threads(before)
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


def test_what_is_not_a_number_is_seen_by_later_queries_alone(route):
    q, k, v = (x.detach().float() for x in qkv(100))
    k[0, 1, 40] = torch.nan
    seen = attention(q, k, v, 30, 0.25).isnan().any(-1)
    assert seen[0, 1, 40:70].all() and not seen[1].any() and not seen[0, ::2].any()
    assert route == "torch" or seen.sum() == 30  # in blocks of queries all of a block see it
