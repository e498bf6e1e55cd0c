"""What lm-evaluation-harness asks of a model, in vnc's terms: texts to token ids, and settings to stop strings and
sampling. The harness itself is not imported here (lm_eval_adapter.py does that).

The rules are the harness's own for Hugging Face models (version 0.4.13), so that figures can be compared:

- Blanks at the end of a context belong to the continuation; the context alone is encoded to find where that begins.
- A prompt too long for the model loses its first tokens. As the last token is only judged, never read, a prompt holds
  one token more than the context.
- A whole text is judged in windows: every token once, the last window with as much before it as fits.
- Writing ends at the first stop string, which is not part of the answer.

Different on purpose: BOS stands before everything, as in vnc's training, and remains at the front of a shortened prompt
to be continued; an answer never takes more than half of the context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vnc.errors import UserError
from vnc.evals.prompts import Prompt
from vnc.tokenizer import Tokenizer

if TYPE_CHECKING:
    from vnc.engine import Engine
    from vnc.evals.scoring import Scored

MAX_TOKENS = 256  # of an answer, where the task names no limit
LIMIT_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # the first that is there counts
TEMPERATURE_KEYS = ("do_sample", "temperature", "top_p", "top_k")


def continuation_prompts(tokenizer: Tokenizer, context: str, continuation: str, length: int) -> list[Prompt]:
    """What judges `continuation` after `context`, with a model that reads `length` tokens: one prompt, or several
    windows where the continuation is longer than that. None for an empty continuation."""
    kept = context.rstrip()
    before = [tokenizer.bos_id, *tokenizer.encode(kept)]
    tokens = [tokenizer.bos_id, *tokenizer.encode(context + continuation)]
    start = len(before)
    if len(context + continuation) > len(kept):
        start = min(start, len(tokens) - 1)  # where both are encoded as fewer tokens, the last one is judged
    return windows(tokens, start, length)


def text_prompts(tokenizer: Tokenizer, text: str, length: int) -> list[Prompt]:
    """The windows in which each token of a text is judged once."""
    return windows([tokenizer.bos_id, *tokenizer.encode(text)], 1, length)


def windows(tokens: Sequence[int], start: int, length: int) -> list[Prompt]:
    """Prompts of at most length + 1 tokens which together judge the tokens from `start` (at least 1) on, each once, at
    most `length` in one, and each prompt with as many tokens before as fit."""
    prompts = []
    for first in range(start, len(tokens), length):
        end = min(first + length, len(tokens))
        begin = max(0, end - length - 1)
        prompts.append(Prompt(np.array(tokens[begin:end], dtype=np.int32), first - begin))
    return prompts


def log_likelihood(prompts: Sequence[Prompt], scored: Sequence[Scored]) -> tuple[float, bool]:
    """(sum of the log-probabilities of all judged tokens in nats, is each the likeliest?); (0.0, True) for none."""
    losses = [
        (each.loss or 0.0) * (len(prompt.tokens) - prompt.start) for prompt, each in zip(prompts, scored, strict=True)
    ]
    return -sum(losses), all(each.greedy for each in scored)


@dataclass(frozen=True)
class Writing:
    """How an answer is written."""

    until: tuple[str, ...]
    """Ends before the first of these."""
    max_tokens: int
    temperature: float
    top_k: int | None
    top_p: float


def writing(settings: Mapping[str, Any]) -> Writing:
    """From a task's generation_kwargs. Raises UserError for a setting that vnc does not have, rather than score
    something else than the task means."""
    until = settings.get("until") or ()
    stops = (until,) if isinstance(until, str) else tuple(until)
    limit = next((settings[key] for key in LIMIT_KEYS if settings.get(key) is not None), MAX_TOKENS)
    known = {"until", "num_beams", *LIMIT_KEYS, *TEMPERATURE_KEYS}
    if unknown := sorted(set(settings) - known):
        raise UserError(f"generation_kwargs: {unknown[0]}={settings[unknown[0]]!r} is not known; vnc has until, "
                        f"{', '.join((*LIMIT_KEYS[:1], *TEMPERATURE_KEYS))}")  # fmt: skip
    if settings.get("num_beams", 1) != 1:
        raise UserError(
            f"generation_kwargs: num_beams={settings['num_beams']}: vnc has no beam search; choose another task"
        )
    sampled = settings.get("do_sample")
    temperature = float(settings.get("temperature", 1.0 if sampled else 0.0))
    if sampled is False:
        temperature = 0.0
    return Writing(
        until=tuple(stop for stop in stops if stop),
        max_tokens=int(limit),
        temperature=temperature,
        top_k=settings.get("top_k") or None,  # 0 means all tokens
        top_p=float(settings.get("top_p", 1.0)),
    )


def answer_limit(wanted: int, length: int) -> int:
    """Tokens that an answer may take of a model's context of `length`."""
    return min(wanted, max(1, length // 2))


def writing_batches(lengths: Sequence[int], how: Sequence[Writing], length: int, budget: int) -> list[list[int]]:
    """Indices of prompts to be continued together: settings alike, the longest first, at most `budget` tokens in a
    batch with the answers and the padding, or one prompt."""
    batches: list[list[int]] = []
    rows = 0  # that a batch like the newest may hold
    for index in sorted(range(len(lengths)), key=lambda index: (repr(how[index]), -lengths[index])):
        if not batches or how[batches[-1][0]] != how[index] or len(batches[-1]) >= rows:
            limit = answer_limit(how[index].max_tokens, length)
            rows = max(1, budget // (min(lengths[index], length - limit) + limit))
            batches.append([])
        batches[-1].append(index)
    return batches


def write(engine: Engine, prompts: Sequence[Sequence[int]], how: Writing, seed: int = 0) -> list[str]:
    """The answers to prompts that begin with BOS, written together: row b draws with seed + b. Ends as soon as each
    answer has met a stop string, a stop token or its limit. Tool calls and what they return are no part of the text."""
    from vnc.engine import newest_part
    from vnc.sampling import Sampling

    limit = answer_limit(how.max_tokens, engine.context)
    cut = [newest_part(list(prompt), engine.context - limit)[0] for prompt in prompts]
    sampling = Sampling(how.temperature, how.top_k, how.top_p, seed)
    texts = [""] * len(prompts)
    writing = set(range(len(prompts)))
    with closing(engine.stream(cut, sampling, limit)) as events:
        for event in events:
            if event.kind == "text":
                texts[event.row] += event.text
            if event.finish is not None or cut_at(texts[event.row], how.until) != texts[event.row]:
                writing.discard(event.row)
            if not writing:
                break
    return [cut_at(text, how.until) for text in texts]


def cut_at(text: str, until: Iterable[str]) -> str:
    """The text before the first of the stop strings in it."""
    for stop in until:
        text = text.split(stop, 1)[0]
    return text
