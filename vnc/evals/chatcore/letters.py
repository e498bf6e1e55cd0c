"""Questions answered with a letter: which of the choices' letters does the model find likeliest as its first token?

One forward pass for each question, batched by tokens; only its last position is turned into logits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence

import torch

from vnc.checkpoint import LoadedModel
from vnc.conversation import Conversation, Message, Segment, render_prompt
from vnc.engine import newest_part
from vnc.errors import UserError
from vnc.evals.chatcore.tasks import LetterQuestion
from vnc.evals.scoring import BATCH_TOKENS
from vnc.gpt import GPT
from vnc.multiple_choice import answer_ids, letters_of, multiple_choice
from vnc.tokenizer import Tokenizer


def letter_losses(
    loaded: LoadedModel, questions: Sequence[LetterQuestion], progress: Callable[[int], None] | None = None
) -> list[tuple[float, ...]]:
    """For each question the loss in nats of each choice's letter as the answer.

    `progress` hears after each batch how many questions it held. A prompt longer than the context keeps <|bos|> and its
    newest part, which a warning tells. ValueError where the vocabulary does not have a letter as one token (see
    `answer_ids`).
    """
    gpt, context = loaded.gpt, loaded.gpt.config.sequence_len
    most = max((len(question.choices) for question in questions), default=1)
    ids = answer_ids(letters_of(most), loaded.tokenizer)
    cut = [newest_part(letter_prompt(question, loaded.tokenizer), context) for question in questions]
    if shortened := sum(left_out > 0 for _, left_out in cut):
        warnings.warn(f"{shortened} of {len(cut)} questions were longer than the model's context of {context} tokens; "
                      "only their newest part was read", stacklevel=2)  # fmt: skip
    prompts = [prompt for prompt, _ in cut]
    budget = BATCH_TOKENS.get(gpt.wte.weight.device.type, BATCH_TOKENS["cpu"])
    losses: list[tuple[float, ...]] = [()] * len(prompts)
    for places in batches([len(prompt) for prompt in prompts], budget):
        found = last_token_losses(gpt, [prompts[place] for place in places], ids)
        for place, row in zip(places, found, strict=True):
            losses[place] = tuple(row[: len(questions[place].choices)])
        if progress is not None:
            progress(len(places))
    return losses


def letter_prompt(question: LetterQuestion, tokenizer: Tokenizer) -> list[int]:
    """Token ids up to where the assistant answers."""
    asked = multiple_choice(question.question, letters_of(len(question.choices)), question.choices)
    return render_prompt(Conversation((Message("user", (Segment("text", asked),)),)), tokenizer)


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of all prompts, longest first, in batches of at most `budget` tokens after padding, or of one prompt."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    first = 0
    while first < len(order):
        rows = max(1, budget // lengths[order[first]])
        yield order[first : first + rows]
        first += rows


@torch.no_grad()  # not inference_mode: the rotary table that a first pass leaves in the model must still serve training
def last_token_losses(gpt: GPT, prompts: Sequence[Sequence[int]], ids: Sequence[int]) -> list[list[float]]:
    """(prompts, ids): the loss in nats of each of `ids` as the token after each prompt; reduced in fp32."""
    device, width = gpt.wte.weight.device, max(map(len, prompts))
    padded = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=device)
    last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
    hidden = gpt(padded)[torch.arange(len(prompts), device=device), last]
    losses = -torch.log_softmax(gpt.logits(hidden), -1)[:, torch.tensor(ids, device=device)]
    if not losses.isfinite().all():
        raise UserError("the model's losses are not finite numbers: its weights are broken; use an earlier checkpoint")
    found: list[list[float]] = losses.tolist()
    return found
