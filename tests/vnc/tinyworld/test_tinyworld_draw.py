"""Draw's bits against brute force: enumerate what the random source can do, and count how often each comes out."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from math import log2, prod

import pytest

from vnc.tinyworld.draw import Draw


def scripted(values: tuple[float, ...]) -> Draw:
    """A Draw whose random source gives these values in turn, and runs dry after them."""
    draw = Draw("any key")
    source: Iterator[float] = iter(values)
    draw._random = lambda: next(source)  # type: ignore[method-assign]
    return draw


def outcomes(options: tuple[int, ...], act: Callable[[Draw], object]) -> dict[object, tuple[float, float]]:
    """Each result of `act` with its true probability and the bits that Draw charged for it.

    Choice i of the act has options[i] equally likely answers; each is represented by one value of the random source.
    """
    counts: Counter[object] = Counter()
    bits: dict[object, float] = {}
    for answers in product(*(range(n) for n in options)):
        draw = scripted(tuple((answer + 0.5) / n for answer, n in zip(answers, options, strict=True)))
        result = act(draw)
        counts[result] += 1
        assert bits.setdefault(result, draw.bits) == pytest.approx(draw.bits)
    return {result: (count / prod(options), bits[result]) for result, count in counts.items()}


@pytest.mark.parametrize(
    ("options", "act", "results"),
    [
        ((7,), lambda draw: draw.below(7), 7),
        ((5,), lambda draw: draw.pick("abcde"), 5),
        ((4, 3), lambda draw: (lambda left: (draw.take(left), draw.take(left)))(list("abcd")), 12),
        ((5, 4, 3), lambda draw: tuple(draw.arrangement("abcde", 3)), 60),
        ((4, 3, 2, 1), lambda draw: tuple(draw.arrangement("abcd", 4)), 24),
        ((5, 4, 3), lambda draw: tuple(draw.subset("abcde", 3)), 10),
        ((6, 5), lambda draw: tuple(draw.subset("abcdef", 2)), 15),
    ],
)
def test_bits_are_the_information_of_each_result(
    options: tuple[int, ...], act: Callable[[Draw], object], results: int
) -> None:
    found = outcomes(options, act)
    assert len(found) == results
    for probability, bits in found.values():
        assert bits == pytest.approx(-log2(probability))


@pytest.mark.parametrize("weights", [(1, 2, 5), (0.5, 3.5, 4, 0.25), (1,), (3, 3)])
def test_weighted_choice_has_its_probability_and_its_price(weights: tuple[float, ...]) -> None:
    grid = 4_000
    counts: Counter[int] = Counter()
    for step in range(grid):
        draw = scripted(((step + 0.5) / grid,))
        chosen = draw.weighted(range(len(weights)), weights)
        counts[chosen] += 1
        assert draw.bits == pytest.approx(-log2(weights[chosen] / sum(weights)), abs=1e-12)
    for chosen, weight in enumerate(weights):
        assert counts[chosen] / grid == pytest.approx(weight / sum(weights), abs=1 / grid)


def test_chance_pays_for_either_side() -> None:
    assert scripted((0.1,)).chance(0.25) and not scripted((0.3,)).chance(0.25)
    for value, price in ((0.1, 2.0), (0.3, -log2(0.75))):
        draw = scripted((value,))
        draw.chance(0.25)
        assert draw.bits == pytest.approx(price)


def test_subset_keeps_the_order_of_its_options() -> None:
    for index in range(50):
        letters = Draw(f"key {index}").subset("abcdefgh", 4)
        assert letters == sorted(letters) and len(set(letters)) == 4


def test_bits_add_up_over_choices() -> None:
    draw = Draw("sum")
    draw.pick("ab")
    draw.arrangement("abcd", 2)
    assert draw.bits == pytest.approx(1 + log2(12))
