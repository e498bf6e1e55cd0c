"""Products in 8 bits: near those in 32, in both directions. The CPU's build of the kernel shows it."""

import pytest
import torch

from vnc.compiling import use_fp8
from vnc.cuda.fp8 import fp8_linear, rounded, suits_fp8
from vnc.depth import model_config
from vnc.errors import UserError
from vnc.gpt import GPT


@pytest.mark.parametrize("dtype, error", [(torch.float8_e4m3fn, 2**-4), (torch.float8_e5m2, 2**-3)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_rounding_keeps_the_format_s_bits_whatever_the_size(dtype, error, size):
    x = size * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    numbers, scale = rounded(x, dtype)
    large = x.abs() > 1e-3 * x.abs().max()
    assert ((numbers.float() * scale - x).abs() <= error * x.abs())[large].all()
    assert rounded(torch.zeros(3), dtype)[0].float().tolist() == [0, 0, 0]


def test_products_and_gradients_are_near_the_exact_ones():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 16, 64, generator=generator).bfloat16().requires_grad_()
    weight = torch.randn(32, 64, generator=generator).requires_grad_()
    other = torch.randn(2, 16, 32, generator=generator)
    y = fp8_linear(x, weight)
    (y * other).sum().backward()
    exact = x.detach().float() @ weight.detach().T
    of_x, of_weight = other @ weight.detach(), other.flatten(0, 1).T @ x.detach().float().flatten(0, 1)
    for found, expected in ((y.detach(), exact), (x.grad, of_x), (weight.grad, of_weight)):
        assert found.shape == expected.shape
        assert (found.float() - expected).norm() < 0.08 * expected.norm()  # a gradient has two bits behind the point
    assert y.dtype == torch.bfloat16 and weight.grad.dtype == torch.float32


def test_small_and_odd_matrices_are_left_alone():
    assert (
        suits_fp8(torch.empty(256, 128)) and not suits_fp8(torch.empty(6, 256)) and not suits_fp8(torch.empty(136, 129))
    )


def test_without_a_gpu_that_can_it_is_refused():
    with pytest.raises(UserError, match="model.fp8=true needs a GPU"):
        use_fp8(GPT(model_config(2)), torch.device("cpu"))
