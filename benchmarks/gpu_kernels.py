"""Single operations of training on a GPU: attention by each route, heads, the loss, the MLP with its activation in the
products and beside them, and products in bf16 and FP8.

    PYTHONPATH=. python benchmarks/gpu_kernels.py

Medians, of attention, heads and MLP forward and backward apart, at the shapes of micro-batches of depth 12 (and 20).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from triton.testing import do_bench  # comes with torch's builds for CUDA

from vnc.cuda.attention import cuda_attention, windowed_flash_attention, windowed_flex_attention
from vnc.cuda.cudnn_attention import takes_cudnn, windowed_cudnn_attention
from vnc.cuda.heads import gpu_heads
from vnc.cuda.loss import cross_entropy_
from vnc.cuda.squared_relu import squared_relu_mlp
from vnc.elementwise import plain_squared_relu

ROWS, HEADS, TIME, HEAD_DIM = 32, 6, 2048, 128
PRODUCTS = (  # (tokens, in, out) of the blocks at depths 12 and 20
    (65_536, 768, 3_072), (65_536, 3_072, 768), (65_536, 768, 2_304), (16_384, 1_280, 5_120), (16_384, 5_120, 1_280),
)  # fmt: skip
LOGITS = 8_192, 32_768  # of one product with the head
Route = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int, float], torch.Tensor]


def median(work: Callable[[], object]) -> float:
    """Milliseconds."""
    return float(do_bench(work, warmup=50, rep=200, return_mode="median"))


def attention(name: str, route: Route, window: int) -> None:
    q, k, v = (
        torch.randn(ROWS, TIME, HEADS, HEAD_DIM, device="cuda", dtype=torch.bfloat16).transpose(1, 2).requires_grad_()
        for _ in range(3)
    )
    y = route(q, k, v, window, 0.1)
    gradient = torch.randn_like(y)
    forward = median(lambda: route(q, k, v, window, 0.1))
    backward = median(lambda: y.backward(gradient, retain_graph=True))  # type: ignore[no-untyped-call]
    print(f"window {window:5}  {name:20} forward {forward:.2f} ms  backward {backward:.2f} ms", flush=True)


def heads() -> None:
    """Queries, keys and values out of their product."""
    qkv = torch.randn(ROWS, TIME, 3, HEADS, HEAD_DIM, device="cuda", dtype=torch.bfloat16).requires_grad_()
    angle = torch.rand(TIME, 1, 1, HEAD_DIM // 2, device="cuda")
    tables = angle.cos().bfloat16(), angle.sin().bfloat16()
    results = gpu_heads(qkv, *tables)
    gradients = [torch.randn_like(result) for result in results]
    forward = median(lambda: gpu_heads(qkv, *tables))
    backward = median(lambda: torch.autograd.grad(results, qkv, gradients, retain_graph=True))
    print(f"heads: forward {forward:.3f} ms  backward {backward:.3f} ms", flush=True)


def loss() -> None:
    """From logits to losses and gradient."""
    logits = torch.randn(LOGITS, device="cuda", dtype=torch.bfloat16)
    targets = torch.randint(LOGITS[1], LOGITS[:1], device="cuda")
    ms = median(lambda: cross_entropy_(logits, targets, LOGITS[1], softcap=15.0, z_loss=0.0, shifted=False))
    print(f"loss of {LOGITS[0]} tokens of {LOGITS[1]} logits: {ms:.3f} ms", flush=True)


def mlp(tokens: int, width: int) -> None:
    """Forward and backward."""
    x, up, down = (
        (torch.randn(shape, device="cuda") * shape[-1] ** -0.5).bfloat16().requires_grad_()
        for shape in ((tokens, width), (4 * width, width), (width, 4 * width))
    )
    activation = torch.compile(plain_squared_relu)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "one kernel": lambda: squared_relu_mlp(x, up, down),
        "beside": lambda: activation(x @ up.mT) @ down.mT,
    }
    for name, way in ways.items():
        y = way()
        again = partial(torch.autograd.grad, y, (x, up, down), torch.randn_like(y), retain_graph=True)
        forward, backward = median(way), median(again)
        print(f"MLP of {tokens} x {width}, activation {name:10} forward {forward:.3f} ms  backward {backward:.3f} ms",
              flush=True)  # fmt: skip


def product(tokens: int, inner: int, outer: int) -> None:
    a = torch.randn(tokens, inner, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(outer, inner, device="cuda", dtype=torch.bfloat16)
    one, (a8, b8) = torch.ones((), device="cuda"), (x.to(torch.float8_e4m3fn) for x in (a, b))
    in_bf16 = median(lambda: a @ b.mT)
    in_fp8 = median(
        lambda: torch._scaled_mm(a8, b8.mT, one, one, out_dtype=torch.bfloat16, use_fast_accum=True)
    )  # rounding to 8 bits is not in it
    rates = [2 * tokens * inner * outer / ms / 1e9 for ms in (in_bf16, in_fp8)]
    print(f"{tokens} x {inner} x {outer}: bf16 {rates[0]:.0f}, FP8 {rates[1]:.0f} TFLOP/s", flush=True)


def main() -> None:
    print(torch.cuda.get_device_name(), torch.__version__)
    attention("torch's choice", cuda_attention, TIME)
    routes: dict[str, Route] = {"FlashAttention": windowed_flash_attention, "FlexAttention": windowed_flex_attention}
    if takes_cudnn(torch.empty(HEAD_DIM, device="cuda", dtype=torch.bfloat16)):
        routes["cuDNN"] = windowed_cudnn_attention
    for name, route in routes.items():
        attention(name, route, 512)
    heads()
    loss()
    mlp(65_536, 768)
    mlp(16_384, 1_280)
    for sizes in PRODUCTS:
        product(*sizes)


if __name__ == "__main__":
    main()
