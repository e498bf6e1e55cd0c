"""The measured rate of matrix products, by a clock that the test holds."""

import itertools
from collections.abc import Callable

import pytest
import torch

from vnc import hardware

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the seconds between two looks at the clock."""

    def tick(seconds: float) -> None:
        monkeypatch.setattr(hardware.time, "perf_counter", itertools.count(0.0, seconds).__next__)

    return tick


def test_where_products_are_fast_the_rate_is_that_of_large_ones(clock: Callable[[float], None]) -> None:
    clock(1e-6)
    assert hardware.measure_matmul(CPU, torch.float32, size=64) == pytest.approx(2 * 64**3 / 1e-6)


def test_where_they_are_slow_a_small_one_serves(clock: Callable[[float], None]) -> None:
    clock(1.0)
    assert hardware.measure_matmul(CPU, torch.bfloat16, size=64) == pytest.approx(2 * 8**3 / 1.0)


def test_one_that_would_take_too_long_is_never_begun(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor of 1 MFLOP/s: a product of 64 x 64 takes half a second."""
    sides, now = [], [0.0]
    true_randn = torch.randn

    def randn(rows: int, cols: int, **more: object) -> torch.Tensor:
        sides.append(rows)
        return true_randn(rows, cols)

    def perf_counter() -> float:
        now[0] += 2 * sides[-1] ** 3 / 1e6 if sides else 0.0
        return now[0]

    monkeypatch.setattr(torch, "randn", randn)
    monkeypatch.setattr(hardware.time, "perf_counter", perf_counter)
    assert hardware.measure_matmul(CPU, torch.float32, size=64) == pytest.approx(1e6)
    assert 8 < max(sides) < 64
