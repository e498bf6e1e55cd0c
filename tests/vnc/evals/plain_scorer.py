"""The oracle: one example at a time, straight from the rows as JSON gives them, by the rules that nanochat's
core_eval.py states. Imports nothing from vnc/evals."""

import math
import random
from typing import Any

import torch

from vnc.checkpoint import LoadedModel

Row = dict[str, Any]


def plain_decisions(
    loaded: LoadedModel, rows: list[Row], kind: str, shots: int, delimiter: str, max_examples: int | None = None
) -> list[bool]:
    """Right or wrong, for each row in the order of the shuffled file."""
    rows = list(rows)
    random.Random(1337).shuffle(rows)
    if max_examples is not None:
        rows = rows[:max_examples]
    return [plain_decision(loaded, rows, place, kind, shots, delimiter) for place in range(len(rows))]


def plain_decision(loaded: LoadedModel, rows: list[Row], place: int, kind: str, shots: int, delimiter: str) -> bool:
    others = [row for number, row in enumerate(rows) if number != place]
    drawn = random.Random(1234 + place).sample(others, shots)
    row, intro = rows[place], ""
    for other in drawn:
        if kind == "multiple_choice":
            intro += other["query"] + delimiter + other["choices"][other["gold"]]
        elif kind == "schema":
            intro += other["context_options"][other["gold"]] + delimiter + other["continuation"]
        else:
            intro += other["context"].strip() + delimiter + other["continuation"]
        intro += "\n\n"
    if kind == "multiple_choice":
        texts = [intro + row["query"] + delimiter + choice for choice in row["choices"]]
        ids = [encode(loaded, text) for text in texts]
        same = 0
        while all(len(one) > same for one in ids) and len({one[same] for one in ids}) == 1:
            same += 1
        losses = [mean_loss(loaded, one, same) for one in ids]
        return losses.index(min(losses)) == row["gold"]  # NaN as the reference meets it
    if kind == "schema":
        texts = [intro + context + delimiter + row["continuation"] for context in row["context_options"]]
        ids = [encode(loaded, text) for text in texts]
        same = 0
        while all(len(one) > same for one in ids) and len({one[-1 - same] for one in ids}) == 1:
            same += 1
        losses = [mean_loss(loaded, one, max(1, len(one) - same)) for one in ids]
        return losses.index(min(losses)) == row["gold"]
    asked = intro + row["context"].strip() + delimiter
    without, whole = encode(loaded, asked.strip()), encode(loaded, asked + row["continuation"])
    assert whole[: len(without)] == without
    logits, ids_kept, start = forward(loaded, whole, len(without))
    return all(int(logits[position - 1].argmax()) == ids_kept[position] for position in range(start, len(ids_kept)))


def encode(loaded: LoadedModel, text: str) -> list[int]:
    return [loaded.tokenizer.bos_id, *loaded.tokenizer.encode(text)]


def forward(loaded: LoadedModel, ids: list[int], start: int) -> tuple[torch.Tensor, list[int], int]:
    """(logits of every position, the ids kept, where the continuation starts among them)."""
    context = loaded.gpt.config.sequence_len
    if len(ids) > context:
        start -= len(ids) - context
        ids = ids[-context:]
    with torch.no_grad():
        return loaded.gpt.logits(loaded.gpt(torch.tensor([ids])))[0], ids, max(1, start)


def mean_loss(loaded: LoadedModel, ids: list[int], start: int) -> float:
    logits, ids, start = forward(loaded, ids, start)
    log_probabilities = torch.log_softmax(logits, dim=-1)
    losses = [-float(log_probabilities[position - 1, ids[position]]) for position in range(start, len(ids))]
    return sum(losses) / len(losses) if losses else math.nan
