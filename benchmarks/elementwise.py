"""The functions between matrix products on a CPU: by autograd, with gradients by hand in torch, and in C; and the loss.

    python benchmarks/elementwise.py

Processor time of forward and backward in milliseconds, on one thread: median of 15 by turns. Shapes are those of a
micro-batch of 8 x 512 tokens at depth 4 (width 256, heads of 64); bf16 where the processor multiplies it, else fp32.
"""

import time
from collections.abc import Callable
from unittest import mock

import torch

from vnc.c import training as c_training
from vnc.elementwise import plain_heads, plain_rms_norm, plain_squared_relu, rms_norm, split_heads, squared_relu
from vnc.loss import summed_cross_entropy
from vnc.memory import keep_freed_memory
from vnc.precision import choose_compute_dtype

ROUNDS = 15
DTYPE, REASON = choose_compute_dtype("auto", "cpu")


def milliseconds(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> tuple[float, float]:
    """Of one forward and one backward."""
    start = time.process_time()
    result = function(*inputs)
    middle = time.process_time()
    result.backward(torch.ones_like(result))
    end = time.process_time()
    for x in inputs:
        x.grad = None
    return 1e3 * (middle - start), 1e3 * (end - middle)


def by_torch(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """As where there is no C compiler."""

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        with mock.patch.object(c_training, "library", lambda *page: None):
            return function(*inputs)

    return run


def numbers(*shape: int, dtype: torch.dtype = DTYPE) -> torch.Tensor:
    return torch.randn(shape).to(dtype).requires_grad_()


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    angles = torch.outer(torch.arange(512.0), 1e5 ** -torch.arange(0, 1, 1 / 32))[:, None, None]
    rotary = angles.cos().to(DTYPE), angles.sin().to(DTYPE)
    x, hidden, qkv = numbers(8, 512, 256), numbers(8, 512, 1024), numbers(8, 512, 3, 4, 64)
    three = [
        ("RMSNorm", plain_rms_norm, rms_norm, x),
        ("squared ReLU", plain_squared_relu, squared_relu, hidden),
        (
            "RoPE and QK-norm",
            lambda a: torch.stack((*plain_heads(a[:, :, :2], rotary, True), a[:, :, 2].transpose(1, 2))),
            lambda a: torch.stack([each.reshape(8, 4, 512, 64) for each in split_heads(a, rotary, True)]),
            qkv,
        ),
    ]
    cases: dict[str, tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = {}
    for name, plain, own, given in three:
        cases[f"{name}, autograd"] = plain, (given,)
        cases[f"{name}, by hand in torch"] = by_torch(own), (given,)
        cases[f"{name}, in C"] = own, (given,)
    for vocab_size in (4_096, 32_768):
        head, targets = numbers(vocab_size, 256, dtype=torch.float32), torch.randint(vocab_size, (4_096,))

        def loss(a, head, targets=targets, size=vocab_size):
            return summed_cross_entropy(a, head, targets, size, 15.0)

        for way, function in (("in torch", by_torch(loss)), ("in C", loss)):
            cases[f"loss, vocabulary {vocab_size:,}, {way}"] = function, (numbers(4_096, 256), head)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for _ in range(ROUNDS + 2):
        for name, (function, inputs) in cases.items():
            times[name].append(milliseconds(function, *inputs))
    print(REASON)
    print(f"{'':<38}{'forward':>9}{'backward':>10}  ms")
    for name, taken in times.items():
        forward, backward = (sorted(part)[ROUNDS // 2] for part in zip(*taken[2:], strict=True))
        print(f"{name:<38}{forward:9.2f}{backward:10.2f}")


if __name__ == "__main__":
    main()
