"""Sampling against distributions worked out by hand and by counting."""

import pytest
import torch

from vnc.errors import UserError
from vnc.sampling import GREEDY, Sampling, candidates, sample

LOGITS = torch.tensor([0.4, 0.2, 0.15, 0.15, 0.06, 0.04]).log()[[3, 0, 5, 1, 4, 2]]  # probabilities of tokens 0 .. 5


def frequencies(sampling: Sampling, draws: int = 20_000) -> list[float]:
    """How often each token comes, in one row of `draws` draws from one generator."""
    generators = sampling.generators(1) * draws  # the same generator for every row: one stream of draws
    tokens = sample(LOGITS.expand(draws, -1), sampling, generators)
    return (torch.bincount(tokens, minlength=6) / draws).tolist()


def assert_near(actual: list[float], expected: list[float]) -> None:
    """Within 4 standard deviations of a frequency of 1/2 in 20,000 draws; what cannot come never comes."""
    assert actual == pytest.approx(expected, abs=0.015)
    assert [a == 0 for a in actual] == [e == 0 for e in expected]


def test_temperature_one_draws_the_models_distribution() -> None:
    assert_near(frequencies(Sampling(seed=1)), [0.15, 0.4, 0.04, 0.2, 0.06, 0.15])


def test_temperature_sharpens_and_flattens() -> None:
    p = torch.tensor([0.15, 0.4, 0.04, 0.2, 0.06, 0.15])
    for temperature in (0.5, 2.0):
        expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        assert_near(frequencies(Sampling(temperature)), expected.tolist())


def test_top_k_keeps_k_of_the_likeliest() -> None:
    assert_near(frequencies(Sampling(top_k=2)), [0, 2 / 3, 0, 1 / 3, 0, 0])
    assert_near(frequencies(Sampling(top_k=100)), [0.15, 0.4, 0.04, 0.2, 0.06, 0.15])


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.39, [0, 1, 0, 0, 0, 0]),
        (0.41, [0, 2 / 3, 0, 1 / 3, 0, 0]),  # the token that crosses the threshold is kept
        (0.91, [15 / 96, 40 / 96, 0, 20 / 96, 6 / 96, 15 / 96]),
        (1.0, [0.15, 0.4, 0.04, 0.2, 0.06, 0.15]),
    ],
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float, expected: list[float]) -> None:
    assert_near(frequencies(Sampling(top_p=top_p)), expected)


def test_top_p_counts_what_top_k_left() -> None:
    """Of the two likeliest the first has 2/3: enough for 0.6, although it is 0.4 of the whole."""
    assert_near(frequencies(Sampling(top_k=2, top_p=0.6)), [0, 1, 0, 0, 0, 0])


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999, 1 - 1e-12])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 5.0])
def test_top_p_equals_sorting_the_whole_vocabulary(top_p: float, sharpness: float) -> None:
    """With many ties, which stand in the order of their numbers, and with rows as unlike as flat and sharp."""
    logits = (torch.randn(4, 3000, generator=torch.Generator().manual_seed(0)) * sharpness).round(decimals=1)
    logits[1] /= 10
    logits[2] = 0.0
    weights, tokens = candidates(logits, Sampling(top_p=top_p))
    assert tokens is not None
    for row, found, those in zip(logits, weights, tokens, strict=True):
        all_of_them, order = torch.softmax(row.double(), -1).sort(descending=True, stable=True)
        stays = all_of_them.cumsum(-1) - all_of_them < top_p
        assert torch.equal(found[found > 0], all_of_them[stays])
        assert torch.equal(those[found > 0], order[stays])


def test_greedy_takes_the_likeliest_and_leaves_the_generator_alone() -> None:
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(0))
    generators = GREEDY.generators(5)
    before = [generator.get_state() for generator in generators]
    expected = [max(range(50), key=row.__getitem__) for row in logits.tolist()]
    assert sample(logits, GREEDY, generators).tolist() == expected
    assert all(torch.equal(a, b.get_state()) for a, b in zip(before, generators, strict=True))
    for sharp in (Sampling(top_k=1), Sampling(top_p=1e-9), Sampling(temperature=5e-324), Sampling(temperature=1e-6)):
        assert sample(logits, sharp, sharp.generators(5)).tolist() == expected


@pytest.mark.parametrize("sampling", [Sampling(seed=3), Sampling(0.7, top_k=9, seed=3), Sampling(top_p=0.8, seed=3)])
def test_a_row_draws_alike_alone_and_among_others(sampling: Sampling) -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    together, alone = sampling.generators(6), sampling.generators(6)
    for _ in range(20):
        expected = [sample(logits[b : b + 1], sampling, alone[b : b + 1]).item() for b in range(6)]
        assert sample(logits, sampling, together).tolist() == expected


def test_row_b_draws_as_seed_plus_b() -> None:
    logits = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0)).expand(4, -1)
    rows = sample(logits, Sampling(seed=10), Sampling(seed=10).generators(4)).tolist()
    assert rows == [sample(logits[:1], (s := Sampling(seed=10 + b)), s.generators(1)).item() for b in range(4)]
    assert len(set(rows)) > 1


def test_impossible_tokens_never_come_whatever_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """At both ends of the unit interval, with tokens of probability zero at both ends of the vocabulary."""
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]])
    for u, expected in ((0.0, 1), (1 - 2**-24, 2)):
        monkeypatch.setattr(torch, "rand", lambda *_, u=u, **__: torch.tensor([u]))
        assert sample(logits, Sampling(), Sampling().generators(1)).item() == expected


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (dict(temperature=-0.1), "temperature=-0.1"),
        (dict(temperature=float("nan")), "temperature=nan"),
        (dict(temperature=float("inf")), "temperature=inf"),
        (dict(top_k=0), "top_k=0"),
        (dict(top_p=0.0), "top_p=0.0"),
        (dict(top_p=1.5), "top_p=1.5"),
        (dict(seed=-1), "seed=-1"),
        (dict(seed=2**63), "seed=9223372036854775808"),
    ],
)
def test_meaningless_values_are_named(values: dict[str, float], named: str) -> None:
    with pytest.raises(UserError, match=named):
        Sampling(**values)
