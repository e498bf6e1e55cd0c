"""From a task's rows to token ids: what the model reads for each question, and which of its tokens are judged.

Everything here is a rule that published CORE figures depend on (nanochat's core_eval.py; DCLM, arXiv 2406.11794):

- Rows are shuffled with seed 1337, then cut to the number wanted. The few-shot examples of the row at place i are drawn
  from all other rows that are left, with seed 1234 + i.
- Solved examples come first, each followed by a blank line. BOS stands before everything.
- Multiple choice: one prompt for each choice, judged from the first token in which they differ. So what all choices
  share does not count.
- Schema: one prompt for each context, judged on the tokens at the end that all prompts share.
- Language modelling: contexts are trimmed; judged are the tokens that the continuation adds to the prompt without it.
- A prompt longer than the model's context keeps its last tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from vnc.errors import UserError
from vnc.evals.bundle import Task
from vnc.evals.examples import Judged, Kind, LanguageModeling, MultipleChoice, Schema
from vnc.tokenizer import Tokenizer

SHUFFLE_SEED = 1337
FEWSHOT_SEED = 1234
ENCODE_ROWS = 64  # rows encoded together: enough for all threads, few enough that lists of Python ints stay small


@dataclass(frozen=True, eq=False)
class Prompt:
    """Token ids to read, of which those from `start` on are judged."""

    tokens: np.ndarray
    """(length,) int32."""
    start: int
    """1 to length; at length there is nothing to judge: a choice that is the beginning of all others."""


@dataclass(frozen=True)
class Question:
    """One row, ready to be scored."""

    row: int
    """Its index in the task's file."""
    prompts: tuple[Prompt, ...]
    """One for each option; just one in language modelling."""
    gold: int | None
    """The right option; None in language modelling."""


@dataclass(frozen=True)
class Share:
    """The rows that one of several processes scores: every `of`-th of each task, from `number` on."""

    number: int = 0
    of: int = 1

    def places(self, count: int) -> range:
        """Its places among `count` rows in the order in which they are asked."""
        return range(self.number, count, self.of)


WHOLE = Share()


def make_questions(
    task: Task,
    tokenizer: Tokenizer,
    context: int,
    max_examples: int | None = None,
    share: Share = WHOLE,
) -> Iterator[Question]:
    """The questions of a task that is judged by likelihood, in the order in which the reference asks them, prompts at
    most `context` tokens long; all of them, or a share."""
    check_rows(task, max_examples)
    rows = scored_rows(len(task.examples), max_examples)
    examples: list[Judged] = [task.examples[row] for row in rows]  # type: ignore[misc]  # by the task's kind
    wanted = share.places(len(examples))
    for start in range(0, len(wanted), ENCODE_ROWS):
        places = wanted[start : start + ENCODE_ROWS]
        texts = []
        for place in places:
            shots = [examples[shot] for shot in fewshot_places(len(examples), place, task.num_fewshot)]
            texts.append(prompt_texts(examples[place], shots, task.delimiter))
        encoded = iter(tokenizer.encode_batch([*chain.from_iterable(texts)]))
        for place, own in zip(places, texts, strict=True):
            ids = [[tokenizer.bos_id, *next(encoded)] for _ in own]
            prompts = tuple(cut_to_context(prompt, context) for prompt in judged_spans(ids, task.kind))
            example = examples[place]
            gold = None if isinstance(example, LanguageModeling) else example.gold
            yield Question(rows[place], prompts, gold)


def check_rows(task: Task, max_examples: int | None = None) -> None:
    """UserError when a task cannot be asked with so few rows; to be told before anything slow begins."""
    if max_examples is not None and max_examples < 1:
        raise UserError(f"max_examples={max_examples}: must be at least 1")
    others = min(len(task.examples), max_examples or len(task.examples)) - 1
    if task.num_fewshot > others:
        raise UserError(f"{task.label}: its {task.num_fewshot} solved examples must come from {others} other rows; "
                        f"score at least {task.num_fewshot + 1} rows")  # fmt: skip


def scored_rows(count: int, max_examples: int | None = None) -> list[int]:
    """Which of `count` rows are scored, in the order in which they are asked."""
    order = list(range(count))
    random.Random(SHUFFLE_SEED).shuffle(order)
    return order[:max_examples]


def fewshot_places(count: int, place: int, shots: int) -> list[int]:
    """The places, among `count`, of the solved examples shown to the question at `place`."""
    # The draw depends on the number of candidates alone, so a range stands for the list of all places but this one.
    drawn = random.Random(FEWSHOT_SEED + place).sample(range(count - 1), shots)
    return [other + (other >= place) for other in drawn]


def prompt_texts(example: Judged, shots: Sequence[Judged], delimiter: str) -> list[str]:
    """One text for each option. Language modelling gives two: without the continuation and with it."""
    before = "".join(f"{_solved(shot, delimiter)}\n\n" for shot in shots)
    match example:
        case MultipleChoice():
            return [f"{before}{example.query}{delimiter}{choice}" for choice in example.choices]
        case Schema():
            return [f"{before}{context}{delimiter}{example.continuation}" for context in example.context_options]
        case LanguageModeling():
            asked = f"{before}{example.context.strip()}{delimiter}"
            # A space before the answer belongs to the answer's first token, so the prompt must end before it.
            return [asked.strip(), asked + example.continuation]


def _solved(example: Judged, delimiter: str) -> str:
    match example:
        case MultipleChoice():
            return f"{example.query}{delimiter}{example.choices[example.gold]}"
        case Schema():
            return f"{example.context_options[example.gold]}{delimiter}{example.continuation}"
        case LanguageModeling():
            return f"{example.context.strip()}{delimiter}{example.continuation}"


def judged_spans(ids: Sequence[Sequence[int]], kind: Kind) -> list[Prompt]:
    """The prompts with their judged tokens, from the encoded texts of one example (BOS included)."""
    if kind == "schema":
        same = common_prefix([tokens[::-1] for tokens in ids])
        return [_prompt(tokens, len(tokens) - same) for tokens in ids]
    same = common_prefix(ids)
    # Where a tokenizer merges the end of a context with the answer, the two differ from that token on.
    return [_prompt(tokens, same) for tokens in (ids[1:] if kind == "language_modeling" else ids)]


def _prompt(tokens: Sequence[int], start: int) -> Prompt:
    return Prompt(np.array(tokens, dtype=np.int32), max(1, start))


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with alike."""
    length = 0
    for tokens in zip(*sequences, strict=False):
        if tokens.count(tokens[0]) < len(tokens):
            break
        length += 1
    return length


def cut_to_context(prompt: Prompt, context: int) -> Prompt:
    """The last `context` tokens of a prompt. The first one left cannot be judged: nothing comes before it."""
    cut = len(prompt.tokens) - context
    return prompt if cut <= 0 else Prompt(prompt.tokens[cut:], max(1, prompt.start - cut))
