"""Which conversations an epoch of a mixture holds, and in which order: plain arithmetic on counts.

`picks` says how many conversations each task gives to an epoch. `epoch_order` draws them: every conversation of a task
as often as goes evenly, and what is left from a walk around a fixed circle of them, which goes on where the last epoch
stopped. So within an epoch no conversation of a task comes twice more than another, and over the epochs all come alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from datamodules.lanes import shuffled

Sampling = Literal["proportional", "uniform", "weighted"]

CIRCLE, MIX = 0xC1, 0x3117  # so that the draws of each purpose are its own


def picks(lengths: Sequence[int], epochs: Sequence[float], weights: Sequence[float], sampling: Sampling) -> list[int]:
    """How many conversations of each task an epoch of the mixture holds, at least one of each.

    An epoch holds N = sum of n_i conversations, n_i = epochs_i x length_i, rounded. proportional: task i gives n_i of
    them. uniform: N / tasks. weighted: N x weight_i / sum of weights. In the last two the same N is shared out.
    """
    natural = [max(1, math.floor(length * times + 0.5)) for length, times in zip(lengths, epochs, strict=True)]
    if sampling == "proportional":
        return natural
    return share_out(sum(natural), weights if sampling == "weighted" else [1.0] * len(lengths))


def share_out(total: int, weights: Sequence[float]) -> list[int]:
    """`total` in whole parts in proportion to the weights (largest remainder), but at least 1 each."""
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: (parts[i] - exact[i], i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return [max(1, part) for part in parts]


@lru_cache(maxsize=4)  # lanes go from epoch to epoch at their own pace, so two epochs may be in use
def epoch_order(lengths: tuple[int, ...], counts: tuple[int, ...], seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The conversations of an epoch in order, int64 (sum of counts,): numbers into all tasks laid end to end.

    Depends on the arguments alone. Every caller shares the array: it cannot be written to.
    """
    before = np.cumsum([0, *lengths])
    drawn = [
        _draw(length, count, seed, task, epoch) + before[task]
        for task, (length, count) in enumerate(zip(lengths, counts, strict=True))
    ]
    everything = np.concatenate(drawn)
    order = everything[shuffled(len(everything), seed, epoch, MIX)]
    order.flags.writeable = False
    return order


def _draw(length: int, count: int, seed: int, task: int, epoch: int) -> npt.NDArray[np.int64]:
    whole, rest = divmod(count, length)
    circle = shuffled(length, seed, task, CIRCLE) if rest else np.empty(0, dtype=np.int64)
    places = (np.arange(rest) + epoch * rest % length) % length
    return np.concatenate([np.tile(np.arange(length), whole), circle[places]])
