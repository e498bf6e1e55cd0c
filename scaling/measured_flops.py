"""FLOPs of one training step, counted by torch as the real model runs it: the oracle for the formula in vnc/flops.py.

torch's FlopCounterMode adds up the matrix products that forward and backward dispatch, those of the autograd Functions
of vnc/attention.py and vnc/loss.py included. The model lives on the meta device, where operations have shapes and no
numbers: depth 12 is counted in a second, without memory for a weight.

The formula counts `window` keys for each query, though the first queries of a row see fewer. So the counted model
attends by `gathered_attention`, which multiplies by exactly that many; the route that a CPU takes is counted beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from vnc.attention import BlockCausalAttention
from vnc.config import GPTConfig
from vnc.gpt import GPT
from vnc.loss import summed_cross_entropy

Route = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int, float], torch.Tensor]
"""(q, k, v, window, scale) -> the attended values, as `vnc.attention.attention`."""


@dataclass(frozen=True)
class CountedFlops:
    """FLOPs of matrix products for each token of a row."""

    forward: float
    """Of a forward pass that computes the loss and nothing for backward."""
    backward: float
    """What a step computes beyond that."""

    @property
    def total(self) -> float:
        return self.forward + self.backward


def gathered_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float) -> torch.Tensor:
    """Attention in which each query is multiplied by the `window` keys up to its own, and by no others; before a row's
    start these are zeros, and masked. All of q, k, v and the result are (batch, heads, time, head_dim)."""
    time = q.size(2)
    window = min(window, time)
    keys, values = (F.pad(x, (0, 0, window - 1, 0)).unfold(2, window, 1) for x in (k, v))  # (B, H, T, D, window)
    scores = (q[..., None, :] @ keys)[..., 0, :] * scale
    position = torch.arange(time, device=q.device)[:, None] + torch.arange(1 - window, 1, device=q.device)
    weights = scores.masked_fill(position < 0, -math.inf).softmax(-1)
    return (weights[..., None, :] @ values.mT)[..., 0, :]


def block_causal_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float
) -> torch.Tensor:
    """The route of CPUs, whatever the device: blocks of queries against the keys that some of them see."""
    return BlockCausalAttention.apply(q, k, v, min(window, q.size(2)), scale)  # type: ignore[no-untyped-call,no-any-return]


def count_flops(config: GPTConfig, route: Route = gathered_attention) -> CountedFlops:
    """FLOPs per token of `config` on one row of `sequence_len` tokens, attention by `route`."""
    with torch.device("meta"):
        model = GPT(config)
        row = torch.zeros(1, config.sequence_len, dtype=torch.int64)
        model.requires_grad_(
            False
        )  # no_grad alone would not do: the loss computes gradients wherever weights want them
        with FlopCounterMode(display=False) as forward:
            summed_loss(model, row, row, route)
        model.requires_grad_(True)
        with FlopCounterMode(display=False) as both:
            summed_loss(model, row, row, route).backward()  # type: ignore[no-untyped-call]
    once = forward.get_total_flops() / config.sequence_len
    return CountedFlops(once, both.get_total_flops() / config.sequence_len - once)


def summed_loss(model: GPT, inputs: torch.Tensor, targets: torch.Tensor, route: Route) -> torch.Tensor:
    """`GPT.summed_loss` with attention by `route`."""
    reading: Any = _Rerouted(model.config, route)
    hidden = model(inputs, cache=reading).flatten(0, 1)
    config = model.config
    return summed_cross_entropy(hidden, model.head, targets.flatten(), config.vocab_size, config.logit_softcap)


class _Rerouted:
    """What `GPT.forward` takes for a cache: it remembers nothing, and hands q, k and v to a route."""

    def __init__(self, config: GPTConfig, route: Route) -> None:
        self.layers = [_ReroutedLayer(window, route) for window in config.windows]

    def positions(self, time: int) -> None:
        """0 .. time - 1, as without a cache."""

    def previous_embedding(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :-1], (0, 0, 1, 0))

    def advance(self, time: int) -> None:
        """Nothing is kept."""


@dataclass(frozen=True)
class _ReroutedLayer:
    window: int
    route: Route

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        return self.route(q, k, v, self.window, scale)
