"""The functions with gradients by hand against their plain versions and autograd."""

import pytest
import torch

from vnc.elementwise import (
    heads,
    plain_heads,
    plain_rms_norm,
    plain_squared_relu,
    rms_norm,
    rotate,
    split_heads,
    squared_relu,
)

pytestmark = pytest.mark.usefixtures("route")


ANGLES = torch.outer(torch.arange(5.0), 100.0 ** -torch.arange(0, 1, 0.25))[:, None, None]
ROTARY = ANGLES.cos().bfloat16().float(), ANGLES.sin().bfloat16().float()


def rotary(x):
    """As the model keeps them: in the compute dtype."""
    return ROTARY[0].to(x.dtype), ROTARY[1].to(x.dtype)


def own_rotary(x):
    """Row b stands b positions further on."""
    positions = (torch.arange(len(x))[:, None] + torch.arange(5)).float()
    angles = positions[..., None, None, None] * 100.0 ** -torch.arange(0, 1, 0.25)
    return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def numbers(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def value_and_gradient(function, x):
    results = function(x)
    results = results if isinstance(results, tuple) else (results,)
    loss = sum((y * numbers(*y.shape, dtype=y.dtype, seed=i + 1).detach()).sum() for i, y in enumerate(results))
    return *results, torch.autograd.grad(loss, x)[0]


CASES = {
    "rms_norm": (rms_norm, plain_rms_norm, (30, 7, 16)),
    "squared_relu": (squared_relu, plain_squared_relu, (30, 7, 16)),
    "heads": (lambda x: heads(x, rotary(x), True), lambda x: plain_heads(x, rotary(x), True), (30, 5, 2, 2, 8)),
    "heads, not normalised": (
        lambda x: heads(x, rotary(x), False),
        lambda x: plain_heads(x, rotary(x), False),
        (30, 5, 2, 2, 8),
    ),
    "heads, not turned": (lambda x: heads(x, None, True), lambda x: plain_heads(x, None, True), (30, 5, 2, 2, 8)),
    "split heads": (
        lambda x: split_heads(x, rotary(x), True),
        lambda x: (*plain_heads(x[:, :, :2], rotary(x), True), x[:, :, 2]),
        (30, 5, 3, 2, 8),
    ),
    "split heads, other positions in each row": (
        lambda x: split_heads(x, own_rotary(x), True),
        lambda x: (*plain_heads(x[:, :, :2], own_rotary(x), True), x[:, :, 2]),
        (30, 5, 3, 2, 8),
    ),
    "split heads, only turned": (
        lambda x: split_heads(x, rotary(x), False),
        lambda x: (*plain_heads(x[:, :, :2], rotary(x), False), x[:, :, 2]),
        (30, 5, 3, 2, 8),
    ),
    "split heads, neither": (
        lambda x: split_heads(x, None, False),
        lambda x: (*plain_heads(x[:, :, :2], None, False), x[:, :, 2]),
        (30, 5, 3, 2, 8),
    ),
    "heads, neither": (lambda x: heads(x, None, False), lambda x: plain_heads(x, None, False), (30, 5, 2, 2, 8)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_plain_version(name, dtype):
    function, plain, shape = CASES[name]
    x = numbers(*shape, dtype=dtype)
    before = x.detach().clone()
    for mine, theirs in zip(value_and_gradient(function, x), value_and_gradient(plain, x), strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", CASES)
def test_in_bf16_as_near_to_the_exact_result_as_the_plain_version(name):
    function, plain, shape = CASES[name]
    x = numbers(*shape, dtype=torch.bfloat16)
    exact = value_and_gradient(plain, x.detach().double().requires_grad_())
    for mine, theirs, truth in zip(value_and_gradient(function, x), value_and_gradient(plain, x), exact, strict=True):
        assert mine.dtype == torch.bfloat16
        mine_off, theirs_off = ((found.double() - truth).square().mean().sqrt() for found in (mine, theirs))
        assert mine_off <= 1.1 * theirs_off


@pytest.mark.parametrize("name", CASES)
def test_gradcheck(name):
    function, _, (_, *shape) = CASES[name]
    x = numbers(2, *shape, dtype=torch.float64)
    assert torch.autograd.gradcheck(function, (x,), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_not_one_bit_depends_on_the_number_of_threads(name, dtype):
    function, _, shape = CASES[name]
    x, before, found = numbers(*shape, dtype=dtype), torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(value_and_gradient(function, x))
    torch.set_num_threads(before)
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_a_number_is_not_hidden(name, dtype):
    function, _, shape = CASES[name]
    x = numbers(*shape, dtype=dtype)
    with torch.no_grad():
        x[3, 2] = torch.nan
    *results, _ = value_and_gradient(function, x)
    assert all(result.isnan().any() and not result.isnan().all() for result in results)


def test_norm_of_zeros_is_zeros_with_finite_gradient():
    y, gradient = value_and_gradient(rms_norm, torch.zeros(2, 8, requires_grad=True))
    assert not y.any() and gradient.isfinite().all()


def test_results_lie_as_attention_reads_them():
    q, k = heads(numbers(30, 5, 2, 2, 8), ROTARY, True)
    assert q.is_contiguous() and k.is_contiguous()


def test_rotate_keeps_lengths():
    x = numbers(30, 5, 2, 2, 8)
    exact = ANGLES.cos(), ANGLES.sin()
    assert torch.allclose(rotate(x, *exact).norm(dim=-1), x.norm(dim=-1), rtol=1e-5)
