"""Prompts that begin alike are read as one tree: the common beginning once, then a branch for each ending.

The four choices of a ten-shot question share nearly all of their tokens. Flattened, such a tree is one row of tokens,

    beginning | ending of choice 0 | ending of choice 1 | ...

in which every token knows its position in its own prompt and the branch that it is on; attention (tree_attention.py)
lets it see the beginning and its own branch, and nothing else. So each prompt is read exactly as if it were alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vnc.evals.prompts import Prompt, Question

ALIKE = 8  # prompts that do not share so many first tokens are not worth one tree
STEM, PADDING = 0, -1  # as branch numbers; branches count from 1


@dataclass(frozen=True, eq=False)
class Tree:
    """Some prompts of one question."""

    question: int
    """Index of the question among those that are scored together."""
    prompts: tuple[Prompt, ...]
    """No two are the same; each has something to judge."""
    owners: tuple[tuple[int, ...], ...]
    """For each prompt the options of the question that it stands for: several, where options are equal."""
    stem: int
    """Tokens that all prompts begin with. The last token of a prompt is never read, so it is in no stem."""

    @property
    def length(self) -> int:
        """Tokens to read."""
        return self.stem + sum(len(prompt.tokens) - 1 - self.stem for prompt in self.prompts)


def plant(questions: Sequence[Question]) -> list[Tree]:
    """The trees of all questions. Prompts without a judged token are in none."""
    trees = []
    for index, question in enumerate(questions):
        groups: dict[bytes, dict[tuple[bytes, int], list[int]]] = {}
        for option, prompt in enumerate(question.prompts):
            if prompt.start < len(prompt.tokens):
                same = groups.setdefault(prompt.tokens[:ALIKE].tobytes(), {})
                same.setdefault((prompt.tokens.tobytes(), prompt.start), []).append(option)
        for same in groups.values():
            owners = tuple(tuple(options) for options in same.values())
            prompts = tuple(question.prompts[options[0]] for options in owners)
            trees.append(Tree(index, prompts, owners, _stem([prompt.tokens for prompt in prompts])))
    return trees


def _stem(sequences: Sequence[np.ndarray]) -> int:
    stem = min(map(len, sequences)) - 1
    first = sequences[0][:stem]
    for tokens in sequences[1:]:
        differ = np.flatnonzero(tokens[: len(first)] != first)
        first = first[: differ[0]] if len(differ) else first
    return len(first)


def batches(trees: Sequence[Tree], budget: int) -> Iterator[list[Tree]]:
    """Trees of nearly equal length together, the longest first (whatever memory is needed is needed at once, and the
    time left is never estimated too low); each batch is of at most `budget` tokens, padding included, or one tree."""
    batch: list[Tree] = []
    for tree in sorted(trees, key=lambda tree: tree.length, reverse=True):
        if batch and (len(batch) + 1) * batch[0].length > budget:
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch


@dataclass(frozen=True, eq=False)
class Grove:
    """A batch of trees as arrays. B trees, T tokens in the longest; all int64."""

    tokens: np.ndarray
    """(B, T)"""
    positions: np.ndarray
    """(B, T): of each token in its own prompt; 0 in padding."""
    branches: np.ndarray
    """(B, T): STEM, a branch from 1 on, or PADDING."""
    before: np.ndarray
    """(B, T): index in the row of the token before it in its own prompt; -1 for the first."""
    judged: np.ndarray
    """(J,): indices into the flattened (B, T - first) tokens, of those that judged ones follow; prompt by prompt."""
    targets: np.ndarray
    """(J,): the judged tokens."""
    counts: np.ndarray
    """Judged tokens of each prompt, in the order of trees and their prompts."""
    first: int
    """No token before this index in its row is among the judged ones."""


def lay_out(trees: Sequence[Tree]) -> Grove:
    """The arrays of a batch."""
    width = max(tree.length for tree in trees)
    shape = (len(trees), width)
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    branches = np.full(shape, PADDING, np.int64)
    before = np.tile(np.arange(-1, width - 1), (len(trees), 1))
    judged: list[tuple[int, np.ndarray]] = []
    targets = []
    for row, tree in enumerate(trees):
        stem = tree.stem
        tokens[row, :stem] = tree.prompts[0].tokens[:stem]
        positions[row, :stem] = np.arange(stem)
        branches[row, :stem] = STEM
        start = stem
        for number, prompt in enumerate(tree.prompts, start=1):
            read = len(prompt.tokens) - 1
            stop = start + read - stem
            tokens[row, start:stop] = prompt.tokens[stem:-1]
            positions[row, start:stop] = np.arange(stem, read)
            branches[row, start:stop] = number
            before[row, start : start + 1] = stem - 1
            places = np.concatenate([np.arange(stem), np.arange(start, stop)])  # of the prompt's tokens in the row
            judged.append((row, places[prompt.start - 1 :]))
            targets.append(prompt.tokens[prompt.start :])
            start = stop
    first = min(int(places.min()) for _, places in judged)
    return Grove(
        tokens,
        positions,
        branches,
        before,
        judged=np.concatenate([row * (width - first) + places - first for row, places in judged]),
        targets=np.concatenate(targets).astype(np.int64),
        counts=np.array([len(each) for each in targets]),
        first=first,
    )
