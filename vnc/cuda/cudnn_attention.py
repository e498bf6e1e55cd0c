"""Attention with a window by cuDNN's kernels, for Hopper and later: torch has them for the whole context alone. They
come with torch; what calls them is the package nvidia-cudnn-frontend, `pip install vnc[cudnn]`.

An operation is described as a graph once for each shape, window and memory layout, and built; after that it is called.
Here tensors are (batch, time, heads, head_dim), the order in which the products leave them.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch

from vnc.config import GPTConfig

INSTALLED = importlib.util.find_spec("cudnn") is not None
CAPABILITY = 9  # Hopper: before it FlashAttention is as fast
HEAD_DIM = 128  # at most


def advice(device: torch.device, config: GPTConfig) -> str | None:
    """What to install so that windows are faster on this GPU, if it is not there."""
    windows = any(window < config.sequence_len for window in config.windows) and config.head_dim <= HEAD_DIM
    if INSTALLED or not windows or device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < CAPABILITY:
        return None
    return "pip install 'vnc[cudnn]' would make this GPU faster in layers with a window"


def takes_cudnn(q: torch.Tensor) -> bool:
    """Whether the package is there, and tensors like `q` (..., head_dim) are what the kernels are good at."""
    return INSTALLED and suits_kernel(q, HEAD_DIM, CAPABILITY)


def suits_kernel(q: torch.Tensor, head_dim: int, capability: int) -> bool:
    """Whether a kernel for 16-bit numbers, for heads of at most `head_dim` channels in eights and for GPUs from
    `capability` on takes tensors like `q`."""
    return (
        q.dtype in (torch.bfloat16, torch.float16)
        and q.size(-1) % 8 == 0
        and q.size(-1) <= head_dim
        and torch.cuda.get_device_capability(q.device)[0] >= capability
    )


def windowed_cudnn_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float
) -> torch.Tensor:
    """As in vnc/attention.py: (batch, heads, time, head_dim)."""
    y: torch.Tensor = _attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), window, scale)[0]
    return y.transpose(1, 2)


@torch.library.custom_op("vnc::cudnn_attention", mutates_args=())
def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(result, log of each query's sum of exponentials (batch, heads, time, 1) fp32)."""
    B, T, H, _ = q.shape
    out, log_sums = q.new_empty(q.shape), q.new_empty((B, H, T, 1), dtype=torch.float32)
    _graph(False, False, window, scale, q.device, q.dtype, *_layouts(q, k, v, out, log_sums))(q, k, v, out, log_sums)
    return out, log_sums


@torch.library.custom_op("vnc::cudnn_attention_backward", mutates_args=())
def _attend_backward(
    gradient: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor,
    log_sums: torch.Tensor, window: int, scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    gradient = gradient.contiguous()
    results = tuple(x.new_empty(x.shape) for x in (q, k, v))
    tensors = (q, k, v, out, log_sums, gradient, *results)
    deterministic = torch.are_deterministic_algorithms_enabled()
    _graph(True, deterministic, window, scale, q.device, q.dtype, *_layouts(*tensors))(*tensors)
    return results  # type: ignore[return-value]


@_attend.register_fake
def _(q: Any, k: Any, v: Any, window: int, scale: float) -> Any:
    B, T, H, _D = q.shape
    return q.new_empty(q.shape), q.new_empty((B, H, T, 1), dtype=torch.float32)


@_attend_backward.register_fake
def _(gradient: Any, q: Any, k: Any, v: Any, out: Any, log_sums: Any, window: int, scale: float) -> Any:
    return tuple(x.new_empty(x.shape) for x in (q, k, v))


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    q, k, v, ctx.window, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, *output)


def _backward(ctx: Any, gradient: torch.Tensor, _of_log_sums: torch.Tensor) -> Any:
    return *_attend_backward(gradient, *ctx.saved_tensors, ctx.window, ctx.scale), None, None


_attend.register_autograd(_backward, setup_context=_keep)

Layout = tuple[tuple[int, ...], tuple[int, ...]]


def _layouts(*tensors: torch.Tensor) -> list[Layout]:
    return [(tuple(tensor.shape), tensor.stride()) for tensor in tensors]


@functools.cache
def _handle(device: torch.device) -> Any:
    import cudnn

    with torch.cuda.device(device):
        return cudnn.create_handle()


@functools.cache
def _graph(
    backward: bool,
    deterministic: bool,
    window: int,
    scale: float,
    device: torch.device,
    dtype: torch.dtype,
    *layouts: Layout,
) -> Any:
    """The built operation, a function of tensors of these layouts: q, k, v, out and sums, and in backward the gradient
    of out and those of q, k and v. It writes to those that are results."""
    import cudnn

    single = cudnn.data_type.FLOAT
    half = cudnn.data_type.BFLOAT16 if dtype == torch.bfloat16 else cudnn.data_type.HALF
    handle = _handle(device)
    graph = cudnn.pygraph(io_data_type=half, intermediate_data_type=single, compute_data_type=single, handle=handle)
    ordered = [_by_heads(layout) if place != 4 else layout for place, layout in enumerate(layouts)]  # 4: the sums
    band = dict(
        attn_scale=scale, diagonal_band_left_bound=window, diagonal_band_right_bound=0,
        diagonal_alignment=cudnn.diagonal_alignment.TOP_LEFT,
    )  # fmt: skip

    def given(place: int) -> Any:
        dim, stride = ordered[place]
        return graph.tensor(dim=dim, stride=stride, data_type=single if place == 4 else half)

    q, k, v = (given(place) for place in range(3))
    if backward:
        out, sums, gradient = (given(place) for place in range(3, 6))
        results = graph.sdpa_backward(
            q=q, k=k, v=v, o=out, dO=gradient, stats=sums, use_deterministic_algorithm=deterministic, **band
        )
        nodes = [q, k, v, out, sums, gradient, *results]
    else:
        results = graph.sdpa(q=q, k=k, v=v, generate_stats=True, **band)
        nodes = [q, k, v, *results]
    for node, place in zip(results, range(len(nodes) - len(results), len(nodes)), strict=True):
        dim, stride = ordered[place]
        node.set_output(True).set_dim(dim).set_stride(stride).set_data_type(single if place == 4 else half)
    graph.build([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    size = graph.get_workspace_size()

    def run(*tensors: torch.Tensor) -> None:
        cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream(device).cuda_stream)
        workspace = torch.empty(size, dtype=torch.uint8, device=device)
        graph.execute(dict(zip(nodes, tensors, strict=True)), workspace, handle=handle)

    return run


def _by_heads(layout: Layout) -> Layout:
    """(batch, time, heads, head_dim) as cuDNN names it: (batch, heads, time, head_dim)."""
    return tuple(tuple(numbers[i] for i in (0, 2, 1, 3)) for numbers in layout)  # type: ignore[return-value]
