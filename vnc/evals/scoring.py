"""How well a model predicts the judged tokens of many prompts, in batches.

The prompts of a question are read as trees (trees.py): what they share is read once. A batch holds trees of nearly
equal length, of whatever task, padded on the right where causal attention never sees the padding. Only judged positions
are turned into logits, which is most of the work saved where vocabularies are large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from vnc.errors import UserError
from vnc.evals.prompts import Question
from vnc.evals.tree_attention import TreeReading
from vnc.evals.trees import Tree, batches, lay_out, plant
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
    done: Callable[[Sequence[int]], None] | None = None,
) -> list[tuple[Scored, ...]]:
    """One Scored for each prompt of each question, in their order.

    `done` hears the indices of the questions that have just become complete. Nothing is drawn at random, and the
    model's mode is left as it was.
    """
    budget = batch_tokens or BATCH_TOKENS.get(gpt.wte.weight.device.type, BATCH_TOKENS["cpu"])
    results = [[NOTHING_JUDGED] * len(question.prompts) for question in questions]
    trees = plant(questions)
    left = [0] * len(questions)
    for tree in trees:
        left[tree.question] += 1
    was_training = gpt.training
    gpt.eval()
    try:
        if done is not None and (empty := [index for index, count in enumerate(left) if not count]):
            done(empty)
        for batch in batches(trees, budget):
            scored = iter(score_trees(gpt, batch))
            for tree in batch:
                for owners in tree.owners:
                    found = next(scored)
                    for option in owners:
                        results[tree.question][option] = found
                left[tree.question] -= 1
            if done is not None:
                done([index for index in {tree.question: None for tree in batch} if not left[index]])
    finally:
        gpt.train(was_training)
    return [tuple(options) for options in results]


@torch.no_grad()  # not inference_mode: the rotary table that a first pass leaves in the model must still serve training
def score_trees(gpt: GPT, trees: Sequence[Tree]) -> list[Scored]:
    """One Scored for each prompt of each tree, from one pass of the model."""
    device = gpt.wte.weight.device
    grove = lay_out(trees)
    reading = TreeReading(gpt.config, grove, device)
    hidden = gpt(torch.from_numpy(grove.tokens).to(device), reading, grove.first).flatten(0, 1)
    judged, targets = (torch.from_numpy(each).to(device) for each in (grove.judged, grove.targets))
    losses, hits = judge_tokens(gpt, hidden[judged], targets)
    if not np.isfinite(losses).all():
        raise UserError("the model's losses are not finite numbers: its weights are broken; use an earlier checkpoint")
    ends = np.cumsum(grove.counts)[:-1]
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
