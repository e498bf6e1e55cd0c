"""The MLP with its activation in the products: its gradients, with the kernel replaced by what it computes. That the
kernel computes it, tests/vnc/cuda/test_cuda.py shows on a GPU."""

import pytest
import torch

from vnc.cuda import squared_relu
from vnc.cuda.squared_relu import squared_relu_mlp, takes_squared_relu


def multiply(a, b, h, out, backward):
    assert a.is_contiguous() and b.is_contiguous() and h.shape == out.shape == (len(a), len(b))
    product = a @ b.T
    out.copy_(product * 2 * h.sqrt() if backward else product.relu().square())


def test_gradients_are_those_of_the_plain_words(monkeypatch):
    monkeypatch.setattr(squared_relu, "_multiply", multiply)
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 7, 8), (32, 8), (8, 32)
    plain, fused = ([torch.randn(s, generator=generator).double().requires_grad_() for s in shapes] for _ in range(2))
    for mine, theirs in zip(fused, plain, strict=True):
        mine.data.copy_(theirs.data)
    x, up, down = plain
    expected, found = (x @ up.T).relu().square() @ down.T, squared_relu_mlp(*fused)
    gradient = torch.randn(expected.shape, generator=generator).double()
    for y in (expected, found):
        y.backward(gradient)
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize(
    "rows, width, capability, taken",
    [(4096, 64, (9, 0), True), (4095, 64, (9, 0), False), (4096, 60, (9, 0), False), (4096, 64, (8, 0), False)],
)
def test_what_the_kernel_is_for(monkeypatch, rows, width, capability, taken):
    monkeypatch.setattr(squared_relu, "runs_triton", lambda device: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    x, up = torch.empty(rows, width, dtype=torch.bfloat16), torch.empty(4 * width, width)
    assert takes_squared_relu(x, up) == taken
    assert not takes_squared_relu(x.float(), up)


def test_a_cpu_does_without():
    assert not takes_squared_relu(torch.empty(4096, 64, dtype=torch.bfloat16), torch.empty(256, 64))
