"""From logits to the next token: greedy, or drawn at a temperature among the likeliest.

Each row of a batch draws with its own generator, one number for each token, so what a row says depends on its seed and
its logits and never on its neighbours. A draw inverts the cumulative distribution: with one uniform number u, the token
at which the running sum of probabilities first exceeds u.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vnc.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Raises UserError for values that mean nothing."""

    temperature: float = 1.0
    """0 takes the likeliest token; 1 draws from the model's own distribution."""
    top_k: int | None = None
    """Draw among this many of the likeliest tokens; None for all."""
    top_p: float = 1.0
    """Then among the fewest of the likeliest tokens whose probabilities sum to at least this (arXiv 1904.09751)."""
    seed: int = 0
    """Row b of a batch draws as a single prompt would with seed + b."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"temperature={self.temperature}: must be 0 (greedy) or a positive number")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k={self.top_k}: must be at least 1, or left out to draw among all tokens")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p}: must be above 0 and at most 1")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed={self.seed}: must be a whole number from 0 to 2^63 - 1")

    def generators(self, rows: int) -> list[torch.Generator]:
        """One for each row, on the CPU whatever the model's device, so that a seed means the same everywhere."""
        return [torch.Generator().manual_seed(self.seed + row) for row in range(rows)]


GREEDY = Sampling(temperature=0)


def sample(logits: torch.Tensor, sampling: Sampling, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """(B, V) fp32 logits -> (B,) int64 tokens. Advances each row's generator by one number, unless greedy."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    kept, tokens = candidates(logits, sampling)
    # 24 random bits, below 1 by more than the rounding of a double: u x total stays below the total.
    u = torch.cat([torch.rand(1, generator=generator) for generator in generators]).to(logits.device)
    running = kept.cumsum(-1)
    chosen = torch.searchsorted(running, u.double()[:, None] * running[:, -1:], right=True)
    return chosen[:, 0] if tokens is None else tokens.gather(-1, chosen)[:, 0]


def candidates(logits: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The distribution that a token is drawn from: ((B, K) fp64 weights, (B, K) their tokens or None for 0 .. K - 1).

    Temperature first, then top_k, then top_p of what top_k left. The weights of each row need not sum to 1.
    """
    tokens = None
    if sampling.top_k is not None and sampling.top_k < logits.size(-1):
        logits, tokens = logits.topk(sampling.top_k, dim=-1)  # sorted, the likeliest first
    logits = logits.double()
    # The greatest is taken off first, so that a tiny temperature cannot overflow.
    weights = torch.softmax((logits - logits.amax(-1, keepdim=True)) / sampling.temperature, -1)
    if sampling.top_p < 1:
        if tokens is None:
            weights, tokens = likeliest(weights, 1 - sampling.top_p)
        # A token stays if those before it do not reach top_p; so the first always stays.
        before = weights.cumsum(-1) - weights
        weights = weights.masked_fill(before >= sampling.top_p, 0.0)
    return weights, tokens


def likeliest(weights: torch.Tensor, rest: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, V) probabilities -> ((B, K) the likeliest of each row, sorted, then zeros; (B, K) their tokens). What is left
    out sums to less than `rest`.

    It has less than rest / V each, which is most of a vocabulary; to sort all of it takes longer than a small model
    takes for a token.
    """
    kept = weights >= rest / (2 * weights.size(-1))  # half of it: nothing hangs on a rounding
    width = int(kept.sum(-1).max())
    found = weights.new_zeros(len(weights), width)
    tokens = torch.zeros(found.shape, dtype=torch.int64, device=weights.device)
    for row, those in enumerate(kept):
        likely = those.nonzero()[:, 0]
        some, order = weights[row, likely].sort(descending=True, stable=True)
        found[row, : len(some)], tokens[row, : len(some)] = some, likely[order]
    return found, tokens
