"""Counted choices: every bit of randomness in a text goes through one `Draw`, which adds up what it cost.

A choice of probability p costs -log2 p bits, and a story's choices together cost the sum. A model that knew the
generator could spend just that on the story, or less, where several sets of choices lead to the same text and their
probabilities add up. So the mean of `bits` is an upper bound on the entropy of the text, and a perfect model spends no
more.
"""

import random
from collections.abc import Sequence
from math import comb, log2
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A seeded source of choices. `bits` is the cost of all the choices so far.

    It takes only `random()` from Python's generator, whose values are the same in every Python version.
    """

    def __init__(self, key: str) -> None:
        self._random = random.Random(key).random
        self.bits = 0.0

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1, all equally likely: log2(n) bits."""
        self.bits += log2(n)
        return int(self._random() * n) if n > 1 else 0

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[self.below(len(options))]

    def take(self, options: list[T]) -> T:
        """Like `pick`, but the option leaves the list, so that a second `take` finds another."""
        return options.pop(self.below(len(options)))

    def weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
        """One of the options, with probability in proportion to its weight (all positive)."""
        total = sum(weights)
        left = self._random() * total if len(options) > 1 else 0.0
        chosen = 0
        while left >= weights[chosen] and chosen < len(options) - 1:
            left -= weights[chosen]
            chosen += 1
        self.bits += log2(total / weights[chosen])
        return options[chosen]

    def chance(self, p: float) -> bool:
        """True with probability p (strictly between 0 and 1)."""
        yes = self._random() < p
        self.bits -= log2(p if yes else 1 - p)
        return yes

    def arrangement(self, options: Sequence[T], k: int) -> list[T]:
        """k different options in any order, all n! / (n - k)! equally likely."""
        left = list(options)
        return [self.take(left) for _ in range(k)]

    def subset(self, options: Sequence[T], k: int) -> list[T]:
        """k different options in their own order, all n! / (k! (n - k)!) equally likely."""
        places = list(range(len(options)))
        self.bits += log2(comb(len(options), k))
        chosen = {places.pop(int(self._random() * len(places))) for _ in range(k)}
        return [option for i, option in enumerate(options) if i in chosen]
