"""Bits per byte by hand."""

import math

import pytest
import torch

from vnc.bits_per_byte import BitsPerByte


def test_specials_and_ignored_targets_count_neither_bits_nor_bytes():
    metric = BitsPerByte(torch.tensor([1, 3, 0, 2]))  # token 2 is a special
    losses, targets = torch.tensor([[0.5, 2.0, 7.0], [1.0, 9.0, 0.0]]), torch.tensor([[0, 1, 2], [3, -1, -1]])
    metric.update(losses, targets)
    assert metric.compute().item() == pytest.approx((0.5 + 2.0 + 1.0) / math.log(2) / (1 + 3 + 2))


def test_batches_add_up_however_they_are_cut():
    torch.manual_seed(0)
    losses, targets = torch.rand(40), torch.randint(-1, 4, (40,))
    whole, parts = (BitsPerByte(torch.tensor([1, 3, 0, 2])) for _ in range(2))
    whole.update(losses, targets)
    for start in range(0, 40, 7):
        parts.update(losses[start : start + 7], targets[start : start + 7])
    assert parts.compute().item() == pytest.approx(whole.compute().item(), rel=1e-12)


def test_a_uniform_model_spends_the_logarithm_of_the_vocabulary():
    metric = BitsPerByte(torch.ones(256, dtype=torch.int32))
    metric.update(torch.full((50,), math.log(256)), torch.randint(0, 256, (50,)))
    assert metric.compute().item() == pytest.approx(8.0, rel=1e-6)
