"""How well a model predicts the judged tokens of many prompts, in batches.

A batch holds whole questions of nearly equal length, padded on the right: causal attention never sees the padding.
Only judged positions are turned into logits, which is most of the work saved where vocabularies are large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F

from vnc.errors import UserError
from vnc.evals.prompts import Prompt, Question
from vnc.gpt import GPT
from vnc.loss import cap_logits, chunk_tokens

BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536}
"""Tokens of a batch, padding included, by type of device."""


@dataclass(frozen=True)
class Scored:
    """What the model makes of one prompt."""

    loss: float | None
    """Mean loss of the judged tokens in nats; None where there are none."""
    greedy: bool
    """Is every judged token the one that the model finds likeliest after all tokens before it?"""


NOTHING_JUDGED = Scored(None, True)


def score(
    gpt: GPT,
    questions: Sequence[Question],
    batch_tokens: int | None = None,
    done: Callable[[int], None] | None = None,
) -> list[tuple[Scored, ...]]:
    """One Scored for each prompt of each question, in their order.

    `done` hears after each batch how many questions it held. Nothing is drawn at random, and the model's mode is
    left as it was.
    """
    budget = batch_tokens or BATCH_TOKENS.get(gpt.wte.weight.device.type, BATCH_TOKENS["cpu"])
    results: list[tuple[Scored, ...]] = [()] * len(questions)
    was_training = gpt.training
    gpt.eval()
    try:
        for places in batches(questions, budget):
            prompts = [prompt for place in places for prompt in questions[place].prompts]
            scored = iter(score_prompts(gpt, prompts, budget))
            for place in places:
                results[place] = tuple(islice(scored, len(questions[place].prompts)))
            if done is not None:
                done(len(places))
    finally:
        gpt.train(was_training)
    return results


def batches(questions: Sequence[Question], budget: int) -> Iterator[list[int]]:
    """Indices of the questions in batches, longest first (whatever memory is needed is needed at once, and the time
    left is never estimated too low); each batch is of at most `budget` tokens, or one question."""
    longest = [max(len(prompt.tokens) for prompt in question.prompts) for question in questions]
    batch: list[int] = []
    width = prompts = 0
    for place in sorted(range(len(questions)), key=longest.__getitem__, reverse=True):
        more = len(questions[place].prompts)
        if batch and (prompts + more) * width > budget:
            yield batch
            batch, prompts = [], 0
        if not batch:
            width = longest[place]
        batch.append(place)
        prompts += more
    if batch:
        yield batch


def score_prompts(gpt: GPT, prompts: Sequence[Prompt], budget: int) -> list[Scored]:
    """One Scored for each prompt, from passes of at most `budget` tokens or one prompt."""
    keys = [(prompt.tokens.tobytes(), prompt.start) for prompt in prompts]
    # Equal prompts are scored once, so that equal options tie, whatever a pass does to rounding.
    judged = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if prompt.start < len(prompt.tokens)}
    rows = max(1, budget // max((len(prompt.tokens) for prompt in judged.values()), default=1))
    scored: dict[tuple[bytes, int], Scored] = {}
    for first in range(0, len(judged), rows):
        group = [*judged][first : first + rows]
        scored |= zip(group, _forward(gpt, [judged[key] for key in group]), strict=True)
    return [scored.get(key, NOTHING_JUDGED) for key in keys]


@torch.no_grad()  # not inference_mode: the rotary table that a first pass leaves in the model must still serve training
def _forward(gpt: GPT, prompts: Sequence[Prompt]) -> list[Scored]:
    device = gpt.wte.weight.device
    width = max(len(prompt.tokens) for prompt in prompts) - 1  # the last token is judged, but nothing follows it
    inputs = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        inputs[row, : len(prompt.tokens) - 1] = prompt.tokens[:-1]
    before = [row * width + np.arange(prompt.start - 1, len(prompt.tokens) - 1) for row, prompt in enumerate(prompts)]
    targets = torch.from_numpy(np.concatenate([prompt.tokens[prompt.start :] for prompt in prompts])).to(device).long()
    hidden = gpt(torch.from_numpy(inputs).to(device)).flatten(0, 1)
    losses, hits = judge_tokens(gpt, hidden[torch.from_numpy(np.concatenate(before)).to(device)], targets)
    if not np.isfinite(losses).all():
        raise UserError("the model's losses are not finite numbers: its weights are broken; use an earlier checkpoint")
    ends = np.cumsum([len(positions) for positions in before])[:-1]
    return [
        Scored(float(loss.mean(dtype=np.float64)), bool(hit.all()))
        for loss, hit in zip(np.split(losses, ends), np.split(hits, ends), strict=True)
    ]


def judge_tokens(gpt: GPT, hidden: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(losses in nats, fp32; is the target the likeliest token?) of each token. hidden: (tokens, width); targets:
    (tokens,) int64. The logits are made in chunks."""
    config = gpt.config
    weight = gpt.head[: config.vocab_size].to(hidden.dtype)
    size = chunk_tokens(config.vocab_size, hidden.device)
    losses, hits = [], []
    for piece, target in zip(torch.split(hidden, size), torch.split(targets, size), strict=True):
        logits = cap_logits((piece @ weight.mT).float(), config.logit_softcap)
        losses.append(F.cross_entropy(logits, target, reduction="none"))
        hits.append(logits.argmax(dim=-1) == target)
    return torch.cat(losses).cpu().numpy(), torch.cat(hits).cpu().numpy()
