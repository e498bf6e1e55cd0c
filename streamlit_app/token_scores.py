"""How a model sees a text token by token: what it expected at each place, and how much what came surprised it.

The probabilities are the model's own, at temperature 1 and before top-k or top-p. Surprise is -log2 of the probability,
in bits: 0 for what was certain, 1 for a coin's toss; the mean of it is the text's cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from vnc.cache import KVCache
from vnc.conversation import Kind
from vnc.engine import Engine, plain_cache
from vnc.tokenizer import Tokenizer

AT_ONCE = 64  # tokens; their logits over 50,000 words take 13 MB


@dataclass(frozen=True)
class Alternative:
    """A token that could have come."""

    text: str
    probability: float


@dataclass(frozen=True)
class TokenScore:
    """One token of an answer."""

    text: str
    kind: Kind
    """output is the calculator's: the model did not say it."""
    probability: float
    rank: int
    """1 for the token that was likeliest."""
    alternatives: tuple[Alternative, ...]
    """The likeliest tokens at its place, the likeliest first; it may be among them itself."""

    @property
    def bits(self) -> float:
        """Its surprise; infinite where the model gave it no chance that a float can hold."""
        return max(0.0, -math.log2(self.probability)) if self.probability > 0 else math.inf


def token_scores(
    engine: Engine, prompt: Sequence[int], said: Sequence[int], alternatives: int
) -> Iterator[list[TokenScore]]:
    """Scores of `said` (at least one token) after `prompt` (at least one), in parts of up to AT_ONCE; a part may be
    empty. Both together fit into the context."""
    cache = plain_cache(engine.gpt, 1, len(prompt) + len(said))
    ids = [*prompt, *said]
    kinds = token_kinds(said, engine.tokenizer)
    for start in range(0, len(ids) - 1, AT_ONCE):
        end = min(start + AT_ONCE, len(ids) - 1)
        first = max(start, len(prompt) - 1)  # the first position whose next token was said
        hidden = _hidden(engine, ids[start:end], cache)
        if first >= end:
            yield []
            continue
        next_ids = ids[first + 1 : end + 1]
        found = _best(engine, hidden[first - start :], next_ids, alternatives)
        yield [
            TokenScore(legible(token, engine.tokenizer), kinds[place - len(prompt) + 1], *score)
            for place, token, score in zip(range(first, end), next_ids, found, strict=True)
        ]


def token_kinds(said: Sequence[int], tokenizer: Tokenizer) -> list[Kind]:
    """What each token of an answer belongs to; the marks of a call belong to it, and those of a result to the
    result."""
    begins: dict[int, Kind] = {tokenizer.special(f"<|{kind}_start|>"): kind for kind in ("tool", "output")}
    ends = {tokenizer.special(f"<|{kind}_end|>") for kind in ("tool", "output")}
    kinds: list[Kind] = []
    kind: Kind = "text"
    for token in said:
        kind = begins.get(token, kind)
        kinds.append(kind)
        if token in ends:
            kind = "text"
    return kinds


def legible(token: int, tokenizer: Tokenizer) -> str:
    """A token as it is shown by itself: bytes that are no whole characters in hexadecimal."""
    raw = tokenizer.decode_bytes([token])
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"<{raw.hex(' ')}>"


@torch.inference_mode()
def _hidden(engine: Engine, ids: Sequence[int], cache: KVCache) -> torch.Tensor:
    """(T, C)"""
    hidden: torch.Tensor = engine.gpt(torch.tensor([list(ids)], device=cache.device), cache)[0]
    return hidden


@torch.inference_mode()
def _best(
    engine: Engine, hidden: torch.Tensor, next_ids: Sequence[int], alternatives: int
) -> list[tuple[float, int, tuple[Alternative, ...]]]:
    """For each of the (T, C) positions: probability and rank of the token that came next, and the likeliest ones."""
    probabilities = torch.softmax(engine.gpt.logits(hidden), -1)
    came = probabilities.gather(-1, torch.tensor(next_ids, device=hidden.device)[:, None])
    ranks = (1 + (probabilities > came).sum(-1)).tolist()
    likeliest = probabilities.topk(min(alternatives, probabilities.size(-1)), -1)
    found = zip(came[:, 0].tolist(), ranks, likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
    return [
        (probability, rank, tuple(map(Alternative, [legible(token, engine.tokenizer) for token in tokens], values)))
        for probability, rank, tokens, values in found
    ]
