"""Looking at conversations as the model reads them: all tokens, and which of them it learns to say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from datamodules.lanes import shuffled
from datamodules.tasks.spec import TaskName, TaskSpec, open_task
from vnc.conversation import render
from vnc.errors import UserError
from vnc.tokenizer import Tokenizer

LEARNT = "⟦{}⟧"


def show(ids: Sequence[int], learn: Sequence[bool], tokenizer: Tokenizer) -> str:
    """The text of the ids, special tokens by name, with ⟦ ⟧ around each stretch of tokens that is learnt."""
    stretches = groupby(zip(ids, learn, strict=True), key=lambda pair: pair[1])
    texts = ((learnt, tokenizer.decode(token for token, _ in pairs)) for learnt, pairs in stretches)
    return "".join(LEARNT.format(text) if learnt else text for learnt, text in texts)


def show_task(
    task: TaskName,
    data_dir: str = "data/task_mixture",
    path: str | None = None,
    split: str | None = None,
    tokenizer: str = "gpt2",
    count: int = 3,
    seed: int = 0,
) -> None:
    """Prints some conversations of a task, with what is learnt marked.

    Args:
        task: which kind; json is a file of your own.
        data_dir: folder that `vnc prepare task_mixture` wrote.
        path: file, or folder of splits; null takes data_dir/<task>.
        split: name of the split; null takes the one that is trained on.
        tokenizer: "gpt2", or a folder that `vnc tokenizer train` wrote.
        count: how many conversations.
        seed: which ones; the same seed, the same conversations.
    """
    if count < 1 or seed < 0:
        raise UserError(f"count={count}, seed={seed}: count must be at least 1, seed 0 or more")
    training = open_task(TaskSpec(task, path=path, split=split), Path(data_dir)).train
    vocabulary = Tokenizer.load(tokenizer)
    lengths = []
    for index in shuffled(len(training), seed)[:count].tolist():
        ids, learn = render(training.conversation(index), vocabulary)
        lengths.append((len(ids), sum(learn)))
        print(f"--- {training.name} {index}: {len(ids)} tokens, {sum(learn)} learnt\n{show(ids, learn, vocabulary)}")
    tokens, learnt = np.sum(lengths, axis=0)
    print(f"--- {len(lengths)} of {len(training)} conversations: {tokens} tokens, {learnt} learnt")
