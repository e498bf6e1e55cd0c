"""What a chat model writes when it is asked: the likeliest answer to each of many conversations, in batches.

Rows stop on their own, call the calculator on their own, and give their place in the batch to the next conversation
(`Engine.stream_queue`). Shorter prompts come first: rows that share the batch are then about equally long, and the long
ones, whose attention costs most, meet only each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from vnc.checkpoint import LoadedModel
from vnc.config import GPTConfig
from vnc.conversation import Conversation, render_prompt
from vnc.engine import Engine, newest_part

PLACES = {"cpu": 64, "cuda": 256}
CACHE_BYTES = {"cpu": 1 << 30, "cuda": 8 << 30}
"""Rows of a batch and bytes of their keys and values, at most, by type of device."""
ROOM_SHARE = 4  # of the context, one part in so many is kept for the answer, or as much as it may take


def answer(
    loaded: LoadedModel,
    conversations: Sequence[Conversation],
    max_tokens: int,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """The assistant's next turn of each conversation, greedy, in plain text of at most `max_tokens` tokens.

    What it asked the calculator and what that answered count as tokens but are no part of the text, in which a model
    goes on with the result. `progress` hears of rows as they end. A prompt that leaves too little of the context for
    an answer loses its oldest tokens, after <|bos|>; a warning says how many did. Raises UserError unless the user
    spoke last in each conversation.
    """
    context = loaded.gpt.config.sequence_len
    room = context - min(max_tokens, context // ROOM_SHARE)
    cut = [newest_part(render_prompt(each, loaded.tokenizer), room) for each in conversations]
    prompts = [prompt for prompt, _ in cut]
    if shortened := sum(left_out > 0 for _, left_out in cut):
        warnings.warn(f"{shortened} of {len(cut)} prompts were longer than {room} tokens, what the model's context of "
                      f"{context} has for them; only their newest part was read", stacklevel=2)  # fmt: skip
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    engine = Engine(loaded.gpt, loaded.tokenizer)
    longest = max(map(len, prompts), default=0) + max_tokens
    rows = places(loaded.gpt.config, min(context, longest), engine.device.type)
    texts = [""] * len(prompts)
    for event in engine.stream_queue([prompts[place] for place in order], max_tokens=max_tokens, places=rows):
        if event.kind == "text":
            texts[order[event.row]] += event.text
        if event.token is None and progress is not None:
            progress(1)
    return texts


def places(config: GPTConfig, length: int, device: str) -> int:
    """How many rows of `length` positions are answered together on a type of device. On the CPU the cache is fp32; as
    much is reckoned with elsewhere."""
    bytes_of_row = sum(2 * 4 * config.n_embd * min(window, length) for window in config.windows)
    most, memory = (table.get(device, table["cpu"]) for table in (PLACES, CACHE_BYTES))
    return max(1, min(most, memory // bytes_of_row))
